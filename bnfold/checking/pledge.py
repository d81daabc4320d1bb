"""Where the claimed weights and biases of a cluster stand on the written side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from bnfold.algebra.layer import Layer
from bnfold.algebra.spread import Spread
from bnfold.checking.claims import Exact, bias_difference, largest_difference
from bnfold.checking.cluster import Cluster
from bnfold.checking.excerpt import Constant
from bnfold.checking.written import RegionError, Stream, Written, dtype_of
from bnfold.checking.yardstick import format_of, quanta
from bnfold.folding.decided import Plan
from bnfold.folding.rules.reading import Linear
from bnfold.folding.rules.through import Fill
from bnfold.onnxgraph.graph import Node, Scope, Tensor
from bnfold.onnxgraph.rewrite import NewTensor
from bnfold.onnxgraph.types import Types

Array = npt.NDArray[Any]

Evaluated = Callable[[str, Node], tuple[Array, Array]]
"""The values of a name that a node reads, and the unit of each, as they will be written."""


@dataclass
class Claim:
    """What the plan says of one operator, and where it is written.

    Attributes:
        host: the node whose written form adds the bias: the operator itself, or an Add behind it;
            None where nothing does.
        bias_name: what it reads as the bias.
        keeps_bias: whether the bias input stays what it was, as it counts for nothing.
    """

    linear: Linear
    layer: Layer
    proto: onnx.NodeProto
    weight: Exact
    host: onnx.NodeProto | None = None
    bias_name: str = ""
    bias_shape: tuple[int, ...] = ()
    keeps_bias: bool = False


class Pledge:
    """The claims of a plan about the operators of one cluster.

    Args:
        values: finds the values of a constant of the model.

    Raises:
        RegionError: an operator is gone, or its bias is nowhere.
    """

    def __init__(
        self,
        cluster: Cluster,
        plan: Plan,
        written: Written,
        values: Callable[[Tensor], Array],
        types: Types,
        opset: int,
    ) -> None:
        self._written, self._types, self._opset = written, types, opset
        self._claims: dict[Node, Claim] = {}
        self._hosts: dict[Node, Claim] = {}
        self._operands: dict[tuple[Node, int], Exact] = {}
        self._fills: dict[Node, Fill] = {}
        nodes = cluster.nodes
        for node in nodes:
            linear = plan.linears.get(node)
            if linear is None:
                continue
            protos, weight = written.nodes(node), node.input(linear.weight_at)
            if not protos or weight is None:
                raise RegionError(f"{node.label} is gone")
            same = [p for p in protos if p.op_type == node.op_type and len(p.input) > 1]
            if len(same) != 1:
                raise RegionError(f"{node.label} becomes another operator")
            layer = plan.layers[node]
            exact = Exact.weight(linear, layer, values(weight))
            self._claims[node] = Claim(linear, layer, same[0], exact)
        for operand in (operand for fold in cluster.folds for operand in fold.operands):
            for at, tensor in enumerate(operand.node.inputs):
                if tensor is operand.known.tensor:
                    exact = Exact.operand(operand.spread, values(tensor))
                    self._operands[operand.node, at] = exact
        for node, fill in (one for fold in cluster.folds for one in fold.fills.items()):
            # Before opset 11 it is an attribute, which is evaluated as it will be written.
            if len(written.nodes(node)[0].input) > 2:
                exact = Exact.operand(Spread.identity(), np.array(fill.value))
                self._operands[node, 2] = exact
                self._fills[node] = fill
        makers = {
            (node.scope, name): (node, proto)
            for node in nodes
            for proto in written.nodes(node)
            for name in proto.output
        }
        for claim in self._claims.values():
            self._find_bias(claim)
        taken = {step.node for fold in cluster.folds for step in fold.steps}
        taken |= {s.back.node for f in cluster.folds for s in f.sinks if s.back is not None}
        for node in nodes:
            if node in taken:
                for proto in written.nodes(node):
                    self._find_host(node, proto, makers)

    def is_about(self, node: Node) -> bool:
        """Whether a claim is about what stands in the place of a node."""
        is_operand = any(node is reader for reader, _ in self._operands)
        return node in self._claims or node in self._hosts or is_operand

    def is_host(self, node: Node) -> bool:
        """Whether a node stays as the Add of a bias, whatever it was."""
        return node in self._hosts

    def _find_bias(self, claim: Claim) -> None:
        linear, proto = claim.linear, claim.proto
        node = linear.node
        if linear.shift == "input":
            name, old = _input(proto, linear.bias_at), node.input(linear.bias_at)
            claim.keeps_bias = linear.bias is None and old is not None and name == old.name
            if name and not claim.keeps_bias:
                claim.host, claim.bias_name = proto, name
        elif linear.shift == "add":
            for other in self._written.nodes(node):
                made = proto.output[0]
                if other.op_type == "Add" and made in other.input:
                    at = 1 if other.input[0] == made else 0
                    claim.host, claim.bias_name = other, _input(other, at)

    def _find_host(
        self,
        node: Node,
        proto: onnx.NodeProto,
        makers: dict[tuple[Scope, str], tuple[Node, onnx.NodeProto]],
    ) -> None:
        """Whether what stays of a step adds the bias of an operator before it."""
        for at, name in enumerate(proto.input):
            found = makers.get((node.scope, name))
            while found is not None and found[0] not in self._claims:
                data = _input(found[1], 0)
                found = makers.get((found[0].scope, data)) if found[0] is not node else None
            if found is None or proto.op_type != "Add":
                continue
            claim = self._claims[found[0]]
            if claim.linear.shift == "add" and claim.host is None:
                claim.host, claim.bias_name = proto, _input(proto, 1 - at)
                self._hosts[node] = claim
                return
        raise RegionError(f"{node.label} is still there")

    def covers(self, node: Node, proto: onnx.NodeProto, at: int) -> bool:
        """Whether a claim says what a node reads in one place."""
        if (node, at) in self._operands:
            return True
        claim = self._claims.get(node) or self._hosts.get(node)
        if claim is None:
            return False
        if proto is claim.proto and at == claim.linear.weight_at:
            return True
        return proto is claim.host and proto.input[at] == claim.bias_name

    def applied(
        self,
        node: Node,
        proto: onnx.NodeProto,
        copy: onnx.NodeProto,
        constants: dict[str, Constant],
    ) -> list[onnx.NodeProto]:
        """A written node with what the claims say in place of what is stored."""
        for number, ((reader, at), exact) in enumerate(self._operands.items()):
            if reader is node:
                constants[f"operand{number}"] = Constant(_DOUBLE, exact.shape, exact.exact)
                copy.input[at] = f"operand{number}"
        claim = self._claims.get(node) or self._hosts.get(node)
        if claim is None:
            return [copy]
        number = list(self._claims).index(claim.linear.node)
        if proto is claim.proto:
            weight = claim.weight
            constants[f"weight{number}"] = Constant(_DOUBLE, weight.shape, weight.exact)
            copy.input[claim.linear.weight_at] = f"weight{number}"
        bias = claim.layer.bias
        if proto is claim.host:
            # The weight may have the same name: scale and bias of a normaliser may be one tensor.
            is_own = claim.linear.shift == "input"
            at = claim.linear.bias_at if is_own else list(proto.input).index(claim.bias_name)
            shaped = bias.reshape(claim.bias_shape) if claim.bias_shape else bias
            constants[f"bias{number}"] = Constant.of(shaped)
            copy.input[at] = f"bias{number}"
        elif claim.host is None and bias.any() and proto is claim.proto:
            return self._with_bias(claim, copy, constants, number)
        return [copy]

    def _with_bias(
        self,
        claim: Claim,
        copy: onnx.NodeProto,
        constants: dict[str, Constant],
        number: int,
    ) -> list[onnx.NodeProto]:
        """An operator whose whole bias became zero, as too small to be stored."""
        linear, bias = claim.linear, claim.layer.bias
        if linear.shift == "input" and not claim.keeps_bias:
            while len(copy.input) <= linear.bias_at:
                copy.input.append("")
            copy.input[linear.bias_at] = f"bias{number}"
            constants[f"bias{number}"] = Constant.of(bias.reshape(linear.bias_shape or bias.shape))
        elif linear.shift == "add" and linear.axis < 0:
            spread = bias.reshape(*bias.shape, *[1] * (-linear.axis - 1))
            constants[f"bias{number}"] = Constant.of(spread)
            made = copy.output[0]
            copy.output[0] = f"{made}_plain"
            add = helper.make_node("Add", [copy.output[0], f"bias{number}"], [made])
            if self._opset < 7:
                add.attribute.append(helper.make_attribute("broadcast", 1))
            return [copy, add]
        return [copy]

    def require_kept(self, evaluated: Evaluated) -> float:
        """Compare what will be stored with the claims; the largest difference in units.

        Raises:
            RegionError: it is more than half a unit in the last place.
        """
        worst = 0.0
        for claim in self._claims.values():
            linear = claim.linear
            kind, at = linear.weight.data_type, linear.weight_at
            name = _input(claim.proto, at)
            weight = self._difference(linear.node, at, name, claim.weight, kind, evaluated)
            worst = max(worst, weight, self._bias_difference(claim, evaluated))
        for (node, at), exact in self._operands.items():
            old, fill = node.input(at), self._fills.get(node)
            if fill is not None:
                kind = fill.data_type
            else:
                assert old is not None
                kind = self._types.element_type(old)
            name = _input(self._written.nodes(node)[0], at)
            worst = max(worst, self._difference(node, at, name, exact, kind, evaluated))
        return worst

    def _difference(
        self, node: Node, at: int, name: str, weight: Exact, kind: int, evaluated: Evaluated
    ) -> float:
        """Compare a stored weight, or what a DequantizeLinear makes, with what it has to be."""
        found = self._resolved(name, node)
        if isinstance(found, NewTensor):
            if tuple(found.proto.dims) != weight.shape or found.proto.data_type != kind:
                raise RegionError(f"the weight becomes {name}, of another shape or dtype")
            return largest_difference(weight, Stream(found))
        if found is node.input(at) and weight.is_same:
            return 0.0
        values, units = evaluated(name, node)
        if values.shape != weight.shape:
            raise RegionError(f"the weight becomes {name}, of another shape")
        return largest_difference(weight, values, units)

    def _bias_difference(self, claim: Claim, evaluated: Evaluated) -> float:
        linear, bias, name = claim.linear, claim.layer.bias, claim.bias_name
        if linear.shift == "computed" or claim.keeps_bias:
            return 0.0
        kind = np.dtype(helper.tensor_dtype_to_np_dtype(linear.weight.data_type))
        if claim.host is None:
            zeros = np.zeros(bias.shape, kind)
            return bias_difference(bias, zeros, np.full(bias.shape, format_of(kind).zero))
        found = self._resolved(name, linear.node)
        if isinstance(found, NewTensor):
            stored = self._written.array(found)
            if dtype_of(found) != kind:
                raise RegionError(f"the bias becomes {name}, of another dtype than the weight")
            units = quanta(stored.reshape(-1))
        else:
            stored, units = evaluated(name, linear.node)
        if stored.size == 1 and bias.size > 1:
            stored = np.full(bias.shape, stored.reshape(-1)[0])
            units = np.full(bias.shape, units.reshape(-1)[0])
        elif bias.ndim == 2 and stored.shape == (len(bias), 1):
            # A quantised C of one value for each row stays what it is.
            stored, units = (np.broadcast_to(v.reshape(-1, 1), bias.shape) for v in (stored, units))
        elif stored.size == bias.size:
            claim.bias_shape = stored.shape
        return bias_difference(bias, stored, units)

    def _resolved(self, name: str, node: Node) -> NewTensor | Tensor | None:
        if not name:
            raise RegionError(f"{node.label} reads nothing in place of a weight or bias")
        scope: Scope | None = node.scope
        while scope is not None and not self._written.defines(name, scope):
            if name in self._written.made_anew(scope):
                return None
            scope = scope.parent
        return self._written.tensor(name, scope or node.scope)


_DOUBLE = onnx.TensorProto.DOUBLE


def _input(proto: onnx.NodeProto, at: int) -> str:
    return str(proto.input[at]) if at < len(proto.input) else ""

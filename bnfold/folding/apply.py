"""Write a plan: the only place that turns decisions into edits of a model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper

from bnfold.algebra.affine import Array
from bnfold.folding.plan import FoldPlan
from bnfold.folding.rules.reading import version_of
from bnfold.folding.store import StoredWeight, dtype_of, stored_bias
from bnfold.folding.surgery import Surgery
from bnfold.onnxgraph.constants import Known, stored_constant
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.ranges import Computed
from bnfold.onnxgraph.rewrite import Rewrite


@dataclass
class Applied:
    """The edits of a plan, and what the report says about them.

    Attributes:
        rewrite: what changes in the model.
        nodes_removed: nodes fewer than before.
        weights: the stored weight of each fold that changes it, once each.
        bias_flushed: values of biases that became zero, by fold.
    """

    rewrite: Rewrite = field(default_factory=Rewrite)
    nodes_removed: int = 0
    weights: dict[FoldPlan, StoredWeight] = field(default_factory=dict)
    bias_flushed: dict[FoldPlan, int] = field(default_factory=dict)

    def flushed(self, fold: FoldPlan) -> int:
        """How many values of one fold became zero because they were below the smallest normal."""
        weight = self.weights.get(fold)
        return self.bias_flushed.get(fold, 0) + (weight.flushed if weight is not None else 0)


def apply(index: Index, folds: Iterable[FoldPlan]) -> Applied:
    """The edits that carry out ``folds``."""
    return _Applier(index).run(list(folds))


class _Applier:
    def __init__(self, index: Index) -> None:
        self._index = index
        self._opset = index.document.opset
        self._applied = Applied()
        self._surgery = Surgery(index)
        self._new_names: dict[tuple[object, ...], str] = {}
        self._users: dict[tuple[object, ...], list[Node]] = defaultdict(list)

    def run(self, folds: list[FoldPlan]) -> Applied:
        for fold in folds:
            node = fold.linear.node
            if not fold.layer.keeps_weight:
                self._users[_weight_key(fold)].append(node)
            if fold.linear.has_bias:
                self._users[_bias_key(fold)].append(node)
        for fold in folds:
            self._fold(fold)
        self._applied.rewrite = self._surgery.finish()
        self._applied.nodes_removed = self._surgery.nodes_removed
        return self._applied

    def _fold(self, fold: FoldPlan) -> None:
        linear, node = fold.linear, fold.linear.node
        self._surgery.kept.add(node)
        made = node.outputs[0]
        assert made is not None
        proto = onnx.NodeProto()
        proto.CopyFrom(node.proto)
        if not fold.layer.keeps_weight:
            proto.input[1] = self._store_weight(fold)
        dtype = dtype_of(linear.weight)
        bias, flushed = stored_bias(fold.layer, dtype)
        self._applied.bias_flushed[fold] = flushed
        host: Node | None = None
        if linear.has_bias:
            self._store_bias_input(fold, proto, bias)
        elif np.any(bias != 0):
            host = self._store_add(fold, made, bias)
        if host is None:
            proto.output[0] = fold.output.name
            self._surgery.vanish(made, instead=fold.output)
        if proto != node.proto:
            self._surgery.replace(node, proto)
        for step in fold.steps:
            for gone in (*step.crossed, step.node):
                if gone is not host:
                    self._surgery.delete(gone)
                for output in gone.outputs:
                    if output is not None and output is not fold.output:
                        self._surgery.vanish(output, instead=fold.output)

    def _store_weight(self, fold: FoldPlan) -> str:
        weight, key = fold.linear.weight, _weight_key(fold)
        if key not in self._new_names:
            stored = StoredWeight(fold.linear, fold.layer)
            self._applied.weights[fold] = stored
            data = Computed(stored.size, stored.chunks)
            wish = f"{weight.tensor.name}_folded"
            self._new_names[key] = self._surgery.store(
                weight,
                self._users[key],
                data,
                stored.shape,
                weight.data_type,
                fold.linear.node.scope,
                wish,
            )
        name = self._new_names[key]
        if name != weight.tensor.name:
            self._surgery.unread_once(weight.tensor)
        return name

    def _store_bias_input(self, fold: FoldPlan, proto: onnx.NodeProto, bias: Array) -> None:
        """Put the bias into the third input: ``y = layer + bias``; Gemm's beta becomes one."""
        linear = fold.linear
        old = linear.node.input(2)
        if linear.bias is None and not np.any(bias != 0):
            return
        if linear.bias is not None and linear.bias.tensor is old:
            shape = linear.bias.shape
            if (
                int(np.prod(shape)) == bias.size
                and len(shape) <= 2
                and shape[-1:] == bias.shape[-1:]
            ):
                bias = bias.reshape(shape)
        key = _bias_key(fold)
        if linear.bias is None or key not in self._new_names:
            users = self._users[key]
            self._new_names[key] = self._store_small(fold, linear.bias, users, bias)
        name = self._new_names[key]
        while len(proto.input) < 3:
            proto.input.append("")
        proto.input[2] = name
        if old is not None and old.name != name:
            self._surgery.unread_once(old)
        if linear.node.op_type == "Gemm":
            _set_beta_to_one(proto)
            version = version_of("Gemm", self._opset)
            if version is not None and version < 7 and bias.ndim < 2:
                _set_integer(proto, "broadcast", 1)

    def _store_add(self, fold: FoldPlan, made: Tensor, bias: Array) -> Node:
        """Put the bias into an Add behind the operator: an Add that is there, or the last step."""
        host = next((s.node for s in fold.steps if s.node.op_type == "Add"), fold.steps[-1].node)
        self._surgery.kept.add(host)
        proto = onnx.NodeProto()
        proto.CopyFrom(host.proto)
        step = next(step for step in fold.steps if step.node is host)
        at, constant = 1, None
        if host.op_type == "Add":
            at = 1 - host.inputs.index(step.data)
            old = host.inputs[at]
            assert old is not None
            constant = stored_constant(old, self._index.document.tensors)
            if constant is not None and constant.shape[-1:] == bias.shape:
                bias = bias.reshape(constant.shape)
        name = self._store_small(fold, constant, [host], bias)
        for tensor in host.inputs:
            if tensor is not None and tensor is not step.data and tensor.name != name:
                self._surgery.unread_once(tensor)
        if host.op_type != "Add":
            proto.op_type = "Add"
            del proto.attribute[:]
            del proto.output[1:]
        version = version_of("Add", self._opset)
        if version is not None and version < 7:
            del proto.attribute[:]
            at = 1
            _set_integer(proto, "broadcast", 1)
        del proto.input[:]
        proto.input.extend([made.name, name] if at == 1 else [name, made.name])
        proto.output[0] = fold.output.name
        self._surgery.replace(host, proto)
        return host

    def _store_small(
        self, fold: FoldPlan, known: Known | None, users: list[Node], values: Array
    ) -> str:
        little = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
        if known is not None and known.stored is not None and _is_equal(known.array, values):
            return known.tensor.name
        wish = f"{known.tensor.name}_folded" if known else f"{fold.linear.node.label}_bias"
        data = Computed(len(little), lambda: iter((little,)))
        node, element_type = fold.linear.node, fold.linear.weight.data_type
        return self._surgery.store(known, users, data, values.shape, element_type, node.scope, wish)


def _is_equal(array: Array, values: Array) -> bool:
    """Whether two arrays are the same to the bit."""
    return (
        array.shape == values.shape
        and array.dtype == values.dtype
        and array.tobytes() == values.tobytes()
    )


def _weight_key(fold: FoldPlan) -> tuple[object, ...]:
    """Folds with equal keys store the same weight, once."""
    factor = fold.linear.weight_factor(fold.layer.out)
    node = fold.linear.node
    return fold.linear.weight.tensor, node.scope, factor.shape, factor.tobytes()


def _bias_key(fold: FoldPlan) -> tuple[object, ...]:
    """Folds with equal keys store the same bias, once, if they read the same one before."""
    known = fold.linear.bias
    tensor = known.tensor if known is not None else None
    return "bias", tensor, fold.linear.node.scope, fold.layer.bias.shape, fold.layer.bias.tobytes()


def _set_beta_to_one(proto: onnx.NodeProto) -> None:
    for attribute in proto.attribute:
        if attribute.name == "beta" and attribute.f != 1.0:
            attribute.f = 1.0


def _set_integer(proto: onnx.NodeProto, name: str, value: int) -> None:
    for attribute in proto.attribute:
        if attribute.name == name:
            attribute.i = value
            return
    proto.attribute.append(helper.make_attribute(name, value))

"""Write norms behind linear operators: edits of a model, all else byte for byte as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper

from bnfold.algebra.affine import Float64Array
from bnfold.errors import ModelError
from bnfold.folding.surgery import Surgery
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.rewrite import MAIN, Rewrite
from bnfold.onnxgraph.wire import GRAPH_VALUE_INFO, delimited
from bnfold.statistics.identity import EPSILON, Parameters, identity_parameters
from bnfold.statistics.inserted import InsertedNorm, LeftOut
from bnfold.statistics.sites import Site

FIRST_OPSET: Final = 7
"""Older BatchNormalizations say by ``is_test`` whether they train."""

MIXED_OPSET: Final = 14
"""From here on mean and variance may have another dtype than the data."""

OPTIONAL_C: Final = 11
"""From here on a Gemm may have no C."""

_NARROW: Final = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16})


@dataclass(frozen=True, eq=False)
class Estimate:
    """What data say of one tensor.

    Attributes:
        mean, var: E and Var of each channel, float64, shape ``(C,)``.
        values: how many values of each channel they are of.
    """

    mean: Float64Array
    var: Float64Array
    values: int


@dataclass
class Written:
    """The edits, and what became of each place.

    Attributes:
        rewrite: the edits.
        nodes_added: how many nodes more there are.
        norms: the new norms, in the order of the places.
        left_out: places whose norm could not be stored.
    """

    rewrite: Rewrite
    nodes_added: int = 0
    norms: list[InsertedNorm] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)


def require_opset(index: Index) -> None:
    """Refuse a model whose BatchNormalization is not that of today.

    Raises:
        ModelError: its opset is older than 7.
    """
    opset = index.document.opset
    if opset < FIRST_OPSET:
        raise ModelError(
            f"{index.document.name} has opset {opset}: norms are inserted from opset "
            f"{FIRST_OPSET} on; convert it with onnx.version_converter"
        )


def write_norms(
    index: Index,
    sites: Sequence[Site],
    statistics: Mapping[str, Estimate],
    *,
    remove_bias: bool = False,
) -> Written:
    """A norm at each place, in the identity setting.

    The norm makes the tensor that was there, under its name, so that readers, graph outputs and
    types stay as they are; what the node before it makes is called ``NAME_before_norm``.

    Args:
        index: of the model.
        sites: places in it.
        statistics: by the name of the tensor that is normalised; of the model as it is.
        remove_bias: whether the norm takes over the bias of the operator.
    """
    return _Writer(index, statistics, remove_bias).write(sites)


class _Writer:
    def __init__(self, index: Index, statistics: Mapping[str, Estimate], remove_bias: bool) -> None:
        self._index, self._statistics, self._remove_bias = index, statistics, remove_bias
        self._surgery = Surgery(index)
        self._labels = {str(node.proto.name) for node in index.nodes}
        graph = index.main.graph
        self._said = {v.name: v for v in (*graph.value_info, *graph.input, *graph.output)}

    def write(self, sites: Sequence[Site]) -> Written:
        written = Written(self._surgery.rewrite)
        for site in sites:
            found = self._write_one(site)
            if isinstance(found, InsertedNorm):
                written.norms.append(found)
            else:
                written.left_out.append(found)
        self._surgery.finish()
        written.nodes_added = -self._surgery.nodes_removed
        return written

    def _write_one(self, site: Site) -> InsertedNorm | LeftOut:
        told = self._statistics[site.made.name]
        bias, notes = self._redundant_bias(site)
        dtype = helper.tensor_dtype_to_np_dtype(site.element_type)
        is_mixed = site.element_type in _NARROW and self._index.document.opset >= MIXED_OPSET
        parameters = identity_parameters(
            told.mean,
            told.var,
            bias,
            dtype=dtype,
            statistics=np.float32 if is_mixed else dtype,
        )
        if isinstance(parameters, str):
            label, where = site.node.label, site.node.scope.where
            return LeftOut(label, site.node.op_type, where, "beyond-dtype", parameters)
        behind = site.maker.label
        name = self._insert(site, parameters, removes=bias is not None)
        std = np.sqrt(told.var)
        has_bias = site.add is not None or site.linear.bias is not None
        has_bias |= site.linear.shift == "computed"
        became: Literal["none", "kept", "removed"] = "kept" if has_bias else "none"
        return InsertedNorm(
            norm=name,
            operator=site.node.label,
            operator_type=site.node.op_type,
            behind=behind if bias is None or site.add is None else site.node.label,
            tensor=site.made.name,
            channels=site.channels,
            values=told.values,
            mean=(float(told.mean.min()), float(told.mean.max())),
            std=(float(std.min()), float(std.max())),
            dead=int((told.var == 0).sum()),
            exact=parameters.error == 0.0,
            bias="removed" if bias is not None else became,
            notes=tuple(notes),
        )

    def _redundant_bias(self, site: Site) -> tuple[Float64Array | None, list[str]]:
        """What the norm is to add in place of the operator, or None; and why a bias stays."""
        if not self._remove_bias:
            return None, []
        linear, label, add = site.linear, site.node.label, site.added
        if linear.shift == "computed":
            return None, [f"the bias of {label} stays: the graph computes it"]
        if linear.bias is None:
            return add, []
        if linear.layer.bias.ndim > 1:
            return None, [f"the C of {label} stays: it differs by row"]
        if site.node.op_type == "Gemm" and self._index.document.opset < OPTIONAL_C:
            return None, [f"the C of {label} stays: before opset {OPTIONAL_C} a Gemm needs one"]
        own = linear.layer.bias
        return own if add is None else own + add, []

    def _insert(self, site: Site, parameters: Parameters, *, removes: bool) -> str:
        """Write the nodes of one place; gives the name of the norm."""
        surgery, made, scope = self._surgery, site.made, site.node.scope
        name = self._label(f"{site.node.label}_norm")
        values = (parameters.gamma, parameters.beta, parameters.mean, parameters.var)
        stored = [
            surgery.store_array(None, [], array, scope, f"{name}_{what}")
            for what, array in zip(("scale", "bias", "mean", "var"), values, strict=True)
        ]
        before = made.name
        if removes and site.add is not None:
            data = site.node.outputs[0]
            assert data is not None
            before = data.name
        else:
            before = surgery.fresh(f"{made.name}_before_norm")
            self._say(made, before)
        norm = helper.make_node(
            "BatchNormalization", [before, *stored], [made.name], name=name, epsilon=EPSILON
        )
        own = site.linear.bias is not None and removes
        if removes and site.add is not None:
            self._without_constant(site.node, site.add)
            surgery.replace(site.add, norm)
            if own:
                surgery.replace(site.node, self._without_bias(site.node))
            return name
        proto = self._without_bias(site.node) if own else _copy(site.maker)
        proto.output[list(site.maker.outputs).index(made)] = before
        surgery.replace(site.maker, proto, norm)
        return name

    def _without_bias(self, node: Node) -> onnx.NodeProto:
        proto, bias = _copy(node), node.input(2)
        del proto.input[2:]
        if bias is not None:
            self._surgery.unread_once(bias)
        return proto

    def _without_constant(self, node: Node, add: Node) -> None:
        """Note that the constant of an Add behind an operator is read once less."""
        for tensor in add.inputs:
            if tensor is not None and tensor is not node.outputs[0]:
                self._surgery.unread_once(tensor)

    def _label(self, wish: str) -> str:
        """A name that no node has."""
        name, number = wish, 1
        while name in self._labels:
            name, number = f"{wish}_{number}", number + 1
        self._labels.add(name)
        return name

    def _say(self, tensor: Tensor, name: str) -> None:
        """Say of another tensor what the file says of the type of this one."""
        said = self._said.get(tensor.name)
        if said is None:
            return
        copy = onnx.ValueInfoProto()
        copy.CopyFrom(said)
        copy.name = name
        edits = self._surgery.rewrite.edits.at(MAIN)
        edits.added += delimited(GRAPH_VALUE_INFO, [copy.SerializeToString()])


def _copy(node: Node) -> onnx.NodeProto:
    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    return proto

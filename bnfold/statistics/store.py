"""Write statistics into a model: what they are not in stays byte for byte what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper

from bnfold.algebra.affine import Array
from bnfold.algebra.rounding import rounded
from bnfold.errors import ModelError
from bnfold.folding.surgery import Surgery
from bnfold.onnxgraph.graph import Node
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.known import Known
from bnfold.onnxgraph.rewrite import Rewrite
from bnfold.onnxgraph.tensors import type_name
from bnfold.statistics.moments import Float64s
from bnfold.statistics.norms import BatchNorm, as_inference

Stored = tuple[Array, Array]
"""Mean and variance in the dtypes in which the model stores them, shape ``(C,)`` each."""


def as_stored(norm: BatchNorm, mean: Float64s, var: Float64s) -> Stored:
    """Mean and variance as the model will hold them, each rounded once.

    Raises:
        ModelError: they are of another number of channels, or beyond the dtype.
    """
    arrays = []
    for what, values, known in (("mean", mean, norm.mean), ("variance", var, norm.var)):
        if values.shape != known.shape:
            raise ModelError(
                f"{norm.name} has a {what} of {known.shape[0]} channels, and its data {len(values)}"
            )
        array = rounded(values, helper.tensor_dtype_to_np_dtype(known.data_type))
        bad = np.flatnonzero(~np.isfinite(array.astype(np.float64)))
        if bad.size:
            raise ModelError(
                f"channel {bad[0]} of {norm.name} has {what} {values[bad[0]]:g}, which is beyond "
                f"{type_name(known.data_type)}"
            )
        arrays.append(array)
    return arrays[0], arrays[1]


def store(
    index: Index, statistics: Mapping[BatchNorm, Stored], dropouts: Sequence[Node] = ()
) -> Rewrite:
    """The edits that give norms these statistics, and turn them and some Dropouts to inference.

    A statistic replaces the constant that only its norm reads; where others read it too, or where
    it is computed, a new constant takes its place in this norm alone.

    Args:
        index: the model.
        statistics: norm -> what it will hold.
        dropouts: nodes that will no longer drop values.

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), Algorithm 2, steps 7 and 10.
    """
    surgery = Surgery(index)
    opset = index.document.opset
    for norm, (mean, var) in statistics.items():
        node = norm.node
        proto = _copy(node)
        for at, what, known, array in (
            (3, "mean", norm.mean, mean),
            (4, "variance", norm.var, var),
        ):
            if _holds(known, array):
                continue
            wish = f"{node.label}_{what}"
            name = surgery.store_array(known, [node], array, node.scope, wish)
            if name != proto.input[at]:
                proto.input[at] = name
                old = node.inputs[at]
                assert old is not None
                surgery.unread_once(old)
        if norm.training:
            as_inference(proto, opset)
            for tensor in node.outputs[1:]:
                if tensor is not None:
                    surgery.vanish(tensor)
        if proto != node.proto:
            surgery.replace(node, proto)
    for node in dropouts:
        proto = _copy(node)
        as_inference(proto, opset)
        if node.inputs[2] is not None:
            surgery.unread_once(node.inputs[2])
        surgery.replace(node, proto)
    return surgery.finish()


def _holds(known: Known, array: Array) -> bool:
    """Whether a constant has exactly these values already."""
    old = np.asarray(known.array)
    return (
        old.dtype == array.dtype and old.shape == array.shape and old.tobytes() == array.tobytes()
    )


def _copy(node: Node) -> onnx.NodeProto:
    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    return proto

"""The operators that a constant expression may hold: what they read, and how large they get."""

from __future__ import annotations

import math

import numpy as np

from bnfold.algebra.affine import Array
from bnfold.onnxgraph.graph import Node, Tensor

# Operators whose result is a view of their first input, whatever its size.
VIEWS = frozenset({"Identity", "Transpose", "Squeeze", "Unsqueeze", "Reshape", "Flatten"})
# Operators whose result has the broadcast shape of their inputs.
ELEMENTWISE = frozenset(
    (
        "Abs Add And Cast CastLike Ceil Clip Div Equal Exp Floor Greater GreaterOrEqual Less "
        "LessOrEqual Log Max Mean Min Mod Mul Neg Not Or Pow Reciprocal Relu Round Sigmoid Sign "
        "Softplus Sqrt Sub Sum Tanh Where Xor"
    ).split()
)
# Operators whose result is no larger than their inputs together.
SHRINKING = frozenset(
    (
        "Concat QuantizeLinear ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax "
        "ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Shape Size Slice Split"
    ).split()
)
# Operators whose result is as large as an input says; see ``result_size``.
GROWING = frozenset({"ConstantOfShape", "Expand", "Gather", "Range", "Tile"})
# Operators whose result is some elements of their first input, as they are.
TAKING = frozenset({"Gather", "Slice"})
EVALUATED = VIEWS | ELEMENTWISE | SHRINKING | GROWING

# Inputs that are read for their element type, or for their shape, but not for their values.
TYPE_ONLY = {"CastLike": frozenset({1})}
SHAPE_ONLY = {"Shape": frozenset({0}), "Size": frozenset({0})}


def is_read_by_value(tensor: Tensor, reader: Node) -> bool:
    """Whether a node reads the values of a tensor, not just its element type or its shape."""
    skipped: frozenset[int] = frozenset()
    if reader.domain == "":
        skipped = TYPE_ONLY.get(reader.op_type) or SHAPE_ONLY.get(reader.op_type, frozenset())
    return any(t is tensor and at not in skipped for at, t in enumerate(reader.inputs))


def measured_dims(node: Node) -> slice:
    """Which dims a Shape gives: all, or from opset 15 on those from start to end."""
    if node.op_type == "Size":
        return slice(None)
    end = node.attribute("end")
    return slice(node.integer("start", 0), None if end is None else int(end.i))


def constant_of(node: Node) -> Array:
    """The value of a Constant that holds plain numbers, not a tensor."""
    for attribute in node.proto.attribute:
        if attribute.name in ("value_float", "value_floats"):
            values = attribute.floats if attribute.name[-1] == "s" else attribute.f
            return np.array(values, dtype=np.float32)
        if attribute.name in ("value_int", "value_ints"):
            values = attribute.ints if attribute.name[-1] == "s" else attribute.i
            return np.array(values, dtype=np.int64)
    raise ValueError("it holds no dense numbers")


def result_size(node: Node, feeds: list[Array | None]) -> int:
    """How many elements the result of a node can have, before it is computed."""
    arrays = [f for f in feeds if f is not None]
    kind = node.op_type
    if kind in VIEWS:
        return 0 if kind != "Reshape" or arrays[0].flags.c_contiguous else arrays[0].size
    if kind in ELEMENTWISE:
        return math.prod(np.broadcast_shapes(*(a.shape for a in arrays)))
    if kind == "ConstantOfShape":
        return math.prod(int(dim) for dim in arrays[0])
    if kind == "Expand":
        return math.prod(np.broadcast_shapes(arrays[0].shape, tuple(int(d) for d in arrays[1])))
    if kind == "Tile":
        return arrays[0].size * math.prod(int(n) for n in np.ravel(arrays[1]))
    if kind == "Range":
        start, limit, delta = (float(a) for a in arrays)
        return max(0, math.ceil((limit - start) / delta))
    if kind in SHAPE_ONLY:
        return 1
    if kind == "Gather":
        rows = int(arrays[0].shape[node.integer("axis", 0)])
        return int(arrays[0].size // max(rows, 1) * arrays[1].size)
    return sum(a.size for a in arrays)

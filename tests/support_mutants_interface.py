"""Right folds with another interface or precision: what values in float64 do not show."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.support_mutants_formulas import Rng
from tests.support_mutants_graphs import Edit, append, drawn


def outputs_reordered(graph: onnx.GraphProto, rng: Rng) -> bool:
    if len(graph.output) < 2:
        return False
    values = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in graph.output]
    del graph.output[:]
    graph.output.extend([values[1], values[0], *values[2:]])
    return True


def output_lost(graph: onnx.GraphProto, rng: Rng) -> bool:
    if len(graph.output) < 2:
        return False
    del graph.output[-1]
    return True


def output_added(graph: onnx.GraphProto, rng: Rng) -> bool:
    value = onnx.ValueInfoProto()
    value.CopyFrom(graph.output[0])
    value.name = "more"
    graph.node.append(helper.make_node("Identity", [graph.output[0].name], ["more"], "more"))
    graph.output.append(value)
    return True


def output_renamed(graph: onnx.GraphProto, rng: Rng) -> bool:
    old = graph.output[0].name
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = ["renamed" if name == old else name for name in names]
    graph.output[0].name = "renamed"
    return True


def output_dtype(graph: onnx.GraphProto, rng: Rng) -> bool:
    append(graph, "Cast", to=TensorProto.DOUBLE)
    graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    return True


def output_flattened(graph: onnx.GraphProto, rng: Rng) -> bool:
    dims = graph.output[0].type.tensor_type.shape.dim
    if len(dims) < 4:
        return False
    append(graph, "Flatten")
    size = int(np.prod([d.dim_value for d in dims[1:]]))
    del dims[2:]
    dims[1].dim_value = size
    return True


def input_renamed(graph: onnx.GraphProto, rng: Rng) -> bool:
    for node in graph.node:
        node.input[:] = ["renamed" if name == "x" else name for name in node.input]
    graph.input[0].name = "renamed"
    return True


def batch_fixed(graph: onnx.GraphProto, rng: Rng) -> bool:
    """Another number in place of a fixed or a free batch."""
    for value in [*graph.input, *graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = 3
    return True


def half_precision_inside(graph: onnx.GraphProto, rng: Rng) -> bool:
    """One tensor goes through float16."""
    node = drawn(graph, rng, "Relu")
    if node is None:
        return False
    at, out = [*graph.node].index(node), node.output[0]
    node.output[0] = f"{out}_wide"
    narrow = helper.make_node("Cast", [f"{out}_wide"], [f"{out}_half"], "narrow", to=10)
    widened = helper.make_node("Cast", [f"{out}_half"], [out], "widened", to=1)
    graph.node.insert(at + 1, narrow)
    graph.node.insert(at + 2, widened)
    return True


INTERFACE_EDITS: tuple[Edit, ...] = (
    outputs_reordered,
    output_lost,
    output_added,
    output_renamed,
    output_dtype,
    output_flattened,
    input_renamed,
    batch_fixed,
    half_precision_inside,
)

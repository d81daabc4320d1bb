"""Models in memory that are above the 2 GB which protobuf serialises at once."""

from __future__ import annotations

from typing import Any

import onnx

from bnfold.onnxgraph.ranges import Piece
from bnfold.onnxgraph.wire import GRAPH_INITIALIZER, MODEL_GRAPH, delimited


def in_parts(model: onnx.ModelProto) -> list[Piece]:
    """The bytes of a model, one initializer at a time; each must be below 2 GB by itself."""
    graph, rest = onnx.GraphProto(), onnx.ModelProto()
    tensors: list[Piece] = []
    for field, value in model.graph.ListFields():
        if field.number == GRAPH_INITIALIZER:
            for tensor in value:
                tensors += delimited(GRAPH_INITIALIZER, [tensor.SerializeToString()])
        else:
            _copy_field(graph, field.name, value)
    for field, value in model.ListFields():
        if field.number != MODEL_GRAPH:
            _copy_field(rest, field.name, value)
    return [
        rest.SerializeToString(),
        *delimited(MODEL_GRAPH, [graph.SerializeToString(), *tensors]),
    ]


def _copy_field(message: Any, name: str, value: Any) -> None:
    if hasattr(value, "extend"):
        getattr(message, name).extend(value)
    elif hasattr(value, "CopyFrom"):
        getattr(message, name).CopyFrom(value)
    else:
        setattr(message, name, value)

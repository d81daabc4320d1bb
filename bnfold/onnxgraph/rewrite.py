"""What a fold writes, beside the document that it leaves alone: edits, and tensors that change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx

from bnfold.onnxgraph.edits import Edits, rewritten
from bnfold.onnxgraph.graph import Path
from bnfold.onnxgraph.load import Document
from bnfold.onnxgraph.ranges import Piece, total
from bnfold.onnxgraph.wire import (
    ATTRIBUTE_GRAPH,
    ATTRIBUTE_GRAPHS,
    ATTRIBUTE_TENSOR,
    ATTRIBUTE_TENSORS,
    FUNCTION_NODE,
    GRAPH_INITIALIZER,
    GRAPH_NODE,
    MODEL_FUNCTION,
    MODEL_GRAPH,
    MODEL_TRAINING,
    NODE_ATTRIBUTE,
    delimited,
)

MAIN: Path = ((MODEL_GRAPH, 0),)
"""Path of the main graph in the model."""


@dataclass(eq=False)
class NewTensor:
    """A tensor whose data a fold makes.

    Attributes:
        proto: name, dims, data type and everything else but the data.
        data: the raw data, little endian.
        path: where it replaces a tensor, from the model; None for one that is added.
        graph: path of the graph that it is added to, from the model.
        as_node: whether it is added as a Constant node, not as an initializer.
    """

    proto: onnx.TensorProto
    data: list[Piece]
    path: Path | None = None
    graph: Path = MAIN
    as_node: bool = False

    @property
    def size(self) -> int:
        """Number of bytes of the data."""
        return total(self.data)


@dataclass
class Rewrite:
    """Everything that changes in a model.

    Attributes:
        edits: of the model message, all but the tensors.
        tensors: the tensors whose data changes or is new.
    """

    edits: Edits = field(default_factory=Edits)
    tensors: list[NewTensor] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether the model stays byte for byte what it is."""
        return self.edits.is_empty and not self.tensors


def without_data(proto: onnx.TensorProto, mark: str) -> onnx.TensorProto:
    """A copy of a tensor with its data and its place left out, and everything else kept."""
    copy = onnx.TensorProto()
    copy.CopyFrom(proto)
    for name in _DATA:
        copy.ClearField(name)
    if proto.external_data:
        kept = [e for e in proto.external_data if e.key not in _PLACE and e.key != mark]
        copy.external_data.extend(kept)
    return copy


_DATA = (
    "raw_data",
    "float_data",
    "int32_data",
    "int64_data",
    "double_data",
    "uint64_data",
    "data_location",
    "external_data",
)
_PLACE = frozenset({"location", "offset", "length", "checksum"})


def embedded(proto: onnx.TensorProto, data: list[Piece], field_number: int) -> list[Piece]:
    """The content of a tensor message with its data inside."""
    return [proto.SerializeToString(), *delimited(field_number, data)]


def external(proto: onnx.TensorProto, name: str, offset: int, length: int) -> list[Piece]:
    """The content of a tensor message with its data in another file."""
    copy = onnx.TensorProto()
    copy.CopyFrom(proto)
    for key, value in (("location", name), ("offset", str(offset)), ("length", str(length))):
        copy.external_data.add(key=key, value=value)
    copy.data_location = onnx.TensorProto.EXTERNAL
    return [copy.SerializeToString()]


def place(edits: Edits, tensor: NewTensor, content: list[Piece]) -> None:
    """Put the content of a tensor message where the tensor belongs."""
    if tensor.path is not None:
        *outer, last = tensor.path
        edits.at(tuple(outer)).replaced[last] = delimited(last[0], content)
    elif tensor.as_node:
        graph = edits.at(tensor.graph)
        graph.first_nodes += delimited(GRAPH_NODE, _constant_node(tensor.proto.name, content))
    else:
        edits.at(tensor.graph).added += delimited(GRAPH_INITIALIZER, content)


def _constant_node(output: str, tensor: list[Piece]) -> list[Piece]:
    attribute = onnx.AttributeProto(name="value", type=onnx.AttributeProto.TENSOR)
    content: list[Piece] = [
        attribute.SerializeToString(),
        *delimited(ATTRIBUTE_TENSOR, tensor),
    ]
    node = onnx.NodeProto(op_type="Constant", output=[output], name=output)
    return [node.SerializeToString(), *delimited(NODE_ATTRIBUTE, content)]


def model_pieces(document: Document, edits: Edits) -> list[Piece]:
    """The whole model file with its edits; what they do not name is the same bytes."""
    if edits.is_empty:
        return [document.whole]
    return rewritten(document.model, edits)


def has_external_data(document: Document) -> bool:
    """Whether any tensor of a model has its data in another file."""
    # A scan of the bytes first: most models have none, and many nodes.
    return b"location" in document.skeleton and any(
        document.tensors.is_external(tensor) for _, tensor in all_tensors(document.proto)
    )


def all_tensors(proto: onnx.ModelProto) -> Iterator[tuple[Path, onnx.TensorProto]]:
    """Every tensor of a model with its path, but for those of sparse tensors."""
    graphs: list[tuple[Path, onnx.GraphProto]] = [(MAIN, proto.graph)]
    for at, training in enumerate(proto.training_info):
        graphs.append((((MODEL_TRAINING, at), (1, 0)), training.initialization))
        graphs.append((((MODEL_TRAINING, at), (2, 0)), training.algorithm))
    nodes: list[tuple[Path, onnx.NodeProto]] = []
    for at, function in enumerate(proto.functions):
        for number, node in enumerate(function.node):
            nodes.append((((MODEL_FUNCTION, at), (FUNCTION_NODE, number)), node))
    while graphs or nodes:
        while nodes:
            path, node = nodes.pop()
            for number, attribute in enumerate(node.attribute):
                here = (*path, (NODE_ATTRIBUTE, number))
                if attribute.HasField("t"):
                    yield (*here, (ATTRIBUTE_TENSOR, 0)), attribute.t
                for item, tensor in enumerate(attribute.tensors):
                    yield (*here, (ATTRIBUTE_TENSORS, item)), tensor
                if attribute.HasField("g"):
                    graphs.append(((*here, (ATTRIBUTE_GRAPH, 0)), attribute.g))
                for item, graph in enumerate(attribute.graphs):
                    graphs.append(((*here, (ATTRIBUTE_GRAPHS, item)), graph))
        if graphs:
            path, graph = graphs.pop()
            for number, tensor in enumerate(graph.initializer):
                yield (*path, (GRAPH_INITIALIZER, number)), tensor
            nodes += [
                ((*path, (GRAPH_NODE, number)), node)
                for number, node in enumerate(graph.node)
                if node.attribute
            ]

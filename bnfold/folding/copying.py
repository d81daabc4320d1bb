"""Write copies of operators: a new skeleton of the model, beside the tensors that stay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import onnx

from bnfold.folding.find import value_readers
from bnfold.folding.surgery import Surgery
from bnfold.onnxgraph.graph import Node, Scope, Tensor
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.load import Document
from bnfold.onnxgraph.ranges import joined
from bnfold.onnxgraph.rewrite import MAIN, Rewrite, model_pieces
from bnfold.onnxgraph.wire import GRAPH_VALUE_INFO, delimited

Read = tuple[Node, Tensor]
"""A node and a tensor that it reads, once."""


@dataclass(eq=False)
class Copying:
    """Nodes that read a tensor of their own in place of one that they share.

    Attributes:
        line: the nodes that make the shared tensor: a linear operator, and the norms behind it.
        data: which input each of them but the first reads the one before it by.
        reads: the nodes, and what each reads now: the line's output, or what gives the same.
        is_copied: whether they get a copy of the line, or its own output.
        names: of the copies, once they are written.
        root, made: the output of the line's first and last node, or of their copies.
    """

    line: tuple[Node, ...]
    data: tuple[int, ...]
    reads: list[Read]
    is_copied: bool
    names: tuple[str, ...] = field(default=(), init=False)
    root: str = field(default="", init=False)
    made: str = field(default="", init=False)


def is_needed(node: Node, besides: set[Read], gives: Callable[[Node], bool]) -> bool:
    """Whether anything but some reads needs the values that a node makes.

    Args:
        gives: whether a node gives what it reads, so that its readers count in its place.
    """
    waiting = [node.outputs[0]]
    while waiting:
        tensor = waiting.pop()
        if tensor is None:
            continue
        if tensor.is_output or tensor.is_pinned:
            return True
        for reader in value_readers(tensor):
            if (reader, tensor) in besides:
                continue
            if reader.scope is not tensor.scope or not gives(reader):
                return True
            if any(t is not None and (t.readers or t.is_output) for t in reader.outputs[1:]):
                return True
            waiting.append(reader.outputs[0])
    return False


def with_copies(index: Index, copyings: Sequence[Copying]) -> Document:
    """The model with each copy right behind the node that it is a copy of.

    A copy reads what its original reads, weights included, but for the nodes of its line. What
    nothing reads any more is gone.

    Args:
        copyings: their names are filled in.

    Raises:
        ModelError: the document has a tensor that cannot be moved.
    """
    writer = _Writer(index)
    for copying in copyings:
        writer.write(copying)
    document, edits = index.document, writer.finish().edits
    skeleton = document.with_skeleton(document.skeleton)
    return document.with_skeleton(joined(model_pieces(skeleton, edits)))


class _Writer:
    def __init__(self, index: Index) -> None:
        self._surgery = Surgery(index)
        self._names = {str(node.proto.name) for node in index.nodes}
        self._protos: dict[Node, list[onnx.NodeProto]] = {}
        self._said: dict[Scope, dict[str, onnx.ValueInfoProto]] = {}

    def write(self, copying: Copying) -> None:
        """Copy a line, or leave it as it is, and let the nodes read what it makes."""
        line, surgery = copying.line, self._surgery
        # For a while nothing may read what it makes.
        surgery.kept.update(line)
        outputs = [node.proto.output[0] for node in line]
        if copying.is_copied:
            copies = self._copies(copying)
            outputs = [copy.output[0] for copy in copies]
            copying.names = tuple(copy.name for copy in copies)
        copying.root, copying.made = outputs[0], outputs[-1]
        for reader, tensor in copying.reads:
            if tensor.name != copying.made:
                self._own(reader)[0].input[reader.inputs.index(tensor)] = copying.made
                surgery.unread_once(tensor)

    def finish(self) -> Rewrite:
        """The edits."""
        for node, protos in self._protos.items():
            self._surgery.replace(node, *protos)
        return self._surgery.finish()

    def _copies(self, copying: Copying) -> list[onnx.NodeProto]:
        copies: list[onnx.NodeProto] = []
        for node, at in zip(copying.line, (0, *copying.data), strict=True):
            made = node.outputs[0]
            assert made is not None
            copy = onnx.NodeProto()
            copy.CopyFrom(node.proto)
            copy.name = self._unique(f"{node.label}_copy")
            copy.output[0] = self._surgery.fresh(f"{made.name}_copy")
            if copies:
                copy.input[at] = copies[-1].output[0]
            copies.append(copy)
            self._own(node).append(copy)
            self._say(made, copy.output[0])
        return copies

    def _own(self, node: Node) -> list[onnx.NodeProto]:
        """What stands in the place of a node: itself, to be changed, and its copies."""
        if node not in self._protos:
            proto = onnx.NodeProto()
            proto.CopyFrom(node.proto)
            self._protos[node] = [proto]
        return self._protos[node]

    def _unique(self, wish: str) -> str:
        """A name that no node has."""
        name, number = wish, 1
        while name in self._names:
            name, number = f"{wish}_{number}", number + 1
        self._names.add(name)
        return name

    def _say(self, tensor: Tensor, name: str) -> None:
        """Say of another tensor of the same graph what the file says of the type of this one."""
        scope = tensor.scope
        if scope not in self._said:
            graph = scope.graph
            self._said[scope] = {v.name: v for v in (*graph.output, *graph.value_info)}
        said = self._said[scope].get(tensor.name)
        if said is None:
            return
        copy = onnx.ValueInfoProto()
        copy.CopyFrom(said)
        copy.name = name
        edits = self._surgery.rewrite.edits.at((*MAIN, *scope.path))
        edits.added += delimited(GRAPH_VALUE_INFO, [copy.SerializeToString()])

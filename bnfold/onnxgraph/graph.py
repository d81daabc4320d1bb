"""Scopes, nodes and tensors: a graph with its names resolved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx

from bnfold.onnxgraph.wire import GRAPH_NODE

Path = tuple[tuple[int, int], ...]
"""Where a message lies in the main graph: field number and position, step by step."""


class Scope:
    """One graph: the main graph, or the body of an If, Loop or Scan.

    Attributes:
        graph: the GraphProto.
        path: where it lies in the main graph; ``()`` for the main graph itself.
        parent: the scope around it, whose tensors it sees.
        owner: the node that holds it, or None.
        tensors: the tensors *defined* here, by name.
        nodes: in the order of the file.
    """

    __slots__ = ("graph", "nodes", "owner", "parent", "path", "tensors")

    def __init__(
        self, graph: onnx.GraphProto, path: Path, parent: Scope | None, owner: Node | None
    ) -> None:
        self.graph = graph
        self.path = path
        self.parent = parent
        self.owner = owner
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []

    def find(self, name: str) -> Tensor | None:
        """The tensor that ``name`` means here: the nearest definition, from the inside out."""
        scope: Scope | None = self
        while scope is not None:
            found = scope.tensors.get(name)
            if found is not None:
                return found
            scope = scope.parent
        return None

    @property
    def where(self) -> str:
        """``''`` for the main graph, else the labels of the nodes around it, outermost first."""
        labels: list[str] = []
        scope: Scope | None = self
        while scope is not None and scope.owner is not None:
            labels.append(scope.owner.label)
            scope = scope.owner.scope
        return "/".join(reversed(labels))


class Tensor:
    """A tensor: a name in one scope.

    Attributes:
        producer: the node that makes it, or None for inputs and initializers.
        initializer: its TensorProto, if it has one; ``position`` is its place in the graph.
        is_sparse: whether it is a sparse initializer.
        is_input: whether it is an input of its graph.
        is_output: whether it is an output of its graph, or of a subgraph that names it.
        is_pinned: whether something beside the nodes names it (training bindings, quantisation
            annotations), so that it has to stay as it is.
        readers: the nodes that read it, one entry for each input, whatever their scope.
        value_readers: those that need its values, once they were asked for.
    """

    __slots__ = (
        "initializer",
        "is_input",
        "is_output",
        "is_pinned",
        "is_sparse",
        "name",
        "position",
        "producer",
        "readers",
        "scope",
        "value_readers",
    )

    def __init__(self, name: str, scope: Scope) -> None:
        self.name = name
        self.scope = scope
        self.producer: Node | None = None
        self.initializer: onnx.TensorProto | None = None
        self.position = -1
        self.is_sparse = False
        self.is_input = False
        self.is_output = False
        self.is_pinned = False
        self.readers: list[Node] = []
        self.value_readers: list[Node] | None = None


class Node:
    """A node with its inputs resolved to tensors.

    Attributes:
        proto: the NodeProto.
        position: its place in the node list of its graph.
        op_type, domain: ``domain`` is ``""`` for the standard operators, however it is written.
        inputs: one entry an input, None where it is left out.
        outputs: one entry an output, None where it is left out.
        subgraphs: the scopes in its attributes.
    """

    __slots__ = (
        "_attributes",
        "domain",
        "inputs",
        "op_type",
        "outputs",
        "position",
        "proto",
        "scope",
        "subgraphs",
    )

    def __init__(self, proto: onnx.NodeProto, position: int, scope: Scope) -> None:
        self.proto = proto
        self.position = position
        self.scope = scope
        self.op_type: str = proto.op_type
        domain: str = proto.domain
        self.domain = "" if domain == "ai.onnx" else domain
        self.inputs: list[Tensor | None] = []
        self.outputs: list[Tensor | None] = []
        self.subgraphs: list[Scope] = []
        self._attributes: dict[str, onnx.AttributeProto] | None = None

    @property
    def label(self) -> str:
        """What reports call it: its name, or its first output where it has no name."""
        if self.proto.name:
            return str(self.proto.name)
        return next((t.name for t in self.outputs if t is not None), f"{self.op_type}")

    @property
    def path(self) -> Path:
        """Where it lies in the main graph."""
        return (*self.scope.path, (GRAPH_NODE, self.position))

    def attribute(self, name: str) -> onnx.AttributeProto | None:
        """The attribute of that name, or None."""
        if self._attributes is None:
            self._attributes = {}
            for attribute in self.proto.attribute:
                self._attributes.setdefault(attribute.name, attribute)
        return self._attributes.get(name)

    def integer(self, name: str, default: int) -> int:
        """An integer attribute, or ``default``."""
        found = self.attribute(name)
        return default if found is None else int(found.i)

    def real(self, name: str, default: float) -> float:
        """A float attribute (float32 in the file), or ``default``."""
        found = self.attribute(name)
        return default if found is None else float(found.f)

    def input(self, position: int) -> Tensor | None:
        """An input, or None where it is left out."""
        return self.inputs[position] if position < len(self.inputs) else None


def nodes_in(*roots: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes of some node lists, and of all subgraphs in them."""
    waiting = list(roots)
    while waiting:
        for node in waiting.pop():
            yield node
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g.node)
                waiting += [graph.node for graph in attribute.graphs]

"""The def-use index: who makes a tensor and who reads it, across subgraphs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx

from bnfold.errors import ModelError
from bnfold.onnxgraph.load import Document
from bnfold.onnxgraph.wire import (
    ATTRIBUTE_GRAPH,
    ATTRIBUTE_GRAPHS,
    GRAPH_NODE,
    MAX_DEPTH,
    NODE_ATTRIBUTE,
)

Path = tuple[tuple[int, int], ...]
"""Where a message lies in the main graph: field number and position, step by step."""

_GRAPH = onnx.AttributeProto.GRAPH
_GRAPHS = onnx.AttributeProto.GRAPHS


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
        for attribute in self.proto.attribute:
            if attribute.name == name:
                found: onnx.AttributeProto = attribute
                return found
        return None

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


class Index:
    """Every node and tensor of a model's main graph and of the subgraphs in it.

    Raises:
        ModelError: the graph contradicts itself: a tensor that nothing makes, that is made twice,
            nodes that wait for each other, data that does not match its dims.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.scopes: list[Scope] = []
        self.nodes: list[Node] = []
        """Every node, in an order in which each comes after those that it reads from."""
        self.main = Scope(document.proto.graph, (), None, None)
        self._define_all()
        self._resolve_all()
        self._pin()
        self.nodes = self._ordered()

    def names(self) -> set[str]:
        """Every name of a tensor in the model."""
        return {name for scope in self.scopes for name in scope.tensors}

    def _define_all(self) -> None:
        waiting = [self.main]
        while waiting:
            scope = waiting.pop()
            self.scopes.append(scope)
            if len(scope.path) > MAX_DEPTH:
                raise ModelError(f"{self.document.name} is damaged: subgraphs nested too deep")
            self._define(scope)
            waiting += [sub for node in scope.nodes for sub in node.subgraphs]

    def _define(self, scope: Scope) -> None:
        check = self.document.tensors.check
        tensors = scope.tensors
        for value in scope.graph.input:
            if value.name in tensors:
                raise self._damaged(f"input {value.name!r} is listed twice")
            tensor = tensors[value.name] = Tensor(value.name, scope)
            tensor.is_input = True
        for position, proto in enumerate(scope.graph.initializer):
            name = proto.name
            if not name:
                raise self._damaged(f"initializer {position} has no name")
            tensor = tensors.get(name) or Tensor(name, scope)
            if tensor.initializer is not None:
                raise self._damaged(f"two initializers are named {name!r}")
            check(proto, f"initializer {name!r}")
            tensor.initializer = proto
            tensor.position = position
            tensors[name] = tensor
        for position, sparse in enumerate(scope.graph.sparse_initializer):
            name = sparse.values.name
            if name in tensors and not tensors[name].is_input:
                raise self._damaged(f"two initializers are named {name!r}")
            tensor = tensors.setdefault(name, Tensor(name, scope))
            tensor.is_sparse = True
            tensor.position = position
        for position, node_proto in enumerate(scope.graph.node):
            node = Node(node_proto, position, scope)
            scope.nodes.append(node)
            for name in node_proto.output:
                if not name:
                    node.outputs.append(None)
                    continue
                if name in tensors:
                    raise self._twice(tensors[name], node)
                tensor = tensors[name] = Tensor(name, scope)
                tensor.producer = node
                node.outputs.append(tensor)
            if node_proto.attribute:
                self._open(node)

    def _open(self, node: Node) -> None:
        for place, attribute in enumerate(node.proto.attribute):
            step = (NODE_ATTRIBUTE, place)
            kind = attribute.type
            if kind == _GRAPH or (not kind and attribute.HasField("g")):
                path = (*node.path, step, (ATTRIBUTE_GRAPH, 0))
                node.subgraphs.append(Scope(attribute.g, path, node.scope, node))
            elif kind == _GRAPHS:
                for number, graph in enumerate(attribute.graphs):
                    path = (*node.path, step, (ATTRIBUTE_GRAPHS, number))
                    node.subgraphs.append(Scope(graph, path, node.scope, node))
            elif kind == onnx.AttributeProto.TENSOR:
                self.document.tensors.check(
                    attribute.t, f"attribute {attribute.name!r} of node {node.label!r}"
                )

    def _resolve_all(self) -> None:
        for scope in self.scopes:
            tensors = scope.tensors
            for node in scope.nodes:
                for name in node.proto.input:
                    if not name:
                        node.inputs.append(None)
                        continue
                    tensor = tensors.get(name) or scope.find(name)
                    if tensor is None:
                        raise self._damaged(
                            f"node {node.label!r} ({node.op_type}) reads tensor {name!r}, "
                            "which nothing makes"
                        )
                    tensor.readers.append(node)
                    node.inputs.append(tensor)
            for value in scope.graph.output:
                tensor = scope.find(value.name)
                if tensor is None:
                    raise self._damaged(f"output {value.name!r} is made by nothing")
                tensor.is_output = True

    def _pin(self) -> None:
        proto = self.document.proto
        for scope in self.scopes:
            for annotation in scope.graph.quantization_annotation:
                for entry in annotation.quant_parameter_tensor_names:
                    self._pin_name(scope, entry.value)
        for training in proto.training_info:
            for binding in (training.initialization_binding, training.update_binding):
                for entry in binding:
                    self._pin_name(self.main, entry.key)
                    self._pin_name(self.main, entry.value)
            for graph in (training.initialization, training.algorithm):
                for name in _names_in(graph):
                    self._pin_name(self.main, name)

    def _pin_name(self, scope: Scope, name: str) -> None:
        tensor = scope.find(name)
        if tensor is not None:
            tensor.is_pinned = True

    def _ordered(self) -> list[Node]:
        """Kahn's algorithm, with a subgraph's reads counted as reads of the node that holds it."""
        nodes: list[Node] = []
        for scope in self.scopes:
            nodes += self._sorted(scope)
        return nodes

    def _sorted(self, scope: Scope) -> list[Node]:
        if all(at < node.position for node in scope.nodes for at in _made_by(node)):
            return scope.nodes
        needs = [set(_made_by(node)) for node in scope.nodes]
        left = [len(need) for need in needs]
        users: list[list[int]] = [[] for _ in needs]
        for position, need in enumerate(needs):
            for other in need:
                users[other].append(position)
        ready = [position for position, count in enumerate(left) if count == 0]
        order: list[Node] = []
        for position in ready:
            order.append(scope.nodes[position])
            for user in users[position]:
                left[user] -= 1
                if left[user] == 0:
                    ready.append(user)
        if len(order) < len(scope.nodes):
            stuck = next(node for node in scope.nodes if left[node.position])
            raise self._damaged(f"node {stuck.label!r} waits for its own output: a cycle")
        return order

    def _twice(self, tensor: Tensor, node: Node) -> ModelError:
        first = "an initializer" if tensor.initializer is not None else "a graph input"
        if tensor.producer is not None:
            first = f"node {tensor.producer.label!r}"
        return self._damaged(
            f"tensor {tensor.name!r} is made twice, by {first} and by node {node.label!r}"
        )

    def _damaged(self, detail: str) -> ModelError:
        return ModelError(f"{self.document.name} is damaged: {detail}")


def _made_by(node: Node) -> Iterator[int]:
    """The positions of the nodes of the same graph that must come before ``node``."""
    scope = node.scope
    for tensor in _reads(node) if node.subgraphs else node.inputs:
        if tensor is not None and tensor.scope is scope and tensor.producer is not None:
            yield tensor.producer.position


def _reads(node: Node) -> Iterator[Tensor | None]:
    """What a node reads, and what the subgraphs in it read."""
    yield from node.inputs
    waiting = list(node.subgraphs)
    while waiting:
        scope = waiting.pop()
        for value in scope.graph.output:
            yield scope.find(value.name)
        for inner in scope.nodes:
            yield from inner.inputs
            waiting += inner.subgraphs


def _names_in(graph: Any) -> Iterator[str]:
    """Every tensor name that a training graph mentions, in it or from outside."""
    for node in graph.node:
        yield from node.input
    for value in graph.output:
        yield value.name

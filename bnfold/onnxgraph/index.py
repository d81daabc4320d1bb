"""The def-use index: who makes a tensor and who reads it, across subgraphs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx

from bnfold.errors import ModelError
from bnfold.onnxgraph.graph import Node, Scope, Tensor
from bnfold.onnxgraph.load import Document, require_text
from bnfold.onnxgraph.rewrite import MAIN, all_tensors
from bnfold.onnxgraph.wire import (
    ATTRIBUTE_GRAPH,
    ATTRIBUTE_GRAPHS,
    MAX_DEPTH,
    NODE_ATTRIBUTE,
)

_GRAPH = onnx.AttributeProto.GRAPH
_GRAPHS = onnx.AttributeProto.GRAPHS


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
        self._read: dict[Node, list[str]] = {}
        self._define_all()
        self._check_beside()
        self._resolve_all()
        self._read.clear()
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

    def _check_beside(self) -> None:
        """Check the tensors of functions and of training information as those of the graph."""
        proto = self.document.proto
        if proto.functions or proto.training_info:
            for path, tensor in all_tensors(proto):
                if path[0] != MAIN[0]:
                    self.document.tensors.check(tensor, f"tensor {tensor.name!r} beside the graph")

    def _define(self, scope: Scope) -> None:
        for values in (scope.graph.input, scope.graph.output):
            require_text((value.name for value in values), self.document.name)
        is_plain, check = self.document.tensors.is_plain, self.document.tensors.check
        tensors = scope.tensors
        for value in scope.graph.input:
            if value.name in tensors:
                raise self._damaged(f"input {value.name!r} is listed twice")
            tensor = tensors[value.name] = Tensor(value.name, scope)
            tensor.is_input = True
        for position, proto in enumerate(scope.graph.initializer):
            name = proto.name
            if type(name) is not str:
                require_text([name], self.document.name)
            if not name:
                raise self._damaged(f"initializer {position} has no name")
            tensor = tensors.get(name) or Tensor(name, scope)
            if tensor.initializer is not None:
                raise self._damaged(f"two initializers are named {name!r}")
            if not is_plain(proto):
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
        texts: list[str] = []
        for position, node_proto in enumerate(scope.graph.node):
            node = Node(node_proto, position, scope)
            scope.nodes.append(node)
            # Repeated fields are slow to read, so each is read once.
            read, made = list(node_proto.input), list(node_proto.output)
            self._read[node] = read
            texts += (node.op_type, node.domain, node_proto.name, *read, *made)
            outputs = node.outputs
            for name in made:
                if not name:
                    outputs.append(None)
                    continue
                if name in tensors:
                    raise self._twice(tensors[name], node)
                tensor = tensors[name] = Tensor(name, scope)
                tensor.producer = node
                outputs.append(tensor)
            if node_proto.attribute:
                self._open(node)
        if set(map(type, texts)) - {str}:
            require_text(texts, self.document.name)

    def _open(self, node: Node) -> None:
        for place, attribute in enumerate(node.proto.attribute):
            require_text((attribute.name, attribute.ref_attr_name), self.document.name)
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
                inputs = node.inputs
                for name in self._read[node]:
                    if not name:
                        inputs.append(None)
                        continue
                    tensor = tensors.get(name) or scope.find(name)
                    if tensor is None:
                        raise self._damaged(
                            f"node {node.label!r} ({node.op_type}) reads tensor {name!r}, "
                            "which nothing makes"
                        )
                    tensor.readers.append(node)
                    inputs.append(tensor)
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
        if all(map(_comes_after_all, scope.nodes)):
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


def _comes_after_all(node: Node) -> bool:
    """Whether a node stands behind those of the same graph that must come before it."""
    if node.subgraphs:
        return all(at < node.position for at in _made_by(node))
    scope, position = node.scope, node.position
    for tensor in node.inputs:
        if tensor is not None and tensor.scope is scope:
            maker = tensor.producer
            if maker is not None and maker.position >= position:
                return False
    return True


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

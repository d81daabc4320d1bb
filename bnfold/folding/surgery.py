"""Cut a graph: replace and delete nodes, store tensors, and remove what nothing needs any more."""

from __future__ import annotations

from collections import Counter, defaultdict

import onnx
from onnx import helper

from bnfold.algebra.affine import Array
from bnfold.onnxgraph.edits import Edits
from bnfold.onnxgraph.graph import Node, Path, Scope, Tensor
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.known import Known
from bnfold.onnxgraph.ranges import Piece
from bnfold.onnxgraph.rewrite import MAIN, NewTensor, Rewrite, without_data
from bnfold.onnxgraph.wire import (
    ATTRIBUTE_TENSOR,
    GRAPH_INITIALIZER,
    GRAPH_INPUT,
    GRAPH_NODE,
    GRAPH_QUANTIZATION,
    GRAPH_VALUE_INFO,
    NODE_ATTRIBUTE,
    delimited,
)


class Surgery:
    """The edits of one model, while they are made.

    Attributes:
        rewrite: the result.
        nodes_removed: how many nodes fewer there are.
        kept: nodes that stay, though for a while nothing reads them.
    """

    def __init__(self, index: Index) -> None:
        self.rewrite = Rewrite()
        self.nodes_removed = 0
        self.kept: set[Node] = set()
        self._index = index
        self._constants_as_nodes = index.document.proto.ir_version < 4
        self._names = index.names()
        self._numbers: dict[str, int] = {}
        self._reads: dict[Tensor, int] = {}
        self._unread: list[Tensor] = []
        self._deleted: set[Node] = set()
        self._graphs: dict[Scope, Edits] = {}
        self._vanished: dict[Scope, set[str]] = defaultdict(set)
        self._renamed: dict[Scope, dict[str, str]] = defaultdict(dict)

    def finish(self) -> Rewrite:
        """Remove what the edits orphaned, and every mention of tensors that are gone."""
        self._sweep()
        for scope, names in self._vanished.items():
            self._forget(scope, names)
        return self.rewrite

    def replace(self, node: Node, *protos: onnx.NodeProto) -> None:
        """Put other nodes in the place of one."""
        fields: list[Piece] = []
        for proto in protos:
            fields += delimited(GRAPH_NODE, [proto.SerializeToString()])
        self.nodes_removed -= len(protos) - 1
        self._graph(node.scope).replaced[(GRAPH_NODE, node.position)] = fields

    def delete(self, node: Node, *, but: Tensor | None = None) -> None:
        """Delete a node, and sooner or later what only it read, save for one tensor."""
        if node in self._deleted:  # several folds may pass it
            return
        self._deleted.add(node)
        self.nodes_removed += 1
        self._graph(node.scope).replaced[(GRAPH_NODE, node.position)] = []
        for tensor in node.inputs:
            if tensor is not None and tensor is not but:
                self.unread_once(tensor)

    def is_deleted(self, node: Node) -> bool:
        """Whether a node is gone."""
        return node in self._deleted

    def vanish(self, tensor: Tensor, *, renamed: str = "") -> None:
        """Note that nothing has the name of a tensor any more, or that it has another name now."""
        self._vanished[tensor.scope].add(tensor.name)
        if renamed:
            self._renamed[tensor.scope][tensor.name] = renamed

    def store_array(
        self, known: Known | None, users: list[Node], values: Array, scope: Scope, wish: str
    ) -> str:
        """Store a small array as ``store`` does: in place of a constant, or under a new name."""
        little = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
        element_type = helper.np_dtype_to_tensor_dtype(values.dtype)
        return self.store(known, users, little, values.shape, element_type, scope, wish)

    def fresh(self, wish: str) -> str:
        """A name that no tensor has: the wish, or the wish with a number."""
        name, number = wish, self._numbers.get(wish, 1)
        while name in self._names:
            name, number = f"{wish}_{number}", number + 1
        self._names.add(name)
        self._numbers[wish] = number
        return name

    def unread_once(self, tensor: Tensor) -> None:
        """Note that a node reads a tensor once less."""
        left = self._reads.get(tensor, len(tensor.readers)) - 1
        self._reads[tensor] = left
        if left == 0:
            self._unread.append(tensor)

    def store(
        self,
        known: Known | None,
        users: list[Node],
        data: Piece,
        shape: tuple[int, ...],
        element_type: int,
        scope: Scope,
        wish: str,
    ) -> str:
        """Store data in place of a constant that only ``users`` read, else under a new name.

        Args:
            known: the constant that it replaces for those users, or None.
            scope: the graph in which a new tensor is defined.
            wish: its name, if no other tensor has it.
        """
        if known is not None and known.shape == shape and _is_only_for(known, users):
            self.change(known, data)
            return known.tensor.name
        return self.add(data, shape, element_type, scope, wish)

    def change(self, known: Known, data: Piece) -> None:
        """Store data in place of a constant, whoever reads it."""
        assert known.stored is not None
        proto = without_data(known.stored, self._index.document.tensors.mark)
        self.rewrite.tensors.append(NewTensor(proto, [data], path=_stored_path(known.tensor)))

    def add(
        self, data: Piece, shape: tuple[int, ...], element_type: int, scope: Scope, wish: str
    ) -> str:
        """Store data as a new tensor, under the name that it wishes if no other has it."""
        name = self.fresh(wish)
        proto = onnx.TensorProto(name=name, data_type=element_type, dims=shape)
        graph = (*MAIN, *scope.path)
        self.rewrite.tensors.append(
            NewTensor(proto, [data], graph=graph, as_node=self._constants_as_nodes)
        )
        self.nodes_removed -= self._constants_as_nodes
        return name

    def _graph(self, scope: Scope) -> Edits:
        edits = self._graphs.get(scope)
        if edits is None:
            edits = self._graphs[scope] = self.rewrite.edits.at((*MAIN, *scope.path))
        return edits

    def _sweep(self) -> None:
        """Delete the constants, and the nodes that computed them, which no node reads any more."""
        while self._unread:
            tensor = self._unread.pop()
            if tensor.is_output or tensor.is_pinned:
                continue
            node = tensor.producer
            if node is None:
                self._delete_initializer(tensor)
            elif not (node in self._deleted or node in self.kept or node.subgraphs):
                if not self._is_unused(node):
                    continue
                self.delete(node)
                for output in node.outputs:
                    if output is not None:
                        self.vanish(output)

    def _is_unused(self, node: Node) -> bool:
        return all(
            t is None
            or (not t.is_output and not t.is_pinned and self._reads.get(t, len(t.readers)) == 0)
            for t in node.outputs
        )

    def _delete_initializer(self, tensor: Tensor) -> None:
        if tensor.initializer is None or (tensor.scope.parent is not None and tensor.is_input):
            return
        if tensor.is_input and not self._constants_as_nodes:
            return  # From IR version 4 on callers may give it, whether or not it counts.
        graph = self._graph(tensor.scope)
        graph.replaced[(GRAPH_INITIALIZER, tensor.position)] = []
        self.vanish(tensor)
        if tensor.is_input:
            for at, value in enumerate(tensor.scope.graph.input):
                if value.name == tensor.name:
                    graph.replaced[(GRAPH_INPUT, at)] = []

    def _under_new_name(self, scope: Scope, value: onnx.ValueInfoProto) -> list[Piece]:
        name = self._renamed[scope].get(value.name)
        if name is None:
            return []
        copy = onnx.ValueInfoProto()
        copy.CopyFrom(value)
        copy.name = name
        return delimited(GRAPH_VALUE_INFO, [copy.SerializeToString()])

    def _forget(self, scope: Scope, names: set[str]) -> None:
        """Remove the types and annotations of tensors that are gone."""
        graph = self._graph(scope)
        for at, value in enumerate(scope.graph.value_info):
            if value.name in names:
                graph.replaced[(GRAPH_VALUE_INFO, at)] = self._under_new_name(scope, value)
        for at, annotation in enumerate(scope.graph.quantization_annotation):
            if annotation.tensor_name in names:
                graph.replaced[(GRAPH_QUANTIZATION, at)] = []


def _is_only_for(known: Known, users: list[Node]) -> bool:
    """Whether a stored constant is read by ``users`` alone, so that it can change in place."""
    tensor = known.tensor
    if known.stored is None or tensor.is_output or tensor.is_pinned:
        return False
    if len(tensor.readers) != len(users):
        return False
    return tensor.readers == users or Counter(tensor.readers) == Counter(users)


def _stored_path(tensor: Tensor) -> Path:
    if tensor.producer is None:
        return (*MAIN, *tensor.scope.path, (GRAPH_INITIALIZER, tensor.position))
    node = tensor.producer
    at = next(i for i, a in enumerate(node.proto.attribute) if a.name == "value")
    return (*MAIN, *node.path, (NODE_ATTRIBUTE, at), (ATTRIBUTE_TENSOR, 0))

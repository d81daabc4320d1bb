"""One of the two models, ready to be evaluated in pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import AttributeProto, TensorProto, defs, helper

from bnfold.checking.rounding import Move
from bnfold.checking.sizes import FLOATS, constants_of_sizes, with_values
from bnfold.onnxgraph.graph import Node
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.known import stored_tensor
from bnfold.onnxgraph.load import Document
from bnfold.onnxgraph.rewrite import all_tensors
from bnfold.reference import Evaluator

Array = npt.NDArray[Any]
Values = Mapping[str, Array]


@dataclass(frozen=True)
class Cone:
    """What makes a tensor from tensors that are taken as given.

    Attributes:
        nodes: of the main graph, in topological order.
        cut: the given tensors that it starts from.
        through: the tensors of both models inside of it, which are not taken as given.
    """

    nodes: tuple[Node, ...]
    cut: frozenset[str]
    through: frozenset[str]


class Side:
    """A model, its graph, its constants, and its evaluator.

    Attributes:
        document, index: the model.
        evaluator: evaluates it in float64.
        input_names, output_names: of the graph; the inputs that have to be given.
        overridable: the initializers that may be given too.
        valued: the tensors that depend on the values of inputs, not just on their shapes.
        made: the tensors of the main graph that depend on its inputs and that a node makes, in
            topological order.
    """

    def __init__(self, document: Document) -> None:
        self.document = document
        self.index = Index(document)
        self.evaluator = Evaluator(document.proto, read=document.tensors.array)
        self._maker: dict[str, Node] = {}
        self._position: dict[Node, int] = {}
        self._reads: dict[Node, tuple[str, ...]] = {}
        self._digests: dict[int, bytes] = {}
        # Python wraps a message anew for each look unless somebody holds the wrapper.
        self._held: list[onnx.TensorProto] = []
        graph = document.proto.graph
        self.overridable = _overridable(document.proto)
        variable = {v.name for v in graph.input} - {t.name for t in graph.initializer}
        self.input_names = [v.name for v in graph.input if v.name in variable]
        variable |= set(self.overridable)
        self.output_names = [v.name for v in graph.output]
        self.made: list[str] = []
        for position, node in enumerate(n for n in self.index.nodes if n.scope.owner is None):
            self._position[node] = position
            self._reads[node] = tuple(dict.fromkeys(_reads(node)))
            is_variable = not variable.isdisjoint(self._reads[node])
            for tensor in node.outputs:
                if tensor is not None:
                    self._maker[tensor.name] = node
                    if is_variable:
                        variable.add(tensor.name)
                        self.made.append(tensor.name)
        self._variable = variable
        self.valued = with_values(self.index, variable)

    def given(self) -> set[str]:
        """Everything that a caller may give."""
        return {*self.input_names, *self.overridable}

    def run(
        self, given: Values, wanted: Sequence[str], move: Move | None = None, *, seed: int = 0
    ) -> dict[str, Array]:
        """The values of some tensors; see ``bnfold.reference.Evaluator.run``."""
        return self.evaluator.run(given, wanted, widen=move, seed=seed)

    def floats(self) -> dict[int, bytes]:
        """A digest of the content of each float constant, by the identity of its TensorProto."""
        if not self._digests:
            for _, tensor in all_tensors(self.document.proto):
                if tensor.data_type in FLOATS:
                    self._held.append(tensor)
                    self._digests[id(tensor)] = self._digest(tensor)
            for sparse in self.document.proto.graph.sparse_initializer:
                self._held.append(sparse.values)
                self._digests[id(sparse.values)] = self._digest(sparse.values)
        return self._digests

    def narrow(self, constants: Collection[int]) -> bool:
        """Whether one of these constants is stored in 16 bits."""
        return any(
            id(tensor) in constants
            and tensor.data_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16)
            for _, tensor in all_tensors(self.document.proto)
        )

    def changed(self, other: Side) -> set[int]:
        """The float constants whose content ``other`` does not have, or reads somewhere else.

        A bias can be rounded to the very beta that it was computed from.
        """
        theirs: dict[bytes, set[tuple[str, int]]] = {}
        for key, places in other._places().items():
            theirs.setdefault(other.floats()[key], set()).update(places)
        sizes = constants_of_sizes(self.index, self.valued)
        return {
            key
            for key, places in self._places().items()
            if places.isdisjoint(theirs.get(self.floats()[key], ())) and key not in sizes
        }

    def _places(self) -> dict[int, set[tuple[str, int]]]:
        """Where each float constant is read: by which operators, as which of their inputs."""
        found: dict[int, set[tuple[str, int]]] = {key: set() for key in self.floats()}
        for scope in self.index.scopes:
            for tensor in scope.tensors.values():
                stored = stored_tensor(tensor)
                if stored is not None and id(stored) in found:
                    found[id(stored)] |= {
                        (node.op_type, at)
                        for node in tensor.readers
                        for at, read in enumerate(node.inputs)
                        if read is tensor
                    }
        # Nobody is known to read those of functions: equal content is enough.
        return {key: places or {("", 0)} for key, places in found.items()}

    def needed(self) -> set[str]:
        """The tensors of the main graph that the outputs are computed from."""
        found: set[str] = set()
        waiting = list(self.output_names)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                node = self._maker.get(name)
                waiting += self._reads[node] if node is not None else ()
        return found

    def lacks(self, name: str) -> bool:
        """Whether no node of the main graph makes a tensor of that name."""
        return bool(name) and name not in self._maker

    def cone(self, target: str, given: Collection[str]) -> Cone:
        """What makes ``target`` from the tensors ``given``, which do not include it."""
        seen: set[Node] = set()
        cut: set[str] = set()
        through: set[str] = set()
        waiting = [target]
        while waiting:
            name = waiting.pop()
            if name in given and name != target:
                cut.add(name)
                continue
            node = self._maker.get(name)
            if node is None:
                if name in self._variable:
                    cut.add(name)
                continue
            if name != target and name in self._variable:
                through.add(name)
            if node not in seen:
                seen.add(node)
                waiting += self._reads[node]
        nodes = tuple(sorted(seen, key=self._position.__getitem__))
        return Cone(nodes, frozenset(cut), frozenset(through))

    def signature(self, cone: Cone, target: str) -> bytes | None:
        """The same bytes for cones that are the same nodes on the same constants.

        None where that cannot be told cheaply (subgraphs).
        """
        names: dict[str, bytes] = {}

        def name_of(name: str) -> bytes:
            if not name:
                return b""
            if name not in names:
                names[name] = self._constant(name) or b"given " + name.encode()
            return names[name]

        for node in cone.nodes:
            if node.subgraphs:
                return None
            parts = [node.op_type.encode(), node.domain.encode(), self._version(node)]
            if node.op_type == "Constant" and node.domain == "":
                for attribute in node.proto.attribute:
                    if attribute.HasField("t"):
                        parts.append(self._digest(attribute.t))
                    else:
                        parts.append(attribute.SerializeToString(deterministic=True))
            else:
                for attribute in sorted(node.proto.attribute, key=lambda a: str(a.name)):
                    if attribute.HasField("t"):
                        return None
                    parts.append(attribute.SerializeToString(deterministic=True))
            parts += [name_of(name) for name in node.proto.input]
            whole = _hashed(parts)
            for at, name in enumerate(node.proto.output):
                if name:
                    names[name] = _hashed([whole, str(at).encode()])
        return names.get(target)

    def attributes(self, nodes: Iterable[Node]) -> set[tuple[str, str, tuple[float, ...]]]:
        """The numbers that some nodes have as attributes, with operator and name."""
        return {
            (node.op_type, attribute.name, (attribute.f, *attribute.floats))
            for node in nodes
            for attribute in node.proto.attribute
            if attribute.type in (AttributeProto.FLOAT, AttributeProto.FLOATS)
        }

    def dtype_of_output(self, name: str) -> str:
        """``float32``, ``int64``...: the element type that the model declares, or ``unknown``."""
        for value in self.document.proto.graph.output:
            if value.name == name and value.type.tensor_type.elem_type:
                return str(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name)
        return "unknown"

    def _constant(self, name: str) -> bytes | None:
        tensor = self.index.main.tensors.get(name)
        if tensor is None or tensor.initializer is None or name in self._variable:
            return None
        key = id(tensor.initializer)
        return self.floats().get(key) or self._digest(tensor.initializer)

    def _digest(self, tensor: onnx.TensorProto) -> bytes:
        hashed = hashlib.blake2b(digest_size=16)
        hashed.update(repr((tensor.data_type, tuple(tensor.dims))).encode())
        values = self.document.tensors.array(tensor)
        if values.dtype == object:
            hashed.update(repr(values.tolist()).encode())
        else:
            hashed.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
        return hashed.digest()

    def _version(self, node: Node) -> bytes:
        for entry in self.document.proto.opset_import:
            domain = "" if entry.domain == "ai.onnx" else entry.domain
            if domain == node.domain:
                try:
                    schema = defs.get_schema(node.op_type, int(entry.version), domain)
                except defs.SchemaError:
                    return str(entry.version).encode()
                return str(schema.since_version).encode()
        return b""


def _overridable(proto: onnx.ModelProto) -> list[str]:
    """Initializers that are graph inputs too, which a caller may replace from IR version 4 on."""
    if proto.ir_version < 4:
        return []
    stored = {tensor.name for tensor in proto.graph.initializer}
    return [value.name for value in proto.graph.input if value.name in stored]


def _reads(node: Node) -> Iterable[str]:
    """The tensors of the main graph that a node reads, the bodies inside of it included."""
    for tensor in node.inputs:
        if tensor is not None:
            yield tensor.name
    waiting = list(node.subgraphs)
    while waiting:
        scope = waiting.pop()
        for value in scope.graph.output:
            tensor = scope.find(value.name)
            if tensor is not None and tensor.scope.owner is None:
                yield tensor.name
        for inner in scope.nodes:
            for tensor in inner.inputs:
                if tensor is not None and tensor.scope.owner is None:
                    yield tensor.name
            waiting += inner.subgraphs


def _hashed(parts: Iterable[bytes]) -> bytes:
    hashed = hashlib.blake2b(digest_size=16)
    for part in parts:
        hashed.update(len(part).to_bytes(8, "little"))
        hashed.update(part)
    return hashed.digest()

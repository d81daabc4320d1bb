"""The constants of both sides of a fold: as the model has them, and as they will be written."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from bnfold.onnxgraph.edits import Edits
from bnfold.onnxgraph.expressions import SHAPE_ONLY, TYPE_ONLY, constant_of, measured_dims
from bnfold.onnxgraph.graph import Node, Path, Scope, Tensor
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.known import stored_tensor
from bnfold.onnxgraph.ranges import Chunk, chunks, joined
from bnfold.onnxgraph.repaired import repaired_operators
from bnfold.onnxgraph.rewrite import MAIN, NewTensor, Rewrite
from bnfold.onnxgraph.types import Types
from bnfold.onnxgraph.wire import (
    ATTRIBUTE_TENSOR,
    GRAPH_INITIALIZER,
    GRAPH_NODE,
    NODE_ATTRIBUTE,
    fields,
)

Array = npt.NDArray[Any]


class RegionError(Exception):
    """What is wrong with the written region, in words; never leaves this room."""


class Original:
    """The constants of a model: stored ones as they lie, computed ones by onnx.reference at once.

    It takes nothing from the folder: no parsed layer, no affine map, no evaluated expression.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._found: dict[Tensor, Array] = {}
        self.types = Types(index)

    def value(self, tensor: Tensor) -> Array:
        """The values of a constant, in its own dtype; a view of the file where that holds them."""
        found = self._found.get(tensor)
        if found is None:
            stored = stored_tensor(tensor)
            if stored is not None:
                found = self._index.document.tensors.array(stored)
            else:
                found = self._computed(tensor)
            self._found[tensor] = found
        return found

    def default(self, tensor: Tensor) -> Array:
        """The values of an initializer that is an input, too."""
        assert tensor.initializer is not None
        return self._index.document.tensors.array(tensor.initializer)

    def _computed(self, tensor: Tensor) -> Array:
        """A constant expression, evaluated whole, in the model's own dtypes."""
        from onnx.reference import ReferenceEvaluator

        names: dict[Tensor, str] = {}
        given: dict[str, Array] = {}
        nodes: list[onnx.NodeProto] = []
        done: set[Node] = set()
        waiting: list[tuple[Tensor, bool]] = [(tensor, False)]
        while waiting:
            top, is_ready = waiting.pop()
            name = names.setdefault(top, f"t{len(names)}")
            node = top.producer
            if stored_tensor(top) is not None:
                given[name] = self.value(top)
            elif node is None or node.domain != "":
                raise RegionError(f"{top.name} is not constant")
            elif node.op_type == "Constant":
                given[name] = constant_of(node)
            elif node in done:
                continue
            elif not is_ready:
                waiting.append((top, True))
                waiting += [(t, False) for t in self._needed(node, names, given)]
            else:
                done.add(node)
                nodes.append(self._renamed(node, names))
        graph = onnx.GraphProto(name="expression", node=nodes)
        graph.input.extend(onnx.ValueInfoProto(name=name) for name in given)
        graph.output.append(onnx.ValueInfoProto(name=names[tensor]))
        imports = self._index.document.proto.opset_import
        model = onnx.ModelProto(ir_version=8, graph=graph, opset_import=imports)
        found: Any = ReferenceEvaluator(model, new_ops=repaired_operators()).run(None, given)
        return np.asarray(found[0])

    def _needed(
        self, node: Node, names: dict[Tensor, str], given: dict[str, Array]
    ) -> Iterator[Tensor]:
        for at, tensor in enumerate(node.inputs):
            if tensor is None or at in TYPE_ONLY.get(node.op_type, ()):
                continue
            if at in SHAPE_ONLY.get(node.op_type, ()) and stored_tensor(tensor) is None:
                dims = self.types.dims(tensor, measured_dims(node))
                shape = None if dims is not None else self.types.shape(tensor)
                if shape is not None:  # of which a Gather or Slice takes the known sizes
                    dims = [size if isinstance(size, int) else 0 for size in shape]
                if dims is not None:
                    name = names.setdefault(tensor, f"t{len(names)}")
                    given[name] = np.broadcast_to(np.float32(0), [max(d, 0) for d in dims])
                    continue
            yield tensor

    def _renamed(self, node: Node, names: dict[Tensor, str]) -> onnx.NodeProto:
        proto = onnx.NodeProto(op_type=node.op_type)
        proto.attribute.extend(node.proto.attribute)
        inputs = list(node.inputs)
        if node.op_type == "CastLike":
            like = inputs.pop()
            kind = self.types.element_type(like) if like is not None else 0
            proto.op_type = "Cast"
            proto.attribute.append(helper.make_attribute("to", kind))
        proto.input.extend("" if t is None else names[t] for t in inputs)
        for output in node.outputs:
            proto.output.append(
                "" if output is None else names.setdefault(output, f"t{len(names)}")
            )
        return proto


class Written:
    """What a rewrite will write: nodes, and what each name in them will mean.

    Args:
        nodes: those of all regions: they alone may read what changes in its place.
    """

    def __init__(self, rewrite: Rewrite, original: Original, nodes: Collection[Node]) -> None:
        self._original = original
        self._nodes = nodes
        self._edits = rewrite.edits
        self._graphs: dict[Scope, Edits | None] = {}
        self._protos: dict[Node, list[onnx.NodeProto]] = {}
        self._makes: dict[Scope, dict[str, Node]] = {}
        self._replaced = {t.path: t for t in rewrite.tensors if t.path is not None}
        self._added = {(t.graph, t.proto.name): t for t in rewrite.tensors if t.path is None}

    def node(self, node: Node) -> onnx.NodeProto | None:
        """The node as it will be written, or None where it will not be."""
        protos = self.nodes(node)
        if len(protos) > 1:
            raise RegionError(f"what replaces {node.label} is not one node")
        return protos[0] if protos else None

    def nodes(self, node: Node) -> list[onnx.NodeProto]:
        """What will be written in the place of a node: itself, nothing, or other nodes."""
        pieces = self._field(node.scope, (GRAPH_NODE, node.position))
        if pieces is None:
            return [node.proto]
        if not pieces:
            return []
        found = self._protos.get(node)
        if found is None:
            data = joined(pieces)
            found = self._protos[node] = []
            for number, _, _, start, stop in fields(memoryview(data), 0, len(data)):
                if number != GRAPH_NODE:
                    raise RegionError(f"what replaces {node.label} is no node")
                found.append(onnx.NodeProto.FromString(data[start:stop]))
        return found

    def changed(self, scope: Scope) -> list[Node]:
        """The nodes of a graph in whose place something else is written."""
        self._field(scope, (GRAPH_NODE, 0))
        edits = self._graphs[scope]
        replaced = () if edits is None else edits.replaced
        return [scope.nodes[at] for number, at in replaced if number == GRAPH_NODE]

    def made_anew(self, scope: Scope) -> dict[str, Node]:
        """What the nodes of a graph make that are written in another's place, by name.

        Raises:
            RegionError: two of them make the same.
        """
        if scope not in self._makes:
            makes = self._makes[scope] = {}
            for node in self.changed(scope):
                for name in (n for proto in self.nodes(node) for n in proto.output if n):
                    if name in makes:
                        raise RegionError(f"{name} would be made twice")
                    makes[name] = node
        return self._makes[scope]

    def is_made(self, tensor: Tensor) -> bool:
        """Whether something of a tensor's name will be there that a node makes, or an input."""
        node = tensor.producer
        if node is None or self._field(tensor.scope, (GRAPH_NODE, node.position)) is None:
            return True
        return tensor.name in self.made_anew(tensor.scope)

    def tensor(self, name: str, scope: Scope) -> NewTensor | Tensor:
        """What a name will mean in a graph, from the inside out.

        Raises:
            RegionError: nothing of that name will be there.
        """
        at: Scope | None = scope
        while at is not None:
            added = self._added.get(((*MAIN, *at.path), name))
            if added is not None:
                return added
            tensor = at.tensors.get(name)
            if tensor is not None:
                return self._kept(tensor)
            at = at.parent
        raise RegionError(f"the written model has no tensor {name!r}")

    def defines(self, name: str, scope: Scope) -> bool:
        """Whether a graph itself has, or will have, a tensor of that name."""
        return name in scope.tensors or ((*MAIN, *scope.path), name) in self._added

    def array(self, found: NewTensor | Tensor) -> Array:
        """All values of a small constant, as they will be written."""
        if isinstance(found, Tensor):
            return self._original.value(found)
        shape, data = tuple(found.proto.dims), joined(found.data)
        if len(data) < math.prod(shape) * dtype_of(found).itemsize:  # several codes in a byte
            whole = onnx.TensorProto(data_type=found.proto.data_type, dims=shape, raw_data=data)
            return numpy_helper.to_array(whole)
        return np.frombuffer(data, dtype=dtype_of(found)).reshape(shape)

    def _kept(self, tensor: Tensor) -> NewTensor | Tensor:
        stored = stored_tensor(tensor)
        if stored is None:
            return tensor
        path = _path_of(tensor)
        new = self._replaced.get((*MAIN, *tensor.scope.path, *path))
        if new is not None:
            if tensor.producer is None and new.proto.name != tensor.name:
                raise RegionError(f"the written model has no tensor {tensor.name!r}")
            if tensor.is_output or any(reader not in self._nodes for reader in tensor.readers):
                raise RegionError(f"{tensor.name} changes, and others need it as it was")
            return new
        if self._field(tensor.scope, path[0]) is not None:
            raise RegionError(f"{tensor.name} is removed and still read")
        return tensor

    def _field(self, scope: Scope, field: tuple[int, int]) -> list[Any] | None:
        if scope not in self._graphs:
            self._graphs[scope] = self._edits.find((*MAIN, *scope.path))
        edits = self._graphs[scope]
        return None if edits is None else edits.replaced.get(field)


def _path_of(tensor: Tensor) -> Path:
    """Where the TensorProto of a stored constant lies in its graph."""
    node = tensor.producer
    if node is None:
        return ((GRAPH_INITIALIZER, tensor.position),)
    at = next(i for i, a in enumerate(node.proto.attribute) if a.name == "value")
    return ((GRAPH_NODE, node.position), (NODE_ATTRIBUTE, at), (ATTRIBUTE_TENSOR, 0))


def dtype_of(tensor: NewTensor) -> np.dtype[Any]:
    """The dtype in which a new tensor is written."""
    return np.dtype(helper.tensor_dtype_to_np_dtype(tensor.proto.data_type))


class Stream:
    """The values of a new tensor in their order, so that they are never all in memory.

    Args:
        put: takes each chunk of raw bytes as it is read.
    """

    def __init__(self, source: NewTensor, put: Callable[[Chunk], None] | None = None) -> None:
        self._dtype = dtype_of(source)
        self._rest = memoryview(b"")
        self._chunks = self._read(source, put)

    @staticmethod
    def _read(source: NewTensor, put: Callable[[Chunk], None] | None) -> Iterator[memoryview]:
        for piece in source.data:
            for chunk in chunks(piece):
                if put is not None:
                    put(chunk)
                yield memoryview(chunk)

    def require_end(self) -> None:
        """Say that there is more.

        Raises:
            RegionError: there is.
        """
        if self._rest or next(self._chunks, None) is not None:
            raise RegionError("a written tensor has too much data")

    def take(self, shape: tuple[int, ...]) -> Array:
        """The next values, in this shape.

        Raises:
            RegionError: there are not so many.
        """
        needed = math.prod(shape) * self._dtype.itemsize
        parts: list[memoryview] = []
        while needed:
            if not self._rest:
                found = next(self._chunks, None)
                if found is None:
                    raise RegionError("a written tensor has too little data")
                self._rest = found
            part = self._rest[:needed]
            self._rest = self._rest[len(part) :]
            needed -= len(part)
            parts.append(part)
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        return np.frombuffer(whole, dtype=self._dtype).reshape(shape)

"""Element types and shapes of tensors: what the file says, else what shape inference finds."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from bnfold.onnxgraph.graph import Path, Tensor
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.wire import (
    ATTRIBUTE_GRAPH,
    ATTRIBUTE_GRAPHS,
    GRAPH_NODE,
    NODE_ATTRIBUTE,
)

_Known = dict[tuple[Path, str], onnx.TypeProto.Tensor]

Dim = int | str | None
"""The size of an axis: a number, the name of a symbol, or None where nothing tells."""

_SAME_SHAPE = frozenset(
    (
        "BatchNormalization Cast Clip Dropout Elu Erf Exp Gelu GroupNormalization HardSigmoid "
        "HardSwish Identity InstanceNormalization LayerNormalization LeakyRelu Mish Neg PRelu Relu "
        "Sigmoid Softmax Softplus Sqrt Tanh"
    ).split()
)
"""Operators whose first output has the shape of their first input."""

_SAME_CHANNELS = frozenset("AveragePool GlobalAveragePool GlobalMaxPool LpPool MaxPool".split())
"""Operators whose first output has the rank and the first two sizes of their first input."""

_SAME_RANK = frozenset("Pad Resize Slice Transpose Upsample".split())
"""Operators whose output has as many axes as their first input."""

_VISITS = 1 << 16
"""Shapes are inferred again until so many nodes have been visited, or eight times."""


class Types:
    """Looks up tensor types; runs shape inference only if nothing else tells."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._said: _Known | None = None
        self._inferred: _Known | None = None
        self._shapes: dict[Tensor, tuple[Dim, ...] | None] = {}

    def element_type(self, tensor: Tensor) -> int:
        """The ONNX data type of a tensor, or 0 where nothing tells."""
        if tensor.initializer is not None:
            return int(tensor.initializer.data_type)
        return next((int(f.elem_type) for f in self._found(tensor) if f.elem_type), 0)

    def rank(self, tensor: Tensor) -> int | None:
        """The number of axes of a tensor, or None where nothing tells."""
        if tensor.initializer is not None:
            return len(tensor.initializer.dims)
        near = _near(tensor)
        if near is not None:
            return len(near)
        for alike in (tensor, _source(tensor)):
            for found in self._found(alike):
                if found.HasField("shape"):
                    return len(found.shape.dim)
        return None

    def channels(self, tensor: Tensor) -> int | None:
        """The size of axis 1 where the operators right before it tell, without inference."""
        near = _near(tensor)
        size = near[1] if near is not None and len(near) > 1 else None
        return size if isinstance(size, int) else None

    def dims(self, tensor: Tensor, wanted: slice) -> list[int] | None:
        """The dims of a tensor if those in ``wanted`` are all known, else None; others are -1."""
        if tensor.initializer is not None:
            return list(tensor.initializer.dims)
        for found in self._found(tensor):
            if found.HasField("shape"):
                dims = [d.dim_value if d.HasField("dim_value") else -1 for d in found.shape.dim]
                if all(dim >= 0 for dim in dims[wanted]):
                    return dims
        return None

    def shape(self, tensor: Tensor) -> tuple[Dim, ...] | None:
        """All that is known of the shape of a tensor, or None if not even its rank is.

        Sizes come from the file, from shape inference with data propagation, and from the
        operators beside the tensor (a Conv's weight tells its channels).
        """
        if tensor not in self._shapes:
            self._shapes[tensor] = self._shape(tensor)
        return self._shapes[tensor]

    def _shape(self, tensor: Tensor) -> tuple[Dim, ...] | None:
        if tensor.initializer is not None:
            return tuple(int(dim) for dim in tensor.initializer.dims)
        known: list[tuple[Dim, ...]] = []
        near = _near(tensor)
        if near is not None:
            known.append(near)
        for alike in (tensor, _source(tensor)):
            if alike is tensor or not known:
                shapes = (f.shape for f in self._found(alike) if f.HasField("shape"))
                known += [tuple(_dim(d) for d in shape.dim) for shape in shapes]
        known = [shape for shape in known if len(shape) == len(known[0])]
        if not known:
            return None
        sizes: list[Dim] = list(known[0])
        for shape in known[1:]:
            sizes = [_closer(one, other) for one, other in zip(sizes, shape, strict=True)]
        _tell_from_readers(tensor, sizes)
        return tuple(sizes)

    def _found(self, tensor: Tensor) -> Iterator[onnx.TypeProto.Tensor]:
        """What the file says of a tensor, then what inference finds."""
        for known in self._sources():
            found = known.get((tensor.scope.path, tensor.name))
            if found is not None:
                yield found

    def _sources(self) -> Iterator[_Known]:
        if self._said is None:
            self._said = {}
            for scope in self._index.scopes:
                _collect(scope.graph, scope.path, self._said)
        yield self._said
        if self._inferred is None:
            self._infer()
        yield self._inferred or {}

    def _infer(self) -> None:
        """Infer shapes, and again as long as those that are known make more sizes known."""
        from bnfold.onnxgraph.sizes import computed_sizes

        self._inferred = {}
        skeleton, order = self._sorted()
        told: set[str] = set()
        for _ in range(max(8, _VISITS // max(1, len(self._index.nodes)))):
            self._inferred = self._inferred_from(skeleton, order) or self._inferred
            sizes = [size for size in computed_sizes(self._index, self) if size.name not in told]
            self._shapes.clear()
            if not sizes:
                break
            told.update(size.name for size in sizes)
            # Two messages one after the other are one with the initializers of both.
            more = onnx.ModelProto(graph=onnx.GraphProto(initializer=sizes))
            skeleton += more.SerializeToString()

    def _inferred_from(self, skeleton: bytes, order: list[int]) -> _Known:
        from onnx import shape_inference

        found: _Known = {}
        try:
            inferred = shape_inference.infer_shapes(skeleton, data_prop=True)
        except (shape_inference.InferenceError, RuntimeError, ValueError):
            # A model that inference cannot digest just tells nothing more than it says itself.
            return found
        waiting: list[tuple[onnx.GraphProto, Path]] = [(inferred.graph, ())]
        while waiting:
            graph, path = waiting.pop()
            _collect(graph, path, found)
            for at, node in enumerate(graph.node):
                position = order[at] if order and not path else at
                for place, attribute in enumerate(node.attribute):
                    here = (*path, (GRAPH_NODE, position), (NODE_ATTRIBUTE, place))
                    if attribute.HasField("g"):
                        waiting.append((attribute.g, (*here, (ATTRIBUTE_GRAPH, 0))))
                    for number, inner in enumerate(attribute.graphs):
                        waiting.append((inner, (*here, (ATTRIBUTE_GRAPHS, number))))
        return found

    def _sorted(self) -> tuple[bytes, list[int]]:
        """The model with its nodes in topological order, as inference needs them, and their places.

        No places where the order is that of the file.
        """
        skeleton = self._index.document.skeleton
        main = self._index.main
        order = [node.position for node in self._index.nodes if node.scope is main]
        if order == sorted(order):
            return skeleton, []
        model = onnx.ModelProto()
        model.CopyFrom(self._index.document.proto)
        del model.graph.node[:]
        model.graph.node.extend(main.graph.node[at] for at in order)
        return model.SerializeToString(), order


def _collect(graph: onnx.GraphProto, path: Path, into: _Known) -> None:
    for values in (graph.input, graph.output, graph.value_info):
        for value in values:
            if value.type.HasField("tensor_type"):
                into[(path, value.name)] = value.type.tensor_type


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value >= 0 else None
    return str(dim.dim_param) or None


def _closer(one: Dim, other: Dim) -> Dim:
    """The one that says more."""
    if isinstance(one, int) or other is None:
        return one
    return other if isinstance(other, int) or one is None else one


def _source(tensor: Tensor) -> Tensor:
    """The tensor a few steps before that has the same shape."""
    for _ in range(8):
        node = tensor.producer
        if node is None or node.domain != "" or node.op_type not in _SAME_SHAPE:
            break
        before = node.input(0)
        if before is None or node.outputs[0] is not tensor:
            break
        tensor = before
    return tensor


def _near(tensor: Tensor) -> tuple[Dim, ...] | None:
    """What a linear operator a few steps before a tensor tells of its shape, or None."""
    kept: int | None = None
    for _ in range(8):
        node = tensor.producer
        if node is None or not node.outputs or node.outputs[0] is not tensor:
            return None
        if node.domain not in ("", "com.microsoft"):
            return None
        # onnxruntime's FusedConv and FusedGemm have the shapes of the plain operators.
        kind, weight = node.op_type.removeprefix("Fused"), node.input(1)
        if kind in _SAME_SHAPE or kind in _SAME_CHANNELS or kind in _SAME_RANK:
            before = node.input(0)
            if before is None:
                return None
            if kind not in _SAME_SHAPE:
                kept = 2 if kind in _SAME_CHANNELS and kept != 0 else 0
            tensor = before
            continue
        if weight is None or weight.initializer is None:
            return None
        dims = [int(dim) for dim in weight.initializer.dims]
        sizes: tuple[Dim, ...] | None = None
        if kind == "Conv" and len(dims) > 2:
            sizes = (None, dims[0], *[None] * (len(dims) - 2))
        elif kind == "ConvTranspose" and len(dims) > 2:
            sizes = (None, dims[1] * node.integer("group", 1), *[None] * (len(dims) - 2))
        elif kind == "Gemm" and len(dims) == 2:
            sizes = (None, dims[0 if node.integer("transB", 0) else 1])
        return sizes if sizes is None or kept != 0 else (None,) * len(sizes)
    return None


def _tell_from_readers(tensor: Tensor, sizes: list[Dim]) -> None:
    """Fill in a size that only a reader's weight tells, such as the features of a Gemm."""
    for node in tensor.readers:
        weight = node.input(1)
        if node.domain != "" or weight is None or weight.initializer is None:
            continue
        if node.input(0) is not tensor or not sizes:
            continue
        dims = [int(dim) for dim in weight.initializer.dims]
        if node.op_type == "Gemm" and len(dims) == 2 and len(sizes) == 2:
            at = 0 if node.integer("transA", 0) else 1
            sizes[at] = _closer(sizes[at], dims[1 if node.integer("transB", 0) else 0])
        elif node.op_type == "MatMul" and len(dims) > 1:
            sizes[-1] = _closer(sizes[-1], dims[-2])
        elif node.op_type in ("LSTM", "GRU", "RNN") and len(sizes) == len(dims) == 3:
            sizes[2] = _closer(sizes[2], dims[2])
        elif node.op_type == "Conv" and len(sizes) == len(dims) > 2:
            sizes[1] = _closer(sizes[1], dims[1] * node.integer("group", 1))

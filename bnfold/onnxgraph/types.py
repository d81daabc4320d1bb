"""Element types and ranks of tensors: what the file says, else what shape inference finds."""

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


class Types:
    """Looks up tensor types; runs shape inference once, and only if the file does not say."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._said: _Known | None = None
        self._inferred: _Known | None = None

    def element_type(self, tensor: Tensor) -> int:
        """The ONNX data type of a tensor, or 0 where nothing tells."""
        if tensor.initializer is not None:
            return int(tensor.initializer.data_type)
        return next((int(f.elem_type) for f in self._found(tensor) if f.elem_type), 0)

    def rank(self, tensor: Tensor) -> int | None:
        """The number of axes of a tensor, or None where nothing tells."""
        if tensor.initializer is not None:
            return len(tensor.initializer.dims)
        return next((len(f.shape.dim) for f in self._found(tensor) if f.HasField("shape")), None)

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
            self._inferred = self._infer()
        yield self._inferred

    def _infer(self) -> _Known:
        from onnx import shape_inference

        found: _Known = {}
        try:
            inferred = shape_inference.infer_shapes(self._index.document.skeleton, data_prop=True)
        except (shape_inference.InferenceError, RuntimeError, ValueError):
            # A model that inference cannot digest just tells nothing more than it says itself.
            return found
        waiting: list[tuple[onnx.GraphProto, Path]] = [(inferred.graph, ())]
        while waiting:
            graph, path = waiting.pop()
            _collect(graph, path, found)
            for position, node in enumerate(graph.node):
                for place, attribute in enumerate(node.attribute):
                    here = (*path, (GRAPH_NODE, position), (NODE_ATTRIBUTE, place))
                    if attribute.HasField("g"):
                        waiting.append((attribute.g, (*here, (ATTRIBUTE_GRAPH, 0))))
                    for number, inner in enumerate(attribute.graphs):
                        waiting.append((inner, (*here, (ATTRIBUTE_GRAPHS, number))))
        return found


def _collect(graph: onnx.GraphProto, path: Path, into: _Known) -> None:
    for values in (graph.input, graph.output, graph.value_info):
        for value in values:
            if value.type.HasField("tensor_type"):
                into[(path, value.name)] = value.type.tensor_type

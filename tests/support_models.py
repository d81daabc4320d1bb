"""Models from ONNX text: parse a graph, give its parameters values, feed its inputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
Feeds = dict[str, Array]

FLOATS = {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE}
DTYPES = {
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
}


def norm_parameters(channels: int, suffix: str = "") -> str:
    """Declarations of the four parameters of a BatchNormalization: g, b, m, v."""
    return ", ".join(f"float[{channels}] {name}{suffix}" for name in "gbmv")


def parsed(
    text: str, *, opset: int = 17, ir: int = 8, dtype: str = "float", imports: str = ""
) -> onnx.ModelProto:
    """A model from the text of its graph, with every ``float`` read as ``dtype``.

    Functions may follow the graph; ``imports`` are further operator sets, such as ``"local" : 1``.
    """
    more = f", {imports}" if imports else ""
    header = f'<ir_version: {ir}, opset_import: ["" : {opset}{more}]>'
    model = onnx.parser.parse_model(f"{header}\n{text}")
    if dtype != "float":
        retype(model, {TensorProto.FLOAT}, DTYPES[dtype])
    return model


def retype(model: onnx.ModelProto, old: Collection[int], new: np.dtype[Any]) -> None:
    """Turn every tensor of an element type in ``old``, and every Cast to one, into ``new``."""
    code = helper.np_dtype_to_tensor_dtype(new)
    holders = [model.graph, *model.functions]
    while holders:
        holder = holders.pop()
        if isinstance(holder, onnx.GraphProto):
            for value in [*holder.input, *holder.output]:
                _retype_value(value, old, code)
            for tensor in holder.initializer:
                _retype_tensor(tensor, old, new)
        for value in holder.value_info:
            _retype_value(value, old, code)
        for node in holder.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    holders.append(attribute.g)
                elif attribute.type == onnx.AttributeProto.TENSOR:
                    _retype_tensor(attribute.t, old, new)
                elif node.op_type == "Cast" and attribute.name == "to" and attribute.i in old:
                    attribute.i = code


def filled(model: onnx.ModelProto, seed: int = 0) -> onnx.ModelProto:
    """``model`` with random initializers for the tensors it declares and nothing makes.

    Names that begin with v are variances and positive, those with b or m are of size 3, all others
    are between 0.25 and 1 in magnitude, so that a folded weight is never subnormal.
    """
    rng = np.random.default_rng(seed)
    filled_model = onnx.ModelProto()
    filled_model.CopyFrom(model)
    for graph in graphs(filled_model.graph):
        made = {name for node in graph.node for name in node.output}
        made |= {value.name for value in [*graph.input, *graph.output]}
        made |= {tensor.name for tensor in graph.initializer}
        declared = [value for value in graph.value_info if value.name not in made]
        kept = [value for value in graph.value_info if value.name in made]
        del graph.value_info[:]
        graph.value_info.extend(kept)
        for value in declared:
            kind = value.type.tensor_type
            shape = tuple(dim.dim_value for dim in kind.shape.dim)
            values = _drawn(rng, value.name, shape)
            dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
            graph.initializer.append(numpy_helper.from_array(values.astype(dtype), value.name))
        if model.ir_version < 4 and graph is filled_model.graph:
            _list_initializers(graph)
    return filled_model


def list_initializers_as_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with every initializer of the main graph among its inputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _list_initializers(copy.graph)
    return copy


def initializers_as_nodes(
    model: onnx.ModelProto, make: Callable[[onnx.TensorProto], list[onnx.NodeProto]]
) -> onnx.ModelProto:
    """``model`` with nodes that make its initializers in place of them.

    Initializers whose names end with _raw stay, so that ``make`` can use them.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for graph in graphs(copy.graph):
        nodes = list(graph.node)
        tensors = [tensor for tensor in graph.initializer if tensor.data_type in FLOATS]
        kept = [tensor for tensor in graph.initializer if tensor.data_type not in FLOATS]
        made: list[onnx.NodeProto] = []
        for tensor in tensors:
            made += make(tensor)
        read = {name for node in made for name in node.input}
        for tensor in tensors:
            raw = onnx.TensorProto()
            raw.CopyFrom(tensor)
            raw.name = f"{tensor.name}_raw"
            if raw.name in read:
                kept.append(raw)
        del graph.node[:]
        graph.node.extend([*made, *nodes])
        kept = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
        del graph.initializer[:]
        graph.initializer.extend(kept)
    return copy


def feeds_for(model: onnx.ModelProto, seed: int = 0) -> Feeds:
    """Data of size 30 for every input: float64, or bool for a condition (true if seed is even)."""
    rng = np.random.default_rng(1000 + seed)
    initialized = {tensor.name for tensor in model.graph.initializer}
    feeds: Feeds = {}
    for value in model.graph.input:
        if value.name in initialized:
            continue
        kind = value.type.tensor_type
        if kind.elem_type == TensorProto.BOOL:
            feeds[value.name] = np.array(seed % 2 == 0)
            continue
        assert kind.elem_type in FLOATS, value.name
        shape = tuple(dim.dim_value or 2 for dim in kind.shape.dim)
        feeds[value.name] = rng.uniform(-30, 30, shape)
    return feeds


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and every graph inside of it."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs(attribute.g)


def op_types(model: onnx.ModelProto) -> list[str]:
    """The operators of a model, graph by graph, outer ones first."""
    return [node.op_type for graph in graphs(model.graph) for node in graph.node]


def constant(model: onnx.ModelProto, name: str) -> Array:
    """The values of an initializer or of a Constant node, wherever it is."""
    for graph in graphs(model.graph):
        for tensor in graph.initializer:
            if tensor.name == name:
                return numpy_helper.to_array(tensor)
        for node in graph.node:
            if node.op_type == "Constant" and name in node.output:
                return numpy_helper.to_array(node.attribute[0].t)
    raise KeyError(name)


def with_values(model: onnx.ModelProto, **values: Any) -> onnx.ModelProto:
    """``model`` with other values for some initializers, in the dtype that they have."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    left = dict(values)
    for graph in graphs(copy.graph):
        for tensor in graph.initializer:
            if tensor.name in left:
                old = numpy_helper.to_array(tensor)
                new = np.asarray(left.pop(tensor.name), dtype=np.float64)
                with np.errstate(over="ignore"):
                    new = np.broadcast_to(new, old.shape).astype(old.dtype)
                tensor.CopyFrom(numpy_helper.from_array(new, tensor.name))
    assert not left, f"no initializer is named {sorted(left)}"
    return copy


def _retype_value(value: onnx.ValueInfoProto, old: Collection[int], code: int) -> None:
    if value.type.tensor_type.elem_type in old:
        value.type.tensor_type.elem_type = code


def _retype_tensor(tensor: onnx.TensorProto, old: Collection[int], new: np.dtype[Any]) -> None:
    if tensor.data_type in old:
        values = numpy_helper.to_array(tensor).astype(new)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _drawn(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    if name.startswith("v"):
        return np.asarray(rng.uniform(0.5, 4, shape))
    if name.startswith(("b", "m")):
        return np.asarray(rng.uniform(-3, 3, shape))
    return np.asarray(rng.uniform(0.25, 1, shape) * rng.choice([-1.0, 1.0], shape))


def _list_initializers(graph: onnx.GraphProto) -> None:
    listed = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if tensor.name not in listed:
            graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )

"""Small models that look like real ones, and how to compute with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Array = NDArray[Any]
Feeds = dict[str, Array]

STATISTICS = ("gamma", "beta", "mean", "var")
OPSET = [helper.make_opsetid("", 17)]


def unknown_field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field with a number that onnx.proto does not use (up to 2047)."""
    key = number << 3 | 2
    return bytes([key & 0x7F | 0x80, key >> 7, len(content)]) + content


def serialized(message: Any) -> bytes:
    """The bytes of any protobuf message."""
    data: bytes = message.SerializeToString()
    return data


def parsed(text: str) -> onnx.ModelProto:
    """A model written as ONNX text."""
    model: onnx.ModelProto = onnx.parser.parse_model(text)
    return model


def graph_model(text: str, **initializers: Array) -> onnx.ModelProto:
    """A model of one graph in ONNX text, opset 17, with initializers given as arrays."""
    model = parsed(f'<ir_version: 8, opset_import: ["" : 17]>\n{text}')
    for name, values in initializers.items():
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


def weights_of(
    seed: int, *, channels: int = 8, inputs: int = 3, dtype: Any = np.float32
) -> dict[str, Array]:
    """A Conv weight ``w`` (M, C, 3, 3) and the statistics of a norm after it, all well-behaved."""
    rng = np.random.default_rng(seed)
    return {
        "w": rng.normal(size=(channels, inputs, 3, 3)).astype(dtype),
        "gamma": rng.uniform(0.5, 2.0, channels).astype(dtype),
        "beta": rng.normal(size=channels).astype(dtype),
        "mean": rng.normal(size=channels).astype(dtype),
        "var": rng.uniform(0.5, 2.0, channels).astype(dtype),
    }


def conv_bn(seed: int = 0, *, channels: int = 8, inputs: int = 3) -> onnx.ModelProto:
    """Conv, BatchNormalization, Relu; the weight is large (>= 4096 bytes) from 38 channels on."""
    return graph_model(
        f"""
        net (float[1, {inputs}, 6, 6] x) => (float[1, {channels}, 4, 4] y) {{
            [conv] c = Conv (x, w)
            [norm] n = BatchNormalization (c, gamma, beta, mean, var)
            [act] y = Relu (n)
        }}""",
        **weights_of(seed, channels=channels, inputs=inputs),
    )


def plain(seed: int = 0) -> onnx.ModelProto:
    """Conv and Relu: nothing to fold."""
    return graph_model(
        """
        net (float[1, 3, 6, 6] x) => (float[1, 64, 4, 4] y) {
            [conv] c = Conv (x, w)
            [act] y = Relu (c)
        }""",
        w=weights_of(seed, channels=64)["w"],
    )


def if_bn(seed: int = 0) -> onnx.ModelProto:
    """A Conv and its norm inside the branch of an If, the weight outside of it."""
    return graph_model(
        """
        net (bool q, float[1, 3, 6, 6] x) => (float[1, 8, 4, 4] y) {
            [choose] y = If (q) <
                then_branch = yes () => (float[1, 8, 4, 4] t) {
                    [inner_conv] ci = Conv (x, w)
                    [inner_norm] t = BatchNormalization (ci, gamma, beta, mean, var)
                },
                else_branch = no () => (float[1, 8, 4, 4] e) {
                    [other_conv] e = Conv (x, w)
                }
            >
        }""",
        **weights_of(seed),
    )


def doubled(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model computing in float64: every float32 type and value becomes float64.

    Holds for models whose values stand in initializers, which is all that these tests build.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graphs = [copy.graph]
    while graphs:
        graph = graphs.pop()
        for value in [*graph.input, *graph.output, *graph.value_info]:
            kind = value.type.tensor_type
            if kind.elem_type == TensorProto.FLOAT:
                kind.elem_type = TensorProto.DOUBLE
        for tensor in graph.initializer:
            if tensor.data_type == TensorProto.FLOAT:
                values = numpy_helper.to_array(tensor).astype(np.float64)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        graphs += [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return copy


def computed(model: onnx.ModelProto, feeds: Feeds) -> list[Array]:
    """The outputs of a model in float64, by the ONNX reference evaluator."""
    wide = {n: f.astype(np.float64) if f.dtype == np.float32 else f for n, f in feeds.items()}
    return [np.asarray(out) for out in ReferenceEvaluator(doubled(model)).run(None, wide)]


def feeds_of(model: onnx.ModelProto, seed: int = 1) -> Feeds:
    """Random values for every float input and True for every bool input; shapes must be fixed."""
    rng = np.random.default_rng(seed)
    constants = {tensor.name for tensor in model.graph.initializer}
    feeds: Feeds = {}
    for value in model.graph.input:
        if value.name in constants:
            continue
        kind = value.type.tensor_type
        dims = [dim.dim_value for dim in kind.shape.dim]
        if kind.elem_type == TensorProto.BOOL:
            feeds[value.name] = np.ones(dims, dtype=np.bool_)
        else:
            feeds[value.name] = (30 * rng.normal(size=dims)).astype(np.float32)
    return feeds


def largest_difference(first: onnx.ModelProto, second: onnx.ModelProto) -> float:
    """The largest difference of two models' outputs, relative to the largest output."""
    feeds = feeds_of(first)
    worst = 0.0
    for a, b in zip(computed(first, feeds), computed(second, feeds), strict=True):
        assert a.shape == b.shape
        worst = max(worst, float(np.abs(a - b).max() / max(1.0, float(np.abs(a).max()))))
    return worst


def norms_in(model: onnx.ModelProto) -> int:
    """How many BatchNormalizations are left, in subgraphs too."""
    count, graphs = 0, [model.graph]
    while graphs:
        graph = graphs.pop()
        count += sum(node.op_type == "BatchNormalization" for node in graph.node)
        graphs += [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return count


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def externalised(
    model: onnx.ModelProto, folder: Path, places: dict[str, tuple[str, int | None]]
) -> onnx.ModelProto:
    """A copy of the model with initializers moved to files: name -> (location, offset).

    An offset of None leaves offset and length out. Bytes in a file that no tensor takes are 0xEE.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.name not in places:
            continue
        location, offset = places[tensor.name]
        data = tensor.raw_data
        path = folder / location
        path.parent.mkdir(parents=True, exist_ok=True)
        old = path.read_bytes() if path.exists() else b""
        start = offset or 0
        path.write_bytes(old[:start].ljust(start, b"\xee") + data + old[start + len(data) :])
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        if offset is not None:
            tensor.external_data.add(key="offset", value=str(offset))
            tensor.external_data.add(key="length", value=str(len(data)))
    return copy

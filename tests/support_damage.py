"""Small models that look real, and ways in which their files get damaged."""

from __future__ import annotations

import functools

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support_graphs import OPSET, conv_bn, graph_model, if_bn, serialized, weights_of


@functools.cache
def small_models() -> dict[str, bytes]:
    """A few files of different shapes, each below some kilobytes but one."""
    tiny = weights_of(3, channels=2, inputs=1)
    chain = graph_model(
        """net (float[1, 1, 4, 4] x) => (float[1, 2, 2, 2] y) <float s = {2}> {
            [conv] c = Conv <kernel_shape = [3, 3]> (x, w)
            [norm] n = BatchNormalization <epsilon = 0.001> (c, gamma, beta, mean, var)
            m = Mul (n, s)
            y = Relu (m)
        }""",
        **tiny,
    )
    constants = graph_model(
        """net (float[4, 3] x) => (float[4, 2] y) {
            w = Constant <value = float[3, 2] {1, 2, 3, 4, 5, 6}> ()
            [gemm] g = Gemm <alpha = 0.5> (x, w)
            one = Constant <value_float = 1.5> ()
            [mul] t = Mul (g, one)
            [norm] y = BatchNormalization (t, gamma, beta, mean, var)
        }""",
        **{name: tiny[name] for name in ("gamma", "beta", "mean", "var")},
    )
    doubles = conv_bn(2, channels=2, inputs=1)
    for tensor in doubles.graph.initializer:
        values = numpy_helper.to_array(tensor)
        tensor.ClearField("raw_data")
        tensor.float_data.extend(values.reshape(-1).tolist())
    return {
        "conv, norm, chain": chain.SerializeToString(),
        "constants": constants.SerializeToString(),
        "branch": if_bn().SerializeToString(),
        "float_data": doubles.SerializeToString(),
        "large tensors": conv_bn(1, channels=64).SerializeToString(),
    }


def deep_groups(depth: int) -> bytes:
    """A model with unknown protobuf groups nested in each other."""
    opening, closing = b"\xfb\x06", b"\xfc\x06"
    return small_models()["constants"] + opening * depth + closing * depth


def deep_graphs(depth: int, *, large: bool) -> bytes:
    """A model with Ifs nested in each other."""
    graph = onnx.GraphProto(name="innermost")
    if large:
        graph.initializer.append(numpy_helper.from_array(np.zeros(2000, np.float32), "k"))
    content = serialized(graph)
    for _ in range(depth):
        for number in (6, 5, 1):
            content = bytes([number << 3 | 2]) + length_of(content) + content
    head = serialized(onnx.ModelProto(ir_version=8, opset_import=OPSET))
    return head + bytes([7 << 3 | 2]) + length_of(content) + content


def length_of(content: bytes) -> bytes:
    """The length as a protobuf varint."""
    value, out = len(content), bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def tensor_model(**fields: object) -> bytes:
    """Conv and norm whose weight ``w`` has some fields set to something else."""
    model = conv_bn(channels=64)
    weight = next(t for t in model.graph.initializer if t.name == "w")
    changed = onnx.TensorProto()
    changed.CopyFrom(weight)
    for name, value in fields.items():
        changed.ClearField(name)
        if isinstance(value, (list, tuple)):
            getattr(changed, name).extend(value)
        elif value is not None:
            setattr(changed, name, value)
    weight.CopyFrom(changed)
    return serialized(model)


def with_name(name: bytes) -> bytes:
    """A model whose tensor ``c`` and nodes are called something else of one byte."""
    return small_models()["conv, norm, chain"].replace(b"\x01c", b"\x01" + name)


def twice_written(field: str) -> bytes:
    """A model in which one message of an attribute is written twice, which protobuf merges."""
    model = if_bn() if field == "g" else conv_bn()
    node = model.graph.node[0]
    if field == "t":
        value = next(t for t in model.graph.initializer if t.name == "w")
        node = helper.make_node("Constant", [], ["w"], value=value)
        model.graph.initializer.remove(value)
        model.graph.node.insert(0, node)
    index = next(i for i, a in enumerate(model.graph.node) if a.attribute)
    attribute = model.graph.node[index].attribute[0]
    if field == "g":
        half = onnx.GraphProto()
        half.node.extend(attribute.g.node[1:])
        del attribute.g.node[1:]
        extra = serialized(half)
        number = 6
    else:
        dims = onnx.TensorProto(dims=attribute.t.dims, data_type=TensorProto.FLOAT)
        dims.raw_data = attribute.t.raw_data
        del attribute.t.dims[:]
        attribute.t.ClearField("raw_data")
        extra, number = serialized(dims), 5
    content = serialized(attribute) + bytes([number << 3 | 2]) + length_of(extra) + extra
    nodes = []
    for position, node in enumerate(model.graph.node):
        data = serialized(node)
        if position == index:
            rest = onnx.NodeProto()
            rest.CopyFrom(node)
            others = [a.SerializeToString() for a in node.attribute[1:]]
            del rest.attribute[:]
            data = serialized(rest)
            for part in [content, *others]:
                data += bytes([5 << 3 | 2]) + length_of(part) + part
        nodes.append(bytes([1 << 3 | 2]) + length_of(data) + data)
    del model.graph.node[:]
    graph = b"".join(nodes) + serialized(model.graph)
    model.ClearField("graph")
    return serialized(model) + bytes([7 << 3 | 2]) + length_of(graph) + graph

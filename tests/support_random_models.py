"""Hypothesis strategies for arbitrary models: any nesting, any field, unknown fields, odd order."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.support_graphs import unknown_field

NAMES = st.sampled_from(["a", "b", "weight", "conv_1/out", "größe", ""])
BYTES = st.binary(max_size=40)


def with_unknown(draw: st.DrawFn, message: Any) -> None:
    """Give a message, now and then, one or two fields that onnx.proto does not define."""
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        number = draw(st.integers(100, 900))
        message.MergeFromString(unknown_field(number, draw(BYTES)))


@st.composite
def tensors(draw: st.DrawFn) -> onnx.TensorProto:
    """A small or a large tensor in any of its spellings; large means 4096 bytes or more."""
    size = draw(st.sampled_from([0, 1, 3, 1024, 2048, 2500]))
    seed = draw(st.integers(0, 9))
    values = np.random.default_rng(seed).normal(size=size)
    form = draw(st.sampled_from(["raw", "float", "double", "half", "int64", "string", "external"]))
    tensor = onnx.TensorProto(name=draw(NAMES), dims=[size])
    if form == "raw":
        tensor.data_type = TensorProto.FLOAT
        tensor.raw_data = values.astype("<f4").tobytes()
    elif form == "float":
        tensor.data_type = TensorProto.FLOAT
        tensor.float_data.extend(values.astype(np.float32).tolist())
    elif form == "double":
        tensor.data_type = TensorProto.DOUBLE
        tensor.double_data.extend(values.tolist())
    elif form == "half":
        tensor.data_type = TensorProto.FLOAT16
        tensor.int32_data.extend(values.astype(np.float16).view(np.uint16).tolist())
    elif form == "int64":
        tensor.data_type = TensorProto.INT64
        tensor.int64_data.extend(range(-1, size - 1))
    elif form == "string":
        tensor.data_type = TensorProto.STRING
        tensor.string_data.extend([b"\xff text"] * size)
    else:
        tensor.data_type = TensorProto.FLOAT
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="weights.bin")
    if draw(st.booleans()):
        tensor.doc_string = "a tensor"
        tensor.metadata_props.add(key="from", value="here")
    with_unknown(draw, tensor)
    return tensor


@st.composite
def attributes(draw: st.DrawFn, depth: int) -> onnx.AttributeProto:
    """An attribute of any kind, graphs included while ``depth`` lasts."""
    kinds = ["i", "ints", "s", "t", "tensors"] + (["g", "g", "graphs"] if depth else [])
    kind = draw(st.sampled_from(kinds))
    attribute = onnx.AttributeProto(name=draw(NAMES) or "k")
    if kind == "i":
        attribute.type, attribute.i = onnx.AttributeProto.INT, draw(st.integers(-5, 5))
    elif kind == "ints":
        attribute.type = onnx.AttributeProto.INTS
        attribute.ints.extend(draw(st.lists(st.integers(-5, 1 << 40), max_size=4)))
    elif kind == "s":
        attribute.type, attribute.s = onnx.AttributeProto.STRING, draw(BYTES)
    elif kind == "t":
        attribute.type = onnx.AttributeProto.TENSOR
        attribute.t.CopyFrom(draw(tensors()))
    elif kind == "tensors":
        attribute.type = onnx.AttributeProto.TENSORS
        attribute.tensors.extend(draw(st.lists(tensors(), max_size=2)))
    elif kind == "g":
        attribute.type = onnx.AttributeProto.GRAPH
        attribute.g.CopyFrom(draw(graphs(depth - 1)))
    else:
        attribute.type = onnx.AttributeProto.GRAPHS
        attribute.graphs.extend([draw(graphs(0)), draw(graphs(depth - 1))])
    with_unknown(draw, attribute)
    return attribute


@st.composite
def nodes(draw: st.DrawFn, depth: int) -> onnx.NodeProto:
    """A node of a known or an unknown operator."""
    node = onnx.NodeProto(op_type=draw(st.sampled_from(["Conv", "Custom"])), name=draw(NAMES))
    node.input.extend(draw(st.lists(NAMES, max_size=3)))
    node.output.extend(draw(st.lists(NAMES, max_size=2)))
    node.attribute.extend(draw(st.lists(attributes(depth), max_size=2)))
    with_unknown(draw, node)
    return node


@st.composite
def graphs(draw: st.DrawFn, depth: int) -> onnx.GraphProto:
    """A graph with subgraphs in its nodes."""
    graph = onnx.GraphProto(name=draw(NAMES))
    graph.node.extend(draw(st.lists(nodes(depth), max_size=3)))
    graph.initializer.extend(draw(st.lists(tensors(), max_size=3)))
    for name in draw(st.lists(NAMES, max_size=2)):
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]))
    for name in draw(st.lists(NAMES, max_size=2)):
        graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    if draw(st.booleans()):
        sparse = graph.sparse_initializer.add()
        sparse.values.CopyFrom(numpy_helper.from_array(np.ones(2, np.float32), "sparse"))
        sparse.indices.CopyFrom(numpy_helper.from_array(np.array([0, 5]), "at"))
        sparse.dims.append(9)
    if draw(st.booleans()):
        graph.quantization_annotation.add(tensor_name="a")
    with_unknown(draw, graph)
    return graph


@st.composite
def models(draw: st.DrawFn) -> onnx.ModelProto:
    """A model that protobuf can parse; it need not make sense as a graph."""
    model = onnx.ModelProto(ir_version=8, producer_name="größe", model_version=7)
    model.opset_import.append(helper.make_opsetid("", 17))
    model.opset_import.append(helper.make_opsetid("my.domain", 3))
    model.graph.CopyFrom(draw(graphs(2)))
    if draw(st.booleans()):
        function = model.functions.add(name="f", domain="my.domain", output=["a"])
        function.node.append(draw(nodes(1)))
        function.metadata_props.add(key="a", value="b")
        with_unknown(draw, function)
    if draw(st.booleans()):
        training = model.training_info.add()
        training.algorithm.CopyFrom(draw(graphs(1)))
        training.initialization_binding.add(key="a", value="b")
        with_unknown(draw, training)
    model.metadata_props.add(key="k", value="v")
    with_unknown(draw, model)
    return model

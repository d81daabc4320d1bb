"""Nodes that no exporter writes: nothing in them may end in a traceback or a wrong fold."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.reference.evaluator import evaluate


def model(nodes: list[onnx.NodeProto], weight: tuple[int, ...], channels: int) -> onnx.ModelProto:
    vectors = [np.full(channels, value, np.float32) for value in (2, 1, 0.5, 4)]
    initializers = [numpy_helper.from_array(np.ones(weight, np.float32), "w")]
    initializers += [numpy_helper.from_array(v, n) for v, n in zip(vectors, "gbmv", strict=True)]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def norm(source: str, *outputs: str) -> onnx.NodeProto:
    return helper.make_node("BatchNormalization", [source, *"gbmv"], outputs, name="bn")


@pytest.mark.parametrize("weight", [(0, 2, 1, 1), (3, 0, 1, 1), (3, 2, 0, 1)])
def test_a_convolution_without_weights(weight: tuple[int, ...]) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), norm("c", "y")]
    folded = bnfold.fold(model(nodes, weight, weight[0])).model
    assert [node.op_type for node in folded.graph.node] == ["Conv"]
    assert list(folded.graph.initializer[0].dims) == list(weight)
    if weight[0]:
        bias = numpy_helper.to_array(folded.graph.initializer[1])
        epsilon = float(np.float32(1e-5))
        np.testing.assert_allclose(bias, 1 - 2 / np.sqrt(4 + epsilon) * 0.5, rtol=1e-6)


@pytest.mark.parametrize("weight", [(0, 3), (2, 0)])
def test_a_matmul_without_weights(weight: tuple[int, ...]) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["c"]),
        helper.make_node("Mul", ["c", "g"], ["y"]),
    ]
    result = bnfold.fold(model(nodes, weight, weight[1]))
    assert len(result.report.norms) <= 1
    assert list(result.model.graph.initializer[0].dims) == list(weight)


def test_a_norm_without_output() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), norm("c", ""), norm("c", "y")]
    (kept,) = bnfold.explain(model(nodes, (3, 2, 1, 1), 3)).norms
    assert isinstance(kept, bnfold.Kept)
    assert kept.code == "shared-tensor"


def test_the_mask_of_a_dropout_is_not_its_data() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Dropout", ["c"], ["d", "mask"]),
        norm("mask", "y"),
    ]
    (kept,) = bnfold.explain(model(nodes, (3, 2, 1, 1), 3)).norms
    assert isinstance(kept, bnfold.Kept)
    assert kept.code == "producer-not-linear"


def test_a_second_output_of_a_convolution_is_none() -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c", "d"]), norm("d", "y")]
    (kept,) = bnfold.explain(model(nodes, (3, 2, 1, 1), 3)).norms
    assert isinstance(kept, bnfold.Kept)
    assert kept.code == "malformed-node"


@pytest.mark.parametrize("op_type", ["Conv", "ConvTranspose", "Gemm", "MatMul", "Identity", "Add"])
def test_nodes_without_inputs(op_type: str) -> None:
    nodes = [helper.make_node(op_type, [], ["c"]), norm("c", "y")]
    report = bnfold.explain(model(nodes, (3, 2, 1, 1), 3))
    assert len(report.kept) == 1
    assert not report.folded


@pytest.mark.parametrize("name", ["w", "v"])
def test_a_signalling_nan_is_a_reason_and_no_warning(name: str) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), norm("c", "y")]
    odd = model(nodes, (3, 2, 1, 1), 3)
    (tensor,) = (t for t in odd.graph.initializer if t.name == name)
    tensor.raw_data = (0x7F800001).to_bytes(4, "little") + tensor.raw_data[4:]
    (kept,) = bnfold.explain(odd).kept
    assert kept.code == {"w": "beyond-dtype", "v": "non-finite-statistics"}[name]
    assert "channel 0" in kept.reason


@pytest.mark.parametrize("between", ["Identity", "Dropout"])
@pytest.mark.parametrize("outputs", [["y"], ["y", "c"]])
def test_a_norm_of_ones_behind_a_node_that_gives_its_input(
    between: str, outputs: list[str]
) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["c"]),
        helper.make_node(between, ["c"], ["d"]),
        helper.make_node("Mul", ["d", "b"], ["y"]),
    ]
    before = model(nodes, (3, 2), 2)
    del before.graph.output[:]
    values = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in outputs)
    before.graph.output.extend(values)
    before.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3]))
    folded = bnfold.fold(before).model
    onnx.checker.check_model(folded, full_check=True)
    assert [node.op_type for node in folded.graph.node] == ["MatMul", between]
    feed = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}
    pairs = zip(evaluate(before, feed), evaluate(folded, feed), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)


def test_a_bias_of_equal_values_on_another_axis_is_none() -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"]),
        helper.make_node("MatMul", ["a", "w"], ["c"]),
        helper.make_node("Add", ["c", "rows"], ["y"]),
    ]
    before = model(nodes, (2, 2), 2)
    before.graph.initializer.append(numpy_helper.from_array(np.full((3, 1), 5, np.float32), "rows"))
    for values in (before.graph.input, before.graph.output):
        name = values[0].name
        values[0].CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 2]))
    feed = {"x": np.arange(6, dtype=np.float32).reshape(3, 2)}
    folded = bnfold.fold(before).model
    (old,), (new,) = evaluate(before, feed), evaluate(folded, feed)
    np.testing.assert_allclose(new, old, rtol=1e-6)

"""A shift in front of a convolution that pads with zeros."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import bnfold
from tests.support_models import op_types


def model(
    *,
    norm: str,
    sizes: tuple[int | str, ...] = (8, 9),
    channels: tuple[int, int] = (3, 4),
    kernel: tuple[int, ...] = (3, 3),
    group: int = 1,
    opset: int = 17,
    equal: bool = True,
    mean: float = 0.7,
    seed: int = 0,
    **attributes: Any,
) -> onnx.ModelProto:
    """A norm of the graph input, and a Conv behind it, in float64.

    Args:
        norm: ``SubDiv`` for two nodes, ``BatchNormalization`` for one.
        equal: whether one value, ``mean``, gives zero on every channel.
    """
    generator = np.random.default_rng(seed)
    count, made = channels
    ones = [1] * len(kernel)
    scale = generator.uniform(0.5, 2.0, count) * generator.choice([-1.0, 1.0], count)
    means = np.full(count, mean) if equal else generator.normal(size=count)
    weight = generator.normal(size=(made, count // group, *kernel))
    tensors = {"w": weight, "bias": generator.normal(size=made)}
    if norm == "SubDiv":
        tensors |= {"mean": means.reshape(count, *ones), "std": scale.reshape(count, *ones)}
        nodes = [
            helper.make_node("Sub", ["x", "mean"], ["centred"]),
            helper.make_node("Div", ["centred", "std"], ["n"]),
        ]
    else:
        tensors |= {"g": scale, "b": np.zeros(count), "m": means, "v": np.ones(count)}
        nodes = [helper.make_node("BatchNormalization", ["x", "g", "b", "m", "v"], ["n"])]
    nodes.append(helper.make_node("Conv", ["n", "w", "bias"], ["y"], group=group, **attributes))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [2, count, *sizes])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, [None] * (2 + len(kernel)))],
        [numpy_helper.from_array(values, name) for name, values in tensors.items()],
    )
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def require_equal(before: onnx.ModelProto, after: onnx.ModelProto, shape: tuple[int, ...]) -> None:
    onnx.checker.check_model(after, full_check=True)
    x = np.random.default_rng(1).normal(size=shape) * 30
    runs: list[Any] = [ReferenceEvaluator(m).run(None, {"x": x}) for m in (before, after)]
    (old,), (new,) = runs
    np.testing.assert_allclose(new, old, rtol=0, atol=1e-12 * np.abs(old).max() * 100)


@pytest.mark.parametrize("opset", [7, 10, 11, 13, 17, 18, 21])
def test_one_value_becomes_a_pad(opset: int) -> None:
    before = model(norm="SubDiv", opset=opset, mean=0.75, pads=[1, 0, 2, 1], strides=[2, 1])
    result = bnfold.fold(before)
    assert op_types(result.model) == ["Pad", "Conv"]
    require_equal(before, result.model, (2, 3, 8, 9))


@pytest.mark.parametrize("how", ["SAME_UPPER", "SAME_LOWER"])
def test_one_value_and_automatic_pads(how: str) -> None:
    before = model(norm="SubDiv", auto_pad=how, strides=[2, 3])
    result = bnfold.fold(before)
    assert op_types(result.model) == ["Pad", "Conv"]
    require_equal(before, result.model, (2, 3, 8, 9))


@pytest.mark.parametrize("opset", [7, 10])
def test_an_attribute_of_float32_cannot_hold_the_value(opset: int) -> None:
    """The scale goes into the weight all the same, the shift stays."""
    before = model(norm="SubDiv", opset=opset, pads=[1, 0, 2, 1])
    result = bnfold.fold(before)
    assert op_types(result.model) == ["Sub", "Conv"]
    require_equal(before, result.model, (2, 3, 8, 9))


def test_automatic_pads_of_unknown_sizes() -> None:
    before = model(norm="SubDiv", auto_pad="SAME_UPPER", sizes=("h", "w"))
    result = bnfold.fold(before)
    assert op_types(result.model) == ["Sub", "Conv"]
    require_equal(before, result.model, (2, 3, 8, 9))


def test_one_node_is_not_worth_a_pad() -> None:
    kept = bnfold.fold(model(norm="BatchNormalization", pads=[1, 1, 1, 1])).report.kept
    assert [norm.code for norm in kept] == ["zero-padding"]


def test_values_that_differ_are_no_pad() -> None:
    result = bnfold.fold(model(norm="SubDiv", pads=[1, 1, 1, 1], equal=False))
    assert op_types(result.model) == ["Sub", "Conv"]


def test_two_convolutions_are_not_worth_two_pads() -> None:
    before = model(norm="SubDiv", pads=[1, 1, 1, 1])
    before.graph.node.append(helper.make_node("Conv", ["n", "w", "bias"], ["z"], pads=[1] * 4))
    before.graph.output.append(helper.make_tensor_value_info("z", TensorProto.DOUBLE, [None] * 4))
    assert op_types(bnfold.fold(before).model) == ["Sub", "Conv", "Conv"]


def test_a_map_that_is_cheaper_than_the_norm() -> None:
    before = model(norm="BatchNormalization", pads=[1, 1, 1, 1], strides=[2, 2], equal=False)
    result = bnfold.fold(before)
    assert op_types(result.model) == ["Conv", "Add"]
    require_equal(before, result.model, (2, 3, 8, 9))


def test_a_map_that_is_dearer_than_the_norm() -> None:
    kept = bnfold.fold(model(norm="BatchNormalization", pads=[1] * 4, equal=False)).report.kept
    assert [norm.code for norm in kept] == ["zero-padding"]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_window(data: st.DataObject) -> None:
    axes = data.draw(st.integers(1, 3))
    few = st.lists(st.integers(1, 3), min_size=axes, max_size=axes)
    kernel = tuple(data.draw(few))
    attributes: dict[str, Any] = {
        "strides": data.draw(few),
        "dilations": data.draw(st.lists(st.integers(1, 2), min_size=axes, max_size=axes)),
        "pads": data.draw(st.lists(st.integers(0, 2), min_size=2 * axes, max_size=2 * axes)),
    }
    sizes = tuple(data.draw(st.lists(st.integers(6, 9), min_size=axes, max_size=axes)))
    group = data.draw(st.sampled_from([1, 2]))
    equal = data.draw(st.booleans())
    norm = data.draw(st.sampled_from(["SubDiv", "BatchNormalization"]))
    before = model(
        norm=norm,
        sizes=sizes,
        channels=(4, 2),
        kernel=kernel,
        group=group,
        equal=equal,
        seed=data.draw(st.integers(0, 99)),
        **attributes,
    )
    result = bnfold.fold(before)
    if norm == "SubDiv" and equal:
        assert result.report.folded
    require_equal(before, result.model, (2, 4, *sizes))

"""Subnormal weights are counted wherever a model stores them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from bnfold.measuring.subnormal import subnormal_weights
from bnfold.onnxgraph.load import load
from bnfold.onnxgraph.ranges import CHUNK


def model_of(*arrays: np.ndarray[Any, Any]) -> onnx.ModelProto:
    """A model that stores arrays."""
    tensors = [numpy_helper.from_array(array, f"w{at}") for at, array in enumerate(arrays)]
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "g", [value], [result], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_ends_of_the_range(dtype: str) -> None:
    info = np.finfo(dtype)
    smallest, normal = info.smallest_subnormal, info.smallest_normal
    below = np.nextafter(normal, np.dtype(dtype).type(0))
    values = [0.0, -0.0, smallest, -smallest, below, -below, normal, -normal, 1, np.inf, np.nan]
    assert subnormal_weights(load(model_of(np.array(values, dtype)))) == {dtype: 4}


@given(st.lists(st.floats(width=32), min_size=1, max_size=50), st.sampled_from([1, 100, 5000]))
def test_as_numpy_counts_them(values: list[float], times: int) -> None:
    # From 1,024 numbers on they stay in the file; before, they are part of the message.
    array = np.tile(np.array(values, np.float32), times)
    size = np.abs(array.astype(np.float64))
    expected = int(((size > 0) & (size < 2.0**-126)).sum())
    found = subnormal_weights(load(model_of(array)))
    assert found == ({"float32": expected} if expected else {})


def test_each_dtype_by_itself() -> None:
    tiny: list[Any] = [
        np.full(3, 1e-40, np.float32),
        np.full(2, 1e-7, np.float16),
        np.full(5, 1e-310),
    ]
    others: list[Any] = [np.full(4, 1e-40, ml_dtypes.bfloat16), np.arange(9), np.full(4, 1e-40)]
    found = subnormal_weights(load(model_of(*tiny, *others, tiny[0])))
    assert found == {"float32": 6, "float16": 2, "float64": 5}


def test_numbers_in_typed_fields_and_constants() -> None:
    model = model_of()
    tiny = 1e-40
    model.graph.initializer.append(helper.make_tensor("a", 1, [3], [tiny, 1.0, -tiny]))
    model.graph.initializer.append(helper.make_tensor("b", 1, [2000], [tiny] * 2000))
    inner = helper.make_tensor("c", 10, [2], np.array([1e-7, 1], np.float16))
    model.graph.node.append(helper.make_node("Constant", [], ["k"], value=inner))
    assert subnormal_weights(load(model)) == {"float32": 2002, "float16": 1}


def test_external_data_of_several_pieces(tmp_path: Path) -> None:
    array = np.ones(CHUNK // 2, np.float32)
    array[[0, 5, CHUNK // 4 - 1, CHUNK // 4, -1]] = 1e-40
    path = tmp_path / "model.onnx"
    onnx.save(model_of(array), path, save_as_external_data=True, location="model.data")
    assert subnormal_weights(load(path)) == {"float32": 5}

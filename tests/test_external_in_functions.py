"""Data files that only a function's constant names go where the model goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnfold


def test_the_data_of_a_function_is_written_too(tmp_path: Path) -> None:
    values = np.arange(600, dtype=np.float32)
    constant = TensorProto(
        name="k", data_type=TensorProto.FLOAT, dims=[600], data_location=TensorProto.EXTERNAL
    )
    for key, value in (("location", "m.data"), ("offset", "0"), ("length", "2400")):
        constant.external_data.add(key=key, value=value)
    opset = helper.make_opsetid("", 17)
    body = [
        helper.make_node("Constant", [], ["k"], value=constant),
        helper.make_node("Add", ["a", "k"], ["b"]),
    ]
    function = helper.make_function("local", "shifted", ["a"], ["b"], body, [opset])
    vectors = [np.full(3, number, np.float32) for number in (2, 1, 0.5, 4)]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", *"gbmv"], ["n"]),
        helper.make_node("shifted", ["n"], ["y"], domain="local"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 600])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 600])],
        [
            numpy_helper.from_array(np.ones((3, 2, 1), np.float32), "w"),
            *(numpy_helper.from_array(v, n) for v, n in zip(vectors, "gbmv", strict=True)),
        ],
    )
    model = helper.make_model(
        graph,
        functions=[function],
        opset_imports=[opset, helper.make_opsetid("local", 1)],
        ir_version=8,
    )
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "m.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "in" / "m.data").write_bytes(values.tobytes())
    result = bnfold.fold(tmp_path / "in" / "m.onnx")
    result.save(tmp_path / "out" / "m.onnx")
    assert len(result.report.folded) == 1
    size = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert result.report.bytes_after == size
    assert (tmp_path / "out" / "m.data").read_bytes() == values.tobytes()
    (stored,) = result.model.functions[0].node[0].attribute
    with pytest.raises(bnfold.UsageError, match="data file"):
        result.save(tmp_path / "in" / "m.data")
    np.testing.assert_array_equal(numpy_helper.to_array(stored.t), values)

"""A file that changes between reading and writing is an error, not a crash or a mixture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnfold


def write(path: Path, *, external: bool) -> None:
    values = np.arange(2 * 3 * 400, dtype=np.float32).reshape(2, 3, 400)
    vectors = [numpy_helper.from_array(np.array([1, 2], np.float32), n) for n in "sbmv"]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 500])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 101])],
        [numpy_helper.from_array(values, "w"), *vectors],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, save_as_external_data=external, location="m.data", size_threshold=1024)


@pytest.mark.parametrize("changed", ["m.onnx", "m.data"])
def test_a_shorter_file_is_an_error(tmp_path: Path, changed: str) -> None:
    write(tmp_path / "m.onnx", external=changed == "m.data")
    result = bnfold.fold(tmp_path / "m.onnx")
    (tmp_path / changed).write_bytes(b"")
    with pytest.raises(bnfold.FileError, match=f"{changed} was changed since it was read"):
        result.save(tmp_path / "out.onnx")
    with pytest.raises(bnfold.FileError, match="was changed"):
        _ = result.model
    assert not (tmp_path / "out.onnx").exists()


def test_a_replaced_file_is_none(tmp_path: Path) -> None:
    write(tmp_path / "m.onnx", external=False)
    result = bnfold.fold(tmp_path / "m.onnx")
    (tmp_path / "other").write_bytes(b"new")
    (tmp_path / "other").replace(tmp_path / "m.onnx")
    result.save(tmp_path / "out.onnx")
    assert [n.op_type for n in onnx.load(tmp_path / "out.onnx").graph.node] == ["Conv"]

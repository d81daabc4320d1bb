"""The real exports of sample_models/ and their folds; and a fold of a model that is another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bnfold
from tests.support_verify import copied, folded_of

SAMPLES = Path(__file__).parent.parent / "sample_models"
NAMES = sorted(path.stem for path in SAMPLES.glob("*.onnx"))


def path_of(name: str) -> Path:
    return SAMPLES / f"{name}.onnx"


@pytest.mark.parametrize("name", NAMES)
def test_the_fold_is_the_same_function(name: str, tmp_path: Path) -> None:
    result = bnfold.fold(path_of(name))
    result.save(tmp_path / "folded.onnx")
    report = bnfold.verify(path_of(name), tmp_path / "folded.onnx")
    assert report.is_same, report.verdict
    assert report.method == "float64"
    assert report.interface == ()
    assert all(norm.is_same for norm in report.norms)
    folded = {norm.norm for norm in result.report.folded}
    assert folded <= {norm.norm for norm in report.norms}
    assert report.runtime is not None
    assert report.runtime.is_good
    assert [output.name for output in report.runtime.outputs] == [o.name for o in report.outputs]
    # Onnxruntime computes in float32: it is off by something, and by no more than that.
    for output in report.runtime.outputs:
        assert 0 < output.folded_error <= output.allowed
        assert 0 < output.original_error <= output.allowed


def with_gamma_flipped(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """``model`` with the other sign for the scale of its last norm, and what that is called."""
    copy = copied(model)
    stored = {tensor.name: tensor for tensor in copy.graph.initializer}
    nodes = {node.output[0]: node for node in copy.graph.node}

    def flip(name: str) -> bool:
        holder = stored.get(name)
        if holder is None and name in nodes and nodes[name].op_type == "Constant":
            holder = nodes[name].attribute[0].t
        if holder is None:
            return False
        holder.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(holder), holder.name))
        return True

    for node in reversed(copy.graph.node):
        if node.op_type == "BatchNormalization" and flip(node.input[1]):
            return copy, node.name
    for node in reversed(copy.graph.node):
        if node.op_type == "Mul" and any(flip(name) for name in node.input):
            return copy, node.name
    raise AssertionError("no norm")


@pytest.mark.parametrize("name", NAMES)
def test_a_fold_with_the_wrong_sign_is_another_function(name: str) -> None:
    original = onnx.load(path_of(name))
    other, norm = with_gamma_flipped(original)
    report = bnfold.verify(original, folded_of(other))
    assert not report.is_same
    assert report.difference is not None
    wrong = [check.norm for check in report.norms if not check.is_same]
    assert wrong
    assert report.difference.norm is not None
    assert set(report.difference.norm.split(", ")) <= set(wrong)
    if norm:
        assert norm in report.difference.norm
    assert np.isfinite(report.difference.original)
    assert report.difference.original != report.difference.folded

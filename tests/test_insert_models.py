"""Whole models: norms go in and come out byte for byte, and calibrate agrees with insert."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import bnfold
from tests.support_graphs import norms_in
from tests.support_insert import ALL_OPERATORS, left_out, model_of, with_norms
from tests.support_models import constant
from tests.test_backend_models import shipped

SHIPPED = {"light_bvlc_alexnet": 5, "light_inception_v2": 69, "light_resnet50": 53}
"""How many norms go into the fold of each."""


@pytest.mark.parametrize("name", SHIPPED)
def test_a_network_comes_back_byte_for_byte(name: str) -> None:
    """What no norm changes is not stored again, but for biases that the graph computes."""
    folded = bnfold.fold(shipped()[name], verify=False).model
    if name == "light_bvlc_alexnet":  # it has no norms, so its computed biases are still there
        folded = bnfold.fold(with_norms(folded, widest=7.0).model, verify=False).model
    assert norms_in(folded) == 0
    result = with_norms(folded, seed=1, widest=7.0)
    assert len(result.report.norms) == SHIPPED[name]
    made = result.model
    onnx.checker.check_model(made, full_check=True)
    assert norms_in(made) == SHIPPED[name]
    assert bnfold.fold(made).model.SerializeToString() == folded.SerializeToString()


def test_the_classifier_of_a_model_of_one_image_is_left_out() -> None:
    left = left_out(with_norms(shipped()["light_resnet50"]))
    assert "single-value" in {entry.code for entry in left.values()}


@pytest.fixture(scope="module")
def trained() -> tuple[onnx.ModelProto, np.ndarray[Any, np.dtype[Any]], bnfold.InsertResult]:
    model = model_of(ALL_OPERATORS)
    x = np.random.default_rng(3).normal(1, 2, (48, 3, 6, 6)).astype(np.float32)
    return model, x, bnfold.insert(model, x, batch_size=16)


def test_calibrate_finds_the_statistics_that_insert_wrote(trained: Any) -> None:
    """One norm after the other: each sees what it saw when nothing was there."""
    _, x, result = trained
    again = bnfold.calibrate(result.model, x, batch_size=16, mode="sequential")
    assert len(again.report.norms) == 4
    for norm in again.report.norms:
        assert max(norm.mean_drift, norm.std_drift) <= 2.0**-8
        np.testing.assert_allclose(norm.mean_after, norm.mean_before, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(norm.var_after, norm.var_before, rtol=2.0**-7, atol=1e-4)


def test_other_data_changes_the_function_and_the_fold_takes_it_up(trained: Any) -> None:
    model, x, result = trained
    other = bnfold.calibrate(result.model, 3 * x + 1, batch_size=16)
    assert not bnfold.verify(model, other.model, runtime=False).is_same
    folded = bnfold.fold(other.model)
    assert folded.report.batch_norms_after == 0
    assert folded.verify(runtime=False).is_same
    assert not np.array_equal(constant(folded.model, "w"), constant(model, "w"))


def test_norms_are_inserted_once(trained: Any) -> None:
    _, x, result = trained
    again = bnfold.insert(result.model, x, batch_size=16)
    assert {entry.code for entry in again.report.left_out} == {"already-normalised"}
    assert again.model == result.model

"""What is still the same function: units of rounding, or a tolerance in their place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest

from bnfold.checking.measure import Comparison
from bnfold.checking.options import Closeness
from bnfold.checking.outcome import MULTIPLE
from bnfold.errors import UsageError
from tests.support_models import filled, parsed, with_values
from tests.support_verify import chain, folded_of, judged, own_fold

SCALED = "agraph (float[1,4] x) => (float[1,4] y) <float[4] w> { y = Mul (x, w) }"
DATA = {"x": np.array([[1.0, 10.0, 100.0, 0.0]], np.float32)}


def pair(*factors: float) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """A model that hands its input on, and one that multiplies it."""
    model = with_values(filled(parsed(SCALED)), w=np.ones(4))
    return model, with_values(model, w=np.array(factors))


# The outputs are 1, 10, 100 and 0; these are the factors, the tolerance, and whether it holds.
TOLERANCES: list[tuple[tuple[float, ...], dict[str, float], bool]] = [
    ((1.125, 1.125, 1.125, 1), {"rtol": 0.125}, True),
    ((1.125, 1.125, 1.125, 1), {"rtol": 0.12}, False),
    ((0.875, 0.875, 0.875, 1), {"rtol": 0.125}, True),
    ((1.125, 1, 1, 1), {"atol": 0.125}, True),
    ((1.125, 1, 1, 1), {"atol": 0.12}, False),
    ((1, 1, 1.125, 1), {"atol": 12.5}, True),
    ((1, 1, 1.125, 1), {"atol": 1.0}, False),
    ((1, 1, 1.125, 1), {"atol": 2.5, "rtol": 0.1}, True),
    ((1, 1, 1.125, 1), {"atol": 2.25, "rtol": 0.1}, False),
    ((1, 1, 1, 5), {"rtol": 0.0}, True),
    ((1, 1, 1.125, 1), {"rtol": 0.0, "atol": 0.0}, False),
]


@pytest.mark.parametrize(("factors", "tolerance", "holds"), TOLERANCES)
def test_tolerances(factors: tuple[float, ...], tolerance: dict[str, float], holds: bool) -> None:
    report = judged(*pair(*factors), feeds=DATA, trials=0, **tolerance)
    assert report.is_same == holds
    assert (report.rtol, report.atol) == (tolerance.get("rtol", 0.0), tolerance.get("atol", 0.0))
    (output,) = report.outputs
    assert output.is_same == holds
    size = np.array([1, 10, 100, 0])
    assert output.max_abs == np.abs((np.array(factors) - 1) * size).max()
    if holds and output.max_abs:
        assert report.verdict == (
            "same function within the given tolerance: differences are at most "
            f"{output.max_abs:.3g}"
        )


@pytest.mark.parametrize(
    ("original", "folded", "holds"),
    [
        ([np.inf, 1.0], [np.inf, 1.0], True),
        ([np.inf, 1.0], [-np.inf, 1.0], False),
        ([np.inf, 1.0], [1.0, 1.0], False),
        ([np.nan, 1.0], [np.nan, 1.0], True),
        ([np.nan, 1.0], [1.0, 1.0], False),
        ([1.0, 1.0], [np.nan, 1.0], False),
        ([1, 2], [1, 2], True),
        ([], [], True),
    ],
)
def test_what_is_no_number_is_within_no_tolerance(
    original: list[Any], folded: list[Any], holds: bool
) -> None:
    comparison = Comparison(np.array(original), np.array(folded))
    assert Closeness(rtol=1e9, atol=1e9).holds(comparison) == holds


def test_a_tolerance_says_nothing_about_norms() -> None:
    model = chain(3)
    wrong = own_fold(model, 1, wrong=np.array([1, 1, 1.01, 1]))
    assert not judged(model, wrong).is_same
    report = judged(model, wrong, rtol=0.1, atol=1.0)
    assert report.is_same
    assert all(norm.is_same and norm.tensor is None for norm in report.norms)
    assert report.difference is None
    strict = judged(model, wrong, rtol=1e-9)
    assert not strict.is_same
    assert strict.difference is not None
    assert strict.difference.tensor == "y"


def test_without_a_tolerance_there_is_none_in_the_report() -> None:
    report = judged(*pair(1, 1, 1, 1))
    assert (report.rtol, report.atol, report.multiple) == (None, None, MULTIPLE)


def test_units_of_rounding() -> None:
    model = chain(2)
    folded = folded_of(model)
    report = judged(model, folded)
    most = max([norm.units for norm in report.norms] + [out.units for out in report.outputs])
    assert 0.1 < most < MULTIPLE
    assert not judged(model, folded, max_ulp_noise=most / 100).is_same
    assert not judged(model, folded, max_ulp_noise=0).is_same
    assert judged(model, model, max_ulp_noise=0).is_same
    generous = judged(model, own_fold(model, 0, wrong=np.full(4, 1 + 1e-5)), max_ulp_noise=1e6)
    assert generous.is_same
    assert generous.multiple == 1e6


@pytest.mark.parametrize("name", ["max_ulp_noise", "rtol", "atol"])
@pytest.mark.parametrize("value", [-1.0, -1e-300, math.inf, -math.inf, math.nan])
def test_numbers_that_are_no_tolerance(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{name} is .*: it has to be a number, and not negative"):
        judged(*pair(1, 1, 1, 1), **{name: value})


@pytest.mark.parametrize("options", [{"seed": -1}, {"trials": -1}])
def test_numbers_that_are_no_seed_and_no_count(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="they cannot be negative"):
        judged(*pair(1, 1, 1, 1), **options)

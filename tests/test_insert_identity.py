"""The identity setting: pairs of gamma and Var whose factor is one, near what the data say."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnfold.statistics.identity import EPSILON, NEAREST, Parameters, identity_parameters

DEVIATIONS = st.floats(0.0, 1000.0, width=64)
MEANS = st.floats(-1e4, 1e4, width=64)
FLOATS: dict[str, tuple[Any, Any]] = {
    "float32": (np.float32, np.float32),
    "float64": (np.float64, np.float64),
    "float16 and float32": (np.float16, np.float32),
    "bfloat16 and float32": (ml_dtypes.bfloat16, np.float32),
}


def made(
    mean: list[float], std: list[float], kind: str = "float32", bias: list[float] | None = None
) -> Parameters:
    dtype, statistics = FLOATS[kind]
    found = identity_parameters(
        np.array(mean),
        np.square(np.array(std)),
        None if bias is None else np.array(bias),
        dtype=dtype,
        statistics=statistics,
    )
    assert isinstance(found, Parameters)
    return found


@settings(deadline=None, max_examples=300)
@given(std=st.floats(0.0, 15.9), mean=MEANS, kind=st.sampled_from(sorted(FLOATS)))
def test_the_factor_is_one_in_exact_arithmetic(std: float, mean: float, kind: str) -> None:
    found = made([mean], [std], kind)
    gamma, var = Fraction(float(found.gamma[0])), Fraction(float(found.var[0]))
    assert gamma > 0
    assert var >= 0
    assert gamma * gamma == var + Fraction(EPSILON)
    assert Fraction(float(found.beta[0])) == Fraction(float(found.mean[0]))
    assert found.error == 0.0


@settings(deadline=None, max_examples=300)
@given(std=st.floats(0.0, 200.0), mean=MEANS)
def test_float32_has_exact_pairs_up_to_deviations_of_200(std: float, mean: float) -> None:
    found = made([mean], [std])
    gamma, var = Fraction(float(found.gamma[0])), Fraction(float(found.var[0]))
    assert gamma * gamma == var + Fraction(EPSILON)


@settings(deadline=None, max_examples=300)
@given(std=DEVIATIONS, kind=st.sampled_from(sorted(FLOATS)))
def test_gamma_is_near_the_deviation(std: float, kind: str) -> None:
    found = made([0.0], [std], kind)
    told = np.sqrt(std * std + EPSILON)
    assert abs(float(found.gamma[0]) - told) <= NEAREST * told
    # Where the pair is not exact, the factor is one to within half a unit of Var.
    assert found.error <= 2.0**-25


@settings(deadline=None, max_examples=200)
@given(std=st.floats(0.0, 15.9))
def test_small_deviations_are_nearer(std: float) -> None:
    told = np.sqrt(std * std + EPSILON)
    assert abs(float(made([0.0], [std]).gamma[0]) - told) <= 2.0**-9 * told
    assert abs(float(made([0.0], [std], "float64").gamma[0]) - told) <= 2.0**-23 * told


@settings(deadline=None, max_examples=200)
@given(std=st.floats(0.0, 15.9))
def test_the_factor_survives_how_runtimes_compute_it(std: float) -> None:
    """In float32, ``gamma * (1 / sqrt(var + epsilon))``."""
    found = made([0.0], [std])
    root = np.sqrt(found.var + np.float32(EPSILON))
    assert (found.gamma * (np.float32(1) / root) == np.float32(1)).all()


@settings(deadline=None, max_examples=200)
@given(std=st.floats(0.0, 15.9), mean=st.floats(-100, 100), bias=st.floats(-100, 100))
def test_the_norm_adds_what_the_bias_added(std: float, mean: float, bias: float) -> None:
    found = made([mean], [std], bias=[bias])
    shift = Fraction(float(found.beta[0])) - Fraction(float(found.mean[0]))
    rounding = 2.0**-24 * (abs(float(found.beta[0])) + abs(bias)) + 2.0**-149
    assert abs(float(shift - Fraction(bias))) <= rounding


def test_a_dead_channel_has_the_root_of_epsilon() -> None:
    found = made([1.5], [0.0])
    assert (found.gamma[0], found.var[0]) == (EPSILON**0.5, 0.0)
    assert found.error == 0.0


def test_float16_alone_is_right_to_its_rounding() -> None:
    rng = np.random.default_rng(0)
    std = 2.0 ** rng.uniform(-10, 7, 2000)
    found = identity_parameters(std, np.square(std), dtype=np.float16, statistics=np.float16)
    assert isinstance(found, Parameters)
    assert 0 < found.error <= 2.0**-11


@pytest.mark.parametrize(
    ("mean", "std", "what"),
    [([0.0, 1e5], [1.0, 1.0], "bias of channel 1"), ([0.0], [300.0], "variance of channel 0")],
)
def test_what_a_dtype_cannot_hold_is_said(mean: list[float], std: list[float], what: str) -> None:
    found = identity_parameters(
        np.array(mean), np.square(std), dtype=np.float16, statistics=np.float16
    )
    assert found == f"the {what} would be beyond float16"

"""What a fold does at the ends of a dtype's range: no subnormals, no overflow, no lost factors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bnfold
from tests.support_models import DTYPES, constant, with_values
from tests.support_numerics import CHAIN, FORMATS, ONE, conv, folded, nearest

SMALL = {"bfloat16": (1e-30, 1e-10), "float": (1e-30, 1e-10), "double": (1e-200, 1e-120)}
ORDINARY = {"b": 0, "m": 0, "v": 1, "bias": 0}


@pytest.mark.parametrize("name", SMALL)
def test_a_dead_channel_becomes_zero(name: str) -> None:
    """Products below the smallest normal number are stored as zero, and counted."""
    gamma, small = SMALL[name]
    weight = np.ones((3, 3, 2))
    weight[1] = small
    model = with_values(conv(ONE, name), w=weight, g=[1, gamma, 2], **ORDINARY)
    stored, bias, report = folded(model)
    assert np.array_equal(stored.astype(np.float64), [[[1] * 2] * 3, [[0] * 2] * 3, [[2] * 2] * 3])
    assert not bias.any()
    assert report.flushed == 6
    assert report.folded[0].flushed == 6


@pytest.mark.parametrize("name", SMALL)
def test_a_tiny_bias_becomes_zero(name: str) -> None:
    gamma, small = SMALL[name]
    values = {**ORDINARY, "bias": [1, small, -small]}
    model = with_values(conv(ONE, name), w=1, g=[1, gamma, gamma], **values)
    _, bias, report = folded(model)
    assert np.array_equal(bias.astype(np.float64), [1, 0, 0])
    assert report.flushed == 2


def test_zeros_are_not_counted() -> None:
    model = with_values(conv(ONE, "float"), w=[[[0, 1]] * 3] * 3, g=[1, 2, 0], **ORDINARY)
    stored, _, report = folded(model)
    assert np.array_equal(stored[:, 0], [[0, 1], [0, 2], [0, 0]])
    assert report.flushed == 0


def test_a_weight_that_is_not_multiplied_keeps_its_subnormals() -> None:
    """A shift leaves the weight as it is, byte for byte."""
    model = with_values(conv(CHAIN, "float"), w=1e-40, k=1, l=3, bias=1)
    stored, bias, report = folded(model)
    assert stored.tobytes() == constant(model, "w").tobytes()
    assert (stored != 0).all()
    assert np.array_equal(bias, [4, 4, 4])
    assert report.flushed == 0


def test_a_float16_channel_of_subnormals_stays() -> None:
    """Where zero would be another function, float16 keeps its subnormals, and says so."""
    weight = np.ones((3, 8, 2))
    model = with_values(conv(ONE, "float16", channels=8), w=weight, g=[1, 2**-16, 1], **ORDINARY)
    stored, _, report = folded(model)
    assert (stored[1] == np.float16(2**-16)).all()
    assert report.flushed == 0
    assert any("16 subnormal float16 weights stay" in note for note in report.folded[0].notes)


def test_a_few_small_float16_weights_beside_large_ones_become_zero() -> None:
    weight = np.ones((3, 8, 2))
    weight[:, 0, 0] = 2.0**-10
    model = with_values(conv(ONE, "float16", channels=8), w=weight, g=2**-6, **ORDINARY)
    stored, _, report = folded(model)
    assert (stored[:, 0, 0] == 0).all()
    assert report.flushed == 3
    assert report.folded[0].notes == ()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_what_float16_loses_is_below_what_rounding_costs(seed: int) -> None:
    """Each weight is rounded or zero, and the zeros of a channel sum to less than a rounding."""
    rng = np.random.default_rng(seed)
    weight = 2.0 ** rng.uniform(-14, 0, (3, 8, 2)) * rng.choice([-1, 1], (3, 8, 2))
    gamma = 2.0 ** rng.integers(-14, 3, 3)
    model = with_values(conv(ONE, "float16", channels=8), w=weight, g=gamma, **ORDINARY)
    stored, _, report = folded(model)
    scale = constant(model, "g").astype(np.float64)
    exact = constant(model, "w").astype(np.float64) * scale[:, None, None]
    found = stored.astype(np.float64)
    zero = (found == 0) & (exact != 0)
    near = np.vectorize(lambda value: nearest(value, FORMATS["float16"]))(exact)
    assert np.array_equal(found[~zero], near[~zero])
    assert report.flushed == np.count_nonzero(zero)
    lost = np.where(zero, np.abs(exact), 0).sum(axis=(1, 2))
    whole = np.abs(exact).sum(axis=(1, 2))
    assert (lost <= np.maximum(2.0**-14, 2.0**-10 * whole)).all()


@pytest.mark.parametrize(("w", "gamma", "stored"), [(152, 431, 65504), (-152, 431, -65504)])
def test_the_last_float16_value_still_folds(w: float, gamma: float, stored: float) -> None:
    """152 * 431 = 65512 rounds down to 65504."""
    model = with_values(conv(ONE, "float16"), w=w, g=gamma, **ORDINARY)
    weight, _, _ = folded(model)
    assert (weight == stored).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_half_a_step_beyond_float16_is_refused(sign: int) -> None:
    """1008 * 65 = 65520 lies halfway to 65536, and would be infinite."""
    weight = np.ones((3, 3, 2))
    weight[2, 1, 1] = sign * 1008
    model = with_values(conv(ONE, "float16"), w=weight, g=65, **ORDINARY)
    (kept,) = bnfold.explain(model).kept
    assert kept.code == "beyond-dtype"
    assert "channel 2 of c" in kept.reason
    assert "65520" in kept.reason
    assert "at most 65504" in kept.reason
    assert bnfold.fold(model).model == model


@pytest.mark.parametrize("name", ["float16", "float"])
def test_a_bias_beyond_the_dtype_is_refused(name: str) -> None:
    largest = float(np.finfo(DTYPES[name]).max)
    values = {**ORDINARY, "bias": [0, largest, 0]}
    model = with_values(conv(ONE, name), w=1, g=2, **values)
    (kept,) = bnfold.explain(model).kept
    assert kept.code == "beyond-dtype"
    assert "channel 1 of c" in kept.reason
    assert f"bias of {2 * largest:.6g}" in kept.reason


EXTREMES = {
    "down and up": ("d = Mul (c, k)  y = Mul (d, l)", 1e-30, 1e30, 1e-10),
    "up and down": ("d = Mul (c, k)  y = Mul (d, l)", 1e30, 1e-30, 1e10),
    "divided twice": ("d = Div (c, k)  y = Div (d, l)", 1e30, 1e-30, 1e-10),
    "divided and multiplied by much": ("d = Mul (c, k)  y = Div (d, l)", 1e30, 1e30, 1e10),
}


@pytest.mark.parametrize("name", EXTREMES)
def test_only_the_product_of_all_factors_is_stored(name: str) -> None:
    """Factors that a float32 weight could not take one by one cancel in float64."""
    body, first, second, weight = EXTREMES[name]
    model = with_values(
        conv(f"c = Conv (x, w, bias)  {body}", "float"), w=weight, k=first, l=second, bias=weight
    )
    stored, bias, report = folded(model)
    k, last, w = (float(np.float32(value)) for value in (first, second, weight))
    factor = (1 / k if "Div (c" in body else k) * (1 / last if "Div (d" in body else last)
    assert np.allclose(stored, w * factor, rtol=2.0**-24, atol=0)
    assert np.allclose(bias, w * factor, rtol=2.0**-24, atol=0)
    assert report.flushed == 0


def test_a_large_shift_that_is_scaled_down_again_folds() -> None:
    body = "c = Conv (x, w, bias)  d = Mul (c, k)  e = Add (d, l)  y = Mul (e, k)"
    model = with_values(conv(body, "float"), w=1, k=1e-30, l=1e30, bias=0)
    stored, bias, report = folded(model)
    assert (stored == 0).all()
    assert report.flushed == stored.size
    product = float(np.float32(1e-30)) * float(np.float32(1e30))
    assert (bias == np.float32(product)).all()


def test_the_part_of_a_chain_that_can_be_stored_folds() -> None:
    """Half of the chain overflows for good: the half before it folds, the rest stays."""
    body = "c = Conv (x, w, bias)  d = Mul (c, k)  y = Mul (d, l)"
    model = with_values(conv(body, "float"), w=1, k=2, l=3e38, bias=0)
    result = bnfold.fold(model)
    assert [node.op_type for node in result.model.graph.node] == ["Conv", "Mul"]
    assert [kept.code for kept in result.report.kept] == ["beyond-dtype"]
    weight = constant(result.model, result.model.graph.node[0].input[1])
    assert (weight == 2).all()


@pytest.mark.parametrize(("name", "small", "fitting"), [("float", 1e-36, 8), ("double", 1e-200, 1)])
def test_a_product_too_small_for_float64_is_not_made(name: str, small: float, fitting: int) -> None:
    """The factors before it fold; the one that goes below the smallest normal number stays."""
    muls = "".join(f"  t{n + 1} = Mul (t{n}, k)" for n in range(fitting + 1))
    body = f"t0 = Conv (x, w, bias){muls}  y = Relu (t{fitting + 1})"
    model = with_values(conv(body, name), w=1, k=small, bias=0)
    result = bnfold.fold(model)
    (kept,) = result.report.kept
    assert kept.code == "beyond-dtype"
    assert "would be multiplied by" in kept.reason
    assert "2.22507e-308" in kept.reason
    assert [node.op_type for node in result.model.graph.node] == ["Conv", "Mul", "Relu"]


def test_a_factor_of_zero_is_a_channel_of_zeros() -> None:
    model = with_values(conv(ONE, "double"), w=1e273, g=[0, 0.0, -0.0], b=0, m=0, v=1.7e107)
    weight, _, report = folded(model)
    assert not weight.any()
    assert report.flushed == 0

"""One rounding from exact values to the stored dtype, no subnormals, nothing beyond the dtype."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnfold.algebra.rounding import flushed, rounded
from tests.support_models import DTYPES, constant
from tests.support_numerics import CHAIN, FORMATS, TWO, Format, conv, folded, nearest, quantum

EXAMPLES = settings(deadline=None, max_examples=200)
FEW = settings(deadline=None, max_examples=25)


names = st.sampled_from(sorted(FORMATS))


def assert_nearest(values: list[float], name: str) -> None:
    found = rounded(np.array(values, dtype=np.float64), DTYPES[name])
    assert found.dtype == DTYPES[name]
    expected = [nearest(value, FORMATS[name]) for value in values]
    wide = found.astype(np.float64)
    assert [float(v) for v in wide] == expected
    assert list(np.signbit(wide)) == [math.copysign(1, v) < 0 for v in values]


@EXAMPLES
@given(st.lists(st.floats(allow_nan=False), max_size=20), names)
def test_rounded_is_the_nearest(values: list[float], name: str) -> None:
    assert_nearest(values, name)


@EXAMPLES
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20), names)
def test_rounded_halfway_and_beside(bits: list[int], name: str) -> None:
    """Between any two neighbours: the middle goes to the even one, next to it to the nearer."""
    kind, dtype = FORMATS[name], DTYPES[name]
    unsigned = np.dtype(f"u{dtype.itemsize}")
    with np.errstate(invalid="ignore"):  # some bits are signalling NaNs, which are left out below
        stored = np.array(bits, dtype=np.uint64).astype(unsigned).view(dtype).astype(np.float64)
    values: list[float] = []
    for low in stored[np.isfinite(stored)]:
        step = quantum(float(low), kind)
        middle = float(Fraction(float(low)) + step / 2)
        beside = [np.nextafter(middle, math.inf), np.nextafter(middle, -math.inf)]
        values += [float(low), middle, *map(float, beside)]
    assert_nearest(values, name)


@pytest.mark.parametrize("name", FORMATS)
def test_rounded_at_the_limits(name: str) -> None:
    """The smallest subnormal, half of it, the largest number, and what lies half a step beyond."""
    kind = FORMATS[name]
    tiny = math.ldexp(1.0, kind.least - kind.digits + 1)
    last = math.ldexp(2.0 - 2.0 ** (1 - kind.digits), kind.largest)
    values = [0.0, -0.0, tiny, tiny / 2, tiny * 1.5, -tiny * 2.5, last, -last]
    if name != "double":
        over = last + math.ldexp(1.0, kind.largest - kind.digits)
        values += [tiny * 0.75, over, -over, float(np.nextafter(over, 0)), 1e300]
        assert np.isinf(rounded(np.array([over]), DTYPES[name])).all()
    assert_nearest([*values, math.inf, -math.inf], name)


def test_rounded_keeps_nan() -> None:
    for dtype in DTYPES.values():
        found = rounded(np.array([math.nan, 1.0]), dtype).astype(np.float64)
        assert list(np.isnan(found)) == [True, False]


@EXAMPLES
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20), names)
def test_flushed_leaves_no_subnormal(values: list[float], name: str) -> None:
    exact = np.array(values, dtype=np.float64)
    stored = rounded(exact, DTYPES[name])
    clean, count = flushed(stored, exact)
    least = math.ldexp(1.0, FORMATS[name].least)
    wide, old = clean.astype(np.float64), stored.astype(np.float64)
    assert not ((wide != 0) & (np.abs(wide) < least)).any()
    small = np.abs(old) < least
    assert np.array_equal(wide[~small], old[~small])
    assert count == np.count_nonzero(small & (exact != 0))


def decimals(model: onnx.ModelProto, name: str) -> list[Decimal]:
    return [Decimal(float(value)) for value in constant(model, name).astype(np.float64).flat]


def assert_one_rounding(model: onnx.ModelProto, name: str, maps: list[list[Any]]) -> None:
    """Weight and bias are within half an ulp of exact arithmetic, plus float64's own error.

    Args:
        maps: for each norm the exact (scale, shift) of each channel.
    """
    weight, bias, report = folded(model)
    assert report.kept == ()
    kind, original, start = FORMATS[name], constant(model, "w"), decimals(model, "bias")
    for channel in range(3):
        scale, shift, terms = Decimal(1), start[channel], abs(start[channel])
        for factors in maps:
            by, plus = factors[channel]
            scale, shift, terms = scale * by, shift * by + plus, terms * abs(by) + abs(plus)
        for old, new in zip(original[channel].flat, weight[channel].flat, strict=True):
            exact = Fraction(Decimal(float(old)) * scale)
            assert abs(Fraction(float(new)) - exact) <= _half(exact, kind) + _double(exact)
        found = Fraction(float(bias[channel]))
        assert abs(found - Fraction(shift)) <= _half(found, kind) + _double(Fraction(terms))


def _half(value: Fraction, kind: Format) -> Fraction:
    return quantum(value, kind) / 2


def _double(terms: Fraction) -> Fraction:
    """What a dozen float64 operations may cost."""
    return 12 * abs(terms) / 2**53


@FEW
@given(st.integers(0, 2**32 - 1), names)
def test_norm_after_norm_rounds_once(seed: int, name: str) -> None:
    model = conv(TWO, name, seed=seed)
    with localcontext() as context:
        context.prec = 60
        maps: list[list[Any]] = []
        for suffix, epsilon in (("", np.float32(1e-5)), ("2", np.float32(1e-3))):
            gamma, beta, mean, var = (decimals(model, letter + suffix) for letter in "gbmv")
            scale = [
                g / (v + Decimal(float(epsilon))).sqrt() for g, v in zip(gamma, var, strict=True)
            ]
            maps.append(
                [(s, b - s * m) for s, b, m in zip(scale, beta, mean, strict=True)],
            )
        assert_one_rounding(model, name, maps)


@FEW
@given(st.integers(0, 2**32 - 1), names)
def test_mul_then_add_rounds_once(seed: int, name: str) -> None:
    model = conv(CHAIN, name, seed=seed)
    with localcontext() as context:
        context.prec = 60
        k, added = decimals(model, "k"), decimals(model, "l")
        maps = [[(value, Decimal(0)) for value in k], [(Decimal(1), value) for value in added]]
        assert_one_rounding(model, name, maps)

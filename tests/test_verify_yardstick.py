"""The yardstick of rounding, and the statistics that differences are judged by."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from onnx import numpy_helper

from bnfold.checking.draws import measured
from bnfold.checking.measure import Comparison, differences
from bnfold.checking.outcome import MULTIPLE
from bnfold.checking.rounding import Move, half_ulps

Array = npt.NDArray[Any]
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
INF, NAN = np.inf, np.nan


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_half_a_unit_is_half_the_spacing(dtype: Any) -> None:
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    sizes = 2.0 ** rng.uniform(info.minexp + 1, info.maxexp - 1, 2000)
    values = np.asarray(sizes * rng.choice([-1.0, 1.0], 2000), dtype=dtype)
    edges = np.asarray([1, -1, 2, 0.5, 1 - info.epsneg, info.max / 2, info.smallest_normal], dtype)
    for stored in (values, edges):
        wide = stored.astype(np.float64)
        wanted = np.spacing(np.abs(stored)).astype(np.float64) / 2
        np.testing.assert_array_equal(half_ulps(wide, dtype), wanted)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_half_a_unit_of_subnormals(dtype: Any) -> None:
    least = float(np.finfo(dtype).smallest_subnormal)
    values = np.array([least, -5 * least, 100 * least])
    np.testing.assert_array_equal(half_ulps(values, dtype), np.full(3, least / 2))


def test_half_a_unit_of_bfloat16() -> None:
    # Eight binary digits: from 1 to 2 neighbours are 1/128 apart.
    values = [1.0, -1.5, 1.9921875, 2.0, 3.0, -256.0, 0.10009765625, 2.0**-133]
    wanted = [2.0**-8, 2.0**-8, 2.0**-8, 2.0**-7, 2.0**-7, 1.0, 2.0**-12, 2.0**-134]
    np.testing.assert_array_equal(half_ulps(np.array(values), BFLOAT16), wanted)


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16, np.float32, np.float64])
def test_no_unit_of_zero_and_of_what_is_no_number(dtype: Any) -> None:
    np.testing.assert_array_equal(half_ulps(np.array([0, -0.0, INF, -INF, NAN]), dtype), 0)


def moved(values: Array, *, seed: int = 0, units: float = 0.5, listed: bool = True) -> Any:
    proto = numpy_helper.from_array(np.asarray(values), "w")
    return Move({id(proto)} if listed else {1}, (seed, 1), units=units)(proto, np.asarray(values))


def test_a_draw_is_reproducible_and_each_draw_another() -> None:
    values = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    np.testing.assert_array_equal(moved(values), moved(values))
    assert (moved(values) != moved(values, seed=1)).mean() > 0.9


@pytest.mark.parametrize("units", [0.5, 1.0])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_moves_are_bounded_and_spread_over_the_bound(dtype: Any, units: float) -> None:
    values = np.random.default_rng(1).standard_normal(5000).astype(dtype)
    most = units * np.spacing(np.abs(values)).astype(np.float64)
    share = (moved(values, units=units) - values.astype(np.float64)) / most
    # In float64 the sum itself is rounded to a number that is stored.
    assert np.abs(share).max() <= (1 if dtype != np.float64 else 2)
    if dtype != np.float64:
        assert 0.5 < np.sqrt((share**2).mean()) < 0.65  # uniform: 1 / sqrt(3)
        assert abs(share.mean()) < 0.05


def test_equal_mantissas_move_alike() -> None:
    values = np.array([1.25, 2.5, 5.0, 0.3125, 1.25 * 2.0**-40], np.float32)
    share = (moved(values) - values) / np.spacing(values).astype(np.float64)
    np.testing.assert_array_equal(share, share[0])
    assert share[0] != 0
    other = np.array([1.25, 1.375], np.float32)
    off = moved(other) - other
    assert off[0] != off[1]


def test_moves_are_symmetric() -> None:
    values = np.random.default_rng(2).standard_normal(100)
    for dtype in (np.float16, np.float32, np.float64):
        stored = np.concatenate([values, [1, 2, 0.5]]).astype(dtype)
        np.testing.assert_array_equal(moved(-stored), -moved(stored))


@pytest.mark.parametrize(
    ("dtype", "power"), [(np.float16, -14), (BFLOAT16, -126), (np.float32, -126)]
)
def test_zeros_may_have_been_flushed(dtype: npt.DTypeLike, power: int) -> None:
    zeros = np.zeros(200, dtype)
    found = moved(zeros)
    assert 0.5 * 2.0**power < np.abs(found).max() <= 2.0**power
    assert (found < 0).any()
    assert (found > 0).any()
    np.testing.assert_array_equal(moved(zeros, units=1.0), 0)


def test_zeros_of_the_original_and_numbers_that_are_none_stay() -> None:
    values = np.array([0, -0.0, INF, -INF, NAN], np.float32)
    np.testing.assert_array_equal(moved(values, units=1.0), values)
    np.testing.assert_array_equal(moved(values)[2:], values[2:])


def test_constants_without_axes_and_without_values() -> None:
    single = moved(np.array(3.0, np.float32))
    assert single.shape == ()
    assert 0 < abs(single - 3.0) <= 2.0**-23
    assert moved(np.zeros((0, 3), np.float32)).shape == (0, 3)


def test_only_listed_constants_move() -> None:
    assert moved(np.ones(3, np.float32), listed=False) is None
    assert not Move((), (0,)).moves_anything
    assert Move({1}, (0,)).moves_anything


# Four values of one channel. What rounding moves: root mean square u/2, largest u, mean u/4, and
# u/4 along the values [1, -1, 1, -1] / 2.
VALUES = np.array([1.0, -1.0, 1.0, -1.0]).reshape(4, 1)
NOISE = np.array([1.0, 0.0, 0.0, 0.0]).reshape(4, 1) * 2.0**-20
STATISTICS = {
    "like rounding": ([1, 0, 0, 0], 1.0),
    "root mean square": ([1, 0, -1, 0], np.sqrt(2)),
    "mean": ([1, 1, 1, 1], 4.0),
    "mean of one half": ([1, 1, 0, 0], 2.0),
    "along": ([1, -1, 1, -1], 4.0),
    "along, with a sign": ([-1, 1, -1, 1], 4.0),
    "mean and along": ([1, 0, 1, 0], 2.0),
}


@pytest.mark.parametrize("difference", list(STATISTICS))
@pytest.mark.parametrize("factor", [1.0, 7.0])
def test_units_of_hand_made_differences(difference: str, factor: float) -> None:
    pattern, units = STATISTICS[difference]
    off = factor * 2.0**-20 * np.array(pattern, dtype=np.float64).reshape(4, 1)
    comparison = Comparison(VALUES, VALUES + off)
    comparison.add_draw((VALUES + NOISE, VALUES))
    assert comparison.worst().units == pytest.approx(factor * units, rel=1e-4)


def test_the_largest_difference_counts() -> None:
    noise = np.array([1.0, 1.0, -1.0, -1.0]).reshape(4, 1) * 2.0**-20
    off = 4 * np.array([1.0, 0.0, -1.0, 0.0]).reshape(4, 1) * 2.0**-20
    comparison = Comparison(VALUES, VALUES + off)
    comparison.add_draw((VALUES + noise, VALUES))
    assert comparison.worst().units == pytest.approx(4, rel=1e-4)


def test_both_models_move() -> None:
    comparison = Comparison(VALUES, VALUES + NOISE)
    comparison.add_draw((VALUES + 3 * NOISE, VALUES), (VALUES + 5 * NOISE, VALUES + NOISE))
    assert comparison.worst().units == pytest.approx(1 / 5, rel=1e-4)  # 3 and 4 at right angles


def test_a_channel_that_a_draw_left_alone_counts_as_the_typical_one() -> None:
    values = np.tile(VALUES, (1, 3))
    noise, off = np.tile(NOISE, (1, 3)), np.tile(NOISE, (1, 3))
    noise[:, 2], off[:, :2] = 0, 0
    comparison = Comparison(values, values + off)
    comparison.add_draw((values + noise, values))
    worst = comparison.worst()
    assert (worst.axis, worst.channel) == (1, 2)
    # One draw of its own, 0, and two of the others': sqrt(2/3).
    assert worst.units == pytest.approx(np.sqrt(3 / 2), rel=1e-4)


def test_a_draw_of_another_shape_moves_nothing() -> None:
    comparison = Comparison(VALUES, VALUES + NOISE)
    comparison.add_draw((VALUES[:2], VALUES[:2]))
    assert comparison.worst().units > 1e3


@pytest.mark.parametrize(
    ("shape", "at", "axis", "channel"),
    [
        ((3, 5), (slice(None), 4), 1, 4),
        ((9, 5, 3), (slice(None), 4), 1, 4),
        ((9, 5, 3), (slice(None), slice(None), 2), 2, 2),
        ((2, 5, 3, 3), (slice(None), 1), 1, 1),
        ((2, 3, 3, 5), (..., 4), 3, 4),
    ],
)
def test_the_worst_channel(shape: tuple[int, ...], at: Any, axis: int, channel: int) -> None:
    rng = np.random.default_rng(3)
    values = rng.standard_normal(shape)
    folded = values.copy()
    folded[at] *= 1 + 1e-4
    comparison = Comparison(values, folded)
    for _ in range(4):
        comparison.add_draw((values + 1e-7 * rng.standard_normal(shape), values))
    worst = comparison.worst()
    assert (worst.axis, worst.channel) == (axis, channel)
    assert worst.units > 100
    most = np.unravel_index(np.abs(folded - values).argmax(), shape)
    assert worst.original == float(values[most])
    assert worst.folded == float(folded[most])


@pytest.mark.parametrize("shape", [(), (4,)])
def test_tensors_without_channels(shape: tuple[int, ...]) -> None:
    values = np.full(shape, 2.0)
    comparison = Comparison(values, values + 8e-6)
    comparison.add_draw((values + 1e-6, values))
    worst = comparison.worst()
    assert (worst.axis, worst.channel) == (None, None)
    assert worst.units == pytest.approx(8, rel=1e-4)


@pytest.mark.parametrize(
    ("original", "folded", "off"),
    [
        ([NAN, 1.0], [NAN, 1.0], [0, 0]),
        ([INF, -INF], [INF, -INF], [0, 0]),
        ([INF, 1.0], [-INF, 1.0], [INF, 0]),
        ([NAN, 1.0], [2.0, 1.0], [INF, 0]),
        ([2.0, 1.0], [NAN, 1.5], [INF, 0.5]),
        ([INF, 1.0], [NAN, 1.0], [INF, 0]),
        ([1e100, 1.0], [INF, 1.0], [INF, 0]),
        ([1, 2], [1, 4], [0, 1]),
        ([True, False], [True, True], [0, 1]),
        ([True, False], [True, False], [0, 0]),
        ([], [], []),
    ],
)
def test_differences(original: list[Any], folded: list[Any], off: list[float]) -> None:
    one, other = np.array(original), np.array(folded)
    np.testing.assert_array_equal(np.abs(differences(one, other)), off)
    comparison = Comparison(one, other)
    comparison.add_draw((one, one))
    assert comparison.is_equal == (not any(off))
    units = comparison.worst().units
    assert units > 1e6 if any(off) else units == 0


def test_an_infinite_difference_is_beyond_all_units() -> None:
    folded = VALUES.copy()
    folded[2] = NAN
    comparison = Comparison(VALUES, folded)
    comparison.add_draw((VALUES + NOISE, VALUES))
    worst = comparison.worst()
    assert worst.units == INF
    assert worst.original == 1.0
    assert np.isnan(worst.folded)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0,), (0, 2, 2, 2)])
def test_nothing_to_compare(shape: tuple[int, ...]) -> None:
    comparison = Comparison(np.zeros(shape), np.zeros(shape))
    comparison.add_draw((np.zeros(shape), np.zeros(shape)))
    assert comparison.is_equal
    assert comparison.worst().units == 0


def simulated(seed: int, dtype: Any, error: float = 0.0) -> float:
    """The units of a layer of 24 channels whose folded weights are rounded once."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((36, 24))
    scale = rng.uniform(0.5, 2, 24)
    exact = weight * scale
    exact[:, 5] *= 1 + error
    stored = exact.astype(dtype)
    data = rng.standard_normal((50, 36))
    original, folded = data @ (weight * scale), data @ stored.astype(np.float64)
    proto = numpy_helper.from_array(stored, "w")

    def draw(number: int) -> list[tuple[Array, Array]]:
        values = Move({id(proto)}, (seed, number))(proto, stored)
        assert values is not None
        return [(data @ values, folded)]

    return measured(Comparison(original, folded), draw, MULTIPLE).units


@pytest.mark.parametrize(("dtype", "error"), [(np.float32, 5e-6), (np.float16, 5e-2)])
def test_a_right_fold_and_a_channel_that_is_off(dtype: Any, error: float) -> None:
    right = [simulated(seed, dtype) for seed in range(120)]
    assert min(right) > 0.5
    assert max(right) < MULTIPLE
    assert min(simulated(seed, dtype, error) for seed in range(120)) > MULTIPLE

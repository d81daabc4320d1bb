"""Statistics of a benchmark against numbers derived by hand, and the order of turns."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnfold.measuring.outcome import Ratio
from bnfold.measuring.samples import ratio, sides, spread
from bnfold.measuring.turns import LEAST_BLOCKS, SHORTEST, Block, in_turn, warmed_up

TIMES = st.floats(1e-6, 1e3)
BLOCKS = st.lists(st.tuples(TIMES, TIMES, TIMES, TIMES), min_size=1, max_size=60)


def drawn(seed: int, count: int, factor: float) -> list[Block]:
    """Log-normal times, those of the first program ``factor`` times as long in the median."""
    times = np.random.default_rng(seed).lognormal(0, 0.2, (count, 4))
    times[:, [0, 3]] *= factor
    return [(float(a), float(b), float(c), float(d)) for a, b, c, d in times]


def test_spread_by_hand() -> None:
    # Eleven numbers: the 10th, 50th and 90th percentile are the 2nd, 6th and 10th.
    found = spread([11.0, 1, 10, 2, 9, 3, 8, 4, 7, 5, 6])
    assert (found.low, found.median, found.high, found.count) == (2, 6, 10, 11)


def test_spread_of_one_sample() -> None:
    found = spread([3.0])
    assert (found.low, found.median, found.high, found.count) == (3, 3, 3, 1)


def test_sides_are_outer_and_inner() -> None:
    first, second = sides([(1, 2, 3, 4), (5, 6, 7, 8)])
    assert first.tolist() == [[1, 4], [5, 8]]
    assert second.tolist() == [[2, 3], [6, 7]]


def test_ratio_of_what_never_varies() -> None:
    assert ratio([(3.0, 2.0, 2.0, 3.0)] * 7) == Ratio(1.5, 1.5, 1.5)


def test_ratio_of_two_blocks_by_hand() -> None:
    # The resamples are aa, ab, ba, bb, a quarter each: ratios 1, (1 and 3: 2) 2, 2 and 3.
    found = ratio([(1, 1, 1, 1), (3, 1, 1, 3)])
    assert found == Ratio(2.0, 1.0, 3.0)


@given(BLOCKS, st.floats(0.01, 100))
@settings(max_examples=30, deadline=None)
def test_ratio_knows_no_units(blocks: list[Block], factor: float) -> None:
    found = ratio(blocks, 1)
    assert 0 < found.low <= found.value <= found.high < math.inf
    first, second = sides(blocks)
    assert found.value == pytest.approx(np.median(first) / np.median(second), rel=1e-12)
    scaled = ratio([(factor * a, b, c, factor * d) for a, b, c, d in blocks], 1)
    for name in ("value", "low", "high"):
        assert getattr(scaled, name) == pytest.approx(factor * getattr(found, name), rel=1e-9)


@given(BLOCKS)
@settings(max_examples=30, deadline=None)
def test_ratio_the_other_way_round(blocks: list[Block]) -> None:
    found, swapped = ratio(blocks, 2), ratio([(b, a, d, c) for a, b, c, d in blocks], 2)
    assert swapped.value == pytest.approx(1 / found.value, rel=1e-9)


@pytest.mark.parametrize("count", [10, 60])
def test_intervals_hold_the_true_ratio(count: int) -> None:
    found = [ratio(drawn(seed, count, 1.3), seed) for seed in range(60)]
    held = sum(r.low <= 1.3 <= r.high for r in found)
    # 57 of 60 expected; 48 or fewer have a probability below 0.1 % where it is nine of ten.
    assert held >= 48
    assert np.median([r.value for r in found]) == pytest.approx(1.3, rel=0.05)
    assert np.median([r.high / r.low for r in found]) < 1 + 2 / math.sqrt(count)


def test_intervals_shrink_with_more_blocks() -> None:
    few, many = ratio(drawn(0, 10, 1.0)), ratio(drawn(0, 1000, 1.0))
    assert many.high / many.low < few.high / few.low


def test_what_disturbs_neighbours_widens_the_interval() -> None:
    # A hundred times the same forty blocks say no more than forty blocks do.
    blocks = drawn(3, 40, 1.0)
    repeated = [block for block in blocks for _ in range(100)]
    alone, together = ratio(blocks), ratio(repeated)
    assert together.high - together.low > 0.7 * (alone.high - alone.low)


def test_a_seed_is_a_result() -> None:
    blocks = drawn(1, 20, 1.1)
    assert ratio(blocks, 5) == ratio(blocks, 5)
    assert ratio(blocks, 5) != ratio(blocks, 6)


def test_faster_and_slower() -> None:
    assert Ratio(1.2, 1.1, 1.3).is_faster
    assert not Ratio(1.2, 1.0, 1.3).is_faster
    assert Ratio(0.8, 0.7, 0.9).is_slower
    assert not Ratio(0.8, 0.7, 1.0).is_slower


class Machine:
    """Two programs and a clock that only they move; the log has who ran how often in a row.

    Args:
        drift: how much slower everything gets with each run.
    """

    def __init__(self, first: float, second: float, drift: float = 0.0) -> None:
        self.now, self.drift = 100.0, drift
        self.log: list[tuple[str, int]] = []
        self.first, self.second = self.program("A", first), self.program("B", second)

    def program(self, name: str, seconds: float) -> Callable[[int], float]:
        def turn(runs: int) -> float:
            self.log.append((name, runs))
            taken = 0.0
            for _ in range(runs):
                taken += seconds + self.drift * (self.now - 100.0)
                self.now += seconds
            return taken

        return turn

    def clock(self) -> float:
        return self.now


def test_the_order_is_abba() -> None:
    machine = Machine(0.3, 0.2)
    blocks = in_turn(machine.first, machine.second, 4.5, runs=2, clock=machine.clock)
    # A block takes two seconds: the third begins before 4.5 are over, two more are the least.
    assert len(blocks) == LEAST_BLOCKS == 5
    assert machine.log == [("A", 2), ("B", 2), ("B", 2), ("A", 2)] * 5
    assert blocks == [pytest.approx((0.3, 0.2, 0.2, 0.3))] * 5


def test_it_goes_on_until_the_time_is_over() -> None:
    machine = Machine(0.25, 0.25)
    assert len(in_turn(machine.first, machine.second, 10.5, clock=machine.clock)) == 11
    assert machine.now == pytest.approx(111)


def test_the_most_blocks_end_it_before() -> None:
    machine = Machine(0.25, 0.25)
    taken = in_turn(machine.first, machine.second, 99, least=1, most=3, clock=machine.clock)
    assert len(taken) == 3


def test_a_drift_is_unfair_to_neither() -> None:
    machine = Machine(0.1, 0.1, drift=0.01)
    blocks = in_turn(machine.first, machine.second, 40, clock=machine.clock)
    first, second = sides(blocks)
    assert second[-1].mean() > 4 * second[0].mean()
    assert first.mean(axis=1) == pytest.approx(second.mean(axis=1))


# Times whose sums are exact: a clock that rounds would be off from what the machine takes.
TICKS = st.integers(2, 167_772).map(lambda ticks: ticks * 2.0**-24)


@given(TICKS, TICKS, st.floats(0.01, 30))
@settings(max_examples=30, deadline=None)
def test_a_sample_is_long_enough(first: float, second: float, duration: float) -> None:
    machine = Machine(first, second)
    runs = warmed_up(machine.first, machine.second, min(duration, 0.1), machine.clock)
    assert runs * min(first, second) >= SHORTEST * 0.999
    assert runs == 1 or (runs - 1) * min(first, second) < SHORTEST
    assert [name for name, _ in machine.log[:4]] == ["A", "B", "A", "B"]


def test_warming_up_takes_a_tenth() -> None:
    machine = Machine(0.01, 0.01)
    assert warmed_up(machine.first, machine.second, 3.0, machine.clock) == 1
    assert machine.now - 100 == pytest.approx(0.3, abs=0.021)

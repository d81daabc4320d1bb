"""Moments: numbers by hand, and any parts in any order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnfold.errors import ModelError
from bnfold.statistics.moments import Moments, merged, merged_all


def of(values: list[float] | np.ndarray[tuple[int], np.dtype[np.float64]]) -> Moments:
    array = np.asarray(values, np.float64)
    return Moments.of_batch(len(array), np.array([array.mean()]), np.array([array.var()]))


def test_two_unequal_batches_by_hand() -> None:
    # Batches 0, 2 and 4, 6, 8, 10: means 1 and 7, unbiased variances 2 and 20 / 3.
    both = merged(of([0, 2]), of([4, 6, 8, 10]))
    assert (both.count, both.batches) == (6, 2)
    mean, var = both.estimate("paper")
    assert mean[0] == pytest.approx(4, rel=1e-15)
    assert var[0] == pytest.approx((2 + 20 / 3) / 2, rel=1e-15)
    # All six values: mean 5, deviations 5, 3, 1, 1, 3, 5, whose squares sum to 70.
    mean, var = both.estimate("population")
    assert mean[0] == pytest.approx(5, rel=1e-15)
    assert var[0] == pytest.approx(70 / 5, rel=1e-15)


@given(
    st.lists(
        st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=7), min_size=1, max_size=8
    ),
    st.randoms(use_true_random=False),
)
def test_any_parts_in_any_order_give_the_same(batches: list[list[float]], random: object) -> None:
    values = np.concatenate([np.asarray(batch, np.float64) for batch in batches])
    parts = [of(batch) for batch in batches]
    while len(parts) > 1:  # merge two neighbours, whichever, until there is one
        at = random.randrange(len(parts) - 1)  # type: ignore[attr-defined]
        pair = [parts.pop(at), parts.pop(at)]
        random.shuffle(pair)  # type: ignore[attr-defined]
        parts.insert(random.randrange(len(parts) + 1), merged(*pair))  # type: ignore[attr-defined]
    scale = max(1.0, float(np.abs(values).max()))
    mean, var = parts[0].estimate("population")
    assert mean[0] == pytest.approx(values.mean(), abs=1e-12 * scale)
    assert var[0] == pytest.approx(values.var(ddof=1), abs=1e-12 * scale**2)
    mean, var = parts[0].estimate("paper")
    assert mean[0] == pytest.approx(np.mean([np.mean(b) for b in batches]), abs=1e-12 * scale)
    wanted = np.mean([np.var(b, ddof=1) for b in batches])
    assert var[0] == pytest.approx(wanted, abs=1e-12 * scale**2)
    assert (parts[0].count, parts[0].batches) == (len(values), len(batches))


def test_a_large_mean_costs_no_digits() -> None:
    # The sum of squares would be 1e16 larger than the variance, and have no digit of it.
    values = np.random.default_rng(0).standard_normal(4096)
    found = merged(of(values[:1000] + 1e8), of(values[1000:] + 1e8))
    assert found.estimate("population")[1][0] == pytest.approx(values.var(ddof=1), rel=1e-7)


def test_one_value_has_no_variance() -> None:
    with pytest.raises(ModelError, match=r"m = N \* H \* W = 1 value"):
        of([3.0])


def test_shapes_have_to_agree() -> None:
    with pytest.raises(ModelError, match=r"mean has shape \(2,\) and variance \(3,\)"):
        Moments.of_batch(4, np.zeros(2), np.zeros(3))
    two = Moments.of_batch(4, np.zeros(2), np.zeros(2))
    with pytest.raises(ModelError, match="moments of 2 and of 1 channels"):
        merged(two, of([1, 2]))


def test_several_tensors_are_merged_by_name() -> None:
    found = merged_all([{"a": of([0, 2])}, {"b": of([5, 7])}, {"a": of([4, 6])}])
    assert {name: (m.batches, m.mean[0]) for name, m in found.items()} == {
        "a": (2, 3.0),
        "b": (1, 6.0),
    }

"""From blocks of samples to a median, its spread, and a ratio with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bnfold.measuring.outcome import Ratio, Spread
from bnfold.measuring.turns import Block

Array = npt.NDArray[np.float64]

RESAMPLES = 2000
"""Bootstrap samples of an interval."""

GROUPS = 40
"""So many groups of neighbouring blocks are drawn from."""

_AT_ONCE = 1 << 22  # numbers in memory


def spread(samples: Sequence[float] | Array) -> Spread:
    """Median, 10th and 90th percentile."""
    low, median, high = np.percentile(np.asarray(samples, np.float64), (10, 50, 90))
    return Spread(float(median), float(low), float(high), len(samples))


def sides(blocks: Sequence[Block]) -> tuple[Array, Array]:
    """The samples of the first and of the second program, shape ``(blocks, 2)`` each."""
    taken = np.asarray(blocks, np.float64).reshape(-1, 4)
    return taken[:, [0, 3]], taken[:, [1, 2]]


def ratio(blocks: Sequence[Block], seed: int = 0) -> Ratio:
    """Median of the first program by median of the second, with a 95 % percentile bootstrap.

    Whole blocks are drawn with replacement, since the samples of one were taken at one time; of
    many blocks, some neighbours at once, since what disturbs a machine lasts longer than one.

    Args:
        blocks: at least one.
        seed: of the draws.

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.3; Politis &
    Romano 1992, A circular block-resampling procedure for stationary data.
    """
    first, second = sides(blocks)
    value = float(np.median(first) / np.median(second))
    generator = np.random.default_rng(seed)
    count = len(first)
    neighbours = np.arange(-(-count // GROUPS))
    draws = -(-count // len(neighbours))
    step = max(1, _AT_ONCE // (2 * count))
    drawn: list[Array] = []
    for start in range(0, RESAMPLES, step):
        begins = generator.integers(0, count, (min(step, RESAMPLES - start), draws, 1))
        chosen = ((begins + neighbours) % count).reshape(len(begins), -1)
        medians = [np.median(s[chosen].reshape(len(chosen), -1), axis=1) for s in (first, second)]
        drawn.append(medians[0] / medians[1])
    low, high = np.percentile(np.concatenate(drawn), (2.5, 97.5))
    # Of few blocks the percentiles can miss the value itself.
    return Ratio(value, min(float(low), value), max(float(high), value))

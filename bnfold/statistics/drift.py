"""How far statistics moved."""

from __future__ import annotations

import numpy as np

from bnfold.statistics.moments import Float64s


def drift(
    before: tuple[Float64s, Float64s], after: tuple[Float64s, Float64s], epsilon: float
) -> tuple[Float64s, Float64s]:
    """How far mean and standard deviation of each channel moved, shape ``(C,)`` each.

    Args:
        before, after: mean and variance, shape ``(C,)`` each.
        epsilon: is added to both variances.

    Returns:
        In standard deviations of ``after``; infinite where there is none, or where ``before`` is
        not finite, and 0 where nothing moved.
    """
    with np.errstate(all="ignore"):
        spread = np.sqrt(after[1] + epsilon)
        old = np.sqrt(np.maximum(before[1] + epsilon, 0.0))
        moves = [np.abs(after[0] - before[0]), np.abs(spread - old)]
        parts = [np.where(move == 0, 0.0, move / spread) for move in moves]
    mean, std = (np.where(np.isnan(part), np.inf, part) for part in parts)
    return mean, std


def largest(moved: tuple[Float64s, Float64s]) -> float:
    """The largest move of any channel, of its mean or of its standard deviation."""
    return float(np.maximum(*moved).max(initial=0.0))

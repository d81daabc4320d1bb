"""One rounding from float64 to the dtype that the model stores."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from bnfold.algebra.affine import Array, Float64Array

BFLOAT16: np.dtype[np.generic] = np.dtype(ml_dtypes.bfloat16)

TINY = float(np.finfo(np.float64).tiny)
"""The smallest normal number of float64: a factor below it has lost digits, or all of them."""


@lru_cache(maxsize=16)
def _limits(dtype: np.dtype[Any]) -> tuple[float, float, float]:
    info = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    return float(info.smallest_normal), float(info.max), float(info.eps)


def smallest_normal(dtype: npt.DTypeLike) -> float:
    """The smallest positive normal number of a float dtype."""
    return _limits(np.dtype(dtype))[0]


def largest(dtype: npt.DTypeLike) -> float:
    """The largest finite number of a float dtype."""
    return _limits(np.dtype(dtype))[1]


def epsilon(dtype: npt.DTypeLike) -> float:
    """The distance from one to the next number of a float dtype."""
    return _limits(np.dtype(dtype))[2]


def rounded(values: Float64Array, dtype: npt.DTypeLike) -> Array:
    """``values`` in ``dtype``, each rounded once, to nearest, ties to even; overflow is infinite.

    NumPy's own conversions round once; that of ml_dtypes from float64 to bfloat16 goes by way of
    float32 and rounds twice, so bfloat16 is rounded here, on the bits: first to float32 towards
    zero with a sticky last bit ("round to odd"), which makes the second rounding harmless
    (Boldo & Melquiond 2005, "When double rounding is odd").
    """
    dtype = np.dtype(dtype)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if dtype != BFLOAT16:
            return values.astype(dtype)
        return _to_odd_float32(values).astype(dtype)


def _to_odd_float32(values: Float64Array) -> npt.NDArray[np.float32]:
    """float32 whose last bit says whether anything was lost, so that a later rounding is exact."""
    near = values.astype(np.float32)
    bits = near.view(np.int32).copy()
    wide = near.astype(np.float64)
    inexact = (wide != values) & np.isfinite(values)
    # Step back towards zero where rounding went away from it, then set the sticky bit.
    away = inexact & (np.abs(wide) > np.abs(values))
    bits[away] -= 1
    bits[inexact] |= 1
    odd: npt.NDArray[np.float32] = bits.view(np.float32)
    return odd


def flushed(stored: Array, exact: Float64Array) -> tuple[Array, int]:
    """``stored`` without subnormal numbers, and how many values became zero that were not.

    Args:
        stored: any float dtype, ``exact`` rounded to it.
        exact: the float64 values, same shape.

    Subnormal operands make a convolution up to two orders of magnitude slower on common
    processors, and no runtime needs them: a value below the smallest normal number is stored
    as zero.
    """
    sizes, tiny = np.abs(stored), smallest_normal(stored.dtype)
    if stored.size and stored.dtype != BFLOAT16 and sizes.min() >= tiny:
        return stored, 0  # nearly always
    small = sizes < tiny
    if not small.any():
        return stored, 0
    lost = small & (exact != 0)
    count = int(np.count_nonzero(lost))
    if count:
        stored = stored.copy()
        stored[lost] = 0
    return stored, count

"""The yardstick: constants moved by up to half a unit in the last place of their stored dtype."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import numpy.typing as npt
import onnx

from bnfold.algebra.rounding import BFLOAT16, smallest_normal

Array = npt.NDArray[np.generic]
Float64Array = npt.NDArray[np.float64]

KEPT_BYTES = 1 << 29
"""Moved constants are kept up to this size, all together, for the next use of the same draw."""

_TABLE_BITS = 16
_FRACTION_BITS = {2: 10, 4: 23, 8: 52}


class Move:
    """One draw: moves some constants, always by the same amounts.

    A constant is moved by up to half a unit in the last place, the most that rounding it once can
    have moved it. Numbers of equal mantissa move by the same part of their unit, as they do when
    equal numbers are folded with one factor and rounded: a kernel of equal values moves as one.

    Args:
        constants: the constants that move; all others stay as they are.
        seed: of the draw.
        units: by how many units in the last place, at most.
        keeps: whether moved constants are kept in memory, for a draw that is used often.
    """

    def __init__(
        self,
        constants: Collection[int],
        seed: Iterable[int],
        *,
        units: float = 0.5,
        keeps: bool = False,
    ) -> None:
        self._constants = constants
        self._seed = list(seed)
        self._units = units
        generator = np.random.default_rng(self._seed)
        self._table = generator.uniform(-1.0, 1.0, 1 << _TABLE_BITS)
        self._cache: dict[int, Float64Array] = {}
        self._room = KEPT_BYTES if keeps else 0

    @property
    def moves_anything(self) -> bool:
        """Whether there is a constant to move."""
        return bool(self._constants)

    def __call__(self, proto: onnx.TensorProto, stored: Array) -> Float64Array | None:
        """The float64 values of a constant, or None where it stays as it is.

        Args:
            proto: the constant.
            stored: its values, any float dtype.
        """
        key = id(proto)
        if key not in self._constants:
            return None
        found = self._cache.get(key)
        if found is None:
            found = self._moved(stored)
            if found.nbytes <= self._room:
                self._room -= found.nbytes
                self._cache[key] = found
        return found

    def _moved(self, stored: Array) -> Float64Array:
        values = np.atleast_1d(_native(stored))
        steps = _ulps(values, stored.dtype)
        # Half a unit of float64 is nothing in float64: there it is a whole one, or none.
        steps *= max(self._units, 1.0) if values.dtype == np.float64 else self._units
        steps *= self._directions(values)
        zero = values == 0
        if zero.any():
            steps[zero] = 0.0
            if self._units == 0.5:
                # A folded weight below the smallest normal number may have become zero.
                generator = np.random.default_rng([*self._seed, 1])
                tiny = smallest_normal(stored.dtype)
                steps[zero] = generator.uniform(-tiny, tiny, int(np.count_nonzero(zero)))
        steps += values.astype(np.float64)
        return steps.reshape(stored.shape)

    def _directions(self, values: Array) -> Float64Array:
        """From -1 to 1, the same for equal mantissas."""
        unsigned = np.dtype(f"u{values.dtype.itemsize}").type
        fraction = _FRACTION_BITS[values.dtype.itemsize]
        bits = np.ascontiguousarray(values).view(unsigned) & unsigned((1 << fraction) - 1)
        width = 8 * values.dtype.itemsize
        # Every bit of the fraction counts (Knuth's multiplier, of the width of the number).
        bits *= unsigned((0x9E3779B97F4A7C15 >> (64 - width)) | 1)
        bits >>= unsigned(max(0, width - _TABLE_BITS))
        directions: Float64Array = self._table[bits]
        return directions


def half_ulps(values: Float64Array, dtype: npt.DTypeLike) -> Float64Array:
    """Half a unit in the last place of each value, in ``dtype``; zero for zero and for non-numbers.

    Args:
        values: float64, each a number of ``dtype``.
        dtype: float16, bfloat16, float32 or float64.
    """
    stored = np.asarray(values).astype(np.dtype(dtype))
    steps = np.abs(_ulps(np.atleast_1d(_native(stored)), stored.dtype)) / 2
    usable: Float64Array = np.where(np.isfinite(values) & (values != 0), steps, 0.0)
    return usable


def _native(stored: Array) -> Array:
    """The values in a dtype that NumPy computes in: float32 for bfloat16, which is part of it."""
    if stored.dtype == BFLOAT16:
        return stored.astype(np.float32)
    return stored.astype(stored.dtype.newbyteorder("="), copy=False)


def _ulps(values: Array, stored: np.dtype[np.generic]) -> Float64Array:
    """A unit in the last place of each value, with its sign; zero for what is no number.

    Args:
        values: float16, float32 or float64.
        stored: the dtype whose unit it is; bfloat16 has the exponents of float32 and 16 bits less.
    """
    with np.errstate(all="ignore"):
        # Not of the values themselves: NumPy is wrong for negative powers of two in float16.
        spacing = np.spacing(np.abs(values)).astype(np.float64)
        steps: Float64Array = np.copysign(spacing, values)
    if stored == BFLOAT16:
        steps *= 2.0**16
    if not np.isfinite(steps).all():
        # Of infinity, of what is none, and beside the largest number.
        steps[~np.isfinite(steps)] = 0.0
    return steps

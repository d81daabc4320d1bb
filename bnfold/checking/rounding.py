"""The yardstick: constants moved by up to half a unit in the last place of their stored dtype."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import numpy.typing as npt
import onnx

from bnfold.algebra.rounding import epsilon, smallest_normal

Array = npt.NDArray[np.generic]
Float64Array = npt.NDArray[np.float64]

CACHED_BYTES = 1 << 30
"""Moved constants are kept up to this size, all together, while one draw is used again."""

_TABLE_BITS = 16


class Move:
    """One draw: moves some constants, always by the same amounts.

    A constant is moved by up to half a unit in the last place, the most that rounding it once can
    have moved it. Numbers of equal mantissa move by the same part of their unit, as they do when
    equal numbers are folded with one factor and rounded: a kernel of equal values moves as one.

    Args:
        constants: the constants that move; all others stay as they are.
        seed: of the draw.
        units: by how many units in the last place, at most.
    """

    def __init__(
        self, constants: Collection[int], seed: Iterable[int], *, units: float = 0.5
    ) -> None:
        self._constants = constants
        self._seed = list(seed)
        self._units = units
        generator = np.random.default_rng(self._seed)
        self._table = generator.uniform(-1.0, 1.0, 1 << _TABLE_BITS)
        self._cache: dict[int, Float64Array] = {}
        self._cached = 0

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
            if self._cached + found.nbytes <= CACHED_BYTES:
                self._cached += found.nbytes
                self._cache[key] = found
        return found

    def _moved(self, stored: Array) -> Float64Array:
        values = np.atleast_1d(stored.astype(np.float64))
        step = 2 * self._units * half_ulps(values, stored.dtype)
        if stored.dtype == np.float16 and self._units == 0.5:
            # A folded weight below the smallest normal number may have become zero.
            step = np.where(values == 0, smallest_normal(np.float16), step)
        moved: Float64Array = (values + step * self._directions(values)).reshape(stored.shape)
        return moved

    def _directions(self, values: Float64Array) -> Float64Array:
        """From -1 to 1, the same for equal mantissas, with the sign of the value."""
        mantissa, _ = np.frexp(values)
        # The 52 bits of the fraction, mixed so that every bit counts (Knuth's multiplier).
        bits = np.abs(mantissa).view(np.uint64) & np.uint64((1 << 52) - 1)
        mixed = (bits * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - _TABLE_BITS)
        directions: Float64Array = np.copysign(1.0, values) * self._table[mixed.astype(np.int64)]
        zero = values == 0
        if zero.any():
            generator = np.random.default_rng([*self._seed, 1])
            directions[zero] = generator.uniform(-1.0, 1.0, int(np.count_nonzero(zero)))
        return directions


def half_ulps(values: Float64Array, dtype: npt.DTypeLike) -> Float64Array:
    """Half a unit in the last place of each value, in ``dtype``; zero for zero and for non-numbers.

    Args:
        values: float64, each a number of ``dtype``.
        dtype: float16, bfloat16, float32 or float64.
    """
    # np.frexp gives a fraction from a half to one, so the exponent is one more than that of 1.5.
    with np.errstate(all="ignore"):
        _, exponent = np.frexp(values)
        step = np.ldexp(epsilon(dtype) / 4, exponent)
        step = np.maximum(step, smallest_normal(dtype) * epsilon(dtype) / 2)
        usable: Float64Array = np.where(np.isfinite(values) & (values != 0), step, 0.0)
    return usable

"""What the plan claims of each operator, and whether what will be written is that, rounded once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfold.algebra.layer import Layer
from bnfold.algebra.spread import Spread
from bnfold.checking.written import RegionError
from bnfold.checking.yardstick import HALF, MOST, off_by, quanta, require_little_lost
from bnfold.folding.rules.reading import Inward, Linear

Array = npt.NDArray[Any]

_EPS = 2.0**-52
BLOCK = 1 << 16
"""Weights are compared in blocks of about this many elements."""

Slices = tuple[slice, ...]


class Exact:
    """``values * factors + shift`` in float64, not rounded.

    Args:
        values: as the model has them.
        factors: each broadcasts to the values.
        shift: so does this.
        channels: the number of the channel of each value, broadcast too.
        count: how many channels there are.

    Attributes:
        shape: of the values.
    """

    def __init__(
        self,
        values: Array,
        factors: Sequence[Array],
        shift: Array | None,
        channels: Array,
        count: int,
    ) -> None:
        self._values = values
        self.shape = values.shape
        self._factors = [self._wide(factor) for factor in factors]
        self._shift = None if shift is None else self._wide(shift)
        self._channels = self._wide(channels).astype(np.int64)
        self.count = count

    @classmethod
    def weight(cls, linear: Linear, layer: Layer, values: Array) -> Exact:
        """``weight * out factor * inner factor``: the weight of an operator."""
        factors = [linear.weight_factor(layer.out)]
        if layer.inner is not None:
            assert isinstance(linear.inward, Inward)
            factors.append(linear.inward.factor(layer.inner))
        count = linear.layer.channels
        numbers = linear.weight_factor(np.arange(count, dtype=np.float64))
        return cls(values, factors, None, numbers, count)

    @classmethod
    def operand(cls, spread: Spread, values: Array) -> Exact:
        """``scale * values + shift``: a constant that takes up a map itself."""
        return cls(values, [spread.scale], spread.shift, np.zeros(()), 1)

    def _wide(self, factor: Array) -> Array:
        rank = len(self.shape)
        factor = np.asarray(factor)
        factor = factor.reshape((*[1] * (rank - factor.ndim), *factor.shape))
        if factor.ndim > rank or any(
            size not in (1, dim) for size, dim in zip(factor.shape, self.shape, strict=True)
        ):
            raise RegionError(f"a factor of shape {factor.shape} meets a weight of {self.shape}")
        return factor

    @property
    def is_same(self) -> bool:
        """Whether the values stay what they are."""
        is_scaled = any(bool((factor != 1.0).any()) for factor in self._factors)
        return not is_scaled and (self._shift is None or not self._shift.any())

    def exact(self, block: Slices) -> Array:
        """A block of it in float64."""
        found = self._values[block].astype(np.float64)
        for factor in self._factors:
            found *= factor[_within(block, factor.shape)]
        if self._shift is not None:
            found += self._shift[_within(block, self._shift.shape)]
        return found

    def channels(self, block: Slices) -> Array:
        """The channel of each value of a block."""
        numbers = self._channels[_within(block, self._channels.shape)]
        return np.broadcast_to(numbers, self._values[block].shape)


def largest_difference(
    weight: Exact, source: Any, units: Array | None = None, what: str = "weight"
) -> float:
    """Compare what will be stored with an exact weight; the largest difference in units.

    Args:
        source: the values in memory, or a ``Stream`` of them.
        units: of each value, where it is not stored itself (codes behind a DequantizeLinear).

    Raises:
        RegionError: it is more than half a unit in the last place.
    """
    worst = 0.0
    lost, whole = np.zeros(weight.count), np.zeros(weight.count)
    is_half = False
    for block in blocks(weight.shape):
        exact = weight.exact(block)
        stored = source[block] if isinstance(source, np.ndarray) else source.take(exact.shape)
        unit = quanta(np.ascontiguousarray(stored)) if units is None else units[block]
        if units is None and stored.dtype == np.float16:
            is_half = True
            channels, size = weight.channels(block).ravel(), np.abs(exact).ravel()
            zeroed = np.where(stored.ravel() == 0, size, 0.0)
            whole += np.bincount(channels, size, weight.count)
            lost += np.bincount(channels, zeroed, weight.count)
        apart, at = _worst(exact, stored, unit.reshape(exact.shape))
        if apart > MOST:
            channel = int(weight.channels(block)[at])
            raise off_by(what, channel, exact[at], stored[at], apart)
        worst = max(worst, apart)
    if is_half:
        require_little_lost(lost, whole)
    return min(worst, HALF)


def bias_difference(exact: Array, stored: Array, units: Array | None = None) -> float:
    """The same for a bias: ``exact`` is float64, ``stored`` as it will be written.

    Raises:
        RegionError: it is more than half a unit in the last place.
    """
    if exact.size != stored.size:
        raise RegionError(f"the written bias has shape {list(stored.shape)}")
    stored = np.ascontiguousarray(stored).reshape(exact.shape)
    unit = quanta(stored) if units is None else units.reshape(exact.shape)
    apart, at = _worst(exact, stored, unit)
    if apart > MOST:
        raise off_by("bias", int(at[-1]), exact[at], stored[at], apart)
    return min(apart, HALF)


def _worst(exact: Array, stored: Array, units: Array) -> tuple[float, tuple[Any, ...]]:
    """The largest difference in units beyond the rounding of float64, and where it is."""
    if not exact.size:
        return 0.0, ()
    apart = np.abs(stored - exact)
    ratio = apart / units
    highest = float(ratio.max())
    if not highest <= MOST:
        # What is no number has to be none on both sides.
        is_same = (stored == exact) | (np.isnan(stored) & np.isnan(exact))
        ratio = (apart - _EPS * 4 * np.abs(exact)) / units
        ratio = np.where(is_same, 0.0, np.nan_to_num(ratio, nan=np.inf))
        highest = float(ratio.max())
    at = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    return max(highest, 0.0), at


def blocks(shape: tuple[int, ...]) -> Iterator[Slices]:
    """Slices that cover an array in the order of its elements, each of a bounded size."""
    if math.prod(shape) <= BLOCK:
        yield tuple(slice(None) for _ in shape)
        return
    inner = math.prod(shape[1:])
    step = max(1, BLOCK // inner)
    for start in range(0, shape[0], step):
        here = slice(start, min(start + step, shape[0]))
        if inner > BLOCK:
            for rest in blocks(shape[1:]):
                yield (here, *rest)
        else:
            yield (here, *(slice(None) for _ in shape[1:]))


def _within(block: Slices, shape: tuple[int, ...]) -> Slices:
    """The part of an array of ``shape`` that broadcasts against a block."""
    return tuple(part if size > 1 else slice(None) for part, size in zip(block, shape, strict=True))

"""How large a difference is, channel by channel, and how large rounding would make it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Float64Array = npt.NDArray[np.float64]

ARITHMETIC = 2.0**-44
"""Relative to the largest value of a channel: what float64 arithmetic in another order may do."""

ATTRIBUTES = 2.0**-24
"""The same where FOLDED computes with other attributes, which are float32 in every model."""

FITTED_PLACES = 8.0
"""In so many places, at least, a channel has to vary for a scale and shift to mean something."""

EACH = -1
"""In place of an axis: each number is a channel of its own."""

SHARE_OF_TERMS = 0.1
"""How small a number may be beside the others before its own size says little of its terms."""

PRIOR_DRAWS = 2.0
"""How many draws the typical channel of the same tensor counts for, beside a channel's own."""


@dataclass(frozen=True)
class Worst:
    """The channel that speaks most against two tensors being equal.

    Attributes:
        units: its difference as a multiple of what rounding moves.
        axis, channel: where; None for tensors without channels.
        original, folded: the values at its largest difference.
    """

    units: float
    axis: int | None
    channel: int | None
    original: float
    folded: float


@dataclass
class Comparison:
    """One tensor of both models on one feed, and how draws of rounding move it.

    Args:
        original, folded: the values of equal shape; any dtype.
        floor: relative to the largest value of a channel, what is no difference in any case.
        by_number: judge each number for itself too, where each is made by few weights.

    Differences are judged in each channel by four numbers: the root mean square, the largest, the
    mean, and the part along the channel's own values. An error of scale or shift common to a
    channel adds up in the last two, while rounding errors of many weights cancel.
    """

    original: Array
    folded: Array
    floor: float = ARITHMETIC
    by_number: bool = False
    _draws: list[list[Float64Array]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.difference = differences(self.original, self.folded)
        shape = self.original.shape
        channels = [1] if len(shape) == 2 else [1, len(shape) - 1] if len(shape) > 2 else []
        # Channels are on axis 1, or on the last one behind a MatMul; the whole counts as one more.
        self._axes: list[int | None] = [*channels, None] if self.original.size else [None]
        if self.by_number and self.original.size:
            self._axes.append(EACH)
        self._along = [self._directions(axis) for axis in self._axes]
        self._found = [
            self._statistics(self.difference, i) if self.difference.any() else None
            for i in range(len(self._axes))
        ]

    @property
    def draws(self) -> int:
        """How many draws were added."""
        return len(self._draws)

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs at all."""
        return not self.difference.any()

    def add_draw(self, *moved: tuple[Array, Array]) -> None:
        """Add what one draw of rounding moves: pairs of values, moved and unmoved.

        A pair whose shapes differ (rounding changed the size of something) moves nothing.
        """
        total = [np.zeros((4, self._channels(axis))) for axis in self._axes]
        for one, other in moved:
            if one.shape != self.original.shape or other.shape != one.shape:
                continue
            noise = differences(other, one)
            noise = np.where(np.isfinite(noise), noise, 0.0)
            for i in range(len(self._axes)):
                total[i] += self._statistics(noise, i) ** 2
        self._draws.append(total)

    def worst(self) -> Worst:
        """The channel that differs most, measured in what rounding moves."""
        ratios = [
            (found / self._expected(i)).max(axis=0)
            for i, found in enumerate(self._found)
            if found is not None
        ]
        if not ratios:
            return Worst(0.0, None, None, 0.0, 0.0)
        place = self._place()
        units = max(float(of_axis.max()) for of_axis in ratios)
        return self._at(units, self._axes[place], int(ratios[place].argmax()))

    def _place(self) -> int:
        """The axis along which the difference is most in one channel; the first unless plainly."""
        contrasts = []
        for i, axis in enumerate(self._axes):
            if axis == EACH:
                continue
            found = self._found_rms(i)
            found = found if np.isfinite(found).all() else np.isinf(found).astype(np.float64)
            # The squares of differences far below any rounding can all be zero.
            contrasts.append(float(found.max() / (root_mean_square(found) or 1.0)))
        best = max(contrasts)
        return next(i for i, contrast in enumerate(contrasts) if 1.2 * contrast >= best)

    def affine_units(self) -> float:
        """How far the folded values are from a scale and shift per channel of the original ones.

        The root mean square of the worst channel, as a multiple of what rounding moves.
        """
        found = [float("inf")]
        for i, axis in enumerate(self._axes):
            if axis is not None and axis != EACH:
                values = self._by_channel(self.difference, axis)
                centred = values - _mean(values)[:, None]
                along = (centred * self._along[i]).sum(axis=1, keepdims=True) * self._along[i]
                left = np.sqrt(_mean((centred - along) ** 2))
                # A few places say nothing: two numbers can be fitted to any two of them.
                places = 1 / ((self._along[i] ** 4).sum(axis=1) + 1e-300)
                left = np.where(places < FITTED_PLACES, 0.0, left)
                found.append(float((left / self._expected(i)[0]).max()))
        return min(found)

    def _found_rms(self, i: int) -> Float64Array:
        found = self._found[i]
        return np.zeros(self._channels(self._axes[i])) if found is None else found[0]

    def at(self, place: int | None) -> Worst:
        """The values at a place of the flat tensor, and how much its channel differs in all."""
        units = self.worst().units
        if place is None:
            return Worst(units, None, None, 0.0, 0.0)
        axis = self._axes[0]
        channel = None
        if axis is not None:
            channel = int(np.unravel_index(place, self.original.shape)[axis])
        values = self.original.reshape(-1)[place], self.folded.reshape(-1)[place]
        if self.original.dtype.kind not in "fiub":
            return Worst(units, axis, channel, float("nan"), float("nan"))
        return Worst(units, axis, channel, float(values[0]), float(values[1]))

    def _at(self, units: float, axis: int | None, channel: int) -> Worst:
        here = np.abs(self._by_channel(self.difference, axis)[channel])
        at = int(np.nan_to_num(here, nan=np.inf, posinf=np.inf).argmax())
        original = self._by_channel(self.original, axis)[channel, at]
        folded = self._by_channel(self.folded, axis)[channel, at]
        return Worst(
            units, axis, channel if axis is not None else None, float(original), float(folded)
        )

    def _expected(self, i: int) -> Float64Array:
        """What rounding moves: for each statistic and channel, the root mean square over draws."""
        size = np.abs(self._by_channel(_finite(self.original), self._axes[i]))
        floor = self.floor * size.max(axis=1, initial=0.0) + 1e-150
        if not self._draws:
            return np.broadcast_to(floor, (4, floor.size))
        squares = sum(draw[i] for draw in self._draws) / len(self._draws)
        # A channel's own few draws can all be small by chance: the typical channel of the tensor,
        # in proportion to the size of the values, counts as well.
        amplitude = np.sqrt(_mean(size**2)) + 1e-150
        if self._axes[i] == EACH:
            # A sum that happens to be almost zero is rounded like its terms.
            amplitude = np.hypot(amplitude, SHARE_OF_TERMS * np.sqrt((size**2).mean()))
        relative = np.median(np.sqrt(squares) / amplitude, axis=1, keepdims=True)
        typical = (relative * amplitude) ** 2
        count = len(self._draws)
        mixed = (count * squares + PRIOR_DRAWS * typical) / (count + PRIOR_DRAWS)
        expected: Float64Array = np.sqrt(mixed) + floor
        return expected

    def _statistics(self, difference: Float64Array, i: int) -> Float64Array:
        """Shape ``(4, C)``: root mean square, largest, mean, and the part along the values."""
        values = self._by_channel(difference, self._axes[i])
        count = max(1, values.shape[1])
        with np.errstate(all="ignore"):
            rms = np.sqrt(_mean(values**2))
            largest = np.abs(values).max(axis=1, initial=0.0)
            mean = np.abs(_mean(values))
            along = np.abs((values * self._along[i]).sum(axis=1)) / np.sqrt(count)
        found = np.stack([rms, largest, mean, along])
        # What is not finite on one side only is further off than anything.
        return np.where(np.isnan(found), np.inf, found)

    def _directions(self, axis: int | None) -> Float64Array:
        """The values of each channel without their mean, as unit vectors."""
        values = self._by_channel(_finite(self.original), axis)
        centred = values - _mean(values)[:, None]
        length = np.sqrt((centred**2).sum(axis=1, keepdims=True))
        scale = np.abs(values).max(axis=1, keepdims=True, initial=0.0)
        is_constant = length <= 1e-12 * scale * np.sqrt(max(1, values.shape[1]))
        directions: Float64Array = np.where(
            is_constant, 0.0, centred / np.where(is_constant, 1.0, length)
        )
        return directions

    def _channels(self, axis: int | None) -> int:
        if axis == EACH:
            return int(self.original.size)
        return 1 if axis is None else int(self.original.shape[axis])

    def _by_channel(self, values: Array, axis: int | None) -> Array:
        if axis is None:
            return values.reshape(1, -1)
        if axis == EACH:
            return values.reshape(-1, 1)
        return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)


def differences(original: Array, folded: Array) -> Float64Array:
    """``folded - original`` in float64; 0 where both are NaN or the same infinity, ``inf`` where
    only one is; for other than floats 1 where they are unequal.
    """
    if original.dtype.kind != "f" or folded.dtype.kind != "f":
        unequal: Float64Array = np.asarray(original != folded).astype(np.float64)
        return unequal
    if original.shape != folded.shape:
        raise ValueError(f"shapes {original.shape} and {folded.shape}")
    with np.errstate(all="ignore"):
        difference = folded.astype(np.float64) - original.astype(np.float64)
    odd = ~np.isfinite(difference)
    if odd.any():
        same = (original == folded) | (np.isnan(original) & np.isnan(folded))
        difference = np.where(odd, np.where(same, 0.0, np.inf), difference)
    return np.asarray(difference)


def _mean(values: Float64Array) -> Float64Array:
    """Of each channel; 0 for channels without values."""
    mean: Float64Array = values.sum(axis=1) / max(1, values.shape[1])
    return mean


def _finite(values: Array) -> Float64Array:
    wide = values.astype(np.float64) if values.dtype.kind in "fiub" else np.zeros(values.shape)
    return np.where(np.isfinite(wide), wide, 0.0)


def root_mean_square(values: Sequence[float] | Float64Array) -> float:
    """The root of the mean of the squares; 0 for no values."""
    array = np.asarray(values, dtype=np.float64)
    return float(np.sqrt((array**2).mean())) if array.size else 0.0

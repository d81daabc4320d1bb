"""An affine map of a tensor: a scale and a shift for each element, broadcast as NumPy does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bnfold.algebra.affine import Affine, Float64Array

_FLOAT64 = np.dtype(np.float64)


@dataclass(frozen=True, eq=False)
class Spread:
    """``y = scale * x + shift``, where scale and shift are broadcast against x.

    An ``Affine`` acts on one axis; this one has an axis for each axis of the tensor, counted from
    the last, so operators that move data can be applied to it as they are to the data.

    Attributes:
        scale: float64, of at most as many axes as the tensor, each of the tensor's size or 1;
            units of y per unit of x.
        shift: float64, same shape as scale; units of y.
    """

    scale: Float64Array
    shift: Float64Array

    def __post_init__(self) -> None:
        scale, shift = self.scale, self.shift
        if scale.dtype == shift.dtype == _FLOAT64 and scale.shape == shift.shape:
            return  # nearly every map
        scale = np.asarray(scale, dtype=np.float64)
        shift = np.asarray(shift, dtype=np.float64)
        if scale.shape != shift.shape:
            scale, shift = np.broadcast_arrays(scale, shift)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "shift", shift)

    @classmethod
    def one_value(cls, scale: float, shift: float) -> Spread:
        """One scale and one shift for every element."""
        return cls(np.array(scale), np.array(shift))

    @classmethod
    def identity(cls) -> Spread:
        """``y = x``."""
        return _IDENTITY

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of scale and shift, aligned with the tensor's at the last axis."""
        return tuple(self.scale.shape)

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        return self.has_no_scale and self.has_no_shift

    @property
    def has_no_scale(self) -> bool:
        """Whether every scale is exactly one."""
        return bool((self.scale == 1.0).all())

    @property
    def has_no_shift(self) -> bool:
        """Whether every shift is exactly zero."""
        return not self.shift.any()

    @property
    def is_finite(self) -> bool:
        """Whether every scale and shift is a finite number."""
        return bool(np.isfinite(self.scale).all() and np.isfinite(self.shift).all())

    def then(self, after: Spread) -> Spread:
        """``after(self(x))`` as one map: the scales multiply, ``after`` also scales the shift."""
        with np.errstate(over="ignore", invalid="ignore"):
            return Spread(after.scale * self.scale, after.scale * self.shift + after.shift)

    def inverse(self) -> Spread:
        """The map that gives x back: ``y / scale - shift / scale``, not finite for a scale of 0."""
        with np.errstate(all="ignore"):
            return Spread(1.0 / self.scale, -self.shift / self.scale)

    def equals(self, other: Spread) -> bool:
        """Whether both are the same numbers, however they are spread."""
        try:
            np.broadcast_shapes(self.shape, other.shape)
        except ValueError:
            return False
        return bool((self.scale == other.scale).all() and (self.shift == other.shift).all())

    def laid_over(self, other: Spread) -> Spread | None:
        """The map that is one of two wherever the other changes nothing, or None if they clash."""
        try:
            shape = np.broadcast_shapes(self.shape, other.shape)
        except ValueError:
            return None
        scale, shift = (np.broadcast_to(v, shape) for v in (self.scale, self.shift))
        scales, shifts = (np.broadcast_to(v, shape) for v in (other.scale, other.shift))
        is_free = (scale == 1.0) & (shift == 0.0)
        is_other_free = (scales == 1.0) & (shifts == 0.0)
        if not (is_free | is_other_free | ((scale == scales) & (shift == shifts))).all():
            return None
        return Spread(np.where(is_free, scales, scale), np.where(is_free, shifts, shift))

    def moved(self, move: Callable[[Float64Array], Float64Array]) -> Spread:
        """What becomes of it where an operator only moves, drops or repeats elements.

        ``f(s x + t) = f(s) f(x) + f(t)`` for each such operator f.
        """
        return Spread(move(self.scale), move(self.shift))

    def of_rank(self, rank: int) -> Spread:
        """The same map with exactly ``rank`` axes; it has no more."""
        shape = (1,) * (rank - len(self.shape)) + self.shape
        return self.moved(lambda values: values.reshape(shape))

    def compressed(self) -> Spread:
        """The same map with every axis of size 1 along which nothing differs."""
        scale, shift = self.scale, self.shift
        for axis in range(scale.ndim):
            first = [slice(None)] * scale.ndim
            first[axis] = slice(0, 1)
            at = tuple(first)
            if scale.shape[axis] > 1 and all((v == v[at]).all() for v in (scale, shift)):
                scale, shift = scale[at], shift[at]
        return Spread(scale, shift)

    def along(self, axis: int, rank: int | None) -> Affine | None:
        """The map on one axis of a tensor, or None where it differs along another axis.

        Args:
            axis: from the front, or negative from the back.
            rank: number of axes of the tensor; it may be None where ``axis`` is negative.

        Returns:
            A map of one value, or of as many as scale has along that axis.
        """
        back = axis if axis < 0 else axis - (rank or 0)
        shape = self.scale.shape
        wide = [at - len(shape) for at, size in enumerate(shape) if size != 1]
        if wide and wide != [back]:
            return None
        return Affine(self.scale.reshape(-1), self.shift.reshape(-1))


_IDENTITY = Spread(np.ones(()), np.zeros(()))

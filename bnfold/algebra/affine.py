"""The one representation of every normalisation: a per-channel affine map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfold.errors import ModelError

Array = npt.NDArray[Any]
Float64Array = npt.NDArray[np.float64]


_PARAMETERS = ("gamma", "beta", "mean", "var")


@dataclass(frozen=True, eq=False, slots=True)
class Affine:
    """``y = scale * x + shift`` on one axis of a tensor.

    Attributes:
        scale: float64, shape ``(C,)``, or ``(1,)`` where one value serves every channel;
            units of y per unit of x.
        shift: float64, same shape as scale; units of y.
    """

    scale: Float64Array
    shift: Float64Array

    def __post_init__(self) -> None:
        if _are_fixed_vectors(self.scale, self.shift):
            return
        scale = np.array(self.scale, dtype=np.float64, ndmin=1)
        shift = np.array(self.shift, dtype=np.float64, ndmin=1)
        if scale.ndim != 1 or shift.ndim != 1:
            raise ModelError(
                f"an affine map needs vectors, not shapes {scale.shape} and {shift.shape}"
            )
        if scale.shape != shift.shape:
            if 1 not in (scale.size, shift.size):
                raise ModelError(f"scale has {scale.size} channels and shift has {shift.size}")
            scale, shift = np.broadcast_arrays(scale, shift)
            scale, shift = scale.copy(), shift.copy()
        for name, vector in (("scale", scale), ("shift", shift)):
            vector.setflags(write=False)
            object.__setattr__(self, name, vector)

    @classmethod
    def from_batch_norm(
        cls, gamma: Array, beta: Array, mean: Array, var: Array, *, eps: float
    ) -> Affine:
        """The map that an inference-mode BatchNormalization computes.

        Args:
            gamma, beta, mean, var: shape ``(C,)``, any float dtype; mean in units of x, var in
                their square.
            eps: added to var before the root, so in squared units of x.

        Raises:
            ModelError: the shapes differ, a value is not finite, or ``var + eps`` is not positive
                on some channel.

        Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), Algorithm 2, step 11.
        """
        vectors = [np.asarray(v, dtype=np.float64) for v in (gamma, beta, mean, var)]
        shape = vectors[0].shape
        if len(shape) != 1 or any(v.shape != shape for v in vectors):
            named = zip(_PARAMETERS, vectors, strict=True)
            listed = ", ".join(f"{name} {v.shape}" for name, v in named)
            raise ModelError(f"gamma, beta, mean and var must be equal vectors, not {listed}")
        scale, shift, is_map = scale_and_shift(
            vectors[0], vectors[1], vectors[2], vectors[3], np.float64(eps)
        )
        if not is_map.all():
            _require_finite(vectors, vectors[3] + float(eps))
        scale.flags.writeable = shift.flags.writeable = False
        return cls(scale, shift)

    @property
    def channels(self) -> int:
        """Number of channels C; 1 also where one value serves every channel."""
        return int(self.scale.size)

    @property
    def is_finite(self) -> bool:
        """Whether every scale and shift is a finite number."""
        return bool(np.isfinite(self.scale).all() and np.isfinite(self.shift).all())

    def expanded(self, channels: int) -> Affine:
        """The same map on exactly ``channels`` channels.

        Raises:
            ModelError: the map has neither one channel nor that many.
        """
        if self.channels == channels:
            return self
        if self.channels != 1:
            raise ModelError(f"a map of {self.channels} channels cannot serve {channels}")
        return Affine(np.repeat(self.scale, channels), np.repeat(self.shift, channels))

    def by_group(self, groups: int) -> Affine | None:
        """The map of each group of neighbouring channels, or None where it differs within one."""
        if groups < 1 or self.channels % groups:
            return None
        scale, shift = self.scale.reshape(groups, -1), self.shift.reshape(groups, -1)
        if (scale != scale[:, :1]).any() or (shift != shift[:, :1]).any():
            return None
        return Affine(scale[:, 0], shift[:, 0])

    def then(self, after: Affine) -> Affine:
        """``after(self(x))`` as one map: the scales multiply, ``after`` also scales the shift."""
        with np.errstate(over="ignore", invalid="ignore"):
            return Affine(after.scale * self.scale, after.scale * self.shift + after.shift)


def scale_and_shift(
    gamma: Float64Array,
    beta: Float64Array,
    mean: Float64Array,
    var: Float64Array,
    eps: Float64Array | np.float64,
) -> tuple[Float64Array, Float64Array, npt.NDArray[np.bool_]]:
    """``gamma / sqrt(var + eps)``, ``beta - scale * mean``, and where nothing is wrong with either.

    Args:
        gamma, beta, mean, var, eps: of any shapes that broadcast to each other; see
            ``Affine.from_batch_norm``.

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), Algorithm 2, step 11.
    """
    with np.errstate(all="ignore"):
        spread = var + eps
        scale = gamma / np.sqrt(spread)
        shift = beta - scale * mean
        # Where a parameter is not finite, one of these is not.
        return scale, shift, np.isfinite(scale + shift + spread) & (spread > 0)


def _require_finite(vectors: list[Float64Array], spread: Float64Array) -> None:
    """Raise ModelError for the first parameter that makes no affine map, if there is one."""
    for name, vector in zip(_PARAMETERS, vectors, strict=True):
        for channel in np.flatnonzero(~np.isfinite(vector)):
            raise ModelError(f"channel {channel} has {name} = {vector[channel]}")
    for channel in np.flatnonzero(~(spread > 0)):
        raise ModelError(
            f"channel {channel} has var + epsilon = {spread[channel]:g}, "
            "which has no positive square root"
        )


def _are_fixed_vectors(scale: Any, shift: Any) -> bool:
    """Whether nobody can change two equal float64 vectors, so that they need not be copied."""
    if not (isinstance(scale, np.ndarray) and isinstance(shift, np.ndarray)):
        return False
    if scale.flags.writeable or shift.flags.writeable or scale.ndim != 1:
        return False
    return bool(scale.shape == shift.shape and scale.dtype == shift.dtype == np.float64)

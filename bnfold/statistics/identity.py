"""The identity setting: a BatchNormalization with the statistics of data that changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bnfold.algebra.affine import Array, Float64Array
from bnfold.algebra.rounding import epsilon as unit_of
from bnfold.algebra.rounding import rounded

EPSILON: Final = 2.0**-16
"""epsilon of an inserted norm, in squared units of x: about 1.5e-5. A power of two, and not below
the 1e-5 that some runtimes ask for."""

ROOT: Final = 2.0**-8
"""The root of ``EPSILON``."""

AWAY: Final = (0, 1, -1, 2, -2)
"""Which of the numbers that make the norm exact are tried for gamma, from the nearest one."""

NEAREST: Final = 2.0**-8
"""How far gamma may be from the standard deviation, as a part of it, for the norm to be exact."""

LEAST_BITS: Final = 8
"""gamma has at least so many bits, where it is shortened to make the norm exact."""


@dataclass(frozen=True, eq=False)
class Parameters:
    """The parameters of a BatchNormalization as they are stored.

    Attributes:
        gamma, beta: shape ``(C,)``, in the dtype of the data.
        mean, var: shape ``(C,)``, in the dtype of the statistics.
        error: the largest ``|gamma / sqrt(var + epsilon) - 1|`` in float64; 0 where the norm is
            exact.
    """

    gamma: Array
    beta: Array
    mean: Array
    var: Array
    error: float


def identity_parameters(
    mean: Float64Array,
    var: Float64Array,
    bias: Float64Array | None = None,
    *,
    dtype: npt.DTypeLike,
    statistics: npt.DTypeLike,
) -> Parameters | str:
    """``gamma = sqrt(Var + eps)``, ``beta = E``: ``gamma (x - E) / sqrt(Var + eps) + beta == x``.

    gamma and Var are a pair: gamma is a number near ``sqrt(var + eps)`` of so few bits that
    ``gamma^2 - eps`` is a number of the dtype, and Var is that number. So the factor is exactly
    one in float64, and where it can be had also as runtimes compute it, ``gamma * (1 / root)`` in
    the dtype. In float32 gamma is within 2^-9 of what the data say up to a deviation of 16,
    within 2^-8 up to 256. On a channel where no such pair is near, gamma has all its bits and Var
    is the nearest number: the factor is one to within half a unit.

    Args:
        mean: E of the data that is normalised, shape ``(C,)``; with ``bias``, of the data with it.
        var: its variance, shape ``(C,)``, not negative.
        bias: what is to be added by the norm in place of the operator, shape ``(C,)``, or None.
        dtype: of gamma and beta.
        statistics: of mean and var.

    Returns:
        The parameters, or the sentence that says why they cannot be stored.

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), section 3: "by setting gamma = sqrt(Var[x])
    and beta = E[x], we could recover the original activations".
    """
    with np.errstate(over="ignore", invalid="ignore"):
        gamma, stored = _pairs(np.sqrt(var + EPSILON), dtype, statistics)
        beta = _wide(rounded(mean, dtype))
        shift = np.zeros_like(beta) if bias is None else bias
        found = (
            rounded(gamma, dtype),
            rounded(beta, dtype),
            rounded(beta - shift, statistics),
            rounded(stored, statistics),
        )
    for name, values in zip(("scale", "bias", "mean", "variance"), found, strict=True):
        for channel in np.flatnonzero(~np.isfinite(_wide(values))):
            kind = values.dtype.name
            return f"the {name} of channel {channel} would be beyond {kind}"
    error = _error(_wide(found[0]), _wide(found[3]))
    return Parameters(*found, float(error.max(initial=0.0)))


def _pairs(
    target: Float64Array, dtype: npt.DTypeLike, statistics: npt.DTypeLike
) -> tuple[Float64Array, Float64Array]:
    """gamma near a target, and Var: an exact pair where there is one so near."""
    gamma, stored = _nearest(target, dtype, statistics)
    bits = min(_bits(dtype), _bits(statistics) // 2)
    if bits < LEAST_BITS:
        return gamma, stored
    near = [*_shortened(target, bits), *_stepped(target, _bits(statistics))]
    is_found = np.zeros(target.shape, bool)
    for survives in (True, False):
        for candidate in near:
            square = candidate * candidate - EPSILON
            is_exact = (square >= 0) & (np.abs(candidate - target) <= NEAREST * target)
            is_exact &= _wide(rounded(square, statistics)) == square
            is_exact &= _wide(rounded(candidate, dtype)) == candidate
            if survives:
                is_exact &= _survives(candidate, statistics)
            taken = is_exact & ~is_found
            gamma, stored = np.where(taken, candidate, gamma), np.where(taken, square, stored)
            is_found |= taken
    return gamma, stored


def _survives(gamma: Float64Array, statistics: npt.DTypeLike) -> npt.NDArray[np.bool_]:
    """Whether ``gamma * (1 / gamma)`` is one also in the dtype: runtimes compute it like that."""
    stored = rounded(gamma, statistics)
    inverse = rounded(1.0 / _wide(stored), statistics)
    return np.asarray(_wide(rounded(_wide(stored) * _wide(inverse), statistics)) == 1.0)


def _nearest(
    target: Float64Array, dtype: npt.DTypeLike, statistics: npt.DTypeLike
) -> tuple[Float64Array, Float64Array]:
    """gamma rounded and Var made from it, or the other way round: the nearer pair of the two."""
    gamma = _wide(rounded(target, dtype))
    stored = _wide(rounded(np.maximum(gamma * gamma - EPSILON, 0.0), statistics))
    other_stored = _wide(rounded(np.maximum(target * target - EPSILON, 0.0), statistics))
    other = _wide(rounded(np.sqrt(other_stored + EPSILON), dtype))
    is_nearer = _error(other, other_stored) < _error(gamma, stored)
    return np.where(is_nearer, other, gamma), np.where(is_nearer, other_stored, stored)


def _error(gamma: Float64Array, var: Float64Array) -> Float64Array:
    return np.abs(gamma / np.sqrt(var + EPSILON) - 1.0)


def _stepped(values: Float64Array, bits: int) -> list[Float64Array]:
    """Numbers ``a + r`` near positive ones, with ``r^2 = EPSILON`` and a of so few bits that
    ``(a + r)^2 - r^2 = a^2 + 2 r a`` has as many as are told.
    """
    _, exponent = np.frexp(values * values)
    last = exponent - bits  # of var: its last bit is worth 2^last
    halves = -(-last // 2)  # then a^2 is a multiple of that
    step = np.maximum(np.ldexp(0.5 / ROOT, last), np.ldexp(1.0, halves))
    near = np.rint((values - ROOT) / step)
    return [(near + away) * step + ROOT for away in AWAY]


def _bits(dtype: npt.DTypeLike) -> int:
    """Bits of the significand, the leading one counted: 24 for float32."""
    return 1 - int(np.log2(unit_of(dtype)))


def _shortened(values: Float64Array, bits: int) -> list[Float64Array]:
    """Numbers of so many significant bits near positive ones."""
    significand, exponent = np.frexp(values)
    near = np.rint(np.ldexp(significand, bits))
    return [np.asarray(np.ldexp(near + away, exponent - bits)) for away in AWAY]


def _wide(values: npt.NDArray[Any]) -> Float64Array:
    return values.astype(np.float64)

"""What rounding a number once can have moved it by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from bnfold.checking.written import RegionError

Array = npt.NDArray[Any]

HALF = 0.5
MOST = HALF * (1 + 1e-6)
"""Half a unit, and the rounding of the yardstick itself."""

_BITS = {2: np.uint16, 4: np.uint32, 8: np.uint64}


@dataclass(frozen=True)
class Format:
    """A float dtype.

    Attributes:
        bits: the unsigned integers of its size.
        exponent: the bits of the exponent.
        eps: from one to the next number.
        digits: binary digits of a normal number, the leading one counted.
        least: the smallest number above zero.
        zero: the unit of a stored zero, and of one that is left out: twice the smallest normal
            number. A fold stores no subnormals, so a zero stands for anything below that number,
            and half of its unit is the most that it can be off.
    """

    bits: Any
    exponent: Any
    eps: float
    digits: int
    least: float
    zero: float


@lru_cache
def format_of(dtype: np.dtype[Any]) -> Format:
    """What there is to know of a float dtype."""
    info = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    bits = _BITS[dtype.itemsize]
    exponent = bits(np.array(np.inf, dtype.newbyteorder("=")).view(bits))
    smallest = float(info.smallest_normal)
    digits, least = int(info.nmant) + 1, float(info.smallest_subnormal)
    return Format(bits, exponent, float(info.eps), digits, least, 2 * smallest)


def quanta(stored: Array) -> Array:
    """One unit in the last place of each value of a stored float array, in float64."""
    kind = format_of(stored.dtype)
    power = (stored.view(kind.bits) & kind.exponent).view(stored.dtype)
    units: Array = np.asarray(np.multiply(power, kind.eps, dtype=np.float64))
    if not power.all():
        low = power == 0
        units[low] = np.where(stored[low] == 0, kind.zero, kind.least)
    return units


def off_by(what: str, channel: int, exact: float, stored: float, units: float) -> RegionError:
    """The failure of one number: what it has to be, and what will be stored."""
    return RegionError(
        f"channel {channel} would have a {what} of {float(stored):.9g} in place of "
        f"{float(exact):.9g}, {units:.3g} ulp apart"
    )


def require_little_lost(lost: Array, whole: Array) -> None:
    """In float16 subnormals count: what became zero must be little in its channel.

    Args:
        lost, whole: the sizes of the weights of each channel that became zero, and of all.
    """
    kind = format_of(np.dtype(np.float16))
    most = np.maximum(kind.zero / 2, kind.eps * whole) * (1 + 1e-6)
    for channel in np.flatnonzero(lost > most):
        raise RegionError(
            f"channel {channel} would lose weights of {lost[channel]:.9g} to zero, of "
            f"{whole[channel]:.9g} in all"
        )

"""Times, sizes and ratios in words that fit the cell of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from bnfold.measuring.outcome import Ratio, Spread

Verdict = Literal["faster", "slower", "same", "unclear"]

WIDEST = 1.2
"""An interval around 1 is wide from here on: its ends are more than 20 % apart."""
DIGITS = 3
"""Significant digits of a time or a size; whole numbers keep all of theirs."""

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes"))
_MOST_DECIMALS = 4


def duration(seconds: float) -> str:
    """A time such as ``4.21 ms``."""
    return _scaled(seconds, _TIMES)


def spread(samples: Spread) -> str:
    """A median with the 10th and the 90th percentile, such as ``4.21 ms (4.10-4.50)``."""
    unit, name = _unit(samples.median, _TIMES)
    median, low, high = (_digits(x / unit) for x in (samples.median, samples.low, samples.high))
    return f"{median} {name} ({low}-{high})"


def size(number: int) -> str:
    """A number of bytes such as ``134 kB``; a kB is 1000 bytes."""
    if number == 1:
        return "1 byte"
    return f"{number} bytes" if number < 1000 else _scaled(number, _SIZES)


def times(value: float, decimals: int | None = None) -> str:
    """A ratio such as ``1.85x``."""
    if decimals is None:
        decimals = 2 if value < 10 else 1 if value < 100 else 0
    return f"{_digits(value) if value < 0.1 else format(value, f',.{decimals}f')}x"


def ratio(found: Ratio) -> str:
    """A ratio with its interval, such as ``1.85x [1.79, 1.92]``."""
    decimals = _decimals(found)
    low, high = (times(value, decimals)[:-1] for value in (found.low, found.high))
    return f"{times(found.value, decimals)} [{low}, {high}]"


def multiple(found: Ratio) -> str:
    """The ratio alone, with as many digits as it takes to read what its interval says."""
    return times(found.value, _decimals(found))


def verdict(found: Ratio) -> Verdict:
    """What the interval says of the folded model.

    ``same`` is an answer, ``unclear`` none: its interval is too wide to say that nothing changed.
    """
    if found.is_faster:
        return "faster"
    if found.is_slower:
        return "slower"
    return "same" if found.high <= WIDEST * found.low else "unclear"


def _decimals(found: Ratio) -> int | None:
    """Decimals that keep an end of the interval from reading as 1 where it is not.

    None: as many as the ratio has anyway.
    """
    near = found.low if found.is_faster else found.high if found.is_slower else None
    if near is None or max(found.value, found.high) >= 10:
        return None
    for decimals in range(2, _MOST_DECIMALS):
        if float(f"{near:.{decimals}f}") != 1:
            return decimals
    return _MOST_DECIMALS


def _scaled(value: float, units: Sequence[tuple[float, str]]) -> str:
    unit, name = _unit(value, units)
    return f"{_digits(value / unit)} {name}"


def _unit(value: float, units: Sequence[tuple[float, str]]) -> tuple[float, str]:
    """The largest unit of which there is one, once the value is rounded."""
    rounded = float(f"{value:.{DIGITS}g}")
    for unit, name in units:
        if rounded >= unit * (1 - 1e-9):
            return unit, name
    return units[0] if rounded == 0 else units[-1]


def _digits(value: float) -> str:
    rounded = float(f"{value:.{DIGITS}g}")
    if rounded >= 10 ** (DIGITS - 1):
        return f"{value:,.0f}"
    return f"{value:#.{DIGITS}g}" if rounded else "0"

"""How to measure."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bnfold.errors import UsageError
from bnfold.measuring.levels import LEVELS, Level


@dataclass(frozen=True)
class Options:
    """How to measure; ``bnfold.benchmark`` says what each means."""

    levels: tuple[Level, ...] = LEVELS
    threads: int = 1
    batch: tuple[int, ...] | None = None
    dims: Mapping[str, int] = field(default_factory=dict)
    feeds: Mapping[str, Any] | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    provider: str = "cpu"
    duration: float = 2.0
    profile: bool = False
    seed: int = 0


def read_options(
    *,
    levels: Sequence[str] = LEVELS,
    threads: int = 1,
    batch: Iterable[int] | None = None,
    dims: Mapping[str, int] | None = None,
    feeds: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    provider: str = "cpu",
    duration: float = 2.0,
    profile: bool = False,
    seed: int = 0,
) -> Options:
    """The options of ``bnfold.benchmark``.

    Raises:
        UsageError: a number is out of range, there is no such level, or options contradict each
            other.
    """
    if isinstance(levels, str):
        raise UsageError("levels is a list of levels, not one string")
    chosen = dict.fromkeys(levels)
    for level in chosen:
        if level not in LEVELS:
            raise UsageError(f"there is no level {level!r} (levels: {', '.join(LEVELS)})")
    if not chosen:
        raise UsageError(f"levels is empty: one of {', '.join(LEVELS)} at least is needed")
    if feeds is not None and not isinstance(feeds, Mapping):
        raise UsageError("feeds is one dict of arrays, by the names of the inputs")
    if feeds is not None and batch is not None:
        raise UsageError("feeds has a batch size of its own: leave batch out")
    sizes = None
    if batch is not None:
        if isinstance(batch, (str, int)):
            raise UsageError(f"batch is a list of sizes, not {batch!r}")
        sizes = tuple(dict.fromkeys(_whole("batch", size, 1) for size in batch))
        if not sizes:
            raise UsageError("batch is an empty list of sizes")
    if not 0 < duration < math.inf:
        raise UsageError(f"duration is {duration}: it has to be a number of seconds above 0")
    return Options(
        levels=tuple(level for level in LEVELS if level in chosen),
        threads=_whole("threads", threads, 1),
        batch=sizes,
        dims={name: _whole(f"dimension {name!r}", n, 1) for name, n in (dims or {}).items()},
        feeds=feeds,
        inputs=dict(inputs or {}),
        provider=provider,
        duration=float(duration),
        profile=profile,
        seed=_whole("seed", seed, 0),
    )


def _whole(label: str, value: Any, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise UsageError(f"{label} is {value!r}: it has to be a whole number") from None
    if number < least:
        raise UsageError(f"{label} is {number}: it has to be at least {least}")
    return number

"""Two programs in turn, so that a machine that gets slower or faster is unfair to neither."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

Turn = Callable[[int], float]
"""Runs a program so many times in a row; gives the seconds of all of them."""

Clock = Callable[[], float]
Block = tuple[float, float, float, float]
"""Seconds of one run in the order in which they were taken: first, second, second, first."""

SHORTEST: Final = 1e-3
"""A sample takes at least so many seconds: far above the resolution of any clock."""

SAMPLES: Final = 4000
"""About so many samples at most are taken; those of a long measurement are longer."""

LEAST_BLOCKS: Final = 5
"""However slow the programs are; fewer would say little about the spread."""


def warmed_up(first: Turn, second: Turn, duration: float, clock: Clock = time.perf_counter) -> int:
    """Run both without looking at the result, then say how many runs in a row make one sample.

    Args:
        duration: seconds of the whole measurement; a tenth of it, but no more than half a second,
            goes into this.
    """
    end = clock() + min(0.5, duration / 10)
    rounds = 0
    while rounds < 2 or clock() < end:
        fastest = min(first(1), second(1))
        rounds += 1
    wanted = max(SHORTEST, duration / SAMPLES)
    return max(1, math.ceil(wanted / max(fastest, 1e-7)))


def in_turn(
    first: Turn,
    second: Turn,
    duration: float,
    *,
    runs: int = 1,
    least: int = LEAST_BLOCKS,
    most: int | None = None,
    clock: Clock = time.perf_counter,
) -> list[Block]:
    """Run two programs as first, second, second, first, again and again.

    A steady drift of the machine then adds the same to both within each block.

    Args:
        duration: seconds after which no new block begins.
        runs: how many runs in a row are one sample.
        least, most: how many blocks there are in any case, and no more than.
    """
    end = clock() + duration
    blocks: list[Block] = []
    while len(blocks) < least or clock() < end:
        taken = [turn(runs) / runs for turn in (first, second, second, first)]
        blocks.append((taken[0], taken[1], taken[2], taken[3]))
        if most is not None and len(blocks) >= most:
            break
    return blocks

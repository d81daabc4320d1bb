"""The comparison of large weights: side by side on several cores, or while they are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from bnfold.checking.compare import largest_difference
from bnfold.checking.cores import cores
from bnfold.checking.failure import failure
from bnfold.checking.region import Region
from bnfold.checking.written import RegionError
from bnfold.folding.decided import FoldPlan
from bnfold.onnxgraph.ranges import Chunk, Computed
from bnfold.onnxgraph.rewrite import NewTensor
from bnfold.onnxgraph.threads import side_by_side

LARGE = 1 << 18
"""Weights of so many elements and more are large."""
FEWEST_THREADS, MOST_THREADS = 3, 8
"""Two threads wait for Python's lock for as long as they save."""


class LargeWeights:
    """The regions of large weights, each compared once."""

    def __init__(self) -> None:
        self._entries: list[tuple[FoldPlan, Region]] = []
        self._found: dict[int, float] = {}

    def add(self, fold: FoldPlan, region: Region) -> None:
        """Compare a region later."""
        self._entries.append((fold, region))

    def watch(self) -> None:
        """Let each weight be compared while it is written: what is compared are the very bytes,
        and none is computed twice."""
        for at, (_, region) in enumerate(self._entries):
            new = region.new
            data = new.data if isinstance(new, NewTensor) else []
            if len(data) == 1 and isinstance(data[0], Computed) and data[0].watch is None:
                data[0] = replace(data[0], watch=partial(self._hand_on, at, data[0]))

    def finish(self) -> float:
        """Compare those that were not yet; the largest difference of all, in units.

        Raises:
            VerificationError: one is not the same function.
        """
        left = [at for at in range(len(self._entries)) if at not in self._found]
        threads = min(cores(), len(left), MOST_THREADS)
        if threads >= FEWEST_THREADS:
            side_by_side(self._compare, left, threads)
        else:
            for at in left:
                self._compare(at)
        return max(self._found.values(), default=0.0)

    def _hand_on(self, at: int, piece: Computed, put: Callable[[Chunk], None]) -> None:
        """Give a weight to who writes it, and compare it if it was not yet."""
        if at not in self._found:
            self._compare(at, put)
            return
        for chunk in piece.make():
            put(chunk)

    def _compare(self, at: int, put: Callable[[Chunk], None] | None = None) -> None:
        fold, region = self._entries[at]
        try:
            with np.errstate(all="ignore"):  # each thread has its own
                self._found[at] = largest_difference(region, put)
        except RegionError as why:
            raise failure([fold], why) from None

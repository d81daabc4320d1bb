"""The passes over the data, in which statistics are gathered and kept."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Final, Protocol

import numpy as np

from bnfold.errors import BnfoldError, FileError, ModelError, UsageError
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.load import Document
from bnfold.statistics.data import Batches
from bnfold.statistics.drift import drift, largest
from bnfold.statistics.gathered import Gathered
from bnfold.statistics.inputs import Feed
from bnfold.statistics.moments import Moments
from bnfold.statistics.norms import BatchNorm
from bnfold.statistics.options import Options
from bnfold.statistics.program import BadStatistic
from bnfold.statistics.store import Stored, as_stored
from bnfold.statistics.training import Given, inference_form, levels, training_form

SAVED_EVERY: Final = 30.0
"""Seconds after which statistics are saved again, for a process that is killed saves nothing."""

SETTLED: Final = 3
"""So many batches in a row have to move the statistics less than the tolerance: one may be like
the average by chance."""


class Source(Protocol):
    """Whatever runs a model on batches, such as ``moments_of``."""

    def __call__(
        self, program: Document, feeds: Iterable[Feed], *, threads: int, first: int
    ) -> Generator[dict[str, Moments], None, None]:
        """The moments of each batch, in order; see ``moments_of``."""


class Passes:
    """The passes over the data.

    Attributes:
        passes: how many there were.
        is_settled: whether each of them stopped because the statistics moved so little.
        last_move: how far the last batch moved them, in standard deviations.
    """

    def __init__(
        self,
        index: Index,
        norms: Sequence[BatchNorm],
        gathered: Gathered,
        options: Options,
        source: Source,
    ) -> None:
        self._index, self._norms, self._gathered = index, norms, gathered
        self._options, self._source = options, source
        self.passes = 0
        self.is_settled = False
        self.last_move: float | None = None
        self._saved = time.monotonic()

    def over(self, batches: Batches) -> None:
        """Gather the statistics; what there is goes to the file even if something fails."""
        try:
            if self._options.mode == "batch":
                self._pass(batches, training_form(self._index, self._norms), {}, 0.0, 1.0)
            else:
                self._in_sequence(batches)
        except BaseException as error:
            kept = self._save_what_there_is()
            if isinstance(error, BnfoldError) and kept:
                raise type(error)(f"{error} ({kept})") from error
            if isinstance(error, KeyboardInterrupt) and kept:
                raise KeyboardInterrupt(kept) from error
            raise
        self._save()

    def stored(self, norm: BatchNorm) -> Stored:
        """What a norm will hold."""
        moments = self._gathered.moments[norm.data.name]
        return as_stored(norm, *moments.estimate(self._options.estimator))

    def _in_sequence(self, batches: Batches) -> None:
        groups = levels(self._index, self._norms)
        if len(groups) > 1 and not batches.can_repeat:
            raise UsageError(
                f"{batches.name} can be read only once, and mode sequential reads it "
                f"{len(groups)} times, once for each norm behind another: give a list or a "
                "function, or use mode batch"
            )
        estimated: dict[BatchNorm, Stored] = {}
        for number, group in enumerate(groups):
            tensors = {norm.data.name for norm in group}
            if not tensors <= self._gathered.done:
                program, given = inference_form(self._index, group, estimated)
                self._pass(batches, program, given, number / len(groups), 1 / len(groups))
                if not tensors <= set(self._gathered.moments):
                    raise UsageError(f"{batches.name} has no batches")
                self._gathered.finish(tensors)
            estimated |= {norm: self.stored(norm) for norm in group}

    def _pass(
        self, batches: Batches, program: Document, given: Given, done: float, share: float
    ) -> None:
        """Run the batches that are not in the statistics yet.

        Args:
            given: what is fed beside each batch.
            done, share: for the progress: what was done before, and the part of this pass.
        """
        key, start, feeds = _identified(batches, self._gathered.seen)
        if batches.total is not None and start >= batches.total:
            return  # all of it is in the merged statistics
        self.passes += 1
        self.is_settled = False
        whole = ({**feed, **given} for feed in feeds)
        found = self._source(program, whole, threads=self._options.threads, first=start + 1)
        try:
            with contextlib.closing(found):
                self._take_up(found, key, start, batches.total, done, share)
        except BadStatistic as error:
            names = [norm.name for norm in self._norms if norm.data.name == error.tensor]
            raise ModelError(f"{error}; {' and '.join(names)} normalises it") from error

    def _take_up(
        self,
        found: Iterator[dict[str, Moments]],
        key: str,
        start: int,
        total: int | None,
        done: float,
        share: float,
    ) -> None:
        quiet = 0
        for number, moments in enumerate(found, start=start + 1):
            before = {name: self._gathered.moments.get(name) for name in moments}
            self._gathered.add(moments, key)
            move = max(self._move(before[name], name) for name in moments)
            self.last_move = move if np.isfinite(move) else None
            self._tell(number, total, done, share, move)
            if time.monotonic() - self._saved > SAVED_EVERY:
                self._save()
            tolerance = self._options.tolerance
            quiet = quiet + 1 if tolerance is not None and move < tolerance else 0
            if quiet >= SETTLED:
                self.is_settled = True
                break

    def _move(self, before: Moments | None, name: str) -> float:
        """How far one batch moved an estimate, in its standard deviations; inf for the first."""
        if before is None:
            return float("inf")
        estimator = self._options.estimator
        after = self._gathered.moments[name].estimate(estimator)
        return largest(drift(before.estimate(estimator), after, 0.0))

    def _tell(self, number: int, total: int | None, done: float, share: float, move: float) -> None:
        if self._options.progress is None:
            return
        norms = {norm.data.name: norm for norm in self._norms}
        worst = 0.0
        for name, moments in self._gathered.moments.items():
            norm = norms[name]
            after = moments.estimate(self._options.estimator)
            if norm.mean.shape == after[0].shape:
                worst = max(worst, largest(drift(norm.before(), after, norm.epsilon)))
        part = number / max(number, total) if total else 0.0
        of = f" of {total}" if total else ""
        last = f", last moved {move:.2g}" if np.isfinite(move) else ""
        words = f"batch {number}{of}: drift {worst:.2g} standard deviations{last}"
        self._options.progress(done + share * part, words)

    def _save(self) -> None:
        if self._options.keep is not None and self._gathered.moments:
            self._gathered.save(self._options.keep)
            self._saved = time.monotonic()

    def _save_what_there_is(self) -> str:
        """Save after something failed; what is said about it, or ``""``."""
        if self._options.keep is None or not self._gathered.moments:
            return ""
        try:
            self._save()
        except FileError as error:
            return f"and the statistics of {self._gathered.batches} batches are lost: {error}"
        return (
            f"the statistics of {self._gathered.batches} batches are in {self._options.keep}; "
            "a run that merges them goes on from there"
        )


def _identified(batches: Batches, seen: dict[str, int]) -> tuple[str, int, Iterator[Feed]]:
    """The key of some data, how many of its batches are known, and the others.

    Data without a key goes by its first batch.
    """
    if batches.key:
        start = seen.get(batches.key, 0)
        return batches.key, start, batches.after(start)
    feeds = iter(batches)
    first = next(feeds, None)
    if first is None:
        return "", 0, iter(())
    hashed = hashlib.blake2b(digest_size=16)
    for name, array in sorted(first.items()):
        hashed.update(repr((name, array.shape, array.dtype.name)).encode() + array.tobytes())
    key = f"first batch {hashed.hexdigest()}"
    start = seen.get(key, 0)
    return key, start, itertools.islice(itertools.chain([first], feeds), start, None)

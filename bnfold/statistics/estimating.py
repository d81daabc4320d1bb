"""Estimate the statistics of a model's norms from mini-batches: Algorithm 2, steps 7 to 10."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Final, Protocol

import numpy as np

from bnfold.errors import BnfoldError, FileError, UsageError
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.load import Document
from bnfold.onnxgraph.save import require_target
from bnfold.statistics.data import Batches
from bnfold.statistics.gathered import Gathered, fingerprint
from bnfold.statistics.inputs import Feed
from bnfold.statistics.moments import Float64s, Moments
from bnfold.statistics.norms import (
    BatchNorm,
    context_of,
    find_batch_norms,
    training_dropouts,
)
from bnfold.statistics.observe import moments_of
from bnfold.statistics.options import Options
from bnfold.statistics.outcome import CalibrateReport, Estimated
from bnfold.statistics.result import CalibrateResult
from bnfold.statistics.store import Stored, as_stored, store
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


def estimated(
    document: Document,
    batches_for: Callable[[], Batches] | None,
    options: Options,
    source: Source = moments_of,
) -> CalibrateResult:
    """See ``bnfold.calibrate``.

    Args:
        batches_for: gives the data, once the model is known to have norms; None for nothing but
            saved statistics.
        source: what runs batches.
    """
    if batches_for is None and not options.merge:
        raise UsageError("there is no data, and no saved statistics to merge")
    if options.keep is not None:
        require_target(options.keep)
    index = Index(document)
    context = context_of(index)
    found = find_batch_norms(index, context, options.selection)
    gathered = Gathered(document.name, fingerprint(document), options.mode, tuple(found.tensors))
    for path in options.merge:
        gathered.take_up(path)
    batches = batches_for() if batches_for is not None else None
    run = _Run(index, found.chosen, gathered, options, source)
    merged_batches = gathered.batches
    if batches is not None:
        run.over(batches)
    _require_complete(gathered, batches)
    statistics = {norm: run.stored(norm) for norm in found.chosen}
    dropouts = training_dropouts(index.nodes, context)
    rewrite = store(index, statistics, dropouts)
    report = CalibrateReport(
        model=document.name,
        estimator=options.estimator,
        mode=options.mode,
        data=batches.name if batches is not None else "",
        batches=gathered.batches,
        merged_batches=merged_batches,
        passes=run.passes,
        is_settled=run.is_settled,
        last_move=run.last_move,
        norms=tuple(
            _estimated(n, gathered.moments[n.data.name], statistics[n]) for n in statistics
        ),
        skipped=found.skipped,
        dropouts=tuple(node.label for node in dropouts),
        notes=tuple(_notes(gathered, batches, merged_batches)),
    )
    return CalibrateResult(document, rewrite, report)


class _Run:
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
        with contextlib.closing(found):
            self._take_up(found, key, start, batches.total, done, share)

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
        return _largest(drift(before.estimate(estimator), after, 0.0))

    def _tell(self, number: int, total: int | None, done: float, share: float, move: float) -> None:
        if self._options.progress is None:
            return
        norms = {norm.data.name: norm for norm in self._norms}
        worst = 0.0
        for name, moments in self._gathered.moments.items():
            norm = norms[name]
            after = moments.estimate(self._options.estimator)
            if norm.mean.shape == after[0].shape:
                worst = max(worst, _largest(drift(norm.before(), after, norm.epsilon)))
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


def drift(
    before: tuple[Float64s, Float64s], after: tuple[Float64s, Float64s], epsilon: float
) -> tuple[Float64s, Float64s]:
    """How far mean and standard deviation of each channel moved, shape ``(C,)`` each.

    Args:
        before, after: mean and variance, shape ``(C,)`` each.
        epsilon: is added to both variances.

    Returns:
        In standard deviations of ``after``; infinite where there is none, or where ``before`` is
        not finite, and 0 where nothing moved.
    """
    with np.errstate(all="ignore"):
        spread = np.sqrt(after[1] + epsilon)
        old = np.sqrt(np.maximum(before[1] + epsilon, 0.0))
        moves = [np.abs(after[0] - before[0]), np.abs(spread - old)]
        parts = [np.where(move == 0, 0.0, move / spread) for move in moves]
    mean, std = (np.where(np.isnan(part), np.inf, part) for part in parts)
    return mean, std


def _largest(moved: tuple[Float64s, Float64s]) -> float:
    return float(np.maximum(*moved).max(initial=0.0))


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


def _require_complete(gathered: Gathered, batches: Batches | None) -> None:
    if not gathered.moments:
        raise UsageError(f"{batches.name if batches else 'the data'} has no batches")
    if gathered.mode == "sequential":
        open_ones = [name for name in gathered.tensors if name not in gathered.done]
        if open_ones:
            raise UsageError(
                f"the saved statistics are not complete: {open_ones[0]} is not done; give the "
                "data to go on"
            )


def _estimated(norm: BatchNorm, moments: Moments, stored: Stored) -> Estimated:
    before = norm.before()
    after = (stored[0].astype(np.float64), stored[1].astype(np.float64))
    mean_drift, std_drift = drift(before, after, norm.epsilon)
    worst = int(np.argmax(np.maximum(mean_drift, std_drift))) if len(mean_drift) else 0
    return Estimated(
        norm=norm.name,
        data=norm.data.name,
        channels=moments.channels,
        batches=moments.batches,
        values=moments.count,
        mean_before=before[0].tolist(),
        mean_after=after[0].tolist(),
        var_before=before[1].tolist(),
        var_after=after[1].tolist(),
        mean_drift=float(mean_drift.max(initial=0.0)),
        std_drift=float(std_drift.max(initial=0.0)),
        worst=worst,
        was_training=bool(norm.training),
    )


def _notes(gathered: Gathered, batches: Batches | None, merged_batches: int) -> Iterator[str]:
    if gathered.batches == 1:
        yield "one batch says little about a population: give more data, or smaller batches"
    if batches is not None and merged_batches and gathered.batches == merged_batches:
        yield f"every batch of {batches.name} was in the merged statistics already"

"""Estimate the statistics of a model's norms from mini-batches: Algorithm 2, steps 7 to 10."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from bnfold.errors import UsageError
from bnfold.folding.inline import with_norms_inlined
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.load import Document
from bnfold.onnxgraph.save import require_target
from bnfold.statistics.data import Batches
from bnfold.statistics.drift import drift
from bnfold.statistics.gathered import Gathered, fingerprint
from bnfold.statistics.moments import Moments
from bnfold.statistics.norms import BatchNorm, context_of, find_batch_norms, training_dropouts
from bnfold.statistics.observe import moments_of
from bnfold.statistics.options import Options
from bnfold.statistics.outcome import CalibrateReport, Estimated
from bnfold.statistics.passes import Passes, Source
from bnfold.statistics.result import CalibrateResult
from bnfold.statistics.store import Stored, store


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
    given = document
    document, inlined = with_norms_inlined(given)
    index = Index(document)
    context = context_of(index)
    found = find_batch_norms(index, context, options.selection)
    gathered = Gathered(
        document.name, fingerprint(given), options.mode, tuple(found.tensors), options.precision
    )
    for path in options.merge:
        gathered.take_up(path)
    batches = batches_for() if batches_for is not None else None
    run = Passes(index, found.chosen, gathered, options, source)
    merged_batches = gathered.batches
    if batches is not None:
        run.over(batches)
    elif options.keep is not None:
        gathered.save(options.keep)
    _require_complete(gathered, batches)
    statistics = {norm: run.stored(norm) for norm in found.chosen}
    dropouts = training_dropouts(index.nodes, context)
    rewrite = store(index, statistics, dropouts)
    report = CalibrateReport(
        model=document.name,
        estimator=options.estimator,
        mode=options.mode,
        precision=options.precision,
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
        notes=(*_inlining(inlined), *_notes(gathered, batches, merged_batches)),
    )
    return CalibrateResult(document, rewrite, report)


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


def _inlining(names: Sequence[str]) -> Iterator[str]:
    if names:
        yield f"functions with norms in them stand in the graph now: {', '.join(names)}"


def _notes(gathered: Gathered, batches: Batches | None, merged_batches: int) -> Iterator[str]:
    if gathered.batches == 1:
        yield "one batch says little about a population: give more data, or smaller batches"
    if batches is not None and merged_batches and gathered.batches == merged_batches:
        yield f"every batch of {batches.name} was in the merged statistics already"

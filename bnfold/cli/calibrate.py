"""``bnfold calibrate``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnfold.cli.deliver import STDOUT, delivered, entry_and_target, form_of, protect_all
from bnfold.cli.guard import guarded
from bnfold.cli.options import (
    DATA,
    Batches,
    BatchSize,
    DropLast,
    Estimator,
    ExternalData,
    InPlace,
    Json,
    OneModel,
    Only,
    OrderSeed,
    Output,
    Quiet,
    SaveReport,
    Shuffle,
    Skip,
    Threads,
)

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from bnfold.cli.inputs import Input
    from bnfold.statistics.outcome import CalibrateReport


def calibrate(
    model: OneModel,
    data: Annotated[str | None, DATA] = None,
    output: Output = None,
    in_place: InPlace = False,
    estimator: Estimator = "paper",
    mode: Annotated[
        str, typer.Option("--mode", metavar="MODE", help="batch or sequential.")
    ] = "batch",
    batch_size: BatchSize = None,
    batches: Batches = None,
    shuffle: Shuffle = False,
    seed: OrderSeed = 0,
    drop_last: DropLast = False,
    only: Only = None,
    skip: Skip = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            metavar="T",
            help="Stop when the statistics move less than T standard deviations.",
        ),
    ] = None,
    save_stats: Annotated[
        Path | None,
        typer.Option("--save-stats", metavar="FILE", help="Keep the statistics in a file."),
    ] = None,
    merge_stats: Annotated[
        list[Path] | None,
        typer.Option(
            "--merge-stats", metavar="FILE", help="Count saved statistics too; repeatable."
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option("--precision", metavar="KIND", help="model or float64.")
    ] = "model",
    threads: Threads = 0,
    dask: Annotated[
        str | None,
        typer.Option(
            "--dask", metavar="ADDRESS", help="Run the batches on a dask.distributed cluster."
        ),
    ] = None,
    external_data: ExternalData = None,
    json: Json = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw how far they moved: .svg or .png."),
    ] = None,
    quiet: Quiet = False,
    save_report: SaveReport = None,
) -> None:
    """Estimate the mean and variance of each batch norm from data.

    One of --output and --in-place says where the model goes.
    """
    with guarded():
        from bnfold import api
        from bnfold.cli.bar import bar
        from bnfold.cli.batch import finish, over_all, warn_of_unmatched
        from bnfold.cli.inputs import content
        from bnfold.report.as_json import calibrate_json
        from bnfold.report.calibrate_plot import calibrate_plot
        from bnfold.report.calibrate_text import calibrate_text
        from bnfold.report.picture import require_plot

        if plot is not None:
            require_plot(plot)
        entry, target = entry_and_target("calibrate", model, output, in_place)
        told = {"--plot": plot, "--save-report": save_report}
        _protect_statistics(merge_stats or [], {"-o": target, **told})
        reports_to = {**told, "--save-stats": save_stats}
        protect_all(entry, target, reports_to, data, in_place=in_place)

        def estimate(entry: Input) -> CalibrateReport:
            with workers(dask) as (executor, in_flight), bar(quiet) as advance:
                result = api.calibrate(
                    content(entry),
                    data,
                    estimator=estimator,
                    mode=mode,
                    batch_size=batch_size,
                    batches=batches,
                    shuffle=shuffle,
                    seed=seed,
                    drop_last=drop_last,
                    only=only or (),
                    skip=skip or (),
                    tolerance=tolerance,
                    merge_stats=merge_stats or (),
                    save_stats=save_stats,
                    precision=precision,
                    threads=threads,
                    executor=executor,
                    in_flight=in_flight,
                    progress=advance,
                    name=entry.name,
                )
            delivered(result, target, form_of(external_data))
            return result.report

        reports, errors = over_all([entry], estimate)
        written = "<stdout>" if target == STDOUT else target
        for report in reports:
            labels = [norm.norm for norm in report.norms] + [skip.norm for skip in report.skipped]
            warn_of_unmatched([*(only or ()), *(skip or ())], labels, "norm")
        drawn = {}
        if plot is not None and reports:
            drawn[plot] = calibrate_plot(reports[0], plot.suffix.lower())
        finish(
            "calibrate",
            [calibrate_json(report, written) for report in reports],
            [calibrate_text(report, written) for report in reports],
            errors,
            as_json=json,
            quiet=quiet,
            save_report=save_report,
            files=drawn,
            to_stderr=target == STDOUT,
        )


@contextlib.contextmanager
def workers(address: str | None) -> Iterator[tuple[Executor | None, int | None]]:
    """The workers of a cluster, and how many batches they get at a time; none without one."""
    if address is None:
        yield None, None
        return
    from bnfold.statistics.cluster import connected

    with connected(address) as found:
        yield found


def _protect_statistics(
    statistics: Sequence[Path], outputs: Mapping[str, str | Path | None]
) -> None:
    """Refuse outputs that would replace statistics; they may go on in the file they come from.

    Raises:
        UsageError: one would.
    """
    import os

    from bnfold.errors import UsageError

    taken = {os.path.realpath(path): path for path in statistics}
    for option, path in outputs.items():
        if path is not None and path != STDOUT and os.path.realpath(path) in taken:
            kept = taken[os.path.realpath(path)]
            raise UsageError(f"{option} {path} would replace the statistics {kept}")

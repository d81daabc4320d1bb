"""``bnfold calibrate``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnfold.cli.deliver import STDOUT, delivered, form_of
from bnfold.cli.guard import guarded
from bnfold.cli.options import Json, Only, Quiet, SaveReport, Skip

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from bnfold.cli.inputs import Input
    from bnfold.statistics.outcome import CalibrateReport


def calibrate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The ONNX file; - is stdin.")],
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="A .npy or .npz file, a folder of them, or module:function that gives batches.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", help="The calibrated model; - is stdout."),
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Replace MODEL.")] = False,
    estimator: Annotated[
        str, typer.Option("--estimator", metavar="KIND", help="paper or population.")
    ] = "paper",
    mode: Annotated[
        str, typer.Option("--mode", metavar="MODE", help="batch or sequential.")
    ] = "batch",
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", metavar="N", min=1, help="Samples in a batch.")
    ] = None,
    batches: Annotated[
        int | None, typer.Option("--batches", metavar="N", min=1, help="At most so many batches.")
    ] = None,
    shuffle: Annotated[
        bool, typer.Option("--shuffle", help="Take the samples in a random order.")
    ] = False,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Seed of that order.")
    ] = 0,
    drop_last: Annotated[
        bool, typer.Option("--drop-last", help="Leave out a last batch that is smaller.")
    ] = False,
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
    threads: Annotated[
        int,
        typer.Option("--threads", metavar="N", min=0, help="Threads within an operator; 0 is all."),
    ] = 0,
    dask: Annotated[
        str | None,
        typer.Option(
            "--dask", metavar="ADDRESS", help="Run the batches on a dask.distributed cluster."
        ),
    ] = None,
    external_data: Annotated[
        bool | None,
        typer.Option(
            "--external-data/--embed",
            help="Put large tensors into a data file, or all into the model; default: as it was.",
        ),
    ] = None,
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
        entry, target = _places(model, output, in_place)
        _protect(entry, target, in_place, data, save_stats, merge_stats or [], save_report, plot)

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


def _places(model: str, output: str | None, in_place: bool) -> tuple[Input, str]:
    """The model, and where the result goes.

    Raises:
        UsageError: nothing says where it goes, or two options do; or the model is a folder.
    """
    from bnfold.cli.inputs import inputs
    from bnfold.errors import UsageError

    if (output is not None) + in_place != 1:
        raise UsageError("say where the result goes: one of -o OUT and --in-place")
    if Path(model).is_dir():
        raise UsageError(f"{model} is a folder: calibrate takes one model")
    (entry,) = inputs([model])
    if in_place and entry.path is None:
        raise UsageError("standard input cannot be replaced in place: use -o OUT")
    return entry, entry.name if output is None else output


def _protect(
    entry: Input,
    target: str,
    in_place: bool,
    data: str | None,
    save_stats: Path | None,
    merge_stats: list[Path],
    save_report: Path | None,
    plot: Path | None,
) -> None:
    """Refuse outputs that would replace an input or each other.

    Raises:
        UsageError: one would.
    """
    import os

    from bnfold.cli.inputs import protect, protect_reports
    from bnfold.errors import UsageError

    if target != STDOUT and not in_place:
        protect([Path(target)], [entry])
    files = [Path(data)] if data is not None else []
    pictures = {"--plot": plot, "--save-report": save_report}
    protect_reports({**pictures, "--save-stats": save_stats}, [entry], files)
    # Statistics may go on in the file that they come from; a report may not take its place.
    taken = {os.path.realpath(path): f"the data {path}" for path in files}
    if target != STDOUT and os.path.realpath(target) in taken:
        raise UsageError(f"{target} would replace {taken[os.path.realpath(target)]}")
    taken = {os.path.realpath(path): f"the statistics {path}" for path in merge_stats}
    outputs = {"-o": Path(target) if target != STDOUT else None, **pictures}
    for option, path in outputs.items():
        if path is not None and os.path.realpath(path) in taken:
            raise UsageError(f"{option} {path} would replace {taken[os.path.realpath(path)]}")
    for option, path in (*pictures.items(), ("--save-stats", save_stats)):
        if path is not None and os.path.realpath(path) == os.path.realpath(target):
            raise UsageError(f"{option} and the calibrated model are both {path}")

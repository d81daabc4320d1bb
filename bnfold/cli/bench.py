"""``bnfold bench``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnfold.cli.guard import guarded
from bnfold.cli.options import Json, Quiet, SaveReport
from bnfold.errors import NO

if TYPE_CHECKING:
    from bnfold.cli.inputs import Input
    from bnfold.measuring.outcome import BenchReport


def bench(
    original: Annotated[
        str, typer.Argument(metavar="ORIGINAL", help="The model as it was; - is stdin.")
    ],
    folded: Annotated[
        str | None,
        typer.Argument(metavar="FOLDED", help="Its fold; default: bnfold's own; - is stdin."),
    ] = None,
    level: Annotated[
        list[str] | None,
        typer.Option(
            "--level",
            metavar="LEVEL",
            help="disable, basic, extended, all, or several with commas; repeatable.",
        ),
    ] = None,
    batch: Annotated[
        list[str] | None,
        typer.Option("--batch", metavar="N", help="Batch sizes, such as 1,8; repeatable."),
    ] = None,
    threads: Annotated[
        int, typer.Option("--threads", metavar="N", min=1, help="Threads within an operator.")
    ] = 1,
    provider: Annotated[
        str, typer.Option("--provider", metavar="NAME", help="What onnxruntime runs it on.")
    ] = "cpu",
    duration: Annotated[
        float,
        typer.Option("--duration", metavar="S", help="Seconds for each level and batch size."),
    ] = 2.0,
    dim: Annotated[
        list[str] | None,
        typer.Option("--dim", metavar="NAME=SIZE", help="Size of a named dimension; repeatable."),
    ] = None,
    fixed: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=FILE.npy", help="Data of one input; repeatable."),
    ] = None,
    feeds: Annotated[
        Path | None,
        typer.Option("--feeds", metavar="FILE.npz", help="Real data by input name."),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also say which operators take the time.")
    ] = False,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Seed of all random draws.")
    ] = 0,
    json: Json = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the report as Markdown, for a pull request.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw the ratios into an .svg or .png file."),
    ] = None,
    quiet: Quiet = False,
    save_report: SaveReport = None,
) -> None:
    """Say how much faster a folded model is in onnxruntime, where, and why.

    Both models run in turn. Status 1 if they are not the same function: then nothing is timed.
    """
    with guarded():
        from bnfold import api
        from bnfold.cli.bar import bar
        from bnfold.cli.batch import finish, over_all
        from bnfold.cli.data import arrays_of, dims_of, feed_of, files_of, levels_of, sizes_of
        from bnfold.cli.inputs import content, protect_reports
        from bnfold.report.as_json import bench_json
        from bnfold.report.bench_markdown import bench_markdown
        from bnfold.report.bench_plot import bench_plot
        from bnfold.report.bench_text import bench_text
        from bnfold.report.picture import require_plot

        _require_no_contradiction(json, markdown, feeds, batch)
        if plot is not None:
            require_plot(plot)
        models = _models(original, folded)
        files = files_of(fixed or (), [feeds] if feeds is not None else [])
        protect_reports({"--plot": plot, "--save-report": save_report}, models, files)

        def measure(entry: Input) -> BenchReport:
            levels, batches = levels_of(level or ()), sizes_of("--batch", batch or ())
            _require_duration(duration)
            arrays, sizes = arrays_of(fixed or ()), dims_of(dim or ())
            feed = feed_of(feeds) if feeds is not None else None
            with bar(quiet) as advance:
                report = api.benchmark(
                    content(models[0]),
                    content(models[1]) if folded is not None else None,
                    levels=levels,
                    threads=threads,
                    batch=batches or None,
                    dims=sizes,
                    feeds=feed,
                    inputs=arrays,
                    provider=provider,
                    duration=duration,
                    profile=profile,
                    seed=seed,
                    progress=advance,
                    name=(models[0].name, entry.name),
                )
            return _with_files(report, files, has_feeds=feed is not None)

        reports, errors = over_all([models[1]], measure)
        as_text = bench_markdown if markdown else bench_text
        drawn = {}
        if plot is not None and reports and reports[0].cells:
            drawn[plot] = bench_plot(reports[0], plot.suffix.lower())
        finish(
            "bench",
            [bench_json(report) for report in reports],
            [as_text(report) for report in reports],
            errors,
            as_json=json,
            quiet=quiet,
            save_report=save_report,
            files=drawn,
        )
        if not all(report.is_same for report in reports):
            raise SystemExit(NO)


def _models(original: str, folded: str | None) -> tuple[Input, Input]:
    """Both models; without a second one what the fold of the first is called."""
    from bnfold.cli.inputs import Input, pair

    if folded is not None:
        return pair(original, folded)
    before, _ = pair(original, "")
    return before, Input(f"{before.name} folded", None, before.relative)


def _require_no_contradiction(
    json: bool, markdown: bool, feeds: Path | None, batch: Sequence[str] | None
) -> None:
    from bnfold.errors import UsageError

    if json and markdown:
        raise UsageError("--json and --markdown contradict each other: a report is one of both")
    if feeds is not None and batch:
        raise UsageError("--batch is for data that is drawn: --feeds has a batch size of its own")


def _require_duration(duration: float) -> None:
    from math import isfinite

    from bnfold.errors import UsageError

    if not (isfinite(duration) and duration > 0):
        raise UsageError(f"--duration {duration:g}: it has to be a finite number above 0")


def _with_files(report: BenchReport, files: Sequence[Path], *, has_feeds: bool) -> BenchReport:
    """The report, saying from which files the data is."""
    from dataclasses import replace

    if not files:
        return report
    named = ", ".join(map(str, files))
    is_whole = has_feeds or len(files) >= len(report.setting.inputs)
    data = named if is_whole else f"{named}; the other inputs drawn"
    return replace(report, setting=replace(report.setting, data=data))

"""``bnfold insert``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnfold.cli.deliver import STDOUT, delivered, form_of
from bnfold.cli.guard import guarded
from bnfold.cli.options import Json, Quiet, SaveReport

if TYPE_CHECKING:
    from bnfold.cli.inputs import Input
    from bnfold.statistics.inserted import InsertReport


def insert(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="An ONNX file; - is stdin.")],
    data: Annotated[
        str,
        typer.Option(
            "--data", metavar="DATA", help=".npy, .npz, a folder of them, or module:function."
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="OUT", help="The new model; - is stdout."),
    ] = None,
    in_place: Annotated[bool, typer.Option("--in-place", help="Replace MODEL.")] = False,
    where: Annotated[
        str,
        typer.Option("--where", metavar="SIDE", help="before-activation or after-activation."),
    ] = "before-activation",
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="GLOB", help="Only operators named like this; repeatable."),
    ] = None,
    skip: Annotated[
        list[str] | None,
        typer.Option("--skip", metavar="GLOB", help="No operator named like this; repeatable."),
    ] = None,
    remove_bias: Annotated[
        bool, typer.Option("--remove-bias", help="Drop the biases that norms make redundant.")
    ] = False,
    estimator: Annotated[
        str, typer.Option("--estimator", metavar="KIND", help="paper or population.")
    ] = "paper",
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
    threads: Annotated[
        int,
        typer.Option("--threads", metavar="N", min=0, help="Threads within an operator; 0 is all."),
    ] = 0,
    external_data: Annotated[
        bool | None,
        typer.Option(
            "--external-data/--embed",
            help="Put large tensors into a data file, or all into the model; default: as it was.",
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    save_report: SaveReport = None,
) -> None:
    """Insert a batch norm behind each linear operator; the function stays as it is.

    Its statistics are those of the data. --output or --in-place says where the result goes.
    """
    with guarded():
        from bnfold import api
        from bnfold.cli.bar import bar
        from bnfold.cli.batch import finish, over_all, warn_of_unmatched
        from bnfold.cli.inputs import content, protect_report
        from bnfold.onnxgraph.save import require_target
        from bnfold.report.as_json import insert_json
        from bnfold.report.insert_text import insert_text

        entry = _entry(model)
        target = _target(entry, Path(data), output, in_place)
        protect_report(save_report, [entry], [target] if target != STDOUT else [], [Path(data)])
        for path in (target if target != STDOUT else None, save_report):
            if path is not None:
                require_target(Path(path))  # better said before the work than after it

        def work(entry: Input) -> InsertReport:
            with bar(quiet) as advance:
                result = api.insert(
                    content(entry),
                    data,
                    where=where,
                    only=only or (),
                    skip=skip or (),
                    remove_bias=remove_bias,
                    estimator=estimator,
                    batch_size=batch_size,
                    batches=batches,
                    shuffle=shuffle,
                    seed=seed,
                    drop_last=drop_last,
                    threads=threads,
                    progress=advance,
                    name=entry.name,
                )
            delivered(result, target, form_of(external_data))
            return result.report

        reports, errors = over_all([entry], work)
        written = "<stdout>" if target == STDOUT else target
        for report in reports:
            labels = [norm.operator for norm in report.norms]
            labels += [left.operator for left in report.left_out]
            warn_of_unmatched([*(only or ()), *(skip or ())], labels, "linear operator")
        finish(
            "insert",
            [insert_json(report, written) for report in reports],
            [insert_text(report, written) for report in reports],
            errors,
            as_json=json,
            quiet=quiet,
            save_report=save_report,
            to_stderr=target == STDOUT,
        )


def _entry(model: str) -> Input:
    """The one model.

    Raises:
        UsageError: it is a folder of several.
    """
    from bnfold.cli.inputs import inputs
    from bnfold.errors import UsageError

    entries = inputs([model])
    if len(entries) > 1:
        raise UsageError(f"insert takes one model, and {model} has {len(entries)}")
    return entries[0]


def _target(entry: Input, data: Path, output: str | None, in_place: bool) -> str:
    """Where the model goes.

    Raises:
        UsageError: neither or both of the options that say so, or a place that is taken.
    """
    from bnfold.cli.inputs import protect
    from bnfold.errors import UsageError

    if (output is not None) + in_place != 1:
        raise UsageError("say where the result goes: one of -o OUT, --in-place")
    if output is None:
        if entry.path is None:
            raise UsageError("standard input cannot be replaced in place: use -o OUT")
        return entry.name
    if output != STDOUT:
        protect([Path(output)], [entry])
        if os.path.realpath(output) == os.path.realpath(data):
            raise UsageError(f"{output} is the data")
    return output

"""``bnfold insert``."""

from __future__ import annotations

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
    OrderSeed,
    Output,
    Quiet,
    SaveReport,
    Shuffle,
    Threads,
)

if TYPE_CHECKING:
    from bnfold.cli.inputs import Input
    from bnfold.statistics.inserted import InsertReport


def insert(
    model: OneModel,
    data: Annotated[str, DATA],
    output: Output = None,
    in_place: InPlace = False,
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
    estimator: Estimator = "paper",
    batch_size: BatchSize = None,
    batches: Batches = None,
    shuffle: Shuffle = False,
    seed: OrderSeed = 0,
    drop_last: DropLast = False,
    threads: Threads = 0,
    external_data: ExternalData = None,
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
        from bnfold.cli.inputs import content
        from bnfold.report.as_json import insert_json
        from bnfold.report.insert_text import insert_text

        entry, target = entry_and_target("insert", model, output, in_place)
        protect_all(entry, target, {"--save-report": save_report}, data, in_place=in_place)

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

"""``bnfold check``."""

from __future__ import annotations

from typing import Annotated

import typer

from bnfold.cli.guard import guarded
from bnfold.cli.options import AssumeInference, Json, Models, Quiet, SaveReport
from bnfold.errors import NO


def check(
    models: Models,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow",
            metavar="CODE|GLOB",
            help="Accept norms with this reason code, or a node name like this; repeatable.",
        ),
    ] = None,
    max_left: Annotated[
        int | None,
        typer.Option(
            "--max-left", metavar="N", min=0, help="Accept at most N batch norms in each file."
        ),
    ] = None,
    assume_inference: AssumeInference = False,
    json: Json = False,
    quiet: Quiet = False,
    save_report: SaveReport = None,
) -> None:
    """Exit with status 1 if a norm that could be folded is left in a file.

    For CI. Norms that cannot be folded are no failure, unless --max-left counts them.
    """
    with guarded():
        from bnfold import api
        from bnfold.cli.batch import finish, over_all
        from bnfold.cli.inputs import content, inputs, protect_report
        from bnfold.report.as_json import verdict_json
        from bnfold.report.as_text import check_text

        entries = inputs(models)
        protect_report(save_report, entries)
        verdicts, errors = over_all(
            entries,
            lambda entry: api.check(
                content(entry),
                name=entry.name,
                allow=allow or (),
                max_left=max_left,
                assume_inference=assume_inference,
            ),
        )
        finish(
            "check",
            [verdict_json(verdict) for verdict in verdicts],
            [check_text(verdict) for verdict in verdicts],
            errors,
            as_json=json,
            quiet=quiet,
            save_report=save_report,
        )
        if not all(verdict.is_clean for verdict in verdicts):
            raise SystemExit(NO)

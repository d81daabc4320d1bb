"""``bnfold explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bnfold.cli.deliver import STDOUT
from bnfold.cli.guard import guarded
from bnfold.cli.options import AssumeInference, Duplicate, Json, MergeBranches, Models, Only, Skip

if TYPE_CHECKING:
    from bnfold.cli.inputs import Input
    from bnfold.folding.outcome import Report


def explain(
    models: Models,
    only: Only = None,
    skip: Skip = None,
    assume_inference: AssumeInference = False,
    merge_branches: MergeBranches = False,
    duplicate: Duplicate = False,
    json: Json = False,
    dot: Annotated[
        str | None,
        typer.Option(
            "--dot",
            metavar="FILE",
            help="Draw what surrounds each norm, before and after, for Graphviz; - is stdout.",
        ),
    ] = None,
) -> None:
    """Say of each norm what it folds into, or why it stays and what to do.

    Writes nothing, unless --dot names a file.
    """
    with guarded():
        from pathlib import Path

        from bnfold import api
        from bnfold.cli.batch import finish, nodes_in, over_all, warn_of_unmatched
        from bnfold.cli.inputs import content, inputs, protect_reports
        from bnfold.report.as_json import report_json
        from bnfold.report.as_text import explain_text
        from bnfold.report.dot import as_dot

        entries = inputs(models)
        _require_one(dot, entries)
        target = Path(dot) if dot is not None and dot != STDOUT else None
        protect_reports({"--dot": target}, entries, [])
        pictures: list[str] = []

        def explained(entry: Input) -> Report:
            result = api.fold(
                content(entry),
                name=entry.name,
                only=only or (),
                skip=skip or (),
                assume_inference=assume_inference,
                merge_branches=merge_branches,
                duplicate=duplicate,
                verify=False,
            )
            if dot is not None:
                pictures.append(as_dot(result.analysis, result.rewrite))
            return result.report

        reports, errors = over_all(entries, explained)
        warn_of_unmatched([*(only or ()), *(skip or ())], nodes_in(reports), "norm")
        if dot == STDOUT:
            print(*pictures, end="", flush=True)
        drawn = [picture.encode(errors="backslashreplace") for picture in pictures]
        finish(
            "explain",
            [report_json(report) for report in reports],
            [explain_text(report) for report in reports],
            errors,
            as_json=json,
            to_stderr=dot == STDOUT,
            files={target: drawn[0]} if target is not None and drawn else {},
        )


def _require_one(dot: str | None, entries: list[Input]) -> None:
    from bnfold.errors import UsageError

    if dot is not None and len(entries) > 1:
        raise UsageError(f"--dot draws one model, not {len(entries)}")

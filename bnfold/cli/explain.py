"""``bnfold explain``."""

from __future__ import annotations

from bnfold.cli.guard import guarded
from bnfold.cli.options import AssumeInference, Json, Models, Only, Skip


def explain(
    models: Models,
    only: Only = None,
    skip: Skip = None,
    assume_inference: AssumeInference = False,
    json: Json = False,
) -> None:
    """Say of each norm what it folds into, or why it stays and what to do.

    Writes nothing.
    """
    with guarded():
        from bnfold import api
        from bnfold.cli.batch import finish, over_all, warn_of_unmatched
        from bnfold.cli.inputs import content, inputs
        from bnfold.report.as_json import report_json
        from bnfold.report.as_text import explain_text

        reports, errors = over_all(
            inputs(models),
            lambda entry: api.explain(
                content(entry),
                name=entry.name,
                only=only or (),
                skip=skip or (),
                assume_inference=assume_inference,
            ),
        )
        warn_of_unmatched([*(only or ()), *(skip or ())], reports)
        finish(
            "explain",
            [report_json(report) for report in reports],
            [explain_text(report) for report in reports],
            errors,
            as_json=json,
        )

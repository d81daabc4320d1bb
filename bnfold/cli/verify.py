"""``bnfold verify``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnfold.checking.multiple import MULTIPLE
from bnfold.cli.guard import guarded
from bnfold.cli.options import Json, Quiet, SaveReport
from bnfold.errors import NO

if TYPE_CHECKING:
    from bnfold.checking.outcome import VerifyReport
    from bnfold.cli.inputs import Input


def verify(
    original: Annotated[
        str, typer.Argument(metavar="ORIGINAL", help="The model as it was; - is stdin.")
    ],
    folded: Annotated[
        str, typer.Argument(metavar="FOLDED", help="The model to judge; - is stdin.")
    ],
    max_ulp_noise: Annotated[
        float,
        typer.Option(
            "--max-ulp-noise", metavar="X", help="Accept X times what one rounding explains."
        ),
    ] = MULTIPLE,
    rtol: Annotated[
        float | None,
        typer.Option("--rtol", metavar="R", help="Judge outputs by atol + R |original| instead."),
    ] = None,
    atol: Annotated[
        float | None,
        typer.Option("--atol", metavar="A", help="Judge outputs by A + rtol |original| instead."),
    ] = None,
    dim: Annotated[
        list[str] | None,
        typer.Option("--dim", metavar="NAME=SIZE", help="Size of a named dimension; repeatable."),
    ] = None,
    fixed: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=FILE.npy", help="Data of one input; repeatable."),
    ] = None,
    feeds: Annotated[
        list[Path] | None,
        typer.Option("--feeds", metavar="FILE.npz", help="Real data by input name; repeatable."),
    ] = None,
    trials: Annotated[
        int, typer.Option("--trials", metavar="N", min=0, help="Draw random data N times.")
    ] = 1,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Seed of the random data.")
    ] = 0,
    no_runtime: Annotated[
        bool, typer.Option("--no-runtime", help="Do not run the models in onnxruntime.")
    ] = False,
    json: Json = False,
    junit: Annotated[
        Path | None,
        typer.Option("--junit", metavar="FILE", help="Write the report as JUnit XML to a file."),
    ] = None,
    quiet: Quiet = False,
    save_report: SaveReport = None,
) -> None:
    """Say whether two models are the same function, and where they first differ.

    Status 1 if they are not. Judged in float64, by what rounding the weights once explains.
    """
    with guarded():
        from bnfold import api
        from bnfold.cli.batch import finish, over_all, waiting
        from bnfold.cli.data import arrays_of, dims_of, feed_of, files_of, require_amount
        from bnfold.cli.inputs import content, pair, protect_reports
        from bnfold.report.as_json import verify_json
        from bnfold.report.junit import junit_error_xml, junit_xml
        from bnfold.report.verify_text import verify_text

        before, after = pair(original, folded)
        protect_reports(
            {"--junit": junit, "--save-report": save_report},
            [before, after],
            files_of(fixed or (), feeds or ()),
        )

        def judge(entry: Input) -> VerifyReport:
            require_amount("--max-ulp-noise", max_ulp_noise)
            require_amount("--rtol", rtol)
            require_amount("--atol", atol)
            return api.verify(
                content(before),
                content(entry),
                feeds=[feed_of(path) for path in feeds or ()] or None,
                inputs=arrays_of(fixed or ()),
                dims=dims_of(dim or ()),
                trials=trials,
                seed=seed,
                max_ulp_noise=max_ulp_noise,
                rtol=rtol,
                atol=atol,
                runtime=not no_runtime,
                name=(before.name, entry.name),
            )

        with _failures_in(junit, after.name), waiting(f"comparing {after.name}", quiet):
            reports, errors = over_all([after], judge)
        results = [junit_xml(report) for report in reports]
        results += [junit_error_xml(*error) for error in errors.items()]
        finish(
            "verify",
            [verify_json(report) for report in reports],
            [verify_text(report) for report in reports],
            errors,
            as_json=json,
            quiet=quiet,
            save_report=save_report,
            files={junit: results[0]} if junit is not None else {},
        )
        if not all(report.is_same for report in reports):
            raise SystemExit(NO)


@contextlib.contextmanager
def _failures_in(junit: Path | None, name: str) -> Iterator[None]:
    """Let a CI see in the JUnit file, too, that memory ran out or that bnfold has a bug."""
    try:
        yield
    except Exception as error:
        if junit is not None:
            from bnfold.onnxgraph.save import stage, staging
            from bnfold.report.junit import junit_error_xml

            message = f"{type(error).__name__}: {error}"
            with staging() as staged:
                stage(staged, junit, [junit_error_xml(name, message)])
        raise

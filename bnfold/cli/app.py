"""The command line: what ``bnfold --help`` shows."""

from __future__ import annotations

from typing import Annotated

import typer

from bnfold import __version__
from bnfold.cli.bench import bench
from bnfold.cli.calibrate import calibrate
from bnfold.cli.check import check
from bnfold.cli.explain import explain
from bnfold.cli.fold import fold
from bnfold.cli.insert import insert
from bnfold.cli.verify import verify

app = typer.Typer(
    name="bnfold",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 yes, 1 no, 2 could not (input or usage), 3 a bug of bnfold's.",
)


def _version(value: bool) -> None:
    if value:
        print(f"bnfold {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Remove batch normalisation from trained ONNX models without changing what they compute."""


app.command(short_help="Fold every norm that can be folded.")(fold)
app.command(short_help="Say what folds, and why the rest stays.")(explain)
app.command(short_help="Status 1 if a foldable norm is left.")(check)
app.command(short_help="Say whether two models are the same function.")(verify)
app.command(short_help="Say how much faster a folded model is.")(bench)
app.command(short_help="Estimate the statistics of batch norms from data.")(calibrate)
app.command(short_help="Insert norms with the statistics of data.")(insert)

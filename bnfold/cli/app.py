"""The command line: what ``bnfold --help`` shows."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Final

import typer

from bnfold import __version__
from bnfold.cli.command import Command, Group

COMMANDS: Final = {
    "fold": "Fold every norm that can be folded.",
    "explain": "Say what folds, and why the rest stays.",
    "check": "Status 1 if a foldable norm is left.",
    "verify": "Say whether two models are the same function.",
    "bench": "Say how much faster a folded model is.",
    "calibrate": "Estimate the statistics of batch norms from data.",
    "insert": "Insert norms with the statistics of data.",
}
"""Each is a function of the module of its name."""


def application(arguments: Sequence[str] = ()) -> typer.Typer:
    """The command line.

    Args:
        arguments: if they begin with a command, only that one is there: reading the signatures of
            the others takes longer than folding a small model.
    """
    app = typer.Typer(
        name="bnfold",
        cls=Group,
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="Exit status: 0 yes, 1 no, 2 could not (input or usage), 3 a bug of bnfold's.",
    )
    app.callback()(root)
    first = arguments[0] if arguments else ""
    for name in [first] if first in COMMANDS else COMMANDS:
        function = getattr(import_module(f"bnfold.cli.{name}"), name)
        app.command(cls=Command, short_help=COMMANDS[name])(function)
    return app


def _version(value: bool) -> None:
    if value:
        print(f"bnfold {__version__}")
        raise typer.Exit


def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Remove batch normalisation from trained ONNX models without changing what they compute."""

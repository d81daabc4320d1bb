"""A command reads its values as typer's own does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.core import TyperCommand, TyperGroup
from typer.testing import CliRunner

from bnfold.cli.command import Command, Group

LINES = {
    "defaults": "t",
    "all": "t u -s v --many a --many b --number 3 --share 0.5 --path p --maybe --yes",
    "empty text": "'' -s '' --many ''",
    "text that looks like a number": "1 -s 2 --many 3",
    "the other flag": "t --no-maybe",
    "no argument": "",
    "no number": "t --number x",
    "too small a number": "t --number 0",
    "no share": "t --share x",
    "a callback": "t --checked good",
    "a callback that refuses": "t --checked bad",
    "no such option": "t --none",
    "no value": "t -s",
    "help": "--help",
}


def _checked(value: str | None) -> str | None:
    if value == "bad":
        raise typer.BadParameter("it is bad")
    return None if value is None else value.upper()


def _outcome(line: str, *, ours: bool) -> tuple[int, str, dict[str, Any]]:
    """Status, output and the values that the function of the command gets."""
    got: dict[str, Any] = {}
    app = typer.Typer(
        cls=Group if ours else TyperGroup, add_completion=False, rich_markup_mode=None
    )

    @app.callback()
    def root(loud: bool = False) -> None:
        got["loud"] = loud

    @app.command(cls=Command if ours else TyperCommand)
    def it(
        texts: Annotated[list[str], typer.Argument()],
        single: Annotated[str, typer.Option("-s")] = "none",
        optional: Annotated[str | None, typer.Option()] = None,
        checked: Annotated[str | None, typer.Option(callback=_checked)] = None,
        many: Annotated[list[str] | None, typer.Option()] = None,
        number: Annotated[int, typer.Option(min=1)] = 2,
        share: Annotated[float | None, typer.Option()] = None,
        path: Annotated[Path | None, typer.Option()] = None,
        maybe: Annotated[bool | None, typer.Option("--maybe/--no-maybe")] = None,
        yes: Annotated[bool, typer.Option("--yes")] = False,
    ) -> None:
        got.update(
            texts=texts,
            single=single,
            optional=optional,
            checked=checked,
            many=many,
            number=number,
            share=share,
            path=path,
            maybe=maybe,
            yes=yes,
        )

    done = CliRunner().invoke(app, f"it {line}", prog_name="app")
    return done.exit_code, done.output, got


@pytest.mark.parametrize("case", LINES)
def test_values_are_those_of_typer(case: str) -> None:
    expected = _outcome(LINES[case], ours=False)
    assert _outcome(LINES[case], ours=True) == expected
    assert (expected[0] == 0) == (case == "help" or "texts" in expected[2])


def test_types_are_those_of_typer() -> None:
    line = LINES["all"]
    (_, _, plain), (_, _, got) = _outcome(line, ours=False), _outcome(line, ours=True)
    assert {name: type(value) for name, value in got.items()} == {
        name: type(value) for name, value in plain.items()
    }

"""Lines of a report, for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Sequence

WIDTH = 80
FACT = 11
"""Columns of the word before a fact."""


def wrapped(text: str, indent: str) -> list[str]:
    """A text as lines; the second and later ones stand two columns further in.

    Names are never broken: a word that is longer than a line stands alone on one.
    """
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def count(number: int, thing: str) -> str:
    """``1 norm``, ``2 norms``."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def fact(word: str, text: str) -> list[str]:
    """A word and what it says, such as ``  original   model.onnx``."""
    first, *rest = wrapped(text, "  " + " " * FACT) or [""]
    return [f"  {word:<{FACT}}{first.strip()}", *rest]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, width: int = WIDTH) -> list[str]:
    """Columns of numbers behind a column of names.

    A name that is too long for its column stands on a line of its own, and is not cut.

    Args:
        head: what stands above each column.
        rows: a text for each column.
        width: the most columns of a line that holds no such name.
    """
    widths = [
        max(map(len, column)) for column in zip(head[1:], *(r[1:] for r in rows), strict=True)
    ]
    most = width - 2 - sum(size + 2 for size in widths)
    names = [" ".join(row[0].split()) for row in rows]
    first = max(len(head[0]), *(w for w in map(columns, names) if w <= most), 0)

    def line(name: str, cells: Sequence[str]) -> str:
        numbers = "".join(f"  {cell:>{size}}" for cell, size in zip(cells, widths, strict=True))
        return f"  {name}{' ' * (first - columns(name))}{numbers}"

    lines = [line(head[0], head[1:])]
    for name, row in zip(names, rows, strict=True):
        if columns(name) > most:
            lines.append(f"  {name}")
            name = ""
        lines.append(line(name, row[1:]))
    return lines


def columns(text: str) -> int:
    """How many columns a terminal takes for a text."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))

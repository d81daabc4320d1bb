"""Lines of a report, for a terminal of 80 columns."""

from __future__ import annotations

import textwrap

WIDTH = 80


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

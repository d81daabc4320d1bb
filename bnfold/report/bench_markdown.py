"""The report of ``bnfold bench`` as Markdown, for a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bnfold.measuring.outcome import BenchReport
from bnfold.report.bench_rows import Table, facts, tables
from bnfold.report.bench_words import heading, meaning, other_notes, subnormal, summary

_SPECIAL = re.compile(
    r"""
      [\\`*<>|~$&]                                  # anywhere
    | (?<![A-Za-z0-9])_ | _(?![A-Za-z0-9])          # inside of a word it is a letter
    | \](?=[(\[:])                                  # where it would make a link
    """,
    re.VERBOSE,
)


def bench_markdown(report: BenchReport) -> str:
    """Tables as GitHub shows them; the machine, versions and settings can be folded out."""
    blocks = [f"### bnfold bench: {_escaped(report.folded)}"]
    blocks.append(f"{_escaped(_capital(summary(report)))}.")
    for found in tables(report):
        blocks += [f"{_escaped(_capital(found.title))}:", _table(found)]
    warnings = subnormal(report)
    if warnings:
        text = _escaped(" ".join(warnings))
        blocks.append(f"> **Warning**: {text}")
    sentences = meaning(report)
    if sentences:
        blocks.append(f"{_capital(heading(report))}:")
        blocks.append("\n".join(f"- {_escaped(text)}" for text in sentences))
    notes = other_notes(report)
    if notes:
        blocks.append("\n".join(f"- Note: {_escaped(note)}" for note in notes))
    blocks.append(_details(facts(report)))
    return "\n\n".join(blocks)


def _table(found: Table) -> str:
    """The first column to the left, all others to the right."""
    aligned = ["---", *["--:"] * (len(found.head) - 1)]
    return "\n".join(map(_row, [_cells(found.head), aligned, *map(_cells, found.rows)]))


def _cells(row: Sequence[str]) -> list[str]:
    return list(map(_escaped, row))


def _details(rows: Sequence[tuple[str, str]]) -> str:
    """A block that GitHub shows closed; its table needs the empty lines around it."""
    body = [_row(["", ""]), _row(["---", "---"])]
    body += [_row([word, _escaped(text)]) for word, text in rows]
    lines = ["<details>", "<summary>Models, machine, versions and settings</summary>", ""]
    return "\n".join([*lines, *body, "", "</details>"])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """A text that Markdown takes as it is, in a table too."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]

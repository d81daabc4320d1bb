"""The report of ``bnfold bench`` as text, for a terminal of 100 columns."""

from __future__ import annotations

from bnfold.measuring.outcome import BenchReport
from bnfold.report.bench_rows import facts, tables
from bnfold.report.bench_words import heading, meaning, other_notes, subnormal, summary
from bnfold.report.lines import fact, table, wrapped

TABLE_WIDTH = 100


def bench_text(report: BenchReport) -> str:
    """How much faster the folded model is, where, why, and how that was measured."""
    lines = wrapped(f"{report.folded}: {summary(report)}", "")
    for found in tables(report):
        lines += ["", f"  {found.title}", *table(found.head, found.rows, width=TABLE_WIDTH)]
    warnings = subnormal(report)
    if warnings:
        lines += ["", *wrapped(f"warning: {warnings[0]}", "  ")]
        for text in warnings[1:]:
            lines += wrapped(text, "    ")
    sentences = meaning(report)
    if sentences:
        lines += ["", f"  {heading(report)}"]
        for text in sentences:
            lines += wrapped(text, "    ")
    lines += [""] if len(lines) > 1 else []
    for word, text in facts(report):
        lines += fact(word, text)
    for note in other_notes(report):
        lines += wrapped(f"note: {note}", "  ")
    return "\n".join(lines)

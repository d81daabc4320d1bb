"""The report of ``insert`` as text for a terminal."""

from __future__ import annotations

from collections import Counter
from typing import Final

from bnfold.report.lines import count, fact, table, wrapped
from bnfold.statistics.inserted import InsertedNorm, InsertReport

MOST: Final = 8
"""How many operators that were left out for one reason are named."""

_ESTIMATORS: Final = {
    "paper": "the mean of the batches' means and unbiased variances",
    "population": "of all values together",
}


def insert_text(report: InsertReport, written: str | None = None) -> str:
    """The norms that were inserted, and why other linear operators got none.

    Args:
        report: of ``insert``.
        written: where the model was written, or None.
    """
    norms = report.norms
    total = len(norms) + len(report.left_out)
    said = f"batch norms inserted behind {len(norms)} of {count(total, 'linear operator')}"
    lines = [f"{report.model}: {said if total else 'no linear operator to insert a norm behind'}"]
    if norms:
        lines += _facts(report)
        head = ("norm", "channels", "mean of channels", "std of channels")
        lines += table(head, [_row(norm) for norm in norms])
    lines += _left_out(report)
    for note in dict.fromkeys(note for norm in norms for note in norm.notes):
        lines += wrapped(f"note: {note}", "  ")
    if written is not None:
        lines += fact("written to", written)
    return "\n".join(lines)


def _facts(report: InsertReport) -> list[str]:
    norms = report.norms
    kinds = Counter(norm.operator_type for norm in norms)
    listed = ", ".join(f"{kind} {number}" for kind, number in kinds.most_common())
    side = report.where.replace("-", " the ")
    lines = fact("behind", f"{listed}; {side}")
    data = f"{report.batches:,} batch{'' if report.batches == 1 else 'es'}"
    lines += fact("statistics", f"of {data}: {_ESTIMATORS[report.estimator]} ({report.estimator})")
    exact = sum(norm.exact for norm in norms)
    others = "" if exact == len(norms) else ", to rounding in the others"
    factor = f"gamma / sqrt(var + epsilon) = 1 exactly in {exact} of {len(norms)}{others}"
    lines += fact("identity", factor)
    biases = Counter(norm.bias for norm in norms)
    if biases["removed"]:
        kept = f"; kept {biases['kept']}" if biases["kept"] else ""
        lines += fact("biases", f"removed {biases['removed']}{kept}")
    dead = sum(norm.dead for norm in norms)
    if dead:
        lines += fact("dead", f"{count(dead, 'channel')} with the same value everywhere")
    lines += fact("nodes", f"{report.nodes_before:,} -> {report.nodes_after:,}")
    lines += fact("bytes", f"{report.bytes_before:,} -> {report.bytes_after:,}")
    return lines


def _row(norm: InsertedNorm) -> tuple[str, ...]:
    low, high = norm.mean
    least, most = norm.std
    return norm.norm, f"{norm.channels:,}", f"{low:.3g} to {high:.3g}", f"{least:.3g} to {most:.3g}"


def _left_out(report: InsertReport) -> list[str]:
    lines: list[str] = []
    for code, number in Counter(left.code for left in report.left_out).items():
        lines.append(f"  left out {number} ({code})")
        reasons = [left.reason for left in report.left_out if left.code == code]
        for reason in reasons[:MOST]:
            lines += wrapped(reason, "    ")
        if number > MOST:
            lines.append(f"    and {number - MOST} more")
    return lines

"""The report of ``calibrate`` as text."""

from __future__ import annotations

from collections.abc import Sequence

from bnfold.report.lines import count, fact, table, wrapped
from bnfold.statistics.outcome import CalibrateReport, Estimated

_MOST_SKIPPED = 8
"""So many norms that were left alone are listed; the JSON report lists all."""


def calibrate_text(report: CalibrateReport, written: str | None = None) -> str:
    """Each norm with its old and new statistics, and how far they moved.

    Args:
        written: where the calibrated model is, or None where it is nowhere.
    """
    what = f"{count(len(report.norms), 'norm')} estimated from {count(report.batches, 'batch')}"
    what = what.replace("batchs", "batches")
    lines = [f"{report.model}: {what}"]
    lines += fact("data", _data(report))
    exactly = ", in float64" if report.precision == "float64" else ""
    lines += fact("estimator", f"{report.estimator}, mode {report.mode}{exactly}")
    if report.last_move is not None:
        words = f"the last batch moved the estimates by {report.last_move:.2g} standard deviations"
        if report.is_settled:
            words += ", the third below the tolerance"
        lines += fact("last move", words)
    lines += ["", *_norms(report.norms)]
    lines += wrapped(
        "drift: on the channel that moved most, in standard deviations of the new statistics; "
        "mean and variance are those of that channel",
        "  ",
    )
    if report.skipped:
        lines += ["", "  left alone"]
        for skip in report.skipped[:_MOST_SKIPPED]:
            lines += wrapped(f"{skip.norm} ({skip.code}): {skip.reason}", "    ")
        more = len(report.skipped) - _MOST_SKIPPED
        if more > 0:
            lines.append(f"    and {more} more")
    trained = [norm.norm for norm in report.norms if norm.was_training]
    if trained or report.dropouts:
        names = ", ".join([*trained, *report.dropouts])
        lines += ["", *wrapped(f"no longer in training mode: {names}", "  ")]
    for note in report.notes:
        lines += ["", *wrapped(f"note: {note}", "  ")]
    if written is not None:
        lines.append(f"  written to {written}")
    return "\n".join(lines)


def _data(report: CalibrateReport) -> str:
    words = []
    if report.data:
        times = f", read {report.passes} times" if report.passes > 1 else ""
        words.append(f"{report.data}{times}")
    if report.merged_batches:
        batches = count(report.merged_batches, "batch").replace("batchs", "batches")
        words.append(f"{batches} of saved statistics")
    return "; ".join(words)


def _norms(norms: Sequence[Estimated]) -> list[str]:
    rows = []
    for norm in norms:
        at = norm.worst
        rows.append(
            (
                norm.norm,
                str(norm.channels),
                f"{norm.mean_before[at]:.4g} -> {norm.mean_after[at]:.4g}",
                f"{norm.var_before[at]:.4g} -> {norm.var_after[at]:.4g}",
                f"{max(norm.mean_drift, norm.std_drift):.3g}",
            )
        )
    return table(("norm", "channels", "mean", "variance", "drift"), rows)

"""The report of ``bnfold verify`` as text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bnfold.checking.outcome import (
    Difference,
    NormCheck,
    OutputCheck,
    RuntimeCheck,
    VerifyReport,
)
from bnfold.report.lines import count, fact, table, wrapped

DIGITS = 4
"""Significant digits of a value; two that differ are shown with as many as it takes."""


def verify_text(report: VerifyReport) -> str:
    """Whether two models are the same function, where they differ, and how that was found out."""
    lines = wrapped(f"{report.folded}: {report.verdict}", "")
    for text in report.interface:
        if text not in report.verdict:
            lines += wrapped(text, "  ")
    if report.difference is not None:
        lines += wrapped(place(report.difference), "  ")
    lines += _outputs(report.outputs)
    lines += _norms(report.norms)
    if report.runtime is not None:
        lines += _runtime(report.runtime)
    for note in report.notes:
        lines += wrapped(f"note: {note}", "  ")
    return "\n".join(lines + _work(report))


def place(difference: Difference) -> str:
    """Where two models differ first, in one sentence."""
    where = f"tensor {difference.tensor}"
    if difference.channel is not None:
        axis = f" of axis {difference.axis}" if difference.axis not in (None, 1) else ""
        where += f", channel {difference.channel}{axis}"
    if difference.norm is not None:
        where += f", which belongs to norm {difference.norm}"
    original, folded = _apart(difference.original, difference.folded)
    return (
        f"first differs at {where}: {folded} instead of {original} "
        f"({_rounding(difference.units)}) on feed {difference.feed!r}"
    )


def output_sentence(output: OutputCheck) -> str:
    """How far one output differs, in one sentence."""
    why = output.why or ("the same" if output.is_same else "not the same")
    agreement = _percent(output.argmax_agreement)
    argmax = f", largest channel agrees at {agreement}" if agreement else ""
    return (
        f"output {output.name} ({output.dtype}): {why}; largest difference {output.max_abs:.3g}, "
        f"relative {output.max_relative:.3g}, {_rounding(output.units)}, "
        f"SNR {_decibel(output.snr_db)}{argmax}"
    )


def norm_sentence(norm: NormCheck) -> str:
    """What became of one norm, in one sentence."""
    if norm.tensor is None:
        return f"norm {norm.norm}: not judged at any tensor"
    same = "the same" if norm.is_same else "not the same"
    return f"norm {norm.norm}: {same} at tensor {norm.tensor} ({_rounding(norm.units)})"


def units(value: float) -> str:
    """A multiple of what one rounding explains, such as ``1.1x``."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) < 10:
        return f"{value:.1f}x"
    return f"{value:,.0f}x" if abs(value) < 1e6 else f"{value:.1e}x"


def runtime_table(runtime: RuntimeCheck) -> list[str]:
    """The distance of both models from the truth, one row for each output."""
    rows = [
        (
            output.name,
            f"{output.original_error:.3g}",
            f"{output.folded_error:.3g}",
            f"{output.allowed:.3g}",
            "yes" if output.is_close else "no",
        )
        for output in runtime.outputs
    ]
    return (
        table(("output", "error before", "error after", "allowed", "close"), rows) if rows else []
    )


def _outputs(outputs: Sequence[OutputCheck]) -> list[str]:
    if not outputs:
        return []
    rows = [
        (
            output.name,
            f"{output.max_abs:.3g}",
            f"{output.max_relative:.3g}",
            units(output.units),
            _decibel(output.snr_db),
            _percent(output.argmax_agreement) or "-",
        )
        for output in outputs
    ]
    lines = table(("output", "max abs", "max relative", "units", "SNR", "argmax"), rows)
    for output in outputs:
        if not output.is_same:
            lines += wrapped(f"output {output.name}: {output.why or 'not the same'}", "  ")
    return lines


def _norms(norms: Sequence[NormCheck]) -> list[str]:
    if not norms:
        return []
    same = sum(norm.is_same and norm.tensor is not None for norm in norms)
    unjudged = sum(norm.is_same and norm.tensor is None for norm in norms)
    more = f", {unjudged:,} not judged" if unjudged else ""
    lines = fact("norms", f"{same:,} of {len(norms):,} the same{more}")
    for norm in norms:
        if not norm.is_same:
            lines += wrapped(norm_sentence(norm), "    ")
    return lines


def _runtime(runtime: RuntimeCheck) -> list[str]:
    return fact("runtime", runtime.summary) + ([] if runtime.is_good else runtime_table(runtime))


def _work(report: VerifyReport) -> list[str]:
    lines = fact("original", report.original)
    if report.method == "none":
        return lines + fact("judged", "the interface; nothing was computed")
    if report.rtol is not None and report.atol is not None:
        what, limit = "the outputs", f"within {report.atol:g} + {report.rtol:g} |original|"
    else:
        checked = report.tensors_checked
        what = count(checked, "tensor") if checked else "the outputs"
        limit = f"up to {units(report.multiple)} rounding is the same function"
    how = f"{what} in {report.method}; {limit}"
    lines += fact("judged", how)
    return lines + fact("feeds", f"{', '.join(report.feeds) or 'none'}; seed {report.seed}")


def _rounding(value: float) -> str:
    return f"{units(value)} rounding" if math.isfinite(value) else "beyond any rounding"


def _apart(original: float, folded: float) -> tuple[str, str]:
    """Two values with so many digits that they read differently, if they are different."""
    for digits in range(DIGITS, 18):
        texts = f"{original:.{digits}g}", f"{folded:.{digits}g}"
        if texts[0] != texts[1]:
            return texts
    return f"{original:.{DIGITS}g}", f"{folded:.{DIGITS}g}"


def _decibel(value: float) -> str:
    return f"{value:.1f} dB"


def _percent(share: float | None) -> str:
    """A share as a percentage that says 100 only if it is all."""
    if share is None:
        return ""
    text = f"{100 * share:.2f} %"
    return "99.99 %" if share < 1 and text == "100.00 %" else text

"""What else a reader of a benchmark should know, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bnfold.measuring.outcome import Cell, Start

WIDE = 1.2
"""An interval whose ends differ by more than this factor says little."""

WORTH = 1.05
"""Who flushes subnormal numbers should gain more than this."""


def notes_on_norms(starts: Sequence[Start], removed: int) -> list[str]:
    """What onnxruntime's own optimiser does to the norms that the fold removed.

    Args:
        removed: how many these are.
    """
    if not removed:
        return ["FOLDED has all norms that ORIGINAL has, so about 1.00x is expected everywhere"]
    notes = []
    for start in starts:
        left = start.norms_left
        if left is None:
            notes.append(
                f"at level {start.level} it is not known which norms onnxruntime folds itself"
            )
        elif left == 0:
            notes.append(
                f"at level {start.level} onnxruntime had folded {removed} of {removed} norms "
                "itself, so about 1.00x is expected there"
            )
        elif left < removed:
            notes.append(
                f"at level {start.level} onnxruntime had folded {removed - left} of {removed} "
                "norms itself"
            )
    return notes


def notes_on_time(cells: Sequence[Cell]) -> list[str]:
    """Where the folded model is slower, or waits for subnormal numbers, beyond noise."""
    notes = []
    for cell in cells:
        batch = f", batch {cell.batch}" if cell.batch is not None else ""
        place, ratio = f"at level {cell.level}{batch}", cell.ratio
        if ratio.is_slower:
            notes.append(
                f"{place} FOLDED is slower: {ratio.value:.2f}x ({ratio.low:.2f} to "
                f"{ratio.high:.2f})"
            )
        elif ratio.high > WIDE * ratio.low:
            notes.append(
                f"{place} the ratio can be anything from {ratio.low:.2f}x to {ratio.high:.2f}x: "
                "the machine was busy, or duration (--duration) is short"
            )
        flushed = cell.flushed
        if flushed is not None and flushed.is_faster and flushed.value >= WORTH:
            notes.append(
                f"{place} FOLDED runs {flushed.value:.2f}x as fast with subnormal numbers "
                "flushed to zero (session.set_denormal_as_zero)"
            )
    return notes


def notes_on_subnormals(label: str, counts: Mapping[str, int]) -> list[str]:
    """Subnormal weights by dtype, where they are not all of float32."""
    if not set(counts) - {"float32"}:
        return []
    listed = ", ".join(f"{count} of {dtype}" for dtype, count in sorted(counts.items()))
    return [f"subnormal weights in {label}: {listed}"]


def notes_on_setting(threads: int, cores: int, provider: str) -> list[str]:
    """What about the machine makes the numbers mean something else."""
    notes = []
    if threads > cores:
        notes.append(f"{threads} threads share {cores} cores")
    if provider != "CPUExecutionProvider":
        notes.append("memory is that of the host, not of the device")
    return notes

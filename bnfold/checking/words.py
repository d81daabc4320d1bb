"""Verdicts in words."""

from __future__ import annotations

from collections.abc import Sequence

from bnfold.checking.judgement import Judgement
from bnfold.checking.measure import Worst
from bnfold.checking.outcome import Difference, OutputCheck


def verdict_yes(outputs: Sequence[OutputCheck], by_tolerance: bool) -> str:
    """The line of a yes."""
    if all(output.max_abs == 0 for output in outputs):
        return "same function: no difference at all"
    if by_tolerance:
        largest = max(output.max_abs for output in outputs)
        return f"same function within the given tolerance: differences are at most {largest:.3g}"
    units = max(output.units for output in outputs)
    return f"same function: differences are {units:.1f}x what rounding the weights once explains"


def verdict_no(
    difference: Difference | None,
    failures: Sequence[Judgement],
    outputs: Sequence[OutputCheck],
    by_tolerance: bool,
) -> str:
    """The line of a no."""
    why = next((j.why for j in failures if j.why), "")
    why = why or next((output.why for output in outputs if output.why), "")
    if why:
        return f"not the same function: {why}"
    assert difference is not None
    if by_tolerance:
        return (
            f"not the same function within the given tolerance: {difference.tensor} is "
            f"{difference.folded:.6g} instead of {difference.original:.6g}"
        )
    norm = f" (norm {difference.norm})" if difference.norm else ""
    return f"not the same function: {difference.tensor}{norm} {_how_much(difference.units)}"


def _how_much(units: float) -> str:
    if units == float("inf"):
        return "is not a number on one side only"
    if units > 1e6:
        return "differs far beyond rounding"
    return f"differs by {units:.1f}x what rounding the weights once explains"


def difference_of(
    tensor: str, norm: str | None, worst: Worst | None, feed: str, units: float
) -> Difference:
    """Where two models differ first."""
    nan = float("nan")
    return Difference(
        tensor=tensor,
        norm=norm,
        channel=worst.channel if worst is not None else None,
        axis=worst.axis if worst is not None else None,
        feed=feed,
        original=worst.original if worst is not None else nan,
        folded=worst.folded if worst is not None else nan,
        units=units,
    )


def detours_note(tensors: Sequence[str]) -> str:
    """The note about tensors of one name that hold other values."""
    named = ", ".join(tensors[:3]) + (" ..." if len(tensors) > 3 else "")
    if len(tensors) == 1:
        return (
            f"the tensor {named} holds other values in the two models, which agree again after it"
        )
    return (
        f"{len(tensors)} tensors hold other values under the same name in the two models, which "
        f"agree again after them: {named}"
    )

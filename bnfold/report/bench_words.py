"""What a benchmark means, in sentences; each stands only where its numbers say so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from bnfold.measuring.notes import notes_on_norms, notes_on_time
from bnfold.measuring.outcome import BenchReport, Cell, Level, Start
from bnfold.report.lines import count
from bnfold.report.quantities import multiple, ratio, size, verdict

LEVEL_NAMES: Final[dict[Level, str]] = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
MUCH_MEMORY, MUCH_BYTES = 0.05, 1_000_000
"""Memory is measured once, so a smaller share of it, or fewer bytes, are not called a gain."""


def summary(report: BenchReport) -> str:
    """How much faster the folded model is, at which level, in one sentence.

    ``1.85x faster at ORT_DISABLE_ALL, the same at ORT_ENABLE_ALL, where onnxruntime folds all
    12 norms itself``.
    """
    if not report.is_same:
        return f"nothing was timed: {report.verdict}"
    parts: dict[str, list[str]] = {"faster": [], "mixed": [], "slower": [], "unclear": []}
    alike: dict[str, list[str]] = {}
    for level, cells in by_level(report.cells).items():
        found = {verdict(cell.ratio) for cell in cells}
        name = LEVEL_NAMES[level]
        if found == {"same"}:
            alike.setdefault(_why_the_same(report, level), []).append(name)
        elif found == {"faster"}:
            parts["faster"].append(f"{_range(cells)} faster at {name}")
        elif found == {"slower"}:
            parts["slower"].append(f"slower at {name} ({_range(cells)})")
        elif found == {"unclear"}:
            parts["unclear"].append(f"too noisy to tell at {name} ({_range(cells)})")
        else:
            parts["mixed"].append(f"{_range(cells)} at {name}")
    if parts["mixed"]:
        parts["mixed"] = [f"{listed(parts['mixed'])}, depending on the batch size"]
    timed = [part for group in parts.values() for part in group]
    same = [f"the same at {listed(names)}{why}" for why, names in alike.items()]
    return ", ".join([*timed, "; ".join(same)] if same else timed) or "nothing was timed"


def heading(report: BenchReport) -> str:
    """What stands above ``meaning``."""
    is_flat = any(verdict(cell.ratio) == "same" for cell in report.cells)
    return "what a ratio of 1.00x means here" if is_flat else "what this means"


def meaning(report: BenchReport) -> list[str]:
    """Why each ratio is what it is, and what was gained beside it; a sentence or two each."""
    return [*_of_runs(report), *_beside(report)] if report.cells else []


def subnormal(report: BenchReport) -> list[str]:
    """A warning of subnormal weights, and what flushing them brings; nothing if there are none."""
    before, after = report.subnormal_before, report.subnormal_after
    if not before and not after:
        return []
    held = f"ORIGINAL stores {count(before, 'subnormal weight')}, FOLDED {after:,}"
    said = [f"{held}: processors can take many times as long for arithmetic with such numbers."]
    flushed = [(cell, cell.flushed) for cell in report.cells if cell.flushed is not None]
    if flushed:
        first, *more = [f"{ratio(gain)} as fast at {_place(report, [c])}" for c, gain in flushed]
        brings = listed([first, *(text.replace(" as fast", "") for text in more)])
        said.append(
            "Flushing subnormal numbers to zero (onnxruntime's session.set_denormal_as_zero) makes "
            f"FOLDED {brings}."
        )
    return said


def other_notes(report: BenchReport) -> list[str]:
    """The notes without those that only say what the tables and the sentences here say."""
    said = {*notes_on_norms(report.starts, removed(report)), *notes_on_time(report.cells)}
    return [note for note in report.notes if note not in said]


def removed(report: BenchReport) -> int:
    """How many norms the folded model has less."""
    return max(report.norms_before - report.norms_after, 0)


def folded_by_runtime(report: BenchReport, start: Start) -> int | None:
    """How many of these norms onnxruntime folds itself; None where that cannot be told."""
    return None if start.norms_left is None else max(removed(report) - start.norms_left, 0)


def by_level(cells: Iterable[Cell]) -> dict[Level, list[Cell]]:
    """The cells of each level, in their order."""
    found: dict[Level, list[Cell]] = {}
    for cell in cells:
        found.setdefault(cell.level, []).append(cell)
    return found


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _norms_left(report: BenchReport, level: Level) -> int | None:
    """How many norms onnxruntime leaves in the original at a level; None where nobody knows."""
    found = [start.norms_left for start in report.starts if start.level == level]
    return found[0] if found else None


def _why_the_same(report: BenchReport, level: Level) -> str:
    left = _norms_left(report, level)
    if left is None or not removed(report):
        return ""
    return f", where onnxruntime {_folds(report) if left == 0 else _leaves(report, left)}"


def _folds(report: BenchReport) -> str:
    """``folds all 12 norms itself``; if the folded model has norms, only those that it lacks."""
    gone = removed(report)
    which = "the same" if report.norms_after else "all"
    return f"folds {'the norm' if gone == 1 else f'{which} {gone:,} norms'} itself"


def _leaves(report: BenchReport, left: int) -> str:
    """``leaves 3 of 12 norms``."""
    gone = removed(report)
    if left >= gone:
        return f"leaves {'the norm' if gone == 1 else f'all {gone:,} norms'}"
    return f"leaves {left:,} of {count(gone, 'norm')}"


def _of_runs(report: BenchReport) -> list[str]:
    """A sentence for all places at which the same holds."""
    groups: dict[str, list[str]] = {}
    for level, cells in by_level(report.cells).items():
        for found in ("same", "faster", "slower", "unclear"):
            here = [cell for cell in cells if verdict(cell.ratio) == found]
            why = _why(report, level, found) if here else ""
            if why:
                place = LEVEL_NAMES[level] if len(here) == len(cells) else _place(report, here)
                groups.setdefault(why, []).append(place)
    return [f"{listed(places)}: {why}" for why, places in groups.items()]


def _why(report: BenchReport, level: Level, found: str) -> str:
    """Why FOLDED is as fast as it is at a level; empty where there is nothing to explain."""
    left, gone = _norms_left(report, level), removed(report)
    profile = "" if report.spent else " --profile shows which operators take the time."
    if found == "slower":
        return f"FOLDED is slower there, beyond noise.{profile}"
    itself = f" onnxruntime {_folds(report)} there." if gone and left == 0 else ""
    if found == "unclear":
        helps = "a longer --duration or a quieter machine helps"
        return f"the runs differ too much to tell; {helps}.{itself}"
    if not gone:
        more = "" if found == "same" else f" That it is faster has another reason.{profile}"
        return f"FOLDED has as many norms as ORIGINAL.{more}"
    if left is None:
        unknown = "how many norms onnxruntime folds itself there cannot be told"
        return f"no difference beyond noise; {unknown}." if found == "same" else ""
    if found == "same":
        runs = "runs it" if gone == 1 else "runs them"
        if left == 0:
            return (
                f"onnxruntime {_folds(report)} whenever it creates a session, so neither model "
                f"{runs}, and there is nothing left to gain in a run."
            )
        return f"onnxruntime {_leaves(report, left)} in ORIGINAL, at a cost too small to be seen."
    if left == 0:
        fewer = report.subnormal_after < report.subnormal_before
        reason = "it stores fewer subnormal numbers" if fewer else "the norms are not why"
        return f"onnxruntime {_folds(report)}. FOLDED is faster all the same: {reason}.{profile}"
    if level == "disable":
        return ""
    them = "it" if gone == 1 else "them"
    return f"onnxruntime {_leaves(report, left)} in ORIGINAL; FOLDED does not have {them}."


def _beside(report: BenchReport) -> list[str]:
    """What was gained beside the time of a run, and where the norms do cost time."""
    said = []
    off = [cell for cell in report.cells if cell.level == "disable" and cell.ratio.is_faster]
    if off and 0 < removed(report) <= (_norms_left(report, "disable") or 0):
        said.append(
            f"{LEVEL_NAMES['disable']} is nearest to runtimes that do not fold norms while "
            f"loading: FOLDED is {_range(off)} faster there."
        )
    for word in ("faster", "slower"):
        found = [start for start in report.starts if verdict(start.ratio) == word]
        if found:
            each = [f"{multiple(s.ratio)} at {LEVEL_NAMES[s.level]}" for s in found]
            said.append(f"A session of FOLDED is created {word}: {listed(each)}.")
    saving = [
        f"{size(start.folded_memory)} instead of {size(start.original_memory)} at "
        f"{LEVEL_NAMES[start.level]}"
        for start in report.starts
        if start.original_memory is not None
        and start.folded_memory is not None
        and start.original_memory - start.folded_memory
        >= max(MUCH_BYTES, MUCH_MEMORY * start.original_memory)
    ]
    if saving:
        said.append(f"FOLDED takes less memory: {listed(saving)}.")
    nodes, saved = (
        report.nodes_before - report.nodes_after,
        report.bytes_before - report.bytes_after,
    )
    parts = [f"{count(nodes, 'fewer node')}"] if nodes > 0 else []
    parts += [f"{size(saved)} less to store"] if saved > 0 else []
    return [*said, f"FOLDED has {listed(parts)}."] if parts else said


def _range(cells: Sequence[Cell]) -> str:
    """``1.85x``, or ``1.85x to 2.10x`` over batch sizes."""
    found = sorted((cell.ratio for cell in cells), key=lambda r: r.value)
    ends = [multiple(found[0]), multiple(found[-1])]
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def _place(report: BenchReport, cells: Sequence[Cell]) -> str:
    """The level of some cells and, where there are several batch sizes, theirs."""
    name = LEVEL_NAMES[cells[0].level]
    if len({cell.batch for cell in report.cells}) == 1:
        return name
    return f"{name}, batch {listed([str(cell.batch) for cell in cells])}"

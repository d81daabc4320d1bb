"""The tables and the facts of a benchmark, as texts; its reports only set them out differently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bnfold.measuring.outcome import BenchReport, Level, Spent
from bnfold.report.bench_words import LEVEL_NAMES, folded_by_runtime, removed
from bnfold.report.lines import count
from bnfold.report.quantities import duration, ratio, size, spread, verdict

MOST_OPERATORS = 12
"""How many operator types a table of the profile lists; the JSON report lists all."""
NONE = "-"
_AROUND = ("If", "Loop", "Scan")
"""Operators whose time is that of the nodes inside of them, which are listed, too."""


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        title: what it shows.
        head: what stands above each column.
        rows: a text for each column.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(report: BenchReport) -> list[Table]:
    """Runs, what comes before them, and where the time goes."""
    found = [_cells(report), _starts(report), *_spent(report)]
    return [table for table in found if table.rows]


def facts(report: BenchReport) -> list[tuple[str, str]]:
    """The models, the machine, the versions and the settings: a word and what it says."""
    setting = report.setting
    before = (report.nodes_before, report.norms_before, report.bytes_before)
    after = (report.nodes_after, report.norms_after, report.bytes_after)
    found = [("original", _model(report.original, *before))]
    found.append(("folded", _model(report.folded, *after)))
    if report.is_same:
        found.append(("compared", report.verdict))
    cores = f"{count(setting.cores, 'core')} for this process"
    found.append(("machine", f"{setting.processor}, {cores}; {setting.system}"))
    if setting.device:
        found.append(("device", setting.device))
    found.append(("versions", ", ".join(f"{n} {v}" for n, v in setting.versions.items())))
    inputs = ", ".join(f"{n} {_shape(shape)}" for n, shape in setting.inputs.items())
    found.append(
        (
            "settings",
            f"{setting.provider}, {count(setting.threads, 'thread')}, {setting.duration:g} s for "
            f"each cell, seed {setting.seed}",
        )
    )
    found.append(("inputs", f"{inputs or 'none'}; {setting.data}"))
    if report.cells:
        found.append(("measured", _measured(report)))
    return found


def _measured(report: BenchReport) -> str:
    runs = sorted(spread.count for cell in report.cells for spread in (cell.original, cell.folded))
    number = f"{runs[0]:,}" if runs[0] == runs[-1] else f"{runs[0]:,} to {runs[-1]:,}"
    return (
        f"{number} samples of either model in each cell, in turn; ratio of the medians with a "
        "95 % bootstrap interval"
    )


def _model(name: str, nodes: int, norms: int, stored: int) -> str:
    with_norms = count(norms, "norm") if norms else "no norms"
    return f"{name}: {count(nodes, 'node')}, {with_norms}, {size(stored)}"


def _cells(report: BenchReport) -> Table:
    rows = [
        (
            _level(cell.level),
            NONE if cell.batch is None else str(cell.batch),
            spread(cell.original),
            spread(cell.folded),
            ratio(cell.ratio),
            verdict(cell.ratio),
        )
        for cell in report.cells
    ]
    head = ("level", "batch", "original", "folded", "ratio", "FOLDED")
    return _table("time of one run: median (10th-90th percentile)", head, rows)


def _starts(report: BenchReport) -> Table:
    rows = []
    for start in report.starts:
        folds, gone = folded_by_runtime(report, start), removed(report)
        rows.append(
            (
                _level(start.level),
                NONE if folds is None or not gone else f"{folds:,} of {gone:,}",
                duration(start.original.median),
                duration(start.folded.median),
                ratio(start.ratio),
                _memory(start.original_memory),
                _memory(start.folded_memory),
            )
        )
    head = (
        *("level", "norms folded"),
        *("session before", "after", "ratio", "memory before", "after"),
    )
    title = (
        "before the first run: norms that onnxruntime folds itself, creation of a session, memory"
    )
    return _table(title, head, rows)


def _spent(report: BenchReport) -> list[Table]:
    """A table for each level and batch, the last row the sum."""
    groups: dict[tuple[Level, int | None], list[Spent]] = {}
    for row in report.spent:
        groups.setdefault((row.level, row.batch), []).append(row)
    found = []
    for (level, batch), rows in groups.items():
        place = LEVEL_NAMES[level] + (f", batch {batch}" if batch is not None else "")
        shown = [_operator(row.operator, [row]) for row in rows[:MOST_OPERATORS]]
        others = rows[MOST_OPERATORS:]
        if others:
            shown.append(_operator(count(len(others), "other type"), others))
        leaves = [row for row in rows if row.operator not in _AROUND]
        around = ", ".join(row.operator for row in rows if row.operator in _AROUND)
        shown.append(_operator(f"all but {around}" if around else "all", leaves))
        head = ("operator", "nodes before", "after", "time before", "after", "change")
        found.append(Table(f"where the time of one run goes at {place}", head, tuple(shown)))
    return found


def _operator(name: str, rows: Sequence[Spent]) -> tuple[str, ...]:
    before, after = sum(row.original for row in rows), sum(row.folded for row in rows)
    nodes = sum(row.original_nodes for row in rows), sum(row.folded_nodes for row in rows)
    change = after - before
    sign = "+" if change > 0 else "-" if change < 0 else ""
    return (
        name,
        *(f"{number:,}" if number else NONE for number in nodes),
        *(
            duration(spent) if number else NONE
            for spent, number in zip((before, after), nodes, strict=True)
        ),
        f"{sign}{duration(abs(change))}",
    )


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table without the columns behind the first in which no row has anything."""
    kept = [i for i in range(len(head)) if i == 0 or any(row[i] != NONE for row in rows)]
    return Table(
        title,
        tuple(head[i] for i in kept),
        tuple(tuple(row[i] for i in kept) for row in rows),
    )


def _level(level: Level) -> str:
    """The level without the letters that all of them begin with."""
    return LEVEL_NAMES[level].removeprefix("ORT_")


def _memory(number: int | None) -> str:
    return NONE if number is None else size(number)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"

"""What effect.py finds out, and the tables that it prints."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.effect_folds import Fold
from benchmarks.effect_timing import LEVELS, Level, Ratio
from benchmarks.tools import BNFOLD

NOISE: Final = 0.02


@dataclass(frozen=True)
class Cell:
    """One model at one level.

    Attributes:
        seconds: median time of one run of the original.
        ratios: of its time to that of ``again`` (itself), ``bnfold``, and ``peer``.
        failure: why there are none, or ``""``.
    """

    seconds: float = 0.0
    ratios: Mapping[str, Ratio] = field(default_factory=dict)
    failure: str = ""

    @property
    def is_slower(self) -> bool:
        """Whether bnfold's fold is slower than the original, beyond noise."""
        if BNFOLD not in self.ratios:
            return False
        noise = min(1 - NOISE, self.ratios["again"].low)
        return self.ratios[BNFOLD].high < noise


@dataclass
class Row:
    """One model.

    Attributes:
        name, group: of the model, and of what it is summarised with.
        norms: how many bnfold finds in the original.
        own, others, best: bnfold's fold, those of the peers, and the best of these.
        cells: level -> cell.
    """

    name: str
    group: str
    norms: int
    own: Fold
    others: Sequence[Fold]
    best: Fold | None
    cells: dict[Level, Cell] = field(default_factory=dict)


HEADER: Final = (
    "| group | model | norms | left | best peer, left | ms | "
    + " | ".join(f"{level}: bnfold | peer" for level in LEVELS)
    + " |\n|---|---|---:|---:|---|---:|"
    + "---:|" * (2 * len(LEVELS))
)


def row_of(row: Row) -> str:
    """A row of the table: ratios with their 95 % intervals."""
    last = row.cells[LEVELS[-1]]
    cells = [row.group, row.name, f"{row.norms}", row.own.failure[:60] or f"{row.own.left}"]
    cells.append("none" if row.best is None else f"{row.best.tool}, {row.best.left}")
    cells.append(last.failure[:60] or f"{1000 * last.seconds:.3f}")
    for level in LEVELS:
        ratios = row.cells[level].ratios
        cells += [_shown(ratios.get(name)) for name in (BNFOLD, "peer")]
    return f"| {' | '.join(cells)} |"


def _shown(ratio: Ratio | None) -> str:
    return "" if ratio is None else f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def summary(rows: Sequence[Row]) -> str:
    """A table with a row for each group: the median over its models, and the smallest."""
    lines = [
        "| group | models | norms | left: bnfold | best peer | "
        + " | ".join(f"{level}: bnfold | peer" for level in LEVELS)
        + " | least: bnfold | peer |",
        "|---|---:|---:|---:|---:|" + "---:|" * (2 * len(LEVELS) + 2),
    ]
    for group in dict.fromkeys(row.group for row in rows):
        mine = [row for row in rows if row.group == group]
        right = [row.own.left for row in mine if not row.own.failure]
        peers = [row.norms if row.best is None else row.best.left for row in mine]
        cells = [group, len(mine), sum(row.norms for row in mine), sum(right), sum(peers)]
        least = []
        for level in LEVELS:
            cells += [_median(mine, level, name) for name in (BNFOLD, "peer")]
        for name in (BNFOLD, "peer"):
            values = [value for level in LEVELS for value in _values(mine, level, name)]
            least.append(f"{min(values):.2f}" if values else "")
        lines.append(f"| {' | '.join(map(str, [*cells, *least]))} |")
    return "\n".join(lines)


def _values(rows: Sequence[Row], level: Level, name: str) -> list[float]:
    found = (row.cells[level].ratios.get(name) for row in rows)
    return [ratio.value for ratio in found if ratio is not None]


def _median(rows: Sequence[Row], level: Level, name: str) -> str:
    values = _values(rows, level, name)
    return f"{statistics.median(values):.2f}" if values else ""


def findings(rows: Sequence[Row]) -> str:
    """Where bnfold's fold is slower beyond noise, and which folds do not count."""
    lines = []
    for row in rows:
        for level, cell in row.cells.items():
            if cell.is_slower:
                shown = _shown(cell.ratios[BNFOLD])
                again = _shown(cell.ratios["again"])
                lines.append(f"slower: {row.group} {row.name} at {level}: {shown}, noise {again}")
            if cell.failure:
                lines.append(f"not timed: {row.group} {row.name} at {level}: {cell.failure}")
        for fold in (row.own, *row.others):
            if fold.failure:
                lines.append(f"{fold.tool}: {row.group} {row.name}: {fold.failure}")
    noise = [c.ratios["again"].value for r in rows for c in r.cells.values() if c.ratios]
    if noise:
        lines.append(f"the original against itself: {min(noise):.2f} to {max(noise):.2f}")
    return "\n".join(lines)

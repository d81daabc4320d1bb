"""What effect.py finds out, and the tables that it prints."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.effect_folds import Fold
from benchmarks.effect_timing import LEVELS, Level, Pair, Ratio

NOISE: Final = 0.02


@dataclass(frozen=True)
class Cell:
    """One model at one level.

    Attributes:
        own, peer: the original beside bnfold's fold, and beside that of the best peer.
        again: beside itself; only where bnfold's fold looked slower at first.
    """

    own: Pair
    peer: Pair = field(default_factory=Pair)
    again: Pair = field(default_factory=Pair)

    @property
    def is_slower(self) -> bool:
        """Whether bnfold's fold is slower than the original, beyond noise."""
        own, again = self.own.ratio, self.again.ratio
        return own is not None and again is not None and own.high < min(1 - NOISE, again.low)


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
    last = row.cells[LEVELS[-1]].own
    cells = [row.group, row.name, f"{row.norms}", row.own.failure[:60] or f"{row.own.left}"]
    cells.append("none" if row.best is None else f"{row.best.tool}, {row.best.left}")
    cells.append(last.failure[:60] or f"{1000 * last.seconds:.3f}")
    for level in LEVELS:
        cells += [shown(row.cells[level].own.ratio), shown(row.cells[level].peer.ratio)]
    return f"| {' | '.join(cells)} |"


def shown(ratio: Ratio | None) -> str:
    """A ratio with its 95 % interval."""
    return "" if ratio is None else f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def summary(rows: Sequence[Row]) -> str:
    """A table with a row for each group: the medians over its models, and the smallest."""
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
        own, peer = (_columns(mine, is_own) for is_own in (True, False))
        for pair in zip(own, peer, strict=True):
            cells += [_median(values) for values in pair]
        for columns in (own, peer):
            every = [value for values in columns for value in values]
            cells.append(f"{min(every):.2f}" if every else "")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def _columns(rows: Sequence[Row], is_own: bool) -> list[list[float]]:
    """For each level the ratios of all models that run."""
    columns = []
    for level in LEVELS:
        cells = [row.cells[level] for row in rows]
        ratios = [(cell.own if is_own else cell.peer).ratio for cell in cells]
        columns.append([ratio.value for ratio in ratios if ratio is not None])
    return columns


def _median(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f}" if values else ""


def findings(rows: Sequence[Row]) -> str:
    """Where bnfold's fold is slower beyond noise, and which folds do not count."""
    lines = []
    for row in rows:
        label = f"{row.group} {row.name}"
        for level, cell in row.cells.items():
            if cell.is_slower:
                noise = shown(cell.again.ratio)
                lines.append(f"slower: {label} at {level}: {shown(cell.own.ratio)}, noise {noise}")
            lines += [
                f"not timed: {label} at {level}: {pair.failure}"
                for pair in (cell.own, cell.peer)
                if pair.failure
            ]
        for fold in (row.own, *row.others):
            if fold.failure:
                lines.append(f"{fold.tool}: {label}: {fold.failure}")
    return "\n".join(lines)

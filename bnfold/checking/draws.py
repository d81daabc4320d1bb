"""How far rounding moves a tensor: draws on both sides, as many as it takes to say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy.typing as npt

from bnfold.checking.measure import ARITHMETIC, ATTRIBUTES, Comparison, Worst
from bnfold.checking.rounding import Move
from bnfold.checking.side import Side
from bnfold.onnxgraph.graph import Node

Array = npt.NDArray[Any]

DRAWS = ((1, 0.0), (4, 0.6), (12, 0.7), (32, 0.8))
"""Draws of rounding for a tensor; more where the share of ``multiple`` reached is so much."""

HOPELESS = 50.0
"""So many times too far off, more draws cannot mend it..."""

ENOUGH = 4
"""... once there are this many: a single one can be almost nothing by chance."""


class Draws:
    """The draws of rounding of both sides, made when they are first needed.

    FOLDED's constants move by half a unit of the dtype that they are stored in. Those that only
    ORIGINAL has move by a whole unit, which is what the few operations of a fold lose in arithmetic
    of that dtype: whoever folds in the dtype of the model is right, whoever folds in a narrower one
    is not.
    """

    def __init__(self, original: Side, folded: Side, seed: int) -> None:
        self._original = original.changed(folded)
        self._folded = folded.changed(original)
        self._seed = seed
        self._made: dict[int, tuple[Move, Move]] = {}
        self.is_narrow = folded.narrow(self._folded)

    def __getitem__(self, number: int) -> tuple[Move, Move]:
        if number not in self._made:
            keeps = number == 0
            self._made[number] = (
                Move(self._original, (self._seed, number, 0), units=1.0, keeps=keeps),
                Move(self._folded, (self._seed, number, 1), keeps=keeps),
            )
        return self._made[number]


def floor_of(original: Side, ours: Iterable[Node], folded: Side, theirs: Iterable[Node]) -> float:
    """What is no difference in any case, relative to the values."""
    has_new = not folded.attributes(theirs) <= original.attributes(ours)
    return ATTRIBUTES if has_new else ARITHMETIC


def measured(
    comparison: Comparison,
    draw: Callable[[int], Sequence[tuple[Array, Array]]],
    multiple: float,
) -> Worst:
    """The worst channel; takes more draws as long as chance could be the reason.

    Args:
        draw: gives the moved and unmoved values of draw number n.
        multiple: how many units of rounding are still the same function.
    """
    worst = comparison.worst()
    for most, suspicious in DRAWS:
        if comparison.draws and worst.units < suspicious * multiple:
            break
        if comparison.draws >= ENOUGH and worst.units > HOPELESS * multiple:
            break
        while comparison.draws < most:
            comparison.add_draw(*draw(comparison.draws))
        worst = comparison.worst()
    return worst

"""The outputs of both models, compared from the inputs on."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfold.checking.deployed import Truth
from bnfold.checking.drawn import Feed
from bnfold.checking.draws import Draws, floor_of, measured
from bnfold.checking.measure import Comparison, Worst, root_mean_square
from bnfold.checking.options import Closeness
from bnfold.checking.outcome import OutputCheck
from bnfold.checking.side import Side
from bnfold.checking.unlike import joined, why_unlike
from bnfold.errors import ModelError

Array = npt.NDArray[Any]


@dataclass(eq=False)
class OutputTally:
    """What was seen of one output so far.

    Attributes:
        worst, feed: the worst channel, and the data that shows it.
        has_numbers: whether any value was finite in ORIGINAL.
    """

    name: str
    dtype: str = ""
    is_same: bool = True
    max_abs: float = 0.0
    max_relative: float = 0.0
    units: float = 0.0
    snr_db: float = float("inf")
    agreements: tuple[int, int] = (0, 0)
    why: str = ""
    worst: Worst | None = None
    feed: str = ""
    has_numbers: bool = False
    rank: float = 0.0

    def fail(self, feed: str, why: str) -> None:
        """Note a difference that is no number."""
        self.is_same, self.why = False, why
        self.max_abs = self.units = float("inf")
        self.feed = feed

    def judge(
        self,
        comparison: Comparison,
        worst: Worst,
        feed: str,
        multiple: float,
        closeness: Closeness | None,
    ) -> None:
        """Add one feed, judged by units of rounding, or by a tolerance in their place."""
        is_same, rank = worst.units <= multiple, worst.units
        if closeness is not None:
            rank, worst = closeness.worst(comparison)
            is_same = rank <= 0
        self._add(comparison, worst, feed, is_same, rank)

    def _add(
        self, comparison: Comparison, worst: Worst, feed: str, is_same: bool, rank: float
    ) -> None:
        """Add one feed.

        Args:
            rank: how much the worst place speaks against the models being the same.
        """
        original = comparison.original
        self.dtype = self.dtype or str(original.dtype)
        difference = comparison.difference
        size = np.abs(original.astype(np.float64)) if original.dtype.kind in "fiub" else None
        finite = np.isfinite(size) if size is not None else np.ones(original.shape, bool)
        self.has_numbers = self.has_numbers or bool(finite.any())
        largest = float(np.abs(difference).max(initial=0.0))
        self.max_abs = max(self.max_abs, largest)
        if size is not None and finite.any():
            scale = float(size[finite].max())
            self.max_relative = max(self.max_relative, largest / scale if scale else 0.0)
            signal, noise = root_mean_square(size[finite]), root_mean_square(difference[finite])
            if noise and signal:
                self.snr_db = min(self.snr_db, float(20 * np.log10(signal / noise)))
        if original.ndim >= 2 and original.shape[1] > 1 and original.dtype.kind == "f":
            same = original.argmax(axis=1) == comparison.folded.argmax(axis=1)
            seen = self.agreements
            self.agreements = (seen[0] + int(same.sum()), seen[1] + int(same.size))
        self.units = max(self.units, worst.units)
        if rank > self.rank or self.worst is None:
            self.rank, self.worst, self.feed = rank, worst, feed
        self.is_same = self.is_same and is_same

    def check(self, element_type: str) -> OutputCheck:
        """The result."""
        agreed, seen = self.agreements
        return OutputCheck(
            name=self.name,
            dtype=element_type,
            is_same=self.is_same,
            max_abs=self.max_abs,
            max_relative=self.max_relative,
            units=self.units,
            snr_db=self.snr_db,
            argmax_agreement=agreed / seen if seen else None,
            why=self.why,
        )


class WholeCheck:
    """Compares the outputs on one feed after the other.

    Attributes:
        tallies: what was seen of each output.
        truths: the feeds with ORIGINAL's outputs, for the check in onnxruntime.
    """

    def __init__(
        self,
        original: Side,
        folded: Side,
        draws: Draws,
        multiple: float,
        seed: int,
        closeness: Closeness | None = None,
    ) -> None:
        self._original, self._folded = original, folded
        self._draws, self._multiple, self._seed = draws, multiple, seed
        self._closeness = closeness
        self._floor = floor_of(original, original.index.nodes, folded, folded.index.nodes)
        self.tallies = {name: OutputTally(name) for name in original.output_names}
        self.truths: list[Truth] = []

    def add_feed(self, feed: Feed, expected: Mapping[str, Array]) -> None:
        """Compare the outputs on one feed.

        Args:
            expected: ORIGINAL's outputs.
        """
        names = self._original.output_names
        arrays: dict[str, Any] = dict(feed.arrays)
        try:
            found = self._folded.run(arrays, names, seed=self._seed)
        except ModelError as error:
            for tally in self.tallies.values():
                tally.fail(feed.name, str(error))
            return
        moved: dict[int, tuple[dict[str, Array] | None, dict[str, Array] | None]] = {}
        noise: dict[str, list[float]] = {name: [] for name in names}

        def run(number: int) -> tuple[dict[str, Array] | None, dict[str, Array] | None]:
            if number not in moved:
                pair = []
                for side, move in zip(
                    (self._original, self._folded), self._draws[number], strict=True
                ):
                    values = None
                    if move.moves_anything:
                        with contextlib.suppress(ModelError):
                            outputs = side.run(arrays, names, move, seed=self._seed)
                            values = {name: joined(value) for name, value in outputs.items()}
                    pair.append(values)
                moved[number] = (pair[0], pair[1])
            return moved[number]

        for name in names:
            tally, mine, other = self.tallies[name], expected[name], found[name]
            why = why_unlike(mine, other)
            if why:
                tally.fail(feed.name, f"{name} {why}")
                continue
            mine, other = joined(mine), joined(other)

            def draw(
                number: int, name: str = name, mine: Array = mine, other: Array = other
            ) -> list[tuple[Array, Array]]:
                before, after = run(number)
                is_float = other.dtype.kind == "f"
                if is_float and after is not None and after[name].shape == other.shape:
                    with np.errstate(all="ignore"):
                        shift = after[name].astype(np.float64) - other.astype(np.float64)
                    noise[name].append(root_mean_square(np.nan_to_num(shift, posinf=0, neginf=0)))
                pairs = ((before, mine), (after, other))
                return [(values[name], still) for values, still in pairs if values is not None]

            comparison = Comparison(mine, other, self._floor)
            worst = measured(comparison, draw, self._multiple)
            tally.judge(comparison, worst, feed.name, self._multiple, self._closeness)
        self.truths.append(
            Truth(
                feed,
                {name: expected[name] for name in names},
                {name: root_mean_square(values) for name, values in noise.items()},
            )
        )

"""The steps of a measurement, each in a child process: creation, memory, time, profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bnfold.errors import BnfoldError
from bnfold.measuring import samples
from bnfold.measuring.children import Children, Model, Place
from bnfold.measuring.left import Norms
from bnfold.measuring.outcome import Cell, Ratio, Spent, Start
from bnfold.measuring.profile import Used, read_profile, spent
from bnfold.measuring.progress import Progress
from bnfold.measuring.turns import Block
from bnfold.onnxgraph.load import load

CHILD = 1.0
"""Seconds that a child takes before it begins, for the progress."""

LEAST_PROFILED = 3
"""Runs of a profile."""

PROFILED_NODES = 100_000
"""So many nodes are profiled at most, in all runs together: each is three events in a file."""

FLUSHED = {"session.set_denormal_as_zero": "1"}
"""Reads and writes subnormal numbers as zero."""

BESIDE = {
    "session.optimized_model_external_initializers_file_name": "optimized.data",
    "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
}
"""Lets onnxruntime write a model of any size."""


@dataclass(frozen=True)
class Steps:
    """Seconds that each kind of step should take."""

    verify: float
    start: float
    memory: float
    optimise: float
    time: float
    profile: float

    @classmethod
    def of(cls, duration: float) -> Steps:
        """Those of a measurement with cells of so many seconds."""
        return cls(
            verify=2.0,
            start=duration / 2 + CHILD,
            memory=CHILD,
            optimise=CHILD,
            time=1.1 * duration + CHILD,
            profile=duration / 4 + CHILD,
        )


class Measurement:
    """Measures two models.

    Args:
        models: ORIGINAL and FOLDED.
        nodes: of either.
        removed: the norms that only the first has.
        duration: seconds of each cell.
        seed: of the bootstrap.
        is_slow: whether the second has subnormal weights of float32.
    """

    def __init__(
        self,
        children: Children,
        progress: Progress,
        models: Sequence[Model],
        *,
        nodes: Sequence[int],
        removed: Norms,
        duration: float,
        seed: int,
        is_slow: bool,
    ) -> None:
        self._children, self._progress = children, progress
        self._models, self._nodes, self._removed = list(models), nodes, removed
        self._duration, self._seed, self._is_slow = duration, seed, is_slow
        self._steps = Steps.of(duration)

    def start(self, run: Place, feeds: str) -> Start:
        """How long sessions take to create, and what memory.

        Args:
            run: with the batch that is run once to see what memory that takes.
            feeds: where its inputs are, as ``Children.keep`` gives it.
        """
        place = Place(run.level)
        self._progress.begin(f"creating sessions, {place}", self._steps.start)
        blocks = self._children.ask("start", self._models, place, duration=self._duration / 2)
        memory = []
        for model in self._models:
            self._progress.begin(f"memory, {place}", self._steps.memory)
            memory.append(self._children.memory(model, run, feeds))
        self._progress.begin(f"what onnxruntime folds, {place}", self._steps.optimise)
        left = self.left(place)
        first, second = samples.sides(blocks)
        return Start(
            level=place.level,
            norms_left=left,
            original=samples.spread(first.reshape(-1)),
            folded=samples.spread(second.reshape(-1)),
            ratio=samples.ratio(blocks, self._seed),
            original_memory=memory[0],
            folded_memory=memory[1],
        )

    def left(self, place: Place) -> int | None:
        """How many of the norms that the fold removed are in what onnxruntime makes of ORIGINAL."""

        def count(folder: Path) -> int:
            return self._removed.left_in(load(folder / "optimized.onnx").proto)

        try:
            found: int = self._children.ask(
                "optimise", self._models[:1], place, configs=[BESIDE], read=count
            )
        except BnfoldError:
            # Not every model that runs can be written again.
            return None
        return found

    def cell(self, place: Place, feeds: str) -> Cell:
        """How long both models take; ``feeds`` as in ``start``."""
        blocks = self._timed(self._models, place, feeds, [{}, {}])
        flushed: Ratio | None = None
        if self._is_slow:
            folded = self._models[1]
            both = self._timed([folded, folded], place, feeds, [{}, FLUSHED])
            flushed = samples.ratio(both, self._seed)
        first, second = samples.sides(blocks)
        return Cell(
            level=place.level,
            batch=place.batch,
            original=samples.spread(first.reshape(-1)),
            folded=samples.spread(second.reshape(-1)),
            ratio=samples.ratio(blocks, self._seed),
            flushed=flushed,
        )

    def _timed(
        self, pair: Sequence[Model], place: Place, feeds: str, configs: list[dict[str, str]]
    ) -> list[Block]:
        self._progress.begin(f"timing, {place}", self._steps.time)
        blocks: list[Block] = self._children.ask(
            "time", pair, place, feeds=feeds, duration=self._duration, configs=configs
        )
        return blocks

    def spent(self, place: Place, feeds: str) -> list[Spent]:
        """Time by operator type; ``feeds`` as in ``start``."""
        found = []
        for model, nodes in zip(self._models, self._nodes, strict=True):
            self._progress.begin(f"profiling, {place}", self._steps.profile)
            used = self._children.ask(
                "profile",
                [model],
                place,
                feeds=feeds,
                duration=self._duration / 4,
                least=LEAST_PROFILED,
                most=max(LEAST_PROFILED, min(100, PROFILED_NODES // max(1, nodes))),
                read=_profile_in,
            )
            found.append(used)
        return spent(place.level, place.batch, found[0], found[1])


def _profile_in(folder: Path) -> dict[str, Used]:
    (path,) = folder.glob("profile*.json")
    return read_profile(path)

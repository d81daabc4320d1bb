"""How much faster a folded model is, where it is the same function at all."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import bnfold
from bnfold.checking import runtime
from bnfold.checking.options import Options as Checks
from bnfold.checking.outcome import VerifyReport
from bnfold.checking.side import Side
from bnfold.checking.verify import verify
from bnfold.errors import BnfoldError, ModelError
from bnfold.folding.summary import document_size
from bnfold.measuring import machine, notes, provider, samples
from bnfold.measuring.children import Children, Model, Place
from bnfold.measuring.feeding import Feeding
from bnfold.measuring.left import Norms, node_count, norms_of
from bnfold.measuring.options import Options
from bnfold.measuring.outcome import BenchReport, Cell, Level, Ratio, Setting, Spent, Start
from bnfold.measuring.profile import read_profile, spent
from bnfold.measuring.progress import Callback, Progress
from bnfold.measuring.subnormal import subnormal_weights
from bnfold.onnxgraph.load import Document, load

CHILD = 1.0
"""Seconds that a child takes before it begins, for the progress."""

PROFILED_NODES = 100_000
"""So many nodes are profiled at most, in all runs together: each is three events in a file."""

FLUSHED = {"session.set_denormal_as_zero": "1"}
"""Reads and writes subnormal numbers as zero."""

BESIDE = {
    "session.optimized_model_external_initializers_file_name": "optimized.data",
    "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
}
"""Lets onnxruntime write a model of any size."""


def benchmark(
    original: Document, folded: Document, options: Options, progress: Callback | None = None
) -> BenchReport:
    """Measure two models; see ``bnfold.benchmark``."""
    version, available = provider.installed()
    name = provider.full_name(options.provider, available)
    side = Side(original)
    feeding = Feeding(side, options)
    return _Benchmark(original, folded, options, side, feeding, name, version, progress).run()


@dataclass(frozen=True)
class _Steps:
    """Seconds that each kind of step should take."""

    verify: float
    start: float
    memory: float
    optimise: float
    time: float
    profile: float

    @classmethod
    def of(cls, duration: float) -> _Steps:
        return cls(
            verify=2.0,
            start=duration / 2 + CHILD,
            memory=CHILD,
            optimise=CHILD,
            time=1.1 * duration + CHILD,
            profile=duration / 4 + CHILD,
        )


class _Benchmark:
    def __init__(
        self,
        original: Document,
        folded: Document,
        options: Options,
        side: Side,
        feeding: Feeding,
        provider_name: str,
        version: str,
        callback: Callback | None,
    ) -> None:
        self._original, self._folded, self._options = original, folded, options
        self._side = side
        self._feeding, self._provider, self._version = feeding, provider_name, version
        self._steps = _Steps.of(options.duration)
        self._subnormal = [subnormal_weights(document) for document in (original, folded)]
        self._has_slow_weights = bool(self._subnormal[1].get("float32"))
        self._progress = Progress(callback, self._expected())

    def run(self) -> BenchReport:
        """Verify, then measure."""
        self._progress.begin("comparing the models", self._steps.verify)
        checked = self._verify()
        norms = [norms_of(document) for document in (self._original, self._folded)]
        report = self._report(checked, norms)
        if checked.is_same:
            with ExitStack() as stack:
                folder = tempfile.TemporaryDirectory(prefix="bnfold-")
                models = [
                    Model(role, document.name, stack.enter_context(runtime.on_disk(document)))
                    for role, document in (
                        ("ORIGINAL", self._original),
                        ("FOLDED", self._folded),
                    )
                ]
                place = Path(stack.enter_context(folder))
                report = self._measured(report, norms[0].without(self._folded.proto), models, place)
        self._progress.end()
        return report

    def _expected(self) -> float:
        steps, options = self._steps, self._options
        cells = len(options.levels) * len(self._feeding.batches)
        each = steps.start + 2 * steps.memory + steps.optimise
        turn = steps.time * (2 if self._has_slow_weights else 1)
        turn += 2 * steps.profile if options.profile else 0
        return steps.verify + len(options.levels) * each + cells * turn

    def _verify(self) -> VerifyReport:
        options = self._options
        # What the float64 evaluator does not know, only onnxruntime can compare.
        unknown = self._side.evaluator.unknown or Side(self._folded).evaluator.unknown
        checks = Checks(
            feeds=[options.feeds] if options.feeds is not None else (),
            inputs=options.inputs,
            dims=options.dims,
            trials=0 if options.feeds is not None else 1,
            seed=options.seed,
            runtime=bool(unknown),
        )
        return verify(self._original, self._folded, checks)

    def _report(self, checked: VerifyReport, norms: list[Norms]) -> BenchReport:
        before, after = self._original, self._folded
        return BenchReport(
            original=before.name,
            folded=after.name,
            is_same=checked.is_same,
            verdict=checked.verdict,
            norms_before=norms[0].count,
            norms_after=norms[1].count,
            nodes_before=node_count(before),
            nodes_after=node_count(after),
            bytes_before=document_size(before),
            bytes_after=document_size(after),
            subnormal_before=sum(self._subnormal[0].values()),
            subnormal_after=sum(self._subnormal[1].values()),
            setting=self._setting({}),
        )

    def _setting(self, inputs: Mapping[str, tuple[int, ...]]) -> Setting:
        options = self._options
        return Setting(
            provider=self._provider,
            threads=options.threads,
            duration=options.duration,
            seed=options.seed,
            inputs=dict(inputs),
            data=self._feeding.data,
            processor=machine.processor(),
            cores=machine.cores(),
            system=machine.system(),
            versions={
                "bnfold": bnfold.__version__,
                "numpy": np.__version__,
                "onnx": onnx.__version__,
                "onnxruntime": self._version,
                "python": machine.python_version(),
            },
            device=machine.device(self._provider),
        )

    def _measured(
        self, report: BenchReport, removed: Norms, models: list[Model], folder: Path
    ) -> BenchReport:
        options, feeding = self._options, self._feeding
        providers = provider.in_order(self._provider)
        children = Children(folder, providers, options.threads, self._progress)

        def failure(arrays: dict[str, Any]) -> str:
            done = runtime.run(models[0].path, [arrays], self._side.output_names)
            if not done.is_loaded:
                raise ModelError(f"ORIGINAL ({models[0].name}): {done.error}")
            return done.error

        chosen = feeding.settle(failure)
        feeds: dict[int | None, str] = {}
        shapes: dict[str, tuple[int, ...]] = {}
        for batch in feeding.batches:
            arrays = feeding.arrays(batch)
            shapes = shapes or {name: tuple(array.shape) for name, array in arrays.items()}
            feeds[batch] = children.keep(arrays)
        cells: list[Cell] = []
        starts: list[Start] = []
        rows: list[Spent] = []
        for level in options.levels:
            starts.append(self._start(children, models, level, removed, feeds))
            for batch in feeding.batches:
                place = Place(level, batch)
                cells.append(self._cell(children, models, place, feeds[batch]))
                if options.profile:
                    rows += self._spent(children, models, place, feeds[batch])
        setting = self._setting(shapes)
        return replace(
            report,
            cells=tuple(cells),
            starts=tuple(starts),
            spent=tuple(rows),
            setting=setting,
            notes=(
                *chosen,
                *notes.notes_on_norms(starts, removed.count),
                *notes.notes_on_time(cells),
                *notes.notes_on_subnormals("ORIGINAL", self._subnormal[0]),
                *notes.notes_on_subnormals("FOLDED", self._subnormal[1]),
                *notes.notes_on_setting(options.threads, setting.cores, self._provider),
            ),
        )

    def _start(
        self,
        children: Children,
        models: list[Model],
        level: Level,
        removed: Norms,
        feeds: Mapping[int | None, str],
    ) -> Start:
        place, steps = Place(level), self._steps
        self._progress.begin(f"creating sessions, {place}", steps.start)
        blocks = children.ask("start", models, place, duration=self._options.duration / 2)
        memory = []
        for model in models:
            self._progress.begin(f"memory, {place}", steps.memory)
            memory.append(children.memory(model, place, next(iter(feeds.values()))))
        self._progress.begin(f"what onnxruntime folds, {place}", steps.optimise)
        left = self._left(children, models[0], place, removed)
        first, second = samples.sides(blocks)
        return Start(
            level=level,
            norms_left=left,
            original=samples.spread(first.reshape(-1)),
            folded=samples.spread(second.reshape(-1)),
            ratio=samples.ratio(blocks, self._options.seed),
            original_memory=memory[0],
            folded_memory=memory[1],
        )

    def _left(self, children: Children, model: Model, place: Place, removed: Norms) -> int | None:
        """How many of the norms that the fold removed are in what onnxruntime makes of ORIGINAL."""

        def count(folder: Path) -> int | None:
            return removed.left_in(load(folder / "optimized.onnx").proto)

        try:
            found: int | None = children.ask(
                "optimise", [model], place, configs=[BESIDE], read=count
            )
        except BnfoldError:
            # Not every model that runs can be written again.
            return None
        return found

    def _cell(self, children: Children, models: list[Model], place: Place, feeds: str) -> Cell:
        def timed(pair: list[Model], configs: list[dict[str, str]]) -> Any:
            self._progress.begin(f"timing, {place}", self._steps.time)
            return children.ask(
                "time",
                pair,
                place,
                feeds=feeds,
                duration=self._options.duration,
                configs=configs,
            )

        seed = self._options.seed
        blocks = timed(models, [{}, {}])
        flushed: Ratio | None = None
        if self._has_slow_weights:
            flushed = samples.ratio(timed([models[1], models[1]], [{}, FLUSHED]), seed)
        first, second = samples.sides(blocks)
        return Cell(
            level=place.level,
            batch=place.batch,
            original=samples.spread(first.reshape(-1)),
            folded=samples.spread(second.reshape(-1)),
            ratio=samples.ratio(blocks, seed),
            flushed=flushed,
        )

    def _spent(
        self, children: Children, models: list[Model], place: Place, feeds: str
    ) -> list[Spent]:
        found = []
        for model, document in zip(models, (self._original, self._folded), strict=True):
            self._progress.begin(f"profiling, {place}", self._steps.profile)
            most = max(3, PROFILED_NODES // max(1, node_count(document)))
            found.append(
                children.ask(
                    "profile",
                    [model],
                    place,
                    feeds=feeds,
                    duration=self._options.duration / 4,
                    runs=min(100, most),
                    least=3,
                    read=_profile_in,
                )
            )
        return spent(place.level, place.batch, found[0], found[1])


def _profile_in(folder: Path) -> Any:
    (path,) = folder.glob("profile*.json")
    return read_profile(path)

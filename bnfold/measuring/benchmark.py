"""How much faster a folded model is, where it is the same function at all."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import bnfold
from bnfold.checking import runtime
from bnfold.checking.cores import cores
from bnfold.checking.options import Options as Checks
from bnfold.checking.side import Side
from bnfold.checking.verify import verify
from bnfold.errors import ModelError
from bnfold.folding.outcome import RegionsChecked
from bnfold.folding.summary import document_size
from bnfold.measuring import machine, notes, provider
from bnfold.measuring.children import Children, Model, Place
from bnfold.measuring.feeding import Feeding
from bnfold.measuring.left import Norms, node_count, norms_of
from bnfold.measuring.measure import Measurement, Steps
from bnfold.measuring.options import Options
from bnfold.measuring.outcome import BenchReport, Cell, Setting, Spent, Start
from bnfold.measuring.progress import Callback, Progress
from bnfold.measuring.subnormal import subnormal_weights
from bnfold.onnxgraph.load import Document

TRUSTED = 1 << 26
"""A fold of bnfold's own above this many bytes (64 MiB) is not compared as a whole.

Each operator that it changes was, in float64. The whole model in float64, many times over, takes
ten times the memory of the file and minutes.
"""


def benchmark(
    original: Document,
    folded: Document,
    options: Options,
    progress: Callback | None = None,
    *,
    own: RegionsChecked | None = None,
) -> BenchReport:
    """Measure two models; see ``bnfold.benchmark``.

    Args:
        own: what bnfold found when it made ``folded`` of ``original``; None for another model.
    """
    version, available = provider.installed()
    name = provider.full_name(options.provider, available)
    side = Side(original)
    feeding = Feeding(side, options)
    if own is not None and (own.unchecked or document_size(original) <= TRUSTED):
        own = None
    return _Benchmark(original, folded, options, side, feeding, name, version, progress).run(own)


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
        self._steps = Steps.of(options.duration)
        self._subnormal = [subnormal_weights(document) for document in (original, folded)]
        self._is_slow = bool(self._subnormal[1].get("float32"))
        self._progress = Progress(callback, self._expected())

    def run(self, own: RegionsChecked | None) -> BenchReport:
        """Verify, then measure.

        Args:
            own: the fold's own check where it will do.
        """
        self._progress.begin("comparing the models", self._steps.verify)
        is_same, verdict = self._verify() if own is None else (True, _words(own))
        norms = [norms_of(document) for document in (self._original, self._folded)]
        report = self._report(is_same, verdict, norms)
        if is_same:
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
        turn = steps.time * (2 if self._is_slow else 1)
        turn += 2 * steps.profile if options.profile else 0
        return steps.verify + len(options.levels) * each + cells * turn

    def _verify(self) -> tuple[bool, str]:
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
        found = verify(self._original, self._folded, checks)
        return found.is_same, found.verdict

    def _report(self, is_same: bool, verdict: str, norms: list[Norms]) -> BenchReport:
        before, after = self._original, self._folded
        return BenchReport(
            original=before.name,
            folded=after.name,
            is_same=is_same,
            verdict=verdict,
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
            cores=cores(),
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
        measurement = Measurement(
            children,
            self._progress,
            models,
            nodes=(report.nodes_before, report.nodes_after),
            removed=removed,
            duration=options.duration,
            seed=options.seed,
            is_slow=self._is_slow,
        )

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
            first = feeding.batches[0]
            starts.append(measurement.start(Place(level, first), feeds[first]))
            for batch, where in feeds.items():
                cells.append(measurement.cell(Place(level, batch), where))
                if options.profile:
                    rows += measurement.spent(Place(level, batch), where)
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


def _words(own: RegionsChecked) -> str:
    return (
        f"same function: each of the {own.regions} operators that the fold changed was compared in "
        f"float64 and is {own.max_ulp:.2f} units in the last place off at most"
    )

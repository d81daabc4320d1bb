"""Is a folded model the same function, valid, and no larger? Judged apart from the folder.

Both models run in float64 on data of size 30 (`tests.fuzz.outputs`) in `bnfold.reference`, which
shares nothing with the folder, and a quarter of them in onnx's evaluator, too. Another quarter is
folded twice, another with ``--merge-branches`` and ``--duplicate``.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import inliner

import bnfold
from bnfold.errors import BnfoldError
from bnfold.folding.reasons import REASONS
from tests.fuzz.generate import Drawn
from tests.fuzz.outputs import differences
from tests.fuzz.reorder import reordered
from tests.support_models import DTYPES, graphs

IN_ONNX, FOLDED_TWICE, WITH_OPTIONS = 0, 1, 2
"""A quarter of the models goes into each of these: see `_lot`."""
ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Pad", "BatchNormalization"}


@dataclass
class Judgement:
    """What one model showed.

    Attributes:
        wrong: what a fold got wrong, in words.
        crashes: exceptions, in words.
        folded: how many norms folded.
        kept: how many norms stay, by reason code.
        checked, unchecked: of the fold's own check.
        counts: what else is counted: comparisons, and what could not be compared.
    """

    wrong: list[str] = field(default_factory=list)
    crashes: list[str] = field(default_factory=list)
    folded: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    checked: int = 0
    unchecked: int = 0
    counts: Counter[str] = field(default_factory=Counter)


def judged(drawn: Drawn) -> Judgement:
    """Fold a model, and judge the result."""
    found = Judgement()
    try:
        _judge(drawn, found)
    except BnfoldError as error:
        found.crashes.append(f"{type(error).__name__}: {error}")
    except Exception:
        found.crashes.append(traceback.format_exc(limit=-4))
    return found


def _judge(drawn: Drawn, found: Judgement) -> None:
    model = drawn.model
    result = bnfold.fold(model)
    folded, report = result.model, result.report
    found.folded = len(report.folded)
    found.kept.update(norm.code for norm in report.kept)
    if report.checked is not None:
        found.checked, found.unchecked = report.checked.regions, report.checked.unchecked
    found.wrong += [f"{n.norm} stays without a reason" for n in report.kept if not _has_reason(n)]
    found.wrong += unlike(model, folded)
    rng = np.random.default_rng([drawn.seed, 1])
    if _routes(bnfold.fold(reordered(model, rng), verify=False).report) != _routes(report):
        found.wrong.append("another order of nodes gives other folds")
    in_onnx = _lot(drawn) == IN_ONNX
    found.wrong += differences(
        drawn, folded, found.counts, flushes=report.flushed > 0, in_onnx=in_onnx
    )
    if _lot(drawn) == FOLDED_TWICE:
        again = bnfold.fold(folded)
        if again.report.folded:
            found.counts["folded twice: the second fold finds more"] += 1
            found.wrong += [f"folded twice: {text}" for text in unlike(folded, again.model)]
            flushes = report.flushed + again.report.flushed > 0
            found.wrong += differences(
                drawn, again.model, found.counts, flushes=flushes, in_onnx=False
            )
    elif _lot(drawn) == WITH_OPTIONS:
        other = bnfold.fold(model, merge_branches=True, duplicate=True)
        if other.report.merged or other.report.copied:
            found.counts["with --merge-branches and --duplicate"] += 1
            found.wrong += [f"with both options: {text}" for text in _invalid(other.model)]
            flushes = other.report.flushed > 0
            found.wrong += differences(
                drawn, other.model, found.counts, flushes=flushes, in_onnx=False
            )


def _lot(drawn: Drawn) -> int:
    """A number below 4 that has nothing to do with the dtype."""
    return drawn.seed // len(DTYPES) % 4


def _has_reason(norm: bnfold.Kept) -> bool:
    reason = REASONS.get(norm.code)
    return reason is not None and bool(norm.reason) and norm.remedy == reason.remedy


def _routes(report: bnfold.Report) -> list[tuple[object, ...]]:
    """The folds of a report, in no order of nodes."""
    return sorted(
        (n.norm, n.nodes, n.graph, n.direction, tuple(sorted(n.through)), tuple(sorted(n.taken)))
        for n in report.folded
    )


def unlike(model: onnx.ModelProto, folded: onnx.ModelProto) -> Iterator[str]:
    """What callers would notice, and growth."""
    yield from _invalid(folded)
    if _inputs(model) != _inputs(folded):
        yield "the inputs of the graph changed"
    if list(model.graph.output) != list(folded.graph.output):
        yield "the outputs of the graph changed"
    if _elementwise(folded) > _elementwise(model):
        yield f"elementwise nodes grew from {_elementwise(model)} to {_elementwise(folded)}"


def _inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Inputs that callers may give: before IR version 4, initializers have to be inputs, too."""
    stored = {tensor.name for tensor in model.graph.initializer} if model.ir_version < 4 else ()
    return [value for value in model.graph.input if value.name not in stored]


def _invalid(model: onnx.ModelProto) -> Iterator[str]:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        yield f"onnx.checker refuses the folded model: {error}"


def _elementwise(model: onnx.ModelProto) -> int:
    if model.functions:
        model = inliner.inline_local_functions(model)
    nodes = [node for graph in graphs(model.graph) for node in graph.node]
    return sum(node.op_type in ELEMENTWISE for node in nodes)

"""A plan and its edits as a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import onnx

from bnfold.algebra.layer import Layer
from bnfold.folding.apply import Applied
from bnfold.folding.course import Course, Courses
from bnfold.folding.decided import Decision, FoldPlan
from bnfold.folding.find import Norm
from bnfold.folding.inline import Analysis
from bnfold.folding.outcome import Folded, Kept, Kind, Report
from bnfold.folding.reasons import REASONS
from bnfold.folding.rescale import notes_on_scales
from bnfold.folding.route import Operand
from bnfold.folding.rules.tables import BATCH_NORM
from bnfold.onnxgraph.graph import Node, nodes_in
from bnfold.onnxgraph.load import Document
from bnfold.onnxgraph.output import in_memory
from bnfold.onnxgraph.ranges import total
from bnfold.onnxgraph.rewrite import Rewrite

if TYPE_CHECKING:
    from bnfold.folding.branches.merge import Merged


CAST_CROSSED = "a norm crosses a cast between float types: the order of rounding changes"
"""The note on a norm that changes places with a Cast or a CastLike."""


def summarised(
    document: Document,
    analysis: Analysis,
    applied: Applied,
    bytes_after: int | None,
    merged: Merged | None = None,
) -> Report:
    """The report of a fold.

    Args:
        document: the user's model.
        bytes_after: what was written, or None where nothing was yet.
        merged: its branches merged, where that was asked for; then ``analysis`` is of that model.
    """
    last: dict[FoldPlan, Decision] = {d.fold: d for d in analysis.plan.decisions if d.fold}
    layers = analysis.plan.layers
    courses = {fold: Courses(fold) for fold in analysis.plan.folds}
    norms: list[Folded | Kept] = []
    for decision in analysis.plan.decisions:
        fold = decision.fold
        if fold is None:
            norms.append(_kept(decision))
            continue
        course, is_last = courses[fold].of(decision.norm), last[fold] is decision
        norms.append(_folded(decision, fold, course, applied, layers, is_last=is_last))
    if merged is not None and merged.merges:
        norms = _with_merged(norms, analysis, merged)
    norms = _with_copies(norms, analysis)
    for function, name in analysis.in_functions:
        norms.append(_in_function(function, name))
    nodes = len(analysis.index.nodes)
    gone = sum(step.is_batch_norm for fold in analysis.plan.folds for step in fold.steps)
    batch_norms = sum(node.op_type == BATCH_NORM for node in analysis.index.nodes)
    if bytes_after is None:
        bytes_after = document_size(document)
        if not applied.rewrite.is_empty or _is_other(document, analysis):
            before = total(in_memory(document, Rewrite()))
            after = total(in_memory(analysis.document, applied.rewrite))
            bytes_after += after - before
    inside = _function_norms(analysis.document.proto)
    return Report(
        model=document.name,
        norms=tuple(norms),
        batch_norms_before=_all_norms(document, analysis),
        batch_norms_after=batch_norms - gone + inside,
        nodes_before=_node_count(document, analysis),
        nodes_after=nodes - applied.nodes_removed,
        bytes_before=document_size(document),
        bytes_after=bytes_after,
        inlined=analysis.inlined,
        stored_biases=tuple(linear.node.label for linear in analysis.plan.stored_biases),
        merged=tuple(merge.outcome for merge in merged.merges) if merged is not None else (),
        unmerged=merged.unmerged if merged is not None else (),
        copied=analysis.copied,
    )


def _with_merged(
    norms: list[Folded | Kept], analysis: Analysis, merged: Merged
) -> list[Folded | Kept]:
    """The norms of merged branches among the others, in the order of the data."""
    order = {node: at for at, node in enumerate(analysis.index.nodes)}
    # The names of new weights are unique in the whole model.
    convs = {node.proto.input[1]: at for node, at in order.items() if node.op_type == "Conv"}
    decisions = analysis.plan.decisions
    placed: list[tuple[int, Folded | Kept]] = [
        (order.get(decision.norm.steps[0].node, len(order)), norm)
        for decision, norm in zip(decisions, norms, strict=True)
    ]
    for merge in merged.merges:
        at = convs.get(merge.new.weight_name, -1)
        placed += [(at, norm) for norm in merge.norms]
    return [norm for _, norm in sorted(placed, key=lambda entry: entry[0])]


def _with_copies(norms: Sequence[Folded | Kept], analysis: Analysis) -> list[Folded | Kept]:
    """The norms of the user's model; those that fold into a copy of an operator say so."""
    if not analysis.copied and not analysis.copied_steps:
        return list(norms)
    notes = {(c.graph, c.copy): f"{c.operator} is copied: {c.copy}" for c in analysis.copied}
    found: list[Folded | Kept] = []
    for norm in norms:
        copies = {name for name in norm.nodes if (norm.graph, name) in analysis.copied_steps}
        own = tuple(name for name in norm.nodes if name not in copies)
        if copies and not own:
            continue
        if norm.norm in copies:
            norm = replace(norm, norm=own[0], kind="constant-chain")
        norm = replace(norm, nodes=own)
        if isinstance(norm, Folded) and (norm.graph, norm.into) in notes:
            norm = replace(norm, notes=(*norm.notes, notes[norm.graph, norm.into]))
        found.append(norm)
    return found


def _is_other(document: Document, analysis: Analysis) -> bool:
    """Whether what was planned is not the user's model itself, but made from it."""
    return analysis.document is not document


def document_size(document: Document) -> int:
    """Bytes of the model file and of the data files that it names."""
    return len(document.source) + sum(len(s) for s in document.files.opened.values())


def _kept(decision: Decision) -> Kept:
    norm, refused = decision.norm, decision.refused
    assert refused is not None
    return Kept(
        norm=norm.name,
        kind=_kind(norm),
        nodes=tuple(norm.labels),
        graph=norm.steps[0].node.scope.where,
        code=refused.code,
        reason=refused.sentence,
        remedy=REASONS[refused.code].remedy,
    )


def _folded(
    decision: Decision,
    fold: FoldPlan,
    course: Course,
    applied: Applied,
    layers: dict[Node, Layer],
    *,
    is_last: bool,
) -> Folded:
    norm = decision.norm
    node, channels = _first(course)
    return Folded(
        norm=norm.name,
        kind=_kind(norm),
        nodes=tuple(norm.labels),
        graph=norm.steps[0].node.scope.where,
        into=node.label if node is not None else "",
        operator=node.op_type if node is not None else "",
        channels=channels,
        direction=fold.direction,
        through=tuple(crossed.label for crossed in course.through),
        taken=course.taken,
        flushed=applied.flushed(fold) if is_last else 0,
        assumed_inference=decision.assumed_inference,
        notes=tuple(_notes(course, applied, layers)),
    )


def _kind(norm: Norm) -> Kind:
    return "batch-norm" if norm.batch_norm is not None else "constant-chain"


def _notes(course: Course, applied: Applied, layers: dict[Node, Layer]) -> Iterator[str]:
    for sink in course.sinks:
        yield from sink.linear.notes
        yield from notes_on_scales(sink.linear, layers[sink.linear.node])
        weight = applied.weights.get(sink.linear.node)
        if weight is not None and weight.kept_subnormal:
            yield (
                f"{weight.kept_subnormal} subnormal float16 weights stay: zero would be another "
                "function"
            )
    if any(node.op_type in ("Cast", "CastLike") for node in course.through):
        yield CAST_CROSSED


def _first(course: Course) -> tuple[Node | None, int]:
    """The first node that takes up a norm, and how many channels.

    Arithmetic that cancels out goes without a trace, into no operator.
    """
    for taker in course.takers:
        if isinstance(taker, Operand):
            return taker.node, int(taker.spread.scale.size)
        return taker.linear.node, taker.affine.channels
    return None, 0


def _in_function(function: str, name: str) -> Kept:
    return Kept(
        norm=name,
        kind="batch-norm",
        nodes=(name,),
        graph=function,
        code="function-body",
        reason=f"{name} is inside the function {function}, which cannot be inlined",
        remedy=REASONS["function-body"].remedy,
    )


def _function_norms(proto: onnx.ModelProto) -> int:
    return sum(_is_norm(node) for function in proto.functions for node in function.node)


def _is_norm(node: onnx.NodeProto) -> bool:
    return bool(node.op_type == BATCH_NORM)


def _all_norms(document: Document, analysis: Analysis) -> int:
    proto = document.proto
    if _is_other(document, analysis):
        return _function_norms(proto) + sum(map(_is_norm, nodes_in(proto.graph.node)))
    in_graph = sum(node.op_type == BATCH_NORM for node in analysis.index.nodes)
    return in_graph + _function_norms(proto)


def _node_count(document: Document, analysis: Analysis) -> int:
    if _is_other(document, analysis):
        return sum(1 for _ in nodes_in(document.proto.graph.node))
    return len(analysis.index.nodes)

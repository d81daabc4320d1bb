"""A plan and its edits as a report."""

from __future__ import annotations

import onnx

from bnfold.folding.apply import Applied
from bnfold.folding.inline import Analysis
from bnfold.folding.outcome import Folded, Kept, Kind, Report
from bnfold.folding.plan import Decision, FoldPlan
from bnfold.folding.reasons import REASONS
from bnfold.folding.rules.tables import BATCH_NORM
from bnfold.onnxgraph.graph import nodes_in
from bnfold.onnxgraph.load import Document
from bnfold.onnxgraph.output import in_memory
from bnfold.onnxgraph.ranges import total
from bnfold.onnxgraph.rewrite import Rewrite


def summarised(
    document: Document, analysis: Analysis, applied: Applied, bytes_after: int | None
) -> Report:
    """The report of a fold.

    Args:
        document: the user's model.
        bytes_after: what was written, or None where nothing was yet.
    """
    last: dict[FoldPlan, Decision] = {d.fold: d for d in analysis.plan.decisions if d.fold}
    norms = [_outcome(decision, applied, last) for decision in analysis.plan.decisions]
    for function, name in analysis.in_functions:
        norms.append(_in_function(function, name))
    nodes = len(analysis.index.nodes)
    gone = sum(step.is_batch_norm for fold in analysis.plan.folds for step in fold.steps)
    batch_norms = sum(node.op_type == BATCH_NORM for node in analysis.index.nodes)
    if bytes_after is None:
        bytes_after = document_size(document)
        if not applied.rewrite.is_empty:
            before = total(in_memory(document, Rewrite()))
            after = total(in_memory(analysis.document, applied.rewrite))
            bytes_after += after - before
    inside = _function_norms(analysis.document.proto)
    return Report(
        model=document.name,
        norms=tuple(norms),
        batch_norms_before=_all_norms(document.proto, analysis),
        batch_norms_after=batch_norms - gone + inside,
        nodes_before=_node_count(document, analysis),
        nodes_after=nodes - applied.nodes_removed,
        bytes_before=document_size(document),
        bytes_after=bytes_after,
        inlined=analysis.inlined,
    )


def document_size(document: Document) -> int:
    """Bytes of the model file and of the data files that it names."""
    return len(document.source) + sum(len(s) for s in document.files.opened.values())


def _outcome(decision: Decision, applied: Applied, last: dict[FoldPlan, Decision]) -> Folded | Kept:
    norm, fold = decision.norm, decision.fold
    kind: Kind = "batch-norm" if norm.batch_norm is not None else "constant-chain"
    where = norm.steps[0].node.scope.where
    if fold is None:
        assert decision.refused is not None
        code = decision.refused.code
        sentence = decision.refused.sentence
        return Kept(
            norm.name, kind, tuple(norm.labels), where, code, sentence, REASONS[code].remedy
        )
    notes = list(fold.linear.notes)
    weight = applied.weights.get(fold)
    if weight is not None and weight.kept_subnormal:
        notes.append(
            f"{weight.kept_subnormal} subnormal float16 weights stay: zero would be another "
            "function"
        )
    return Folded(
        norm=norm.name,
        kind=kind,
        nodes=tuple(norm.labels),
        graph=where,
        into=fold.linear.node.label,
        operator=fold.linear.node.op_type,
        channels=fold.layer.channels,
        flushed=applied.flushed(fold) if last[fold] is decision else 0,
        assumed_inference=decision.assumed_inference,
        notes=tuple(notes),
    )


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


def _all_norms(proto: onnx.ModelProto, analysis: Analysis) -> int:
    if analysis.inlined:
        return _function_norms(proto) + sum(map(_is_norm, nodes_in(proto.graph.node)))
    in_graph = sum(node.op_type == BATCH_NORM for node in analysis.index.nodes)
    return in_graph + _function_norms(proto)


def _node_count(document: Document, analysis: Analysis) -> int:
    if analysis.inlined:
        return sum(1 for _ in nodes_in(document.proto.graph.node))
    return len(analysis.index.nodes)

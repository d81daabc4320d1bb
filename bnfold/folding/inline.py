"""Model-local functions: put their bodies into the graph where that lets norms fold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx

from bnfold.errors import ModelError
from bnfold.folding.decided import Decision, Plan
from bnfold.folding.outcome import CopiedOperator
from bnfold.folding.rules.tables import BATCH_NORM, LINEAR, NORMS
from bnfold.onnxgraph.graph import nodes_in
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.load import Document, imported_opset

_Invalid = onnx.checker.ValidationError

FunctionId = tuple[str, str]
"""Domain and name of a model-local function."""


@dataclass(frozen=True)
class Analysis:
    """A model with its plan.

    Attributes:
        document: the model that is written: the user's, or one with functions inlined or
            operators copied.
        index, plan: of that model.
        copied: the operators that were copied.
        copied_steps: the norms that were copied with them, as graph and name.
        inlined: the functions that were inlined, as ``domain::name``.
        in_functions: BatchNormalizations in functions that stay functions, as (function, node).
    """

    document: Document
    index: Index
    plan: Plan
    copied: tuple[CopiedOperator, ...] = ()
    copied_steps: frozenset[tuple[str, str]] = frozenset()
    inlined: tuple[str, ...] = ()
    in_functions: tuple[tuple[str, str], ...] = ()


Decide = Callable[[Index], Analysis]
"""Plans a model as it is; what it plans in the end may be another one that it made from it."""


def analysed(document: Document, decide: Decide) -> Analysis:
    """Plan a model, with functions inlined if that makes more norms fold."""
    first = decide(Index(document))
    functions = {(f.domain, f.name): f for f in document.proto.functions}
    if not functions:
        return first
    with_norms = _closure(functions, lambda ops: BATCH_NORM in ops)
    with_layers = _closure(functions, lambda ops: bool(ops & set(LINEAR)))
    with_chains = with_layers & _closure(functions, lambda ops: bool(ops & set(NORMS)))
    best, shown = first, None
    tried: list[set[FunctionId]] = []
    # Each of these sets holds the one before, so the fewest functions that help are inlined.
    for more in (with_norms, with_norms | with_chains, with_norms | with_layers):
        chosen = _inlinable(document.proto, more)
        if not chosen or chosen in tried:
            continue
        tried.append(chosen)
        found = _inlined(document, chosen, decide)
        if found is None:
            continue
        if len(found.plan.folds) > len(best.plan.folds):
            best = found
        shown = shown or found
    if best is not first:
        return best
    # Nothing is gained, so nothing is inlined; the reasons are still those of the bodies.
    told = _told(first.plan, shown.plan) if shown is not None else None
    if shown is None or told is None:
        return replace(first, in_functions=_norms_in(document.proto))
    return replace(first, plan=replace(first.plan, decisions=told), in_functions=shown.in_functions)


def _told(first: Plan, shown: Plan) -> list[Decision] | None:
    """The decisions of ``first``, and why those norms stay that only ``shown`` knows.

    None where one of these would fold.
    """
    own = {_place(decision): decision for decision in first.decisions}
    told = [own.pop(_place(decision), decision) for decision in shown.decisions]
    folds = set(first.folds)
    is_told = not own and all(d.fold is None or d.fold in folds for d in told)
    return told if is_told else None


def _place(decision: Decision) -> tuple[str, str]:
    """Where a norm is, whatever else the model holds."""
    node = decision.norm.steps[0].node
    return node.scope.where, str(node.proto.output[0])


def _inlinable(proto: onnx.ModelProto, wanted: set[FunctionId]) -> set[FunctionId]:
    """Those of the functions that are called, of the model's own opset, and not recursive."""
    opset = imported_opset(proto)
    fitting = {(f.domain, f.name) for f in proto.functions if imported_opset(f) in (opset, None)}
    return (wanted & fitting & _called(proto)) - _recursive(proto)


def _inlined(document: Document, chosen: set[FunctionId], decide: Decide) -> Analysis | None:
    made = _with_bodies(document, chosen)
    if made is None:
        return None
    other, index = made
    names = tuple(f"{domain}::{name}" for domain, name in sorted(chosen))
    return replace(decide(index), inlined=names, in_functions=_norms_in(other.proto))


def with_norms_inlined(document: Document) -> tuple[Document, tuple[str, ...]]:
    """The model with every function that holds a BatchNormalization in place of its calls.

    Returns:
        The model, which is the same where there is none, or none can be inlined; and the
        functions, as ``domain::name``.
    """
    functions = {(f.domain, f.name): f for f in document.proto.functions}
    chosen = _inlinable(document.proto, _closure(functions, lambda ops: BATCH_NORM in ops))
    made = _with_bodies(document, chosen) if chosen else None
    if made is None:
        return document, ()
    return made[0], tuple(f"{domain}::{name}" for domain, name in sorted(chosen))


def _with_bodies(document: Document, chosen: set[FunctionId]) -> tuple[Document, Index] | None:
    from onnx import inliner

    # The inliner refuses a model if any function is of another opset, and drops uncalled ones, so
    # it sees only the functions that it shall inline, and the others come back afterwards.
    proto = onnx.ModelProto()
    proto.CopyFrom(document.proto)
    staying = _still_called(document.proto, chosen)
    others = [f for f in document.proto.functions if (f.domain, f.name) in staying]
    for at in reversed(range(len(proto.functions))):
        if (proto.functions[at].domain, proto.functions[at].name) not in chosen:
            del proto.functions[at]
    try:
        proto = inliner.inline_selected_functions(proto, sorted(chosen))
        proto.functions.extend(others)
        other = document.with_skeleton(proto.SerializeToString())
        return other, Index(other)
    except (ModelError, RuntimeError, ValueError, _Invalid):
        return None


def _closure(
    functions: dict[FunctionId, onnx.FunctionProto], has: Callable[[set[str]], bool]
) -> set[FunctionId]:
    """The functions whose own nodes satisfy ``has``, and those that call one of them."""
    found = {
        key
        for key, function in functions.items()
        if has({node.op_type for node in function.node if node.domain in ("", "ai.onnx")})
    }
    while True:
        more = {
            key
            for key, function in functions.items()
            if key not in found and any((n.domain, n.op_type) in found for n in function.node)
        }
        if not more:
            return found
        found |= more


def _called(proto: onnx.ModelProto) -> set[FunctionId]:
    """Every operator that some node of the graph, its subgraphs or a function names."""
    roots = [proto.graph.node, *(function.node for function in proto.functions)]
    return {(node.domain, node.op_type) for node in nodes_in(*roots)}


def _recursive(proto: onnx.ModelProto) -> set[FunctionId]:
    """The functions that call themselves, or one that does: there is no end to inlining them."""
    calls = {(f.domain, f.name): {(n.domain, n.op_type) for n in f.node} for f in proto.functions}
    left = dict(calls)
    while True:
        ends = {key for key, called in left.items() if not called & set(left)}
        if not ends:
            return set(left)
        for key in ends:
            del left[key]


def _still_called(proto: onnx.ModelProto, chosen: set[FunctionId]) -> set[FunctionId]:
    """The functions that stay: those that are not inlined, and what they call."""
    bodies = {(f.domain, f.name): f for f in proto.functions}
    staying = set(bodies) - chosen
    waiting = list(staying)
    while waiting:
        for node in bodies[waiting.pop()].node:
            called = (node.domain, node.op_type)
            if called in bodies and called not in staying:
                staying.add(called)
                waiting.append(called)
    return staying


def _norms_in(proto: onnx.ModelProto) -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"{function.domain}::{function.name}", node.name or node.output[0])
        for function in proto.functions
        for node in function.node
        if node.op_type == BATCH_NORM and node.output
    )

"""Decide, for every norm, what it folds into or why it stays. Pure: reads, and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bnfold.algebra.layer import Layer, push_back
from bnfold.folding.find import (
    Chain,
    Norm,
    Selection,
    Step,
    find,
    value_readers,
    why_not_alone,
)
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.placed import Placed
from bnfold.folding.rules.reading import Context, Linear, malformed
from bnfold.folding.rules.tables import NORMS, PUSH_BACK, THROUGH
from bnfold.folding.store import lost_factor, storable
from bnfold.onnxgraph.constants import Constants
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.types import Types


@dataclass(frozen=True, eq=False)
class FoldPlan:
    """One decided edit: the steps of a chain that go into the linear operator before it.

    Attributes:
        linear: the operator that takes them up.
        layer: the operator with all of them collected.
        steps: the steps, in the order of the data.
        output: the tensor that the operator makes afterwards: that of the last step.
    """

    linear: Linear
    layer: Layer
    steps: tuple[Step, ...]
    output: Tensor


@dataclass(frozen=True, eq=False)
class Decision:
    """What becomes of one norm, or of the part of it that shares a fate.

    Attributes:
        norm: the norm, reduced to that part.
        fold: the fold that it is part of, or None where it stays.
        refused: why it stays, or None.
        assumed_inference: whether it is a training-mode norm that was read as inference.
    """

    norm: Norm
    fold: FoldPlan | None = None
    refused: Refused | None = None
    assumed_inference: bool = False


@dataclass
class Plan:
    """Every decision about one model."""

    decisions: list[Decision] = field(default_factory=list)
    folds: list[FoldPlan] = field(default_factory=list)


def plan(index: Index, selection: Selection, *, assume_inference: bool = False) -> Plan:
    """Decide about every norm of a model.

    Args:
        index: the model.
        selection: the norms that the user wants folded.
        assume_inference: whether training-mode norms are read as inference.
    """
    types = Types(index)
    context = Context(Constants(index, types), types, index.document.opset, assume_inference)
    result = Plan()
    # Every number is checked before it is used; a NaN in the file is a reason, not a warning.
    with np.errstate(all="ignore"):
        for chain in find(index, context):
            _decide(chain, selection, context, result)
    return result


def _decide(chain: Chain, selection: Selection, context: Context, result: Plan) -> None:
    """Fold the longest run of steps that can be folded and stored; refuse the rest."""
    norms = chain.norms()
    excluded = {id(norm): selection.why_excluded(norm) for norm in norms}
    linear = _producer(chain, context)
    placed: list[Placed] = []
    why: Refused | None = None
    layers: list[Layer] = []
    for norm in norms:
        for step in norm.steps:
            sentence = excluded[id(norm)]
            read: Placed | Refused
            if sentence is not None:
                read = Refused("excluded", sentence)
            else:
                read = NORMS[step.node.op_type](step.node, step.data, context)
            if isinstance(read, Placed):
                read = _fitted(read, step, linear)
            if isinstance(read, Refused):
                why = read
                break
            if isinstance(linear, Linear):
                affine = read.affine.expanded(linear.layer.channels)
                layer = layers[-1] if layers else linear.layer
                why = lost_factor(linear, layer, affine)
                if why is not None:
                    break
                layers.append(push_back(layer, affine))
            placed.append(read)
        if why is not None:
            break
    if isinstance(linear, Refused):
        # What is wrong with the norm itself comes before what is wrong around it.
        if why is None or placed:
            why = linear
    elif layers:
        kept, too_far = storable(linear, layers)
        if kept < len(layers):
            why = too_far
        layers = layers[:kept]
    steps = chain.steps[: len(layers)]
    if not steps or isinstance(linear, Refused) or not _gains(linear, layers[-1], steps):
        steps = []
    else:
        output = steps[-1].output
        assert output is not None
        fold = FoldPlan(linear, layers[-1], tuple(steps), output)
        result.folds.append(fold)
        pairs = zip(placed, steps, strict=False)
        assumed = {step for map_, step in pairs if map_.assumed_inference}
        for norm in Chain(chain.source, steps).norms():
            is_assumed = not assumed.isdisjoint(norm.steps)
            result.decisions.append(Decision(norm, fold=fold, assumed_inference=is_assumed))
    if why is not None:
        rest = Chain(chain.source, chain.steps[len(steps) :])
        _refuse(rest, why, selection, context, result)


def _refuse(
    rest: Chain, why: Refused, selection: Selection, context: Context, result: Plan
) -> None:
    """Record why norms stay: the first one for ``why``, the others mostly because it does.

    Arithmetic that is no norm is not recorded.
    """
    before: Norm | None = None
    for norm in rest.norms():
        reason: Refused | None = why
        if before is not None:
            sentence = selection.why_excluded(norm)
            reason = Refused("excluded", sentence) if sentence else _own_reason(norm, context)
            reason = reason or Refused(
                "producer-not-linear",
                f"{before.name}, which makes {norm.steps[0].data.name}, stays itself",
            )
        if norm.batch_norm is not None or _looks_like_a_norm(norm, context):
            result.decisions.append(Decision(norm, refused=reason))
        before = norm


def _own_reason(norm: Norm, context: Context) -> Refused | None:
    for step in norm.steps:
        read = NORMS[step.node.op_type](step.node, step.data, context)
        if isinstance(read, Refused):
            return read
    return None


def _looks_like_a_norm(norm: Norm, context: Context) -> bool:
    """Whether a chain multiplies channels by different constants: else it is just arithmetic."""
    for step in norm.steps:
        read = NORMS[step.node.op_type](step.node, step.data, context)
        if isinstance(read, Placed) and read.is_per_channel:
            return True
    return False


def _gains(linear: Linear, layer: Layer, steps: list[Step]) -> bool:
    """Whether a fold leaves fewer or cheaper nodes.

    An operator without a bias input (MatMul) keeps one Add for its shift: a single Add or Sub
    after it is that bias already.
    """
    if linear.has_bias or len(steps) > 1:
        return True
    return steps[0].node.op_type not in ("Add", "Sub") or not layer.keeps_weight


def _producer(chain: Chain, context: Context) -> Linear | Refused:
    """The linear operator that makes a chain's source for this chain alone, or why not."""
    source, first = chain.source, chain.steps[0]
    reader = first.crossed[0] if first.crossed else first.node
    node = source.producer
    if node is None:
        what = "a graph input" if source.is_input else "an initializer"
        return Refused("producer-not-linear", f"{source.name} is {what}, made by no operator")
    rule = THROUGH.get(node.op_type)
    is_crossed = rule is not None and rule(node, context)
    could_fold = node.op_type in PUSH_BACK or node.op_type in NORMS or is_crossed
    code = why_not_alone(source, reader) if could_fold else None
    if code is not None:
        return Refused(code, _shared_sentence(code, source, reader))
    if node.op_type not in PUSH_BACK:
        return Refused(
            "producer-not-linear",
            f"{source.name} is made by {node.label}, {_article(node.op_type)}, "
            "which is no linear operator",
        )
    if node.outputs[0] is not source:
        return malformed(node, f"{source.name} is not its first output")
    return PUSH_BACK[node.op_type](node, context)


def _article(op_type: str) -> str:
    return f"{'an' if op_type[:1] in 'AEIO' else 'a'} {op_type}"


def _shared_sentence(code: str, source: Tensor, reader: Node) -> str:
    if code == "graph-output":
        return f"{source.name} is also an output of the graph"
    readers = value_readers(source)
    if code == "subgraph-reader":
        return f"{source.name} is read by {readers[0].label} inside {readers[0].scope.where}"
    other = next((node for node in readers if node is not reader), None)
    if other is None:
        return f"{source.name} is named by a quantisation annotation or by training information"
    more = f" and {len(readers) - 2} more" if len(readers) > 2 else ""
    return (
        f"{source.name} is also read by {other.label}{more}, which needs the values before "
        "normalisation"
    )


def _fitted(placed: Placed, step: Step, linear: Linear | Refused) -> Placed | Refused:
    """The map if it acts on the output channels of the operator, else why not."""
    if isinstance(linear, Refused):
        return placed
    rank = linear.rank() if _needs_rank(placed, linear) else None
    acts = placed.acts_on(linear.axis, rank)
    name, made = step.node.label, linear.node.label
    if acts is None:
        return Refused(
            "unknown-rank",
            f"the rank of {step.data.name} is not known, so neither is the axis of {name}",
        )
    if not acts:
        return Refused(
            "axis-mismatch",
            f"{name} acts on another axis of {step.data.name} than the output channels of {made}",
        )
    channels = linear.layer.channels
    if placed.axis is not None and placed.affine.channels != channels:
        return Refused(
            "channel-mismatch",
            f"{name} has {placed.affine.channels} channels and {made} makes {channels}",
        )
    return placed


def _needs_rank(placed: Placed, linear: Linear) -> bool:
    return linear.axis >= 0 or placed.acts_on(linear.axis, None) is None

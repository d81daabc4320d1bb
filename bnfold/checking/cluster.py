"""Folds that have to be compared together: neither alone is right where they share an operator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bnfold.checking.written import Written
from bnfold.folding.decided import FoldPlan, Plan
from bnfold.folding.rules.quantised import Dequantised
from bnfold.folding.rules.reading import Linear
from bnfold.onnxgraph.expressions import is_read_by_value
from bnfold.onnxgraph.graph import Node

_DIRECT = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(eq=False)
class Cluster:
    """Folds that share operators, and all nodes whose work changes with them.

    Attributes:
        folds: in the order of the plan.
        nodes: what they cross, take up or remove, and what reads a tensor that changes.
        is_direct: whether it is one operator and the steps right behind it, and nothing more.
    """

    folds: list[FoldPlan]
    nodes: list[Node]
    is_direct: bool = False

    @property
    def operators(self) -> set[Node]:
        """The linear operators that take up a map."""
        return {sink.linear.node for fold in self.folds for sink in fold.sinks}


def clustered(plan: Plan, folds: Sequence[FoldPlan], written: Written) -> list[Cluster]:
    """Folds, each in one cluster.

    Args:
        folds: all of the plan, but for those that share nothing with any other.

    Raises:
        RegionError: what will be written cannot be read.
    """
    sets = _Sets(len(folds))
    home: dict[Node, int] = {}
    for at, fold in enumerate(folds):
        for node in _nodes_of(fold):
            sets.join(home.setdefault(node, at), at)
    _join_dequantisers(plan, home, sets, written)
    readers = _readers_of_changes(folds, home)
    home.update(readers)
    for node, at in home.items():
        for other in _renamed_before(node, home, written):
            sets.join(home[other], at)
    found: dict[int, Cluster] = {}
    for at, fold in enumerate(folds):
        found.setdefault(sets.find(at), Cluster([], [])).folds.append(fold)
    for node, at in home.items():
        found[sets.find(at)].nodes.append(node)
    touched = {sets.find(at) for at in readers.values()}
    for at, cluster in found.items():
        cluster.is_direct = at not in touched and _is_direct(cluster.folds, plan)
    return list(found.values())


def _nodes_of(fold: FoldPlan) -> Iterator[Node]:
    for sink in fold.sinks:
        yield sink.linear.node
        # Operators may share a quantised weight, whose scale changes for all of them.
        yield from _dequantizers(sink.linear)
        if sink.back is not None:
            yield sink.back.node
    yield from (step.node for step in fold.steps)
    yield from fold.passed
    yield from fold.crossed
    yield from (operand.node for operand in fold.operands)


def _dequantizers(linear: Linear) -> list[Node]:
    """What makes the weight and the bias of an operator, where they are quantised."""
    constants = [c for c in (linear.weight, linear.bias) if isinstance(c, Dequantised)]
    between = [constant.between for constant in constants if constant.between is not None]
    return [*(constant.node for constant in constants), *between]


def _join_dequantisers(plan: Plan, home: dict[Node, int], sets: _Sets, written: Written) -> None:
    """Operators that read the same DequantizeLinear are compared together if it changes."""
    for node, linear in plan.linears.items():
        if node not in home:
            continue
        for tensor in map(node.input, (linear.weight_at, linear.bias_at)):
            maker = tensor.producer if tensor is not None else None
            if maker is not None and maker.op_type == "Transpose" and maker.inputs[0] is not None:
                maker = maker.inputs[0].producer
            if maker is None or maker.op_type != "DequantizeLinear":
                continue
            if written.nodes(maker) != [maker.proto]:
                sets.join(home.setdefault(maker, home[node]), home[node])


def _readers_of_changes(folds: Sequence[FoldPlan], home: dict[Node, int]) -> dict[Node, int]:
    """Nodes beside the folds that read a tensor which carries other values from now on.

    They may take only such parts of it as stay the same, so what they make is compared.
    """
    found: dict[Node, int] = {}
    for at, fold in enumerate(folds):
        # On a way back, a tensor that goes had other values than the one in its place.
        for tensor in (*fold.changed, *(fold.instead if fold.direction == "backward" else ())):
            for node in tensor.readers:
                is_here = node.scope is tensor.scope and not node.subgraphs
                if is_here and node not in home and is_read_by_value(tensor, node):
                    found.setdefault(node, at)
    return found


def _renamed_before(node: Node, home: dict[Node, int], written: Written) -> Iterator[Node]:
    """The makers, in any fold, of what a node reads and will not have under its name any more."""
    protos = written.nodes(node)
    for tensor in node.inputs:
        if tensor is None or tensor.producer is None or tensor.producer not in home:
            continue
        if protos:
            is_kept = any(tensor.name in proto.input for proto in protos)
        else:
            is_kept = written.is_made(tensor)
        if not is_kept:
            yield tensor.producer


def _is_direct(folds: Sequence[FoldPlan], plan: Plan) -> bool:
    """Whether a cluster is an operator and the steps right behind it."""
    fold = folds[0]
    if len(folds) > 1 or fold.direction != "backward" or len(fold.sinks) != 1:
        return False
    if fold.crossed or fold.operands or not _is_one_line(fold):
        return False
    linear = fold.sinks[0].linear
    node, layer = linear.node, plan.layers[linear.node]
    if node.domain != "" or node.op_type not in _DIRECT or layer.inner is not None:
        return False
    is_plain = node.input(1) is linear.weight.tensor and not linear.asks
    is_plain = is_plain and not _dequantizers(linear)
    known = {step.node for step in fold.steps} | {n for s in fold.steps for n in s.crossed}
    return is_plain and all(passed in known for passed in fold.passed)


def _is_one_line(fold: FoldPlan) -> bool:
    """Whether each step reads what the one before makes, none of them beside another."""
    made = fold.sinks[0].linear.node.outputs[0]
    for step in fold.steps:
        for node in (*step.crossed, step.node):
            if made is None or made not in node.inputs:
                return False
            made = node.outputs[0]
    return True


class _Sets:
    """Union and find."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, at: int) -> int:
        while self._parent[at] != at:
            self._parent[at] = self._parent[self._parent[at]]
            at = self._parent[at]
        return at

    def join(self, one: int, other: int) -> None:
        low, high = sorted((self.find(one), self.find(other)))
        self._parent[high] = low

"""Which norms of a model another model still has, such as what onnxruntime made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from bnfold.folding.find import Selection
from bnfold.folding.inline import Analysis, analysed
from bnfold.folding.plan import plan
from bnfold.folding.rules.tables import BATCH_NORM
from bnfold.onnxgraph.collection import collection_paused
from bnfold.onnxgraph.graph import nodes_in
from bnfold.onnxgraph.load import Document

# onnxruntime turns a norm in its blocked layout into a convolution of single channels.
_BLOCKED = {BATCH_NORM: "_bn_nchwc", "Mul": "_mul_nchwc"}
# It computes in float32 what it cannot in float16, between two Casts.
_CAST = "InsertedPrecisionFreeCast_"


@dataclass(frozen=True)
class _Step:
    op_type: str
    name: str
    output: str


@dataclass(frozen=True)
class Norms:
    """The norms of a model.

    Attributes:
        steps: the nodes of each.
        elsewhere: how many more are in functions, where they stay.
        can_be_found: whether their nodes have the names that the model gives them; not those of
            functions that had to be inlined to find them.
        others: BatchNormalizations that are not among them.
    """

    steps: tuple[tuple[_Step, ...], ...]
    elsewhere: int
    can_be_found: bool
    others: int = 0

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.steps) + self.elsewhere

    def without(self, other: onnx.ModelProto) -> Norms:
        """Those that another model does not have any more."""
        keys = _keys(other)
        gone = tuple(norm for norm in self.steps if not _is_left(norm, keys))
        return Norms(gone, 0, self.can_be_found, _batch_norms(other))

    def left_in(self, other: onnx.ModelProto) -> int:
        """How many of them another model still has, in part or as a whole.

        Where they cannot be found by name, its BatchNormalizations are counted.
        """
        if not self.can_be_found:
            return max(0, min(self.count, _batch_norms(other) - self.others))
        keys = _keys(other)
        return sum(_is_left(norm, keys) for norm in self.steps)


def norms_of(document: Document) -> Norms:
    """The norms that bnfold finds in a model, whether or not they fold."""
    with collection_paused():
        analysis = analysed(
            document, lambda index: Analysis(index.document, index, plan(index, Selection()))
        )
    norms: Sequence[tuple[_Step, ...]] = [
        tuple(
            _Step(step.node.op_type, step.node.proto.name, step.node.proto.output[0])
            for step in decision.norm.steps
        )
        for decision in analysis.plan.decisions
    ]
    return Norms(tuple(norms), len(analysis.in_functions), not analysis.inlined)


def node_count(document: Document) -> int:
    """Nodes of the graph and its subgraphs."""
    return sum(1 for _ in nodes_in(document.proto.graph.node))


def _batch_norms(proto: onnx.ModelProto) -> int:
    """BatchNormalizations, those of functions and of the blocked layout included."""
    bodies = [function.node for function in proto.functions]
    return sum(
        node.op_type == BATCH_NORM or node.name.endswith(_BLOCKED[BATCH_NORM])
        for node in nodes_in(proto.graph.node, *bodies)
    )


def _keys(proto: onnx.ModelProto) -> set[tuple[str, str]]:
    """What nodes can be known by: their type, and their name or their first output."""
    found = set()
    for node in nodes_in(proto.graph.node):
        found.add((node.op_type, node.name))
        found.update((node.op_type, f"-> {output}") for output in node.output[:1])
    return found


def _is_left(norm: Sequence[_Step], keys: set[tuple[str, str]]) -> bool:
    for step in norm:
        wanted = [(step.op_type, f"-> {step.output}"), (step.op_type, f"-> {_CAST}{step.output}")]
        if step.name:
            wanted.append((step.op_type, step.name))
        if step.op_type in _BLOCKED:
            wanted.append(("Conv", step.output + _BLOCKED[step.op_type]))
        if not keys.isdisjoint(wanted):
            return True
    return False

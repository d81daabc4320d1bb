"""Find the norms of a model: BatchNormalizations and chains of constant arithmetic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.elementwise import adds_several_axes, data_position, ends_gelu
from bnfold.folding.rules.operators import key_of
from bnfold.folding.rules.reading import Context
from bnfold.folding.rules.tables import BATCH_NORM, NORMS, THROUGH
from bnfold.onnxgraph.expressions import is_read_by_value
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.index import Index


@dataclass(eq=False, slots=True)
class Step:
    """One node that is, or claims to be, an affine map.

    Attributes:
        node: the node.
        data: the tensor that it maps.
        crossed: the nodes between the step before (or the producer) and this one.
    """

    node: Node
    data: Tensor
    crossed: list[Node] = field(default_factory=list)

    @property
    def output(self) -> Tensor | None:
        """The tensor that it makes."""
        return self.node.outputs[0]

    @property
    def is_batch_norm(self) -> bool:
        """Whether the node is a BatchNormalization, of any domain."""
        return self.node.op_type == BATCH_NORM


@dataclass(eq=False, slots=True)
class Norm:
    """One normalisation: a BatchNormalization with the constant arithmetic after it, or a chain.

    Attributes:
        steps: in the order of the data.
    """

    steps: list[Step]

    @property
    def batch_norm(self) -> Node | None:
        """Its BatchNormalization, or None for a chain of constant arithmetic."""
        return next((step.node for step in self.steps if step.is_batch_norm), None)

    @property
    def name(self) -> str:
        """The label of its BatchNormalization, or of its first node."""
        return (self.batch_norm or self.steps[0].node).label

    @property
    def labels(self) -> list[str]:
        """The labels of all its nodes."""
        return [step.node.label for step in self.steps]


@dataclass(eq=False, slots=True)
class Chain:
    """Steps that follow each other with nothing else reading in between.

    Attributes:
        source: the tensor that the first step reads, seen through Identity and Dropout.
        steps: in the order of the data.
    """

    source: Tensor
    steps: list[Step]

    def norms(self) -> list[Norm]:
        """The steps by norm: each BatchNormalization begins one, and owns what follows it.

        Arithmetic before the first BatchNormalization belongs to that one.
        """
        norms: list[Norm] = []
        for step in self.steps:
            if not norms or (step.is_batch_norm and norms[-1].batch_norm is not None):
                norms.append(Norm([]))
            norms[-1].steps.append(step)
        return norms


@dataclass(frozen=True)
class Selection:
    """Which norms the user wants folded: shell patterns over node names.

    Attributes:
        only: if there are any, a norm must match one of them.
        skip: a norm must match none of them.
    """

    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def why_excluded(self, norm: Norm) -> str | None:
        """The sentence for a norm that the patterns exclude, or None."""
        if not self.only and not self.skip:
            return None
        labels = norm.labels
        for pattern in self.skip:
            if _matches(labels, (pattern,)):
                return f"{norm.name} matches --skip {pattern}"
        if self.only and not _matches(labels, self.only):
            return f"{norm.name} matches no --only pattern"
        return None


def unmatched(patterns: Iterable[str], labels: Iterable[str]) -> list[str]:
    """The patterns that match none of the node names."""
    names = list(labels)
    return [pattern for pattern in patterns if not _matches(names, (pattern,))]


def _matches(labels: Iterable[str], patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(label, pattern) for label in labels for pattern in patterns)


def is_only_for(reader: Node, tensor: Tensor) -> bool:
    """Whether nothing but ``reader`` needs the values of a tensor, or knows it by its name.

    Nodes that read only its element type or its shape need nothing that a fold changes.
    """
    if tensor.is_output or tensor.is_pinned:
        return False
    readers = value_readers(tensor)
    return len(readers) == 1 and readers[0] is reader and reader.scope is tensor.scope


def value_readers(tensor: Tensor) -> list[Node]:
    """The nodes that a fold before them would matter to, found once; those of other scopes first.

    A node of another scope is one whatever it reads: a subgraph cannot be given another tensor.
    """
    if tensor.value_readers is None:
        inner = [node for node in tensor.readers if node.scope is not tensor.scope]
        own = [node for node in tensor.readers if node.scope is tensor.scope]
        if len(own) > 1:
            own = [node for node in own if is_read_by_value(tensor, node)]
        tensor.value_readers = inner + own
    return tensor.value_readers


def gives_input(node: Node, context: Context) -> bool:
    """Whether a node gives what it reads, as Identity does."""
    rule = THROUGH.get(key_of(node))
    if rule is None or not rule.gives_input:
        return False
    return not isinstance(rule.backward(node, {0: Spread.identity()}, context), Refused)


def find(index: Index, context: Context) -> list[Chain]:
    """Every chain of norms in the model, in topological order."""
    chains: list[Chain] = []
    ends: dict[Tensor, Chain] = {}
    for node in index.nodes:
        step = _step(node, context)
        if step is None:
            continue
        source = step.data
        reader = node
        while is_only_for(reader, source) and source.producer is not None:
            crossed = source.producer
            before = crossed.input(0)
            if before is None or crossed.outputs[0] is not source:
                break
            if not gives_input(crossed, context):
                break
            step.crossed.append(crossed)
            reader, source = crossed, before
        step.crossed.reverse()
        chain = ends.pop(source, None) if is_only_for(reader, source) else None
        if chain is None:
            chain = Chain(source, [])
            chains.append(chain)
        chain.steps.append(step)
        if step.output is not None:
            ends[step.output] = chain
    return chains


def _step(node: Node, context: Context) -> Step | None:
    if node.op_type not in NORMS or not node.outputs or node.outputs[0] is None:
        return None
    if node.op_type == BATCH_NORM:
        data = node.input(0)
        return Step(node, data) if data is not None else None
    if node.domain != "" or len(node.outputs) != 1:
        return None
    at = data_position(node, context)
    if at is None or adds_several_axes(node, at, context) or ends_gelu(node, at):
        return None
    data = node.inputs[at]
    return Step(node, data) if data is not None else None

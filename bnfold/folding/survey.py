"""What planning knows of a graph: its norms and linear operators, each read once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from bnfold.algebra.spread import Spread
from bnfold.folding.find import Chain, Norm, Selection, Step
from bnfold.folding.reasons import Refused
from bnfold.folding.route import Route
from bnfold.folding.rules.batch_norms import read_plain_batch_norms
from bnfold.folding.rules.operators import key_of
from bnfold.folding.rules.placed import Placed
from bnfold.folding.rules.reading import Context, Linear
from bnfold.folding.rules.tables import LINEAR, NORMS, THROUGH
from bnfold.folding.rules.through import Through
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.index import Index

VISITS = 8
"""Walks visit this many nodes for each node of the model, before they are kept short."""
SHORT = 16
"""How many nodes a walk that is kept short may visit."""


class Survey:
    """The norms of a model, and what each walk through its graph has found.

    Attributes:
        nodes, chains: in topological order.
        step_of: node -> the step that it is.
        norm_of: step -> its norm.
        next_of: step -> the next one of its chain.
        begun_by: node that reads the source of a chain -> the first step of that chain.
        gone: nodes that accepted routes remove.
        taken_back: the steps among them that went back.
        filled: nodes whose border accepted routes fill with another value.
    """

    def __init__(
        self, index: Index, context: Context, selection: Selection, chains: list[Chain]
    ) -> None:
        self.context = context
        self.nodes = index.nodes
        self.chains = chains
        self.step_of: dict[Node, Step] = {}
        self.norm_of: dict[Step, Norm] = {}
        self.next_of: dict[Step, Step] = {}
        self.begun_by: dict[Node, Step] = {}
        self.gone: set[Node] = set()
        self.taken_back: set[Step] = set()
        self.filled: set[Node] = set()
        self._selection = selection
        self._order = _ranked(index.nodes) if chains else {}
        self._visits_left = VISITS * len(index.nodes)
        self._reads: dict[Step, Placed | Refused] = {}
        self._spreads: dict[Step, Spread | Refused] = {}
        self._linears: dict[Node, Linear | Refused] = {}
        self._excluded: dict[Norm, str | None] = {}
        for chain in chains:
            self.next_of.update(pairwise(chain.steps))
            first = chain.steps[0]
            self.begun_by[first.crossed[0] if first.crossed else first.node] = first
            for norm in chain.norms():
                for step in norm.steps:
                    self.step_of[step.node] = step
                    self.norm_of[step] = norm
        plain = read_plain_batch_norms(
            (step.node for step in self.norm_of if step.is_batch_norm), context
        )
        self._reads.update(
            (self.step_of[node], placed)
            for node, placed in plain.items()
            if selection.why_excluded(self.norm_of[self.step_of[node]]) is None
        )

    def take(self, route: Route) -> None:
        """Note what an accepted route removes."""
        self.gone.update(route.gone)
        self.gone.update(sink.back.node for sink in route.sinks if sink.back is not None)
        self.filled.update(route.fills)
        if route.direction == "backward":
            self.taken_back.update(route.steps)

    def order(self, node: Node) -> int:
        """The place of a node in an order in which each comes after those that it reads from."""
        return self._order[node]

    @property
    def is_tired(self) -> bool:
        """Whether so many walks failed that the others are kept short."""
        return self._visits_left <= 0

    def why_too_far(self, visited: int, node: Node) -> Refused | None:
        """Why a walk may not visit one node more: so all walks together stay linear in the nodes.

        Args:
            visited: how many nodes the walk has visited.
            node: the next one.
        """
        self._visits_left -= 1
        if not self.is_tired or visited < SHORT:
            return None
        return Refused(
            "expression-too-large", f"the way to {node.label} is too long, after many that failed"
        )

    def read(self, step: Step) -> Placed | Refused:
        """The map that a step is, or why it has to stay."""
        found = self._reads.get(step)
        if found is None:
            norm = self.norm_of[step]
            if norm not in self._excluded:
                self._excluded[norm] = self._selection.why_excluded(norm)
            sentence = self._excluded[norm]
            if sentence is not None:
                found = Refused("excluded", sentence)
            else:
                found = NORMS[step.node.op_type](step.node, step.data, self.context)
            self._reads[step] = found
        return found

    def tells_channels(self, steps: Sequence[Step]) -> bool:
        """Whether steps multiply channels by different constants: else they are just arithmetic."""
        reads = map(self.read, steps)
        return any(not isinstance(read, Refused) and read.is_per_channel for read in reads)

    def spread(self, step: Step) -> Spread | Refused:
        """The map that a step is, broadcast against its data."""
        found = self._spreads.get(step)
        if found is None:
            found = self._spreads[step] = self._placed(step)
        return found

    def _placed(self, step: Step) -> Spread | Refused:
        placed = self.read(step)
        if isinstance(placed, Refused):
            return placed
        name, data = step.node.label, step.data
        rank = self._rank(data) if placed.needs_rank else None
        if placed.needs_rank and rank is None:
            return Refused(
                "unknown-rank",
                f"the rank of {data.name} is not known, so neither is the axis of {name}",
            )
        spread = placed.spread(rank)
        if spread is None:
            return Refused("axis-mismatch", f"{name} acts on an axis that {data.name} has not")
        known = self.context.types.rank(data)
        if known is not None and len(spread.shape) > known:
            return Refused("axis-mismatch", f"{name} gives {data.name} more axes than it has")
        if placed.axis is not None and placed.affine.channels == 1:
            channels = self.context.types.channels(data)
            if channels is not None and channels != 1:
                return Refused(
                    "channel-mismatch", f"{name} has 1 channel and {data.name} has {channels}"
                )
        return spread

    def _rank(self, tensor: Tensor) -> int | None:
        """The number of axes of a tensor, or None where neither types nor its operator tell."""
        least = 0
        while True:
            rank, node = self.context.types.rank(tensor), tensor.producer
            step = self.step_of.get(node) if node is not None else None
            read = self.read(step) if step is not None else None
            if rank is None and node is not None and self.is_linear(node):
                linear = self.linear(node)
                rank = None if isinstance(linear, Refused) else linear.rank()
            if rank is not None or step is None or read is None or isinstance(read, Refused):
                return rank if rank is not None and rank >= least else None
            tensor, least = step.data, max(least, read.least_rank)

    def why_larger(self, step: Step, spread: Spread) -> Refused | None:
        """Why a step may give more elements than it reads: its constant is broadcast the other way.

        Args:
            spread: the map that the step is.
        """
        if self.norm_of[step].batch_norm is step.node:
            return None
        name, data = step.node.label, step.data
        wide = [at - len(spread.shape) for at, size in enumerate(spread.shape) if size != 1]
        if not wide and len(spread.shape) < 2:
            return None
        shape = self.context.types.shape(data)
        if shape is None:
            return Refused(
                "unknown-rank", f"the rank of {data.name}, which {name} reads, is not known"
            )
        if len(spread.shape) > len(shape):
            return Refused("axis-mismatch", f"{name} gives {data.name} more axes than it has")
        for axis in wide:
            if shape[axis] != spread.shape[axis]:
                return Refused(
                    "channel-mismatch",
                    f"{name} has {spread.shape[axis]} channels, which {data.name} may not have",
                )
        return None

    def linear(self, node: Node) -> Linear | Refused:
        """A linear operator in canonical form, or what is wrong with it."""
        found = self._linears.get(node)
        if found is None:
            found = self._linears[node] = LINEAR[key_of(node)](node, self.context)
        return found

    @staticmethod
    def is_linear(node: Node) -> bool:
        """Whether a node's operator is in the table of those that take up a map."""
        return key_of(node) in LINEAR

    @staticmethod
    def through(node: Node) -> Through | None:
        """How a map crosses the node's operator, or None where the tables do not say."""
        return THROUGH.get(key_of(node))

    def is_constant(self, tensor: Tensor) -> bool:
        """Whether a tensor has the same values whatever the model's inputs are."""
        return self.context.constants.why_not(tensor) is None

    def crossed_inputs(self, node: Node) -> list[Tensor]:
        """The inputs that a map can cross to or come from."""
        rule = self.through(node)
        if rule is None:
            return []
        slots = range(len(node.inputs)) if rule.data is None else rule.data
        return [t for t in map(node.input, slots) if t is not None]


def _ranked(nodes: list[Node]) -> dict[Node, int]:
    """The place of each node by its depth in the graph and its name, whatever the file's order."""
    depths: dict[Node, int] = {}
    keys: dict[Node, tuple[int, str]] = {}
    for node in nodes:
        depth = 0
        for tensor in node.inputs:
            maker = tensor.producer if tensor is not None else None
            if maker is not None:
                depth = max(depth, depths.get(maker, 0))
        depths[node] = depth + 1
        made = node.outputs[0] if node.outputs else None
        keys[node] = depth + 1, made.name if made is not None else ""
    return {node: at for at, node in enumerate(sorted(nodes, key=keys.__getitem__))}


def article(op_type: str) -> str:
    """``a Conv``, ``an Add``."""
    return f"{'an' if op_type[:1] in 'AEIO' else 'a'} {op_type}"

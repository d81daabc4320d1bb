"""Push a norm back: from its output towards the linear operators that make its data."""

from __future__ import annotations

from heapq import heappop, heappush

from bnfold.algebra.affine import Affine
from bnfold.algebra.spread import Spread
from bnfold.folding.find import Step
from bnfold.folding.fitting import composed, fitted
from bnfold.folding.operands import read_operand, why_not_operand
from bnfold.folding.reach import Reach
from bnfold.folding.reasons import Refused
from bnfold.folding.route import Operand, Route, Sink
from bnfold.folding.rules.reading import Linear
from bnfold.folding.rules.sizes import LARGEST
from bnfold.folding.rules.through import Spreads
from bnfold.folding.sharing import Sharing
from bnfold.folding.survey import article
from bnfold.onnxgraph.graph import Node, Tensor

ATTEMPTS = 8
"""Where a shift can go into one of several branches, at most this many ways are tried."""

FINAL = frozenset({"beyond-dtype", "expression-too-large", "unknown-rank"})
"""Refusals that no other way of sharing a map between branches changes."""


def push_back_route(reach: Reach, last: Step) -> Route | Refused:
    """The way back of a step and of every step that it meets, or why there is none.

    Args:
        reach: the graph.
        last: the step whose output keeps its values.
    """
    choices: dict[Node, int] = {}
    first: Refused | None = None
    for _ in range(ATTEMPTS):
        walk = _Walk(reach, choices)
        found = walk.run(last)
        if isinstance(found, Route):
            return found
        first = first or found
        if found.code in FINAL or reach.survey.is_tired:
            break
        # The next way of the last operator that has one left, and the first of those after it.
        while walk.forks:
            node, ways = walk.forks.pop()
            chosen = choices.get(node, 0) + 1
            if chosen < ways:
                choices[node] = chosen
                break
            choices.pop(node, None)
        else:
            break
    assert first is not None
    return first


class _Walk:
    """One attempt.

    Attributes:
        forks: the operators with several ways, and how many.
    """

    def __init__(self, reach: Reach, choices: dict[Node, int]) -> None:
        self.forks: list[tuple[Node, int]] = []
        self._reach = reach
        self._survey = reach.survey
        self._choices = choices
        self._route = Route("backward")
        self._heap: list[tuple[int, Node]] = []
        self._wanted: dict[Node, dict[int, Spread]] = {}
        self._sharing = Sharing(self._survey, self._route, self._wanted)

    def run(self, last: Step) -> Route | Refused:
        """Walk until every branch has ended in a linear operator."""
        why = self._take_step(last, Spread.identity())
        visited = 0
        while why is None and self._heap:
            node = heappop(self._heap)[1]
            visited += 1
            why = self._survey.why_too_far(visited, node) or self._visit(node, self._wanted[node])
        if why is not None:
            return why
        self._route.steps.reverse()
        self._route.crossed.reverse()
        self._route.sinks.reverse()
        return self._route

    def _ask(self, tensor: Tensor, spread: Spread, reader: Node) -> Refused | None:
        """Note that ``reader`` needs ``spread`` of a tensor in place of the tensor."""
        node = tensor.producer
        if self._survey.is_constant(tensor):
            return self._take_constant(tensor, spread, reader)
        if node is None:
            return self._reach.rooted(tensor)
        if spread.scale.size > LARGEST:
            return Refused(
                "expression-too-large", f"the map before {reader.label} has {spread.shape} values"
            )
        slot = node.outputs.index(tensor)
        wanted = self._wanted.get(node)
        if wanted is None:
            wanted = self._wanted[node] = {}
            heappush(self._heap, (-self._survey.order(node), node))
        whole = self._sharing.joined(tensor, wanted.get(slot), spread, reader)
        if isinstance(whole, Refused):
            return whole
        wanted[slot] = whole
        return None

    def _take_constant(self, tensor: Tensor, spread: Spread, reader: Node) -> Refused | None:
        """Let a constant that ``reader`` reads take up ``spread`` itself."""
        if reader in self._route.gone:
            return Refused("producer-not-linear", f"{tensor.name} is constant, made by no operator")
        known = read_operand(tensor, self._survey.context)
        if isinstance(known, Refused):
            return known
        operand = Operand(known, reader, spread)
        self._route.operands.append(operand)
        return why_not_operand(operand)

    def _visit(self, node: Node, wanted: dict[int, Spread]) -> Refused | None:
        survey = self._survey
        step = survey.step_of.get(node)
        could_fold = step is not None or survey.is_linear(node) or survey.through(node) is not None
        if not could_fold:
            made = next(
                t.name for at, t in enumerate(node.outputs) if t is not None and at in wanted
            )
            return Refused(
                "producer-not-linear",
                f"{made} is made by {node.label}, {article(node.op_type)}, "
                "which is no linear operator",
            )
        if len(node.outputs) > 1:
            self._sharing.take_equal_parts(node, wanted)
        for slot, spread in wanted.items():
            tensor = node.outputs[slot]
            assert tensor is not None
            why = self._sharing.why_needed(tensor, spread)
            if why is not None:
                return why
        if survey.is_linear(node):
            return self._take_up(node, wanted)
        if step is not None and set(wanted) == {0}:
            self._change(node, wanted)
            if node in survey.gone:
                return self._pass_taken(step, wanted[0])
            return self._take_step(step, wanted[0])
        return self._cross(node, wanted)

    def _pass_taken(self, step: Step, wanted: Spread) -> Refused | None:
        """Go past a step that another way back took along: its map is before it already."""
        if step not in self._survey.taken_back:
            return Refused("shared-tensor", f"{step.node.label} goes on another way already")
        assert step.output is not None
        self._route.shared.append(step)
        self._route.instead[step.data] = step.output
        return self._ask(step.data, wanted, step.node)

    def _take_step(self, step: Step, wanted: Spread) -> Refused | None:
        read = self._survey.spread(step)
        if isinstance(read, Refused):
            return read
        spread = composed(read, wanted, step)
        if isinstance(spread, Refused):
            return spread
        # Where the map is even along an axis, nothing before it will tell how long that axis is.
        is_exact = self._survey.norm_of[step].batch_norm is step.node
        if not is_exact and (spread.compressed().shape != spread.shape or spread.is_identity):
            why = self._survey.why_larger(step, read)
            if why is not None:
                return why
        self._route.steps.append(step)
        assert step.output is not None
        self._replace(step.data, step.output)
        return self._ask(step.data, spread, step.node)

    def _cross(self, node: Node, wanted: dict[int, Spread]) -> Refused | None:
        rule = self._survey.through(node)
        if rule is None:
            return Refused(
                "producer-not-linear", f"{node.label} is {article(node.op_type)} with other outputs"
            )
        if node in self._survey.filled:
            return Refused("not-through", f"{node.label} fills its border for another norm already")
        found = rule.backward(node, wanted, self._survey.context)
        if isinstance(found, Refused) and rule.refilled is not None:
            fill = rule.refilled(node, wanted[0], self._survey.context)
            if fill is not None:
                self._route.fills[node], found = fill, {0: wanted[0]}
        if isinstance(found, list):
            if len(found) > 1:
                self.forks.append((node, len(found)))
            found = found[self._choices.get(node, 0)]
        if isinstance(found, Refused):
            return found
        # One that needs nothing of its input ends the walk, and what makes that input is not asked.
        is_asked = not all(spread.is_identity for spread in found.values())
        if rule.gives_input and set(wanted) == {0} and is_asked:
            data, made = node.input(0), node.outputs[0]
            assert data is not None
            assert made is not None
            self._route.passed.append(node)
            self._change(node, wanted)
            self._replace(data, made)
        else:
            self._route.crossed.append(node)
            self._change(node, wanted)
        return self._ask_all(node, found)

    def _ask_all(self, node: Node, found: Spreads) -> Refused | None:
        for at, spread in found.items():
            tensor = node.input(at)
            if tensor is None or spread.is_identity:
                continue
            slots = [slot for slot, t in enumerate(node.inputs) if t is tensor]
            others = [found.get(slot, Spread.identity()) for slot in slots]
            if not all(spread.equals(other) for other in others):
                return Refused(
                    "shared-tensor",
                    f"{tensor.name} is read twice by {node.label}, which needs it scaled "
                    "differently",
                )
            if slots[0] == at:
                why = self._ask(tensor, spread, node)
                if why is not None:
                    return why
        return None

    def _take_up(self, node: Node, wanted: dict[int, Spread]) -> Refused | None:
        linear = self._survey.linear(node)
        if isinstance(linear, Refused):
            return linear
        if linear.outward is not None:
            return linear.outward
        made = node.outputs[0]
        assert made is not None
        affine = self._fitted(linear, wanted[0], made) if set(wanted) == {0} else None
        if affine is None:
            return Refused("producer-not-linear", f"{node.label} has another output that is read")
        if isinstance(affine, Refused):
            return affine
        asked = {at: wants(affine) for at, wants in linear.asks.items()}
        if linear.shift == "computed":
            affine = Affine(affine.scale, affine.scale * 0.0)
        self._route.sinks.append(Sink(linear, affine))
        self._change(node, wanted)
        return self._ask_all(node, asked)

    def _fitted(self, linear: Linear, spread: Spread, made: Tensor) -> Affine | Refused:
        name = self._survey.norm_of[self._route.steps[0]].name
        rank = None
        if linear.axis >= 0 or len(spread.shape) > -linear.axis:
            rank = linear.rank()
        where = "the output channels of"
        return fitted(spread, linear, linear.axis, rank, linear.layer.channels, name, made, where)

    def _replace(self, data: Tensor, made: Tensor) -> None:
        """A tensor goes for one that has its place, or the place of the one before it has both."""
        instead, last = self._route.instead, data
        while last in instead:
            last = instead[last]
        if last is data:
            instead[data] = made
        elif last is not made:
            instead[made] = last

    def _change(self, node: Node, slots: dict[int, Spread]) -> None:
        for slot in slots:
            tensor = node.outputs[slot]
            if tensor is not None and tensor not in self._route.instead:
                self._route.changed.append(tensor)

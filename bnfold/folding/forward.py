"""Push a norm forward: from its data towards all linear operators that read its output."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

from bnfold.algebra.affine import Affine
from bnfold.algebra.spread import Spread
from bnfold.folding.find import Step, value_readers
from bnfold.folding.fitting import composed, fitted
from bnfold.folding.operands import as_if_mapped
from bnfold.folding.reach import Reach
from bnfold.folding.reasons import Refused
from bnfold.folding.route import Route, Sink
from bnfold.folding.rules.border import Border, bordered
from bnfold.folding.rules.reading import Inward, Linear
from bnfold.folding.rules.sizes import LARGEST
from bnfold.folding.survey import Survey, article
from bnfold.onnxgraph.graph import Node, Tensor


def push_forward_route(reach: Reach, first: Step) -> Route | Refused:
    """The way forward of a step and of every step that it meets, or why there is none.

    Args:
        reach: the graph.
        first: the step whose data keeps its values.
    """
    walk = _Walk(reach)
    found = walk.run(first)
    if isinstance(found, Refused) and walk.constants and not reach.survey.is_tired:
        again = _Walk(reach, changes_constants=True).run(first)
        return found if isinstance(again, Refused) else again
    return found


def why_left_alone(survey: Survey, route: Route) -> Refused | None:
    """Why arithmetic does not go forward though it could: runtimes know it as a part of more.

    A BatchNormalization goes, and so does what normalises the input of the model. A lone factor or
    a lone bias is no norm (the 0.5 of a Gelu), and the scale of a LayerNormalization that is
    written out node by node belongs to it: without it a runtime fuses neither.
    """
    first, name = route.steps[0], survey.norm_of[route.steps[0]].name
    if not route.sinks or any(step.is_batch_norm for step in route.steps):
        return None
    if _comes_from_input(survey, first.data):
        return None
    if len(route.steps) == 1 and not survey.tells_channels(route.steps):
        return Refused("adds-work", f"{name} is no norm by itself")
    maker = first.data.producer
    if maker is None or maker.op_type not in ("Div", "Mul"):
        return None
    for tensor in maker.inputs:
        before = tensor.producer if tensor is not None else None
        if before is not None and before.op_type in ("Sqrt", "Reciprocal", "Pow"):
            return Refused(
                "written-out-norm",
                f"{name} belongs to the normalisation that {maker.label} ends, which divides by "
                "what it computes of its data",
            )
    return None


def _comes_from_input(survey: Survey, tensor: Tensor) -> bool:
    """Whether a tensor is an input of the graph, moved or cast at most."""
    while tensor.producer is not None:
        node = tensor.producer
        if node.op_type not in _MOVES or node.domain or node.inputs[0] is None:
            return False
        tensor = node.inputs[0]
    return tensor.is_input


_MOVES = frozenset(
    (
        "Cast CastLike Dropout Flatten Gather Identity Neg Pad Reshape Resize Slice Split Squeeze "
        "Transpose Unsqueeze Upsample"
    ).split()
)


class _Walk:
    """One attempt.

    Args:
        changes_constants: whether constants that join the norm on its way are changed, so that they
            can be read as if they came from the norm, too.

    Attributes:
        constants: whether there was one that could be.
    """

    def __init__(self, reach: Reach, *, changes_constants: bool = False) -> None:
        self.constants = False
        self._changes_constants = changes_constants
        self._reach = reach
        self._survey = reach.survey
        self._route = Route("forward")
        self._heap: list[tuple[int, Node]] = []
        self._owed: dict[Node, dict[int, Spread]] = {}
        self._joined: set[Node] = set()

    def run(self, first: Step) -> Route | Refused:
        """Walk until every reader has taken up its part."""
        why = self._take_step(first, Spread.identity())
        visited = 0
        while why is None and self._heap:
            node = heappop(self._heap)[1]
            visited += 1
            why = self._survey.why_too_far(visited, node) or self._visit(node, self._owed[node])
        return self._route if why is None else why

    def _owe(self, tensor: Tensor, spread: Spread) -> Refused | None:
        """Note that the readers of a tensor will read it without ``spread``."""
        why = self._reach.grounded(tensor)
        if why is not None:
            return why
        if spread.scale.size > LARGEST:
            return Refused(
                "expression-too-large", f"the map on {tensor.name} has {spread.shape} values"
            )
        for node in value_readers(tensor):
            owed = self._owed.get(node)
            if owed is None:
                owed = self._owed[node] = {}
                heappush(self._heap, (self._survey.order(node), node))
            for slot, read in enumerate(node.inputs):
                if read is tensor:
                    owed[slot] = spread
        return None

    def _visit(self, node: Node, owed: dict[int, Spread]) -> Refused | None:
        survey = self._survey
        if node in survey.gone:
            return Refused("not-through", f"{node.label} folds in the other direction")
        if survey.is_linear(node):
            return self._take_up(node, owed)
        step = survey.step_of.get(node)
        if step is not None:
            if len(owed) > 1 or node.input(next(iter(owed))) is not step.data:
                return Refused("not-through", f"{node.label} reads the norm in more than one place")
            return self._take_step(step, next(iter(owed.values())))
        return self._cross(node, owed)

    def _take_step(self, step: Step, owed: Spread) -> Refused | None:
        assert step.output is not None
        read = self._survey.spread(step)
        if isinstance(read, Refused):
            return self._reach.grounded(step.output) or read
        spread = composed(owed, read, step)
        if isinstance(spread, Refused):
            return spread
        why = self._survey.why_larger(step, read)
        if why is not None:
            return self._reach.grounded(step.output) or why
        self._route.steps.append(step)
        self._route.instead[step.output] = step.data
        if spread.is_identity:
            return self._require_unnamed(step.output)
        return self._owe(step.output, spread)

    def _require_unnamed(self, tensor: Tensor) -> Refused | None:
        """Why a tensor cannot go, though its values stay: others know it by its name."""
        readers = value_readers(tensor)
        if tensor.is_output or tensor.is_pinned:
            return Refused("graph-output", f"{tensor.name} is an output of the graph")
        if readers and readers[0].scope is not tensor.scope:
            return Refused(
                "subgraph-reader",
                f"{tensor.name} is read by {readers[0].label} inside {readers[0].scope.where}",
            )
        return None

    def _cross(self, node: Node, owed: dict[int, Spread]) -> Refused | None:
        rule = self._survey.through(node)
        if rule is None:
            return Refused(
                "not-through", f"{node.label} is {article(node.op_type)}, no linear operator"
            )
        allowed = range(len(node.inputs)) if rule.data is None else rule.data
        if not set(owed) <= set(allowed):
            return Refused("not-through", f"{node.label} reads the norm as a parameter")
        if node in self._survey.filled:
            return Refused("not-through", f"{node.label} fills its border for another norm already")
        whole = self._with_constants(node, owed, allowed) if len(allowed) > 1 else owed
        if isinstance(whole, Refused):
            return whole
        owed = whole
        found = rule.forward(node, owed, self._survey.context)
        if isinstance(found, Refused) and rule.refilled is not None:
            fill = rule.refilled(node, owed[0].inverse(), self._survey.context)
            if fill is not None:
                self._route.fills[node], found = fill, {0: owed[0]}
        if isinstance(found, Refused):
            return self._take_along(node, owed, found)
        made, data = node.outputs[0], node.input(0)
        if rule.gives_input:
            assert made is not None
            assert data is not None
            self._route.passed.append(node)
            self._route.instead[made] = data
            return self._owe(made, found[0])
        self._route.crossed.append(node)
        for slot, spread in found.items():
            tensor = node.outputs[slot]
            if tensor is None or spread.is_identity:
                continue
            self._route.changed.append(tensor)
            why = self._owe(tensor, spread)
            if why is not None:
                return why
        return None

    def _with_constants(
        self, node: Node, owed: dict[int, Spread], slots: Sequence[int]
    ) -> dict[int, Spread] | Refused:
        """The maps of a node's inputs, with those of the constants among them once they change."""
        spread = next(iter(owed.values()))
        inputs = {at: node.input(at) for at in slots if at not in owed}
        constant = {at: t for at, t in inputs.items() if t and self._survey.is_constant(t)}
        if not constant or not all(one.equals(spread) for one in owed.values()):
            return owed
        self.constants = True
        if not self._changes_constants:
            return owed
        found = as_if_mapped(node, constant, spread, self._survey.context)
        if isinstance(found, Refused):
            return found
        self._route.operands += found
        return {**owed, **dict.fromkeys(constant, spread)}

    def _take_along(self, node: Node, owed: dict[int, Spread], why: Refused) -> Refused | None:
        """Begin with the norms of the other branches too, and come back to where they join.

        ``s x + t`` and ``s y + u`` go forward through ``x + y`` only together.
        """
        survey = self._survey
        others: list[Step] = []
        for slot, tensor in enumerate(node.inputs):
            step = survey.step_of.get(tensor.producer) if tensor and tensor.producer else None
            if step is None or slot in owed:
                continue
            steps = survey.norm_of[step].steps
            steps = steps[: steps.index(step) + 1]
            outputs = [one.output for one in steps]
            if any(one.node in survey.gone or one in self._route.steps for one in steps):
                continue
            if all(made is not None and len(value_readers(made)) == 1 for made in outputs):
                others.append(steps[0])
        if why.code != "not-through" or node in self._joined or not others:
            return why
        self._joined.add(node)
        heappush(self._heap, (survey.order(node), node))
        for step in dict.fromkeys(others):
            if self._take_step(step, Spread.identity()) is not None:
                return why
        return None

    def _take_up(self, node: Node, owed: dict[int, Spread]) -> Refused | None:
        linear = self._survey.linear(node)
        if isinstance(linear, Refused):
            return linear
        inward = linear.inward
        if isinstance(inward, Refused):
            return inward
        if inward is None or set(owed) != {inward.at}:
            return Refused(
                "not-through",
                f"{node.label} ({node.op_type}) has no weights that could take up its input's norm",
            )
        affine = self._fitted(linear, inward, owed[inward.at])
        if isinstance(affine, Refused):
            return affine
        border: Border | None = None
        if affine.shift.any() and inward.uneven is not None:
            border = bordered(linear, affine, len(self._route.steps), self._survey.context)
            if border is None:
                return inward.uneven
        back = self._add_behind(linear) if linear.shift == "add" and affine.shift.any() else None
        if back is not None:
            assert back.output is not None
            self._route.instead[back.data] = back.output
        self._route.sinks.append(Sink(linear, affine, back, border))
        return None

    def _fitted(self, linear: Linear, inward: Inward, spread: Spread) -> Affine | Refused:
        name = self._survey.norm_of[self._route.steps[0]].name
        data = linear.node.input(inward.at)
        assert data is not None
        where = "the input channels of"
        rank = None
        if inward.axis >= 0 or len(spread.shape) > -inward.axis:
            rank = inward.rank()
        return fitted(spread, linear, inward.axis, rank, inward.channels, name, data, where)

    def _add_behind(self, linear: Linear) -> Step | None:
        """The Add or Sub right behind an operator without a bias, if it can be its bias.

        It has to be in the same graph: the operator's output takes its place.
        """
        made = linear.node.outputs[0]
        readers = value_readers(made) if made is not None else []
        if made is None or len(readers) != 1 or made.is_output or made.is_pinned:
            return None
        step = self._survey.step_of.get(readers[0])
        if step is None or step.data is not made or readers[0] in self._survey.gone:
            return None
        if step.node.scope is not linear.node.scope:
            return None
        spread = self._survey.spread(step)
        if isinstance(spread, Refused) or not spread.has_no_scale:
            return None
        name, where = step.node.label, "the output channels of"
        rank = linear.rank() if len(spread.shape) > -linear.axis else None
        channels = linear.layer.channels
        found = fitted(spread, linear, linear.axis, rank, channels, name, made, where)
        # Equal values along another axis are no bias as they stand.
        is_by_channel = spread.along(linear.axis, linear.rank()) is not None
        return step if is_by_channel and not isinstance(found, Refused) else None

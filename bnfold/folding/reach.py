"""Whether the ways from a tensor end at linear operators at all, found once for each tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bnfold.folding.find import value_readers
from bnfold.folding.operands import read_operand
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.reading import malformed
from bnfold.folding.rules.tables import LINEAR
from bnfold.folding.survey import Survey, article
from bnfold.onnxgraph.graph import Node, Tensor

_Next = Callable[[Tensor], "list[Tensor] | Refused"]
_Joined = Callable[[Tensor, "list[Refused | None]"], "Refused | None"]


class Reach:
    """Where the ways from each tensor end, as far as the operators alone tell.

    Attributes:
        survey: the graph.
    """

    def __init__(self, survey: Survey) -> None:
        self.survey = survey
        self._rooted: dict[Tensor, Refused | None] = {}
        self._ends: dict[Tensor, Refused] = {}
        self._grounded: dict[Tensor, Refused | None] = {}

    def rooted(self, tensor: Tensor) -> Refused | None:
        """None where every way back ends at linear operators or constants."""
        return _found(tensor, self._rooted, self._before, self._joined_before)

    def grounded(self, tensor: Tensor) -> Refused | None:
        """None where every way forward ends at linear operators."""
        return _found(tensor, self._grounded, self._after, _first)

    def _before(self, tensor: Tensor) -> list[Tensor] | Refused:
        """The tensors that a map of this one would go back to, or why it goes nowhere."""
        survey, node = self.survey, tensor.producer
        if survey.is_constant(tensor):
            known = read_operand(tensor, survey.context)
            return known if isinstance(known, Refused) else []
        if node is None:
            what = "a graph input" if tensor.is_input else "an initializer"
            return Refused("producer-not-linear", f"{tensor.name} is {what}, made by no operator")
        is_first = node.outputs[0] is tensor
        if survey.is_linear(node):
            linear = survey.linear(node)
            if isinstance(linear, Refused):
                return linear
            if linear.outward is not None:
                return linear.outward
            if not is_first:
                return malformed(node, f"it has a second output, {tensor.name}")
            return [t for t in map(node.input, linear.asks) if t is not None]
        if node.domain and node.op_type in LINEAR:
            return Refused(
                "unknown-domain", f"{node.label} is a {node.op_type} of the domain {node.domain}"
            )
        step = survey.step_of.get(node)
        if step is not None:
            if isinstance(survey.read(step), Refused):
                name = survey.norm_of[step].name
                return Refused(
                    "producer-not-linear", f"{name}, which makes {tensor.name}, stays itself"
                )
            return [step.data]
        rule = survey.through(node)
        if rule is None or (rule.gives_input and not is_first):
            return Refused(
                "producer-not-linear",
                f"{tensor.name} is made by {node.label}, {article(node.op_type)}, "
                "which is no linear operator",
            )
        return survey.crossed_inputs(node)

    def _joined_before(self, tensor: Tensor, found: list[Refused | None]) -> Refused | None:
        """The reason against the first branch that leads nowhere, and which branch that is."""
        node = tensor.producer
        why = _first(tensor, found)
        if node is None or why is None:
            return why
        rule = self.survey.through(node)
        if rule is not None and rule.one_branch and None in found:
            return None
        linear = self.survey.linear(node) if self.survey.is_linear(node) else None
        if linear is None or isinstance(linear, Refused):
            return self._of_branch(tensor, node, found) if rule is not None else why
        at = next(at for at, one in zip(linear.asks, found, strict=True) if one is not None)
        return Refused(
            "weight-not-constant", f"input {at} of {node.label} is not constant: {why.sentence}"
        )

    def _of_branch(
        self, tensor: Tensor, node: Node, found: Sequence[Refused | None]
    ) -> Refused | None:
        """The reason against one of several branches, in words of the last node that joins some."""
        at = next(at for at, one in enumerate(found) if one is not None)
        branch, why = self.survey.crossed_inputs(node)[at], found[at]
        assert why is not None
        end = self._ends[tensor] = self._ends.get(branch, why)
        if None not in found or end.code != "producer-not-linear":
            return why
        joins = f"which {node.label} ({node.op_type}) joins to what linear operators make"
        own = f"{branch.name}, {joins}"
        if end.sentence.startswith(f"{branch.name} is "):
            return Refused(end.code, f"{own}, {end.sentence[len(branch.name) + 1 :]}")
        return Refused(end.code, f"{own}, comes from none: {end.sentence}")

    def _after(self, tensor: Tensor) -> list[Tensor] | Refused:
        """The tensors that a map of this one would go forward to, or why it goes nowhere."""
        if tensor.is_output:
            return Refused("graph-output", f"{tensor.name} is an output of the graph")
        readers = value_readers(tensor)
        if tensor.is_pinned or not readers:
            return Refused("producer-not-linear", f"no node reads {tensor.name}")
        after: list[Tensor] = []
        for node in readers:
            if node.scope is not tensor.scope:
                return Refused(
                    "subgraph-reader",
                    f"{tensor.name} is read by {node.label} inside {node.scope.where}",
                )
            if self.survey.is_linear(node):
                continue
            if self.survey.step_of.get(node) is None and self.survey.through(node) is None:
                return Refused(
                    "producer-not-linear",
                    f"{tensor.name} is read by {node.label}, {article(node.op_type)}, "
                    "which lets no norm through",
                )
            after += [t for t in node.outputs if t is not None]
        return after


def _first(tensor: Tensor, found: list[Refused | None]) -> Refused | None:
    return next((why for why in found if why is not None), None)


def _found(
    tensor: Tensor, known: dict[Tensor, Refused | None], after: _Next, joined: _Joined
) -> Refused | None:
    """What is found for a tensor from what is found for those that follow it; not recursive."""
    waiting = [tensor]
    while waiting:
        top = waiting[-1]
        if top in known:
            waiting.pop()
            continue
        following = after(top)
        if isinstance(following, Refused):
            known[waiting.pop()] = following
            continue
        missing = [t for t in following if t not in known]
        if missing:
            waiting += missing
            continue
        known[waiting.pop()] = joined(top, [known[t] for t in following])
    return known[tensor]

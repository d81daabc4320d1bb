"""A tensor that several nodes read: whether a way back may change it for all of them."""

from __future__ import annotations

from collections.abc import Mapping

from bnfold.algebra.spread import Spread
from bnfold.folding.find import Step, value_readers
from bnfold.folding.fitting import composed
from bnfold.folding.reasons import Refused
from bnfold.folding.route import Route
from bnfold.folding.survey import Survey
from bnfold.onnxgraph.graph import Node, Tensor

NEAR = 4
"""A reader is followed through at most so many operators to a norm that is equal there."""

FEW = 16
"""Readers of a tensor that are more than this are not followed."""


class Sharing:
    """The readers of the tensors on a way back.

    Args:
        survey: the graph.
        route: the way so far.
        wanted: node -> what its outputs have to carry, by position.
    """

    def __init__(
        self, survey: Survey, route: Route, wanted: Mapping[Node, Mapping[int, Spread]]
    ) -> None:
        self._survey = survey
        self._route = route
        self._wanted = wanted
        self._asked: dict[Tensor, list[Node]] = {}

    def joined(
        self, tensor: Tensor, before: Spread | None, spread: Spread, reader: Node
    ) -> Spread | Refused:
        """What a tensor has to carry for one reader more, beside those that asked before.

        Readers that take different parts of it (Slices) get one map that serves them all.
        """
        readers = self._asked.setdefault(tensor, [])
        readers.append(reader)
        if before is None or before.equals(spread):
            return spread
        whole = before.laid_over(spread)
        if whole is not None and all(self._gets_its_part(node, tensor, whole) for node in readers):
            return whole
        return Refused(
            "shared-tensor",
            f"{tensor.name} is read in several places, which need it scaled differently",
        )

    def _gets_its_part(self, node: Node, tensor: Tensor, spread: Spread) -> bool:
        """Whether a reader makes of a map exactly what is wanted of it."""
        rule = self._survey.through(node)
        if rule is None or rule.gives_input or node in self._survey.step_of or rule.data != (0,):
            return False
        found = rule.forward(node, {0: spread}, self._survey.context)
        wanted, identity = self._wanted.get(node, {}), Spread.identity()
        return not isinstance(found, Refused) and all(
            found.get(at, identity).equals(wanted.get(at, identity))
            for at in range(len(node.outputs))
        )

    def why_needed(self, tensor: Tensor, spread: Spread) -> Refused | None:
        """Why a tensor cannot change: somebody needs it as it was."""
        if tensor.is_output:
            return Refused("graph-output", f"{tensor.name} is also an output of the graph")
        readers = value_readers(tensor)
        others = [node for node in readers if node not in self._asked[tensor]]
        for node in readers[:1]:
            # Those of other scopes come first, and cannot be given another tensor.
            if node.scope is not tensor.scope:
                return Refused(
                    "subgraph-reader",
                    f"{tensor.name} is read by {node.label} inside {node.scope.where}",
                )
        if tensor.is_pinned:
            return Refused(
                "shared-tensor",
                f"{tensor.name} is named by a quantisation annotation or by training information",
            )
        near = NEAR if len(others) <= FEW else 0
        for at, node in enumerate(others):
            if not self._follows(node, tensor, spread, near):
                # Those after the first need not be asked: one is enough.
                return self._shared(tensor, spread, others[at:])
        return None

    def take_equal_parts(self, node: Node, wanted: dict[int, Spread]) -> None:
        """Ask for the other outputs too, the parts of a Split, where equal norms read them."""
        spread = next(iter(wanted.values()))
        for slot, tensor in enumerate(node.outputs):
            if tensor is None or slot in wanted or tensor.is_output or tensor.is_pinned:
                continue
            readers = value_readers(tensor)
            if not 0 < len(readers) <= FEW or readers[0].scope is not tensor.scope:
                continue
            # Tried on a route of its own, since what is noted of one that does not follow stays.
            trial = Sharing(self._survey, Route("backward"), {})
            if all(trial._follows(reader, tensor, spread, NEAR) for reader in readers):
                wanted[slot] = spread
                self._asked.setdefault(tensor, [])

    def _follows(self, node: Node, tensor: Tensor, spread: Spread, near: int) -> bool:
        """Whether a reader does not mind a map of what it reads, or lets it reach equal norms.

        What it notes in the route counts only where it follows.

        Args:
            near: at most so many operators stand between the tensor and those norms.
        """
        return (
            self._joins(node, tensor, spread)
            or self._is_unaffected(node, tensor, spread)
            or (near > 0 and self._leads_to_equals(node, tensor, spread, near - 1))
        )

    def _leads_to_equals(self, node: Node, tensor: Tensor, spread: Spread, near: int) -> bool:
        """Whether equal norms, or readers that do not mind, are all that reads a reader's outputs.

        ``g(f(x)) == f(s x + t)`` for a norm g behind f, where f turns the map s x + t into g.
        """
        rule = self._survey.through(node)
        if rule is None or rule.gives_input or node in self._survey.step_of or rule.data != (0,):
            return False
        found = rule.forward(node, {0: spread}, self._survey.context)
        if node.inputs.count(tensor) != 1 or isinstance(found, Refused):
            return False
        self._route.crossed.append(node)
        for slot, own in found.items():
            made = node.outputs[slot]
            if made is None or own.is_identity:
                continue
            readers = value_readers(made)
            if made.is_output or made.is_pinned or any(r.scope is not made.scope for r in readers):
                return False
            if len(readers) > FEW:
                return False
            if not all(self._follows(reader, made, own, near) for reader in readers):
                return False
            if made not in self._route.instead:
                self._route.changed.append(made)
        return True

    def _shared(self, tensor: Tensor, spread: Spread, blocking: list[Node]) -> Refused:
        """The refusal for a tensor that other nodes read, the first of which needs it as it was."""
        more = f" and {len(blocking) - 1} more" if len(blocking) > 1 else ""
        also = f"{tensor.name} is also read by {blocking[0].label}{more}"
        steps = [self._survey.step_of.get(node) for node in blocking]
        norms = [self._survey.norm_of[step].batch_norm for step in steps if step is not None]
        if norms == blocking and self._equal_steps(blocking[0], tensor, spread):
            return Refused("graph-output", f"{also}, an equal norm, and both are outputs")
        if norms == blocking:
            return Refused("different-norms", f"{also}, which normalises it differently")
        return Refused("shared-tensor", f"{also}, which needs the values before normalisation")

    def _joins(self, node: Node, tensor: Tensor, spread: Spread) -> bool:
        """Take along an equal norm of the same tensor, of one step or of several."""
        steps = self._equal_steps(node, tensor, spread)
        made = steps[-1].output if steps else None
        if made is None:
            return False
        instead, other = self._route.instead, tensor
        while other in instead:
            other = instead[other]
        if keeps_name(made):
            if other is not tensor and keeps_name(other):
                return False
            instead[other] = made
        elif other is tensor:
            instead[tensor] = made
        else:
            instead[made] = other
        self._route.steps += reversed(steps)
        for step in steps:
            for passed in step.crossed:
                self._route.passed.append(passed)
                if passed.input(0) is not tensor:
                    self._leave(passed.input(0), passed.outputs[0])
            if step.data is not tensor:
                self._leave(step.data, step.output)
        return True

    def _leave(self, tensor: Tensor | None, instead: Tensor | None) -> None:
        assert tensor is not None
        assert instead is not None
        self._route.instead[tensor] = instead

    def _equal_steps(self, node: Node, tensor: Tensor, spread: Spread) -> list[Step]:
        """The first steps of another chain that together are the same map, or none."""
        step: Step | None = self._survey.begun_by.get(node)
        first = step.crossed[0].input(0) if step and step.crossed else step.data if step else None
        if step is None or first is not tensor or node.inputs.count(tensor) != 1:
            return []
        found: list[Step] = []
        whole = Spread.identity()
        while step is not None and step.node not in self._survey.gone:
            own = self._survey.spread(step)
            if isinstance(own, Refused) or self._survey.why_larger(step, own):
                return []
            after = composed(whole, own, step)
            if isinstance(after, Refused):
                return []
            found.append(step)
            whole = after
            if whole.equals(spread):
                return found
            step = self._survey.next_of.get(step)
        return []

    def _is_unaffected(self, node: Node, tensor: Tensor, spread: Spread) -> bool:
        """Whether a reader takes only such parts of a tensor as stay the same."""
        rule = self._survey.through(node)
        if rule is None or rule.gives_input or node in self._survey.step_of:
            return False
        slots = [at for at, t in enumerate(node.inputs) if t is tensor]
        found = rule.forward(node, dict.fromkeys(slots, spread), self._survey.context)
        return not isinstance(found, Refused) and all(s.is_identity for s in found.values())


def keeps_name(tensor: Tensor) -> bool:
    """Whether others know a tensor by its name."""
    readers = value_readers(tensor)
    is_captured = bool(readers) and readers[0].scope is not tensor.scope
    return tensor.is_output or tensor.is_pinned or is_captured

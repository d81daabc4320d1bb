"""Decide, for every norm, what it folds into or why it stays. Pure: reads, and writes nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnfold.algebra.layer import Layer, push_back, push_forward
from bnfold.folding.backward import push_back_route
from bnfold.folding.decided import Decision, FoldPlan, Plan
from bnfold.folding.find import Chain, Norm, Selection, Step, find
from bnfold.folding.forward import push_forward_route, why_left_alone
from bnfold.folding.operands import why_stored_twice
from bnfold.folding.plain import plain_route
from bnfold.folding.reach import Reach
from bnfold.folding.reasons import Refused, combined
from bnfold.folding.route import Route, Sink
from bnfold.folding.rules.border import MapBehind, PadBefore
from bnfold.folding.rules.reading import Context
from bnfold.folding.settle import computed_biases
from bnfold.folding.store import lost_factor, summed, why_not_storable
from bnfold.folding.survey import Survey
from bnfold.folding.together import Ready, ready_folds
from bnfold.onnxgraph.constants import Constants
from bnfold.onnxgraph.graph import Node
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.types import Types


def plan(index: Index, selection: Selection, *, assume_inference: bool = False) -> Plan:
    """Decide about every norm of a model: backward if it can, else forward.

    Args:
        index: the model.
        selection: the norms that the user wants folded.
        assume_inference: whether training-mode norms are read as inference.
    """
    types = Types(index)
    context = Context(Constants(index, types), types, index.document.opset, assume_inference)
    # Every number is checked before it is used; a NaN in the file is a reason, not a warning.
    with np.errstate(all="ignore"):
        survey = Survey(index, context, selection, find(index, context))
        return _Planner(survey).run()


RETRIED = frozenset(
    (
        "adds-work axis-mismatch beyond-dtype channel-mismatch different-norms "
        "expression-too-large not-through quantised-bias quantised-weight shared-tensor "
        "unknown-rank"
    ).split()
)
"""Refusals of a chain after which a shorter one may still fold."""


LONG = 8
"""Chains of more steps than this that share their source are tried whole, and by their first."""


class _Planner:
    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._reach = Reach(survey)
        self._plan = Plan()
        self._fold_of: dict[Step, FoldPlan] = {}
        self._hosted: set[Node] = set()
        self._ready: dict[Step, Ready] = {}

    def run(self) -> Plan:
        self._ready = ready_folds(self._survey)
        # From the last chain on, for a way back takes along every norm that it meets.
        order = self._survey.order
        chains = sorted(self._survey.chains, key=lambda chain: order(chain.steps[0].node))
        backward = {chain: self._fold_back(chain) for chain in reversed(chains)}
        forward = {chain: self._fold_forward(chain) for chain in chains}
        for chain in self._survey.chains:
            self._decide(chain, backward[chain], forward[chain])
        self._plan.folds.sort(key=lambda fold: self._survey.order(fold.steps[0].node))
        if self._plan.folds:
            others = [node for node in self._survey.nodes if node not in self._plan.linears]
            self._plan.stored_biases += computed_biases(self._survey, others)
        return self._plan

    def _fold_back(self, chain: Chain) -> Refused | None:
        """Fold the longest run of steps, from the first on, that can go back; else why not."""
        survey = self._survey
        count, why = self._readable(chain.steps)
        own = len(survey.norm_of[chain.steps[0]].steps)
        if count == 0 or chain.steps[0].node in survey.gone:
            return why
        ready = self._ready.get(chain.steps[0])
        if ready is not None and ready.linear.node not in self._plan.layers:
            self._take(ready.route, {ready.linear.node: ready.layer})
            self._plan.ready[ready.linear.node] = ready
            return why
        if count == len(chain.steps) == 1:
            plain = plain_route(survey, chain.steps[0])
            if plain is not None and not self._may_add(plain) and self._accepted(plain) is None:
                return why
        structural = self._reach.rooted(chain.source)
        if structural is not None:
            return structural
        while count > 0:
            found = push_back_route(self._reach, chain.steps[count - 1])
            if isinstance(found, Route):
                if count == len(chain.steps) and self._goes_forward_instead(found, chain):
                    return None
                refused = self._accepted(found)
                if refused is None:
                    return why
                found = refused
            # What is said of the first norm is said of all of it.
            why = found if count >= own or why is None else why
            if found.code not in RETRIED:
                break
            # Equal norms of one tensor may be equal in their first steps only.
            count = 1 if found.code == "shared-tensor" and count > LONG else count - 1
        return why

    def _goes_forward_instead(self, route: Route, chain: Chain) -> bool:
        """Take a way forward in place of one back that would leave an Add, if there is one."""
        if not self._may_add(route) or not set(route.steps) <= set(chain.steps):
            return False
        found = push_forward_route(self._reach, chain.steps[0])
        if isinstance(found, Refused) or self._may_add(found):
            return False
        if not set(chain.steps) <= set(found.steps) or why_left_alone(self._survey, found):
            return False
        return self._accepted(found) is None

    def _may_add(self, route: Route) -> bool:
        """Whether a route may put an Add behind an operator that has none yet."""
        return any(self._lacks_add(sink) for sink in route.sinks)

    def _lacks_add(self, sink: Sink) -> bool:
        """Whether an operator has no bias input, and no Add behind it either."""
        linear = sink.linear
        return linear.shift == "add" and sink.back is None and linear.node not in self._hosted

    def _fold_forward(self, chain: Chain) -> Refused | None:
        """Fold the steps that are left into what reads them; else why not."""
        survey = self._survey
        first: Refused | None = None
        for step in chain.steps:
            if step.node in survey.gone or isinstance(survey.read(step), Refused):
                continue
            found = push_forward_route(self._reach, step)
            refused = found if isinstance(found, Refused) else why_left_alone(survey, found)
            if refused is None and isinstance(found, Route):
                refused = self._accepted(found)
            first = first or refused
            why = self._reach.grounded(step.output) if step.output is not None else None
            if why is not None:
                return first or why
        return first

    def _readable(self, steps: Sequence[Step]) -> tuple[int, Refused | None]:
        """How many steps can be read, from the first on, and why not one more."""
        for count, step in enumerate(steps):
            read = self._survey.read(step)
            if isinstance(read, Refused):
                return count, read
        return len(steps), None

    def _accepted(self, route: Route) -> Refused | None:
        """Take a route into the plan, or say why it cannot be stored or gains nothing."""
        layers: dict[Node, Layer] = {}
        for sink in route.sinks:
            linear, node = sink.linear, sink.linear.node
            layer = self._plan.layers.get(node, linear.layer)
            why = lost_factor(linear, layer, sink.affine, route.direction)
            if why is not None:
                return why
            if route.direction == "backward":
                layer = push_back(layer, sink.affine)
            elif isinstance(sink.border, MapBehind):
                layer = layer.scaled_in(sink.affine.scale)
            else:
                layer = push_forward(layer, sink.affine, lambda v, of=linear: summed(of, v))  # type: ignore[misc]
            if sink.back is not None:
                spread = self._survey.spread(sink.back)
                assert not isinstance(spread, Refused)
                layer = layer.shifted_out(spread.shift.reshape(-1))
            why = why_not_storable(linear, layer)
            if why is not None:
                return why
            layers[node] = layer
        why = why_stored_twice(route.operands, self._plan.operands)
        why = why or self._why_no_gain(route, layers)
        if why is not None:
            return why
        self._take(route, layers)
        return None

    def _take(self, route: Route, layers: dict[Node, Layer]) -> None:
        """Take a route into the plan, with what its operators have collected then."""
        self._plan.operands += route.operands
        for sink in route.sinks:
            self._plan.linears[sink.linear.node] = sink.linear
            if sink.linear.shift == "add":
                self._hosted.add(sink.linear.node)
        self._plan.layers.update(layers)
        self._plan.folds.append(route)
        self._fold_of.update(dict.fromkeys(route.steps, route))
        self._survey.take(route)

    def _why_no_gain(self, route: Route, layers: dict[Node, Layer]) -> Refused | None:
        """Why a fold would leave as many nodes, and none of them cheaper.

        An operator without a bias input (MatMul) keeps one Add for its shift: a single Add or Sub
        after it is that bias already.
        """
        added = pads = 0
        for sink in route.sinks:
            node = sink.linear.node
            pads += isinstance(sink.border, PadBefore)
            added += sink.border is not None
            if self._lacks_add(sink):
                added += bool(np.any(layers[node].bias != 0))
        removed = len(route.steps)
        is_cheaper = any(step.node.op_type not in ("Add", "Sub") for step in route.steps)
        is_cheaper = is_cheaper or any(not layer.keeps_weight for layer in layers.values())
        if added < removed or (added == removed and is_cheaper and not pads):
            return None
        name = self._survey.norm_of[route.steps[0]].name
        if added == removed == 1 and not is_cheaper:
            into = route.sinks[0].linear.node.label
            return Refused("adds-work", f"{name} is the bias of {into} already")
        return Refused(
            "adds-work",
            f"in place of the {removed} node{'s' * (removed > 1)} of {name} there would be {added} "
            f"{'Pad' if pads else 'Add'} nodes",
        )

    def _decide(self, chain: Chain, backward: Refused | None, forward: Refused | None) -> None:
        """Record what becomes of the norms of a chain, part by part."""
        start = 0
        while start < len(chain.steps):
            fold = self._fold_of.get(chain.steps[start])
            stop = start + 1
            while stop < len(chain.steps) and self._fold_of.get(chain.steps[stop]) is fold:
                stop += 1
            is_whole = stop - start == len(chain.steps)
            part = chain if is_whole else Chain(chain.source, chain.steps[start:stop])
            if fold is None:
                own = self._survey.read(part.steps[0])
                why = own if isinstance(own, Refused) else combined(backward, forward)
                self._refuse(part, why)
            else:
                for norm in part.norms():
                    if not self._is_bias(norm, fold):
                        self._record(norm, fold)
            start = stop

    def _is_bias(self, norm: Norm, fold: FoldPlan) -> bool:
        """Whether it is the Add of an operator without a bias, and stays that beside others."""
        step = norm.steps[0]
        linear = self._plan.linears.get(step.data.producer) if step.data.producer else None
        is_add = len(norm.steps) == 1 and step.node.op_type in ("Add", "Sub")
        return is_add and len(fold.steps) > 1 and linear is not None and linear.shift == "add"

    def _record(self, norm: Norm, fold: FoldPlan) -> None:
        assumed = False
        for step in norm.steps:
            read = self._survey.read(step)
            assumed = assumed or (not isinstance(read, Refused) and read.assumed_inference)
        self._plan.decisions.append(Decision(norm, fold=fold, assumed_inference=assumed))

    def _refuse(self, rest: Chain, why: Refused) -> None:
        """Record why norms stay: the first one for ``why``, the others mostly because it does.

        Arithmetic that is no norm is not recorded.
        """
        before: Norm | None = None
        for norm in rest.norms():
            reason: Refused | None = why
            if before is not None:
                reads = [self._survey.read(step) for step in norm.steps]
                reason = next((read for read in reads if isinstance(read, Refused)), None)
                reason = reason or Refused(
                    "producer-not-linear",
                    f"{before.name}, which makes {norm.steps[0].data.name}, stays itself",
                )
            # Scalar arithmetic and lone biases that stay are no norms.
            if norm.batch_norm is not None or self._survey.tells_channels(norm.steps):
                self._plan.decisions.append(Decision(norm, refused=reason))
            before = norm

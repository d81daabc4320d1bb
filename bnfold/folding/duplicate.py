"""Copy cheap linear operators for norms that share one: a stage of its own, behind the plan.

``norm(f(x))`` beside ``g(f(x))`` is ``f'(x)`` beside ``g(f(x))``: the same values for one more f.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bnfold.errors import ModelError
from bnfold.folding.copying import Copying, Read, is_needed, with_copies
from bnfold.folding.decided import Decision, Plan
from bnfold.folding.find import Chain, Selection, Step, find, gives_input
from bnfold.folding.inline import Analysis
from bnfold.folding.line import Line, line_before, why_dear
from bnfold.folding.outcome import CopiedOperator
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.reading import Context
from bnfold.folding.sharing import keeps_name
from bnfold.folding.survey import Survey
from bnfold.onnxgraph.constants import Constants
from bnfold.onnxgraph.graph import Node, Scope
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.types import Types

CODES = frozenset({"different-norms", "graph-output", "shared-tensor", "subgraph-reader"})
"""Reasons of norms that a copy can help."""

ROUNDS = 3
"""How often copies are tried: all, those that would fold then, and once more."""

Place = tuple[int, str]
"""A tensor in any version of the model: the number of its graph, and its name there."""


@dataclass(eq=False)
class _Group:
    """Norms that share a copy: one, or several equal ones.

    Attributes:
        line: what makes their data.
        steps: the first step of each norm that stays.
        reads: what reads their data, and the data that it reads.
    """

    line: Line
    steps: list[Step] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)


def duplicated(
    analysis: Analysis,
    decide: Callable[[Index], Plan],
    selection: Selection,
    *,
    assume_inference: bool = False,
) -> Analysis:
    """Copy each cheap operator for the norms that stay only because others need its values, too.

    Nothing is copied in vain: every copy takes up a norm. Where nobody else needs the values after
    all, because several norms that differ were all of their readers, one of these has the operator
    itself. Norms that stay say why they got no copy.

    Args:
        analysis: the model with its plan; the very same one comes back where nothing is copied.
        decide: makes the plan of an index.
        selection, assume_inference: those of that plan.
    """
    wanting = _wanting(analysis.plan)
    if not wanting:
        return analysis
    index = analysis.index
    types = Types(index)
    context = Context(Constants(index, types), types, index.document.opset, assume_inference)
    with np.errstate(all="ignore"):
        survey = Survey(index, context, selection, find(index, context))
        candidates = _Candidates(survey, index)
        candidates.collect(wanting)
    for _ in range(ROUNDS):
        copyings = candidates.copyings()
        if not any(copying.is_copied for copying in copyings.values()):
            break
        found = _tried(analysis, list(copyings.values()), decide)
        if found is None:
            break
        failed = candidates.failed(copyings, found)
        if not failed and _is_better(found, analysis.plan, copyings):
            return _explained(found, candidates.whys)
        if not failed:
            break
        candidates.drop(failed, found)
    return _explained(analysis, candidates.whys)


class _Candidates:
    """The norms that could have a copy.

    Attributes:
        whys: why one has none, by the place of its first output.
    """

    def __init__(self, survey: Survey, index: Index) -> None:
        self.whys: dict[Place, str] = {}
        self._survey = survey
        self._numbers = _numbers(index)
        self._groups: list[_Group] = []

    def collect(self, wanting: set[Node]) -> None:
        """Find what makes the data of the norms that begin with one of these nodes."""
        equal: dict[tuple[object, ...], _Group] = {}
        for chain in self._survey.chains:
            step = next((step for step in chain.steps if step.node in wanting), None)
            if step is None or _reader(chain).inputs.count(chain.source) != 1:
                continue
            line = line_before(self._survey, chain.source)
            spread = self._survey.spread(chain.steps[0])
            if line is None or isinstance(spread, Refused):
                continue
            linear = self._survey.linear(line.nodes[0])
            why = linear.sentence if isinstance(linear, Refused) else why_dear(linear)
            if why is not None:
                self._tell(step, why)
                continue
            key: tuple[object, ...] = (step,)
            if len(chain.steps) == 1 and not step.crossed:
                sizes = spread.scale.shape, spread.shift.shape
                key = (*line.nodes, *sizes, spread.scale.tobytes(), spread.shift.tobytes())
            group = equal.get(key)
            if group is None or (_is_known(step) and any(map(_is_known, group.steps))):
                group = equal[key] = _Group(line)
                self._groups.append(group)
            group.steps.append(step)
            group.reads.append((_reader(chain), chain.source))

    def copyings(self) -> dict[_Group, Copying]:
        """What is done for each group: all get copies, but for one where nobody else reads."""
        by_end: dict[Node, list[_Group]] = {}
        for group in self._groups:
            by_end.setdefault(group.line.nodes[-1], []).append(group)
        found: dict[_Group, Copying] = {}
        for end, groups in by_end.items():
            reads = {read for group in groups for read in group.reads}
            is_free = not is_needed(end, reads, self._gives)
            if is_free and len(groups) == 1:
                # Nobody shares it, so it is not that for which its norm stays.
                continue
            for at, group in enumerate(groups):
                line, is_copied = group.line, at > 0 or not is_free
                found[group] = Copying(line.nodes, line.data, group.reads, is_copied)
        return found

    def failed(self, copyings: dict[_Group, Copying], found: Analysis) -> list[_Group]:
        """The groups with a norm that does not fold into what they have for themselves."""
        numbers, own = _numbers(found.index), self._numbers
        taken: dict[Place, set[Place]] = {}
        for fold in found.plan.folds:
            if fold.direction == "backward":
                sinks = {_place(sink.linear.node, numbers) for sink in fold.sinks}
                taken.update((_place(step.node, numbers), sinks) for step in fold.steps)
        return [
            group
            for group, copying in copyings.items()
            if any(
                (own[step.node.scope], copying.root) not in taken.get(_place(step.node, own), ())
                for step in group.steps
            )
        ]

    def drop(self, groups: Collection[_Group], found: Analysis) -> None:
        """Give up some groups, and keep the reasons that their norms had with a copy."""
        gone, numbers = set(groups), _numbers(found.index)
        self._groups = [group for group in self._groups if group not in gone]
        refused = {_place(d.norm.steps[0].node, numbers): d.refused for d in found.plan.decisions}
        for group in groups:
            for step in group.steps:
                why = refused.get(_place(step.node, self._numbers))
                if why is not None:
                    name = group.line.nodes[0].label
                    self._tell(step, f"a copy of {name} would not help: {why.sentence}")

    def _tell(self, step: Step, why: str) -> None:
        self.whys[_place(step.node, self._numbers)] = why

    def _gives(self, node: Node) -> bool:
        return gives_input(node, self._survey.context)


def _is_known(step: Step) -> bool:
    """Whether others know what a norm makes by its name: one copy cannot have two names."""
    return step.output is not None and keeps_name(step.output)


def _reader(chain: Chain) -> Node:
    """The node that reads the source of a chain: its first one, or an Identity before that."""
    step = chain.steps[0]
    return step.crossed[0] if step.crossed else step.node


def _wanting(plan: Plan) -> set[Node]:
    """The first nodes of the norms that a copy may help."""
    return {
        decision.norm.steps[0].node
        for decision in plan.decisions
        if decision.refused is not None and decision.refused.code in CODES
    }


def _tried(
    analysis: Analysis, copyings: Sequence[Copying], decide: Callable[[Index], Plan]
) -> Analysis | None:
    """The model with copies and its plan, or None where a tensor cannot be moved."""
    try:
        document = with_copies(analysis.index, copyings)
    except ModelError:
        return None
    index = Index(document)
    copied: list[CopiedOperator] = []
    steps: set[tuple[str, str]] = set()
    for copying in copyings:
        if copying.is_copied:
            root, where = copying.line[0], copying.line[0].scope.where
            copied.append(CopiedOperator(root.label, copying.names[0], where))
            steps.update((where, name) for name in copying.names[1:])
    return replace(
        analysis,
        document=document,
        index=index,
        plan=decide(index),
        copied=tuple(copied),
        copied_steps=frozenset(steps),
    )


def _is_better(found: Analysis, before: Plan, groups: Iterable[_Group]) -> bool:
    """Whether all folds that folded before, and the norms that have a copy now."""
    norms = sum(len(group.steps) for group in groups) + len(found.copied_steps)
    folded = [sum(len(fold.steps) for fold in plan.folds) for plan in (before, found.plan)]
    return folded[1] >= folded[0] + norms


def _explained(analysis: Analysis, whys: dict[Place, str]) -> Analysis:
    """The same, with the reason for which a norm got no copy beside that for which it stays."""
    if not whys:
        return analysis
    numbers = _numbers(analysis.index)

    def explained(decision: Decision) -> Decision:
        why = whys.get(_place(decision.norm.steps[0].node, numbers))
        if decision.refused is None or why is None or decision.refused.code not in CODES:
            return decision
        refused = Refused(decision.refused.code, f"{decision.refused.sentence}; {why}")
        return replace(decision, refused=refused)

    decisions = [explained(decision) for decision in analysis.plan.decisions]
    return replace(analysis, plan=replace(analysis.plan, decisions=decisions))


def _numbers(index: Index) -> dict[Scope, int]:
    """Each graph's number: copies change neither how many there are nor their order."""
    return {scope: number for number, scope in enumerate(index.scopes)}


def _place(node: Node, numbers: dict[Scope, int]) -> Place:
    return numbers[node.scope], str(node.proto.output[0])

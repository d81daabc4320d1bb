"""A graph, or the body of a function, ready to run: nodes in order, constants, plans.

A plan says which nodes a set of wanted tensors needs when others are given, and after which of
them a tensor can go.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import onnx
from onnx import AttributeProto, FunctionProto, GraphProto

from bnfold.errors import ModelError
from bnfold.reference.nodes import captures_of
from bnfold.reference.run import Constant, Run, constant_of
from bnfold.reference.step import Library, Step

# How many plans one graph keeps: one for each set of given and wanted names.
PLANS = 16


class Planned(NamedTuple):
    """One node of a plan.

    Attributes:
        step: the node.
        constants: those that it is the first to read.
        frees: tensors that nothing reads after it.
        donor: which of its inputs it may overwrite, -1 for none.
        given: those of its outputs that are given and so stay what they are.
    """

    step: Step
    constants: tuple[tuple[str, Constant], ...]
    frees: tuple[str, ...]
    donor: int
    given: tuple[str, ...]


class Plan(NamedTuple):
    """What is run, in order, and constants that are wanted themselves."""

    nodes: tuple[Planned, ...]
    constants: tuple[tuple[str, Constant], ...]


class Body:
    """A graph or function body.

    Args:
        holder: the graph or function.
        library: what all graphs of the model share.
        versions: of the operator sets, by domain, "" for the standard one.
        bindings: values of the attributes of the function that this is, or is inside of.
        keeps: whether its constants, once read, are kept to the end of a run.

    Raises:
        ModelError: nodes read each other in a cycle.
    """

    def __init__(
        self,
        holder: GraphProto | FunctionProto,
        library: Library,
        versions: Mapping[str, int],
        bindings: Mapping[str, AttributeProto] | None = None,
        *,
        keeps: bool = True,
    ) -> None:
        self._keeps = keeps
        self.nodes = sorted_nodes(holder)
        is_graph = isinstance(holder, GraphProto)
        self.inputs = tuple(v.name for v in holder.input) if is_graph else tuple(holder.input)
        self.outputs = tuple(v.name for v in holder.output) if is_graph else tuple(holder.output)
        self.constants: dict[str, Constant] = {}
        if is_graph:
            self.constants = {t.name: t for t in holder.initializer}
            self.constants |= {t.values.name: t for t in holder.sparse_initializer}
        self.makers: dict[str, Step] = {}
        for node in self.nodes:
            constant = constant_of(node, bindings, library.made)
            if constant is not None:
                self.constants.setdefault(node.output[0], constant)
                continue
            step = Step(node, library, versions, bindings)
            self.makers.update((name, step) for name in step.outputs if name)
        self.order = {id(s): i for i, s in enumerate(dict.fromkeys(self.makers.values()))}
        self._plans: dict[tuple[frozenset[str], tuple[str, ...]], Plan] = {}

    def run(self, given: Mapping[str, Any], wanted: Sequence[str], run: Run) -> list[Any]:
        """The wanted tensors, those that are given taken as they are.

        Raises:
            ModelError: a node fails, or something that is needed is not there.
        """
        values = dict(given)
        plan = self._plan(frozenset(given), tuple(wanted))
        for name, constant in plan.constants:
            values[name] = run.load(constant, keep=self._keeps)
        for step, loads, frees, donor, kept in plan.nodes:
            for name, constant in loads:
                values[name] = run.load(constant, keep=self._keeps)
            step.run(values, run, donor)
            for name in kept:
                values[name] = given[name]
            for name in frees:
                del values[name]
        return [values[name] for name in wanted]

    def _plan(self, given: frozenset[str], wanted: tuple[str, ...]) -> Plan:
        plan = self._plans.get((given, wanted))
        if plan is None:
            plan = self._planned(given, wanted)
            if len(self._plans) >= PLANS:
                self._plans.pop(next(iter(self._plans)))
            self._plans[given, wanted] = plan
        return plan

    def _planned(self, given: frozenset[str], wanted: tuple[str, ...]) -> Plan:
        steps = self._needed(given, wanted)
        kept = set(wanted)
        last: dict[str, int] = {}
        uses: dict[str, int] = {}
        for number, step in enumerate(steps):
            for name in step.reads:
                last[name] = number
            for name in (*step.inputs, *step.captures):
                uses[name] = uses.get(name, 0) + 1
        made = {name: s for s in steps for name in s.outputs if name and name not in given}
        frees: list[list[str]] = [[] for _ in steps]
        for number, step in enumerate(steps):
            for name in step.outputs:
                if name and name not in kept and name not in given:
                    frees[last.get(name, number)].append(name)
        seen: set[str] = set(given)
        planned = []
        for number, step in enumerate(steps):
            loads = []
            for name in step.reads:
                if name in self.constants and name not in seen:
                    seen.add(name)
                    loads.append((name, self.constants[name]))
                    if name not in kept:
                        frees[last[name]].append(name)
            donor = -1
            if step.overwrites:
                for at, name in enumerate(step.inputs[:2]):
                    maker = made.get(name)
                    once = uses.get(name) == 1 and name not in kept
                    if maker is not None and once and maker.is_new and maker.outputs[0] == name:
                        donor = at
                        break
            planned.append((step, tuple(loads), number, donor))
        left = tuple(
            (n, self.constants[n])
            for n in kept
            if n in self.constants and n not in seen and n not in given
        )
        nodes = tuple(
            Planned(s, c, tuple(frees[i]), d, tuple(n for n in s.outputs if n in given))
            for s, c, i, d in planned
        )
        return Plan(nodes, left)

    def _needed(self, given: frozenset[str], wanted: Iterable[str]) -> list[Step]:
        """The nodes that make the wanted tensors, in order."""
        needed: dict[int, Step] = {}
        waiting = [(name, "") for name in wanted]
        done: set[str] = set()
        while waiting:
            name, reader = waiting.pop()
            if name in done or name in given or name in self.constants:
                continue
            done.add(name)
            step = self.makers.get(name)
            if step is None:
                raise self._missing(name, reader)
            if id(step) not in needed:
                needed[id(step)] = step
                waiting += [(read, step.label) for read in step.reads]
        return sorted(needed.values(), key=lambda s: self.order[id(s)])

    def _missing(self, name: str, reader: str) -> ModelError:
        if name in self.inputs:
            return ModelError(f"the input {name!r} is needed and has not been given")
        if reader:
            return ModelError(f"{reader} reads {name!r}, which nothing makes")
        return ModelError(f"{name!r} is wanted and is no tensor of the graph")


def sorted_nodes(holder: GraphProto | FunctionProto) -> tuple[onnx.NodeProto, ...]:
    """The nodes in topological order, as near to the order of the file as that allows.

    Raises:
        ModelError: nodes read each other in a cycle.
    """
    nodes = list(holder.node)
    maker = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    readers: list[list[int]] = [[] for _ in nodes]
    waits = [0] * len(nodes)
    for number, node in enumerate(nodes):
        for before in {maker[name] for name in (*node.input, *captures_of(node)) if name in maker}:
            readers[before].append(number)
            waits[number] += 1
    ready = [i for i, count in enumerate(waits) if count == 0]
    ordered = []
    while ready:
        number = heapq.heappop(ready)
        ordered.append(nodes[number])
        for reader in readers[number]:
            waits[reader] -= 1
            if waits[reader] == 0:
                heapq.heappush(ready, reader)
    if len(ordered) < len(nodes):
        stuck = next(node for node, count in zip(nodes, waits, strict=True) if count)
        raise ModelError(f"{stuck.name or stuck.output[0]!r} is in a cycle or reads from one")
    return tuple(ordered)

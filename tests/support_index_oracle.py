"""Random nested graphs, and who reads and makes what in them, worked out the plain way."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper

Place = tuple[tuple[int, int], ...]
"""Field numbers and positions from the main graph to a node or a subgraph."""
Name = tuple[Place, str]
"""A tensor: the graph that defines it, and its name."""


@dataclass
class Facts:
    """What the specification says about a graph.

    Attributes:
        error: what contradicts itself, or empty.
        defined: every tensor.
        producer: the node that makes it.
        readers: the nodes that read it, each as often as it does.
        outputs: the tensors that are outputs of some graph.
        before: (earlier, later) pairs of nodes: the later one reads, itself or in its subgraphs,
            what the earlier one makes.
    """

    error: str = ""
    defined: set[Name] = field(default_factory=set)
    producer: dict[Name, Place] = field(default_factory=dict)
    readers: Counter[tuple[Name, Place]] = field(default_factory=Counter)
    outputs: set[Name] = field(default_factory=set)
    before: set[tuple[Place, Place]] = field(default_factory=set)


def facts_of(graph: onnx.GraphProto) -> Facts:
    """Everything about a graph and its subgraphs; recursive and quadratic."""
    facts = Facts()
    _visit(graph, (), [], facts)
    for node, _ in list(facts.before):
        if not facts.error and _reaches(node, node, facts.before, set()):
            facts.error = "a cycle"
    return facts


def _subgraphs(node: onnx.NodeProto, place: Place) -> list[tuple[onnx.GraphProto, Place]]:
    found: list[tuple[onnx.GraphProto, Place]] = []
    for number, attribute in enumerate(node.attribute):
        here = (*place, (5, number))
        if attribute.type == onnx.AttributeProto.GRAPH:
            found.append((attribute.g, (*here, (6, 0))))
        for at, graph in enumerate(attribute.graphs):
            found.append((graph, (*here, (11, at))))
    return found


def _visit(
    graph: onnx.GraphProto,
    place: Place,
    around: list[tuple[Place, set[str]]],
    facts: Facts,
    owners: tuple[Place, ...] = (),
) -> None:
    names = [value.name for value in graph.input]
    names += [t.name for t in graph.initializer if t.name not in names]
    if len({t.name for t in graph.initializer}) < len(graph.initializer):
        facts.error = facts.error or "twice"
    for at, node in enumerate(graph.node):
        for output in node.output:
            if output:
                names.append(output)
                facts.producer[(place, output)] = (*place, (1, at))
    if len(set(names)) < len(names):
        facts.error = facts.error or "twice"
    facts.defined |= {(place, name) for name in names}
    scopes = [*around, (place, set(names))]
    for at, node in enumerate(graph.node):
        here = (*place, (1, at))
        for name in node.input:
            if name:
                tensor = _resolve(name, scopes)
                if tensor is None:
                    facts.error = facts.error or name
                    continue
                facts.readers[(tensor, here)] += 1
                _note_order(tensor, (*owners, here), facts)
        for inner, inner_place in _subgraphs(node, here):
            _visit(inner, inner_place, scopes, facts, (*owners, here))
    for value in graph.output:
        tensor = _resolve(value.name, scopes)
        if tensor is None:
            facts.error = facts.error or value.name
            continue
        facts.outputs.add(tensor)
        _note_order(tensor, owners, facts)


def _resolve(name: str, scopes: list[tuple[Place, set[str]]]) -> Name | None:
    for place, names in reversed(scopes):
        if name in names:
            return place, name
    return None


def _note_order(tensor: Name, readers: tuple[Place, ...], facts: Facts) -> None:
    """The reader, and every node around it that is not around the maker too, comes later."""
    if tensor in facts.producer:
        maker = facts.producer[tensor]
        for reader in readers:
            if len(reader) >= len(maker):
                facts.before.add((maker, reader))


def _reaches(start: Place, goal: Place, before: set[tuple[Place, Place]], seen: set[Place]) -> bool:
    for earlier, later in before:
        if earlier == start and later not in seen:
            seen.add(later)
            if later == goal or _reaches(later, goal, before, seen):
                return True
    return False


@st.composite
def nested_graphs(
    draw: st.DrawFn, depth: int = 2, visible: tuple[str, ...] = (), prefix: str = ""
) -> onnx.GraphProto:
    """A graph whose bodies capture and shadow names; now and then it contradicts itself.

    Args:
        visible: names that the graphs around it define.
        prefix: keeps new names apart from those of the graphs around it.
    """
    graph = onnx.GraphProto(name=f"g{prefix}")
    inside: list[str] = []

    def new_name(kind: str) -> str:
        outer = [name for name in visible if name not in inside]
        if outer and draw(st.integers(0, 5)) == 0:
            return draw(st.sampled_from(outer))
        if inside and draw(st.integers(0, 40)) == 0:
            return draw(st.sampled_from(inside))
        return f"{prefix}{kind}{len(inside)}"

    for _ in range(draw(st.integers(0, 2))):
        inside.append(new_name("i"))
        graph.input.append(helper.make_tensor_value_info(inside[-1], TensorProto.FLOAT, [1]))
    inputs = list(inside)
    for _ in range(draw(st.integers(0, 2))):
        both = bool(inputs) and draw(st.booleans())
        name = inputs.pop() if both else new_name("w")
        graph.initializer.append(helper.make_tensor(name, TensorProto.FLOAT, [1], [1.0]))
        inside.append(name)
    if not depth or draw(st.booleans()):
        inside.append(f"{prefix}always")
        graph.initializer.append(helper.make_tensor(inside[-1], TensorProto.FLOAT, [1], [1.0]))
    made: list[onnx.NodeProto] = []
    for at in range(draw(st.integers(0, 4))):
        node = onnx.NodeProto(op_type=draw(st.sampled_from(["Add", "If", "Loop", "Scan"])))
        node.name = draw(st.sampled_from(["", f"{prefix}n{at}"]))
        names = [*inside, *visible, ""]
        if draw(st.integers(0, 25)) == 0:
            names.append(draw(st.sampled_from(["nowhere", f"{prefix}o{at}_0"])))
        node.input.extend(draw(st.lists(st.sampled_from(names), max_size=4)))
        if depth and node.op_type != "Add":
            seen = (*visible, *inside)
            bodies = draw(st.integers(1, 2))
            for body in range(bodies):
                inner = draw(nested_graphs(depth - 1, seen, f"{prefix}{at}{body}/"))
                node.attribute.append(helper.make_attribute(f"body{body}", inner))
        outputs = [f"{prefix}o{at}_{number}" for number in range(draw(st.integers(1, 3)))]
        if draw(st.integers(0, 4)) == 0:
            outputs[draw(st.integers(0, len(outputs) - 1))] = new_name("s")
        if draw(st.booleans()):
            outputs.insert(draw(st.integers(0, len(outputs))), "")
        node.output.extend(outputs)
        inside += [name for name in outputs if name]
        made.append(node)
    if draw(st.booleans()):
        made = draw(st.permutations(made))
    graph.node.extend(made)
    ends = [*inside, *visible]
    chosen: list[str] = draw(st.lists(st.sampled_from(ends or [""]), max_size=3 if ends else 0))
    for name in chosen:
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]))
    return graph

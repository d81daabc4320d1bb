"""Models whose nodes are in If, Loop and Scan bodies or in functions, and twice on two inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.fuzz.protos import copied
from tests.fuzz.sketch import Unfit

Shapes = list[dict[str, tuple[int, ...]]]
Nested = tuple[onnx.ModelProto, Shapes]


def in_if(model: onnx.ModelProto, shapes: Shapes, rng: np.random.Generator) -> Nested:
    """The last nodes, or all, in both branches of an If, which capture what they read.

    Half of the time the second branch ends in a Neg.
    """
    parted = _Parted(model, rng)
    branches = {f"{name}_branch": parted.body(f"{name}_") for name in ("then", "else")}
    if rng.random() < 0.5:
        for value in branches["else_branch"].output:
            made = f"{value.name}_negative"
            branches["else_branch"].node.append(helper.make_node("Neg", [value.name], [made], made))
            value.name = made
    node = helper.make_node("If", ["condition"], parted.names, "the_if", **branches)
    result = parted.rest([node])
    result.graph.input.append(helper.make_tensor_value_info("condition", TensorProto.BOOL, []))
    return result, [{**choice, "condition": ()} for choice in shapes]


def in_loop(model: onnx.ModelProto, shapes: Shapes, rng: np.random.Generator) -> Nested:
    """The last nodes in the body of a Loop that runs twice and stacks their results."""
    if model.opset_import[0].version < 11:
        raise Unfit("a Loop had to carry something before opset 11")
    parted = _Parted(model, rng)
    body = parted.body("loop_")
    body.input.append(helper.make_tensor_value_info("loop_trip", TensorProto.INT64, []))
    body.input.append(helper.make_tensor_value_info("loop_going", TensorProto.BOOL, []))
    body.node.append(helper.make_node("Identity", ["loop_going"], ["loop_goes"], "loop_goes"))
    results = [copied(value) for value in body.output]
    del body.output[:]
    body.output.append(helper.make_tensor_value_info("loop_goes", TensorProto.BOOL, []))
    body.output.extend(results)
    trips = helper.make_tensor("trips", TensorProto.INT64, [], [2])
    nodes = [
        helper.make_node("Constant", [], ["trips"], "trips", value=trips),
        helper.make_node("Loop", ["trips", ""], parted.names, "the_loop", body=body),
    ]
    return _stacked(parted.rest(nodes), parted.names), shapes


def in_scan(model: onnx.ModelProto, shapes: Shapes, rng: np.random.Generator) -> Nested:
    """All nodes that read data in the body of a Scan over a new first axis of the inputs."""
    if model.opset_import[0].version < 9:
        raise Unfit("Scan was another operator before opset 9")
    parted = _Parted(model, rng, keeps_constants=True)
    body = parted.body("scan_")
    inputs = [value for value in model.graph.input if value.name in shapes[0]]
    renamed = {value.name: f"scan_{value.name}" for value in inputs}
    body.input.extend(_renamed(value, renamed) for value in inputs)
    for node in body.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    given = [value.name for value in inputs]
    node = helper.make_node(
        "Scan", given, parted.names, "the_scan", body=body, num_scan_inputs=len(given)
    )
    result = _stacked(parted.rest([node]), parted.names)
    _stacked(result, given, result.graph.input)
    return result, [{name: (2, *shape) for name, shape in choice.items()} for choice in shapes]


def in_function(model: onnx.ModelProto, shapes: Shapes, rng: np.random.Generator) -> Nested:
    """A few nodes in a row as a model-local function that is called once."""
    result = copied(model)
    nodes = [copied(node) for node in model.graph.node]
    if len(nodes) < 2:
        raise Unfit("too few nodes")
    start = int(rng.integers(0, len(nodes) - 1))
    end = int(rng.integers(start + 1, min(len(nodes), start + 5) + 1))
    inside = nodes[start:end]
    made = [name for node in inside for name in node.output if name]
    read = {name: None for node in inside for name in node.input if name and name not in made}
    later = {name for node in nodes[end:] for name in node.input}
    later |= {value.name for value in model.graph.output}
    outputs = [name for name in made if name in later]
    if not outputs or not read:
        raise Unfit("a function reads and makes something")
    imports = [copied(entry) for entry in model.opset_import]
    result.functions.append(
        helper.make_function("local", "Part", [*read], outputs, inside, imports)
    )
    result.opset_import.append(helper.make_opsetid("local", 1))
    result.ir_version = max(8, model.ir_version)
    call = helper.make_node("Part", [*read], outputs, "call", domain="local")
    _replace_nodes(result.graph, [*nodes[:start], call, *nodes[end:]])
    return result, shapes


def twice(model: onnx.ModelProto, shapes: Shapes, rng: np.random.Generator) -> Nested:
    """All nodes that read data twice, on inputs of their own: two layers share each constant."""
    result = copied(model)
    varies = {value.name for value in model.graph.input if value.name in shapes[0]}
    more = []
    for node in model.graph.node:
        if any(name in varies for name in node.input):
            varies |= set(node.output)
            more.append(_with_prefix(node, varies, "b_"))
    renamed = {name: f"b_{name}" for name in varies}
    graph = model.graph
    result.graph.input.extend(_renamed(v, renamed) for v in graph.input if v.name in varies)
    result.graph.output.extend(_renamed(v, renamed) for v in graph.output if v.name in varies)
    result.graph.node.extend(more)
    return result, [choice | {renamed[n]: s for n, s in choice.items()} for choice in shapes]


class _Parted:
    """A model cut in two: nodes that stay, and those that go into a body.

    Args:
        keeps_constants: whether all nodes go that read data, and those alone.

    Attributes:
        names: graph outputs that the nodes in the body make.
    """

    def __init__(
        self, model: onnx.ModelProto, rng: np.random.Generator, *, keeps_constants: bool = False
    ) -> None:
        self._model = model
        nodes = list(model.graph.node)
        if keeps_constants:
            constant = {tensor.name for tensor in model.graph.initializer}
            self._stays = []
            for node in nodes:
                if all(name in constant for name in node.input if name):
                    constant |= set(node.output)
                    self._stays.append(node)
            self._goes = [node for node in nodes if node not in self._stays]
        else:
            start = int(rng.integers(0, max(1, len(nodes))))
            self._stays, self._goes = nodes[:start], nodes[start:]
        self._made = {name for node in self._goes for name in node.output if name}
        self.names = [v.name for v in model.graph.output if v.name in self._made]
        if not self.names or (keeps_constants and len(self.names) < len(model.graph.output)):
            raise Unfit("the body makes no output, or not all of them")
        self._takes_constants = bool(rng.random() < 0.3)

    def body(self, prefix: str) -> onnx.GraphProto:
        """The nodes that go as a graph without inputs; what they make gets the prefix."""
        graph = onnx.GraphProto(name=prefix)
        graph.node.extend(_with_prefix(node, self._made, prefix) for node in self._goes)
        renamed = {name: prefix + name for name in self._made}
        values = self._model.graph.output
        graph.output.extend(_renamed(v, renamed) for v in values if v.name in self.names)
        for tensor in self._own_constants():
            graph.initializer.append(tensor)
        return graph

    def rest(self, nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
        """The model of the nodes that stay, and those given behind them."""
        result = copied(self._model)
        _replace_nodes(result.graph, [*map(copied, self._stays), *nodes])
        own = {tensor.name for tensor in self._own_constants()}
        kept = [copied(t) for t in result.graph.initializer if t.name not in own]
        del result.graph.initializer[:]
        result.graph.initializer.extend(kept)
        return result

    def _own_constants(self) -> list[onnx.TensorProto]:
        """Initializers that only the body reads, if they go with it."""
        if not self._takes_constants:
            return []
        graph = self._model.graph
        outside = {name for node in self._stays for name in node.input}
        outside |= {value.name for value in [*graph.input, *graph.output]}
        return [copied(t) for t in graph.initializer if t.name not in outside]


def _with_prefix(node: onnx.NodeProto, names: set[str], prefix: str) -> onnx.NodeProto:
    copy = copied(node)
    copy.name = prefix + copy.name
    copy.input[:] = [prefix + name if name in names else name for name in copy.input]
    copy.output[:] = [prefix + name if name in names else name for name in copy.output]
    return copy


def _renamed(value: onnx.ValueInfoProto, names: dict[str, str]) -> onnx.ValueInfoProto:
    copy = copied(value)
    copy.name = names[value.name]
    return copy


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Other nodes for a graph; what it says of tensors that it makes no more goes, too."""
    del graph.node[:]
    graph.node.extend(nodes)
    made = {name for node in nodes for name in node.output}
    values = [copied(value) for value in graph.value_info if value.name in made]
    del graph.value_info[:]
    graph.value_info.extend(values)


def _stacked(model: onnx.ModelProto, names: list[str], values: Any = None) -> onnx.ModelProto:
    """The model with a first axis of size 2 more on some of its outputs, or other values."""
    for value in model.graph.output if values is None else values:
        shape = value.type.tensor_type.shape
        if value.name in names:
            dims = [copied(dim) for dim in shape.dim]
            del shape.dim[:]
            shape.dim.add().dim_value = 2
            shape.dim.extend(dims)
    return model


NESTINGS: dict[str, Callable[[onnx.ModelProto, Shapes, np.random.Generator], Nested]] = {
    "if": in_if,
    "loop": in_loop,
    "scan": in_scan,
    "function": in_function,
    "twice": twice,
}

"""Right folds whose graph is wrong: an operator, an attribute, who reads what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper

from tests.support_models import Array
from tests.support_mutants_fold import (
    attributes_of,
    constants_of,
    readers_of,
    remove,
    store,
)
from tests.support_mutants_formulas import Rng

Edit = Callable[[onnx.GraphProto, Rng], bool]
"""Changes a graph; False where it finds nothing to change."""


def relu_lost(graph: onnx.GraphProto, rng: Rng) -> bool:
    node = drawn(graph, rng, "Relu")
    if node is not None:
        remove(graph, node)
    return node is not None


def relu_moved_before(graph: onnx.GraphProto, rng: Rng) -> bool:
    """Relu and the layer before it change places."""
    makers = {name: node for node in graph.node for name in node.output}
    relus = [n for n in graph.node if n.op_type == "Relu" and n.input[0] in makers]
    pairs = [(n, makers[n.input[0]]) for n in relus]
    pairs = [(n, m) for n, m in pairs if m.op_type in ("Conv", "Gemm", "ConvTranspose")]
    pairs = [(n, m) for n, m in pairs if len(readers_of(graph, m.output[0])) == 1]
    if not pairs:
        return False
    relu, layer = pairs[rng.integers(len(pairs))]
    data, middle, out = layer.input[0], layer.output[0], relu.output[0]
    relu.input[0], relu.output[0] = data, middle
    layer.input[0], layer.output[0] = middle, out
    _sort_pair(graph, relu, layer)
    return True


def relu_leaks(graph: onnx.GraphProto, rng: Rng) -> bool:
    node = drawn(graph, rng, "Relu")
    if node is not None:
        node.op_type = "LeakyRelu"
        node.attribute.append(helper.make_attribute("alpha", 0.01))
    return node is not None


def leaky_slope(graph: onnx.GraphProto, rng: Rng) -> bool:
    node = drawn(graph, rng, "LeakyRelu")
    if node is not None:
        node.attribute[0].f *= 1.1
    return node is not None


def leaky_is_relu(graph: onnx.GraphProto, rng: Rng) -> bool:
    node = drawn(graph, rng, "LeakyRelu")
    if node is not None:
        node.op_type = "Relu"
        del node.attribute[:]
    return node is not None


def clip_bound(graph: onnx.GraphProto, rng: Rng) -> bool:
    node = drawn(graph, rng, "Clip")
    if node is not None:
        values = constants_of(graph)[node.input[2]]
        store(graph, node.input[2], values * 1.25, values.dtype)
    return node is not None


def clip_lost(graph: onnx.GraphProto, rng: Rng) -> bool:
    node = drawn(graph, rng, "Clip")
    if node is not None:
        remove(graph, node)
    return node is not None


def skip_lost(graph: onnx.GraphProto, rng: Rng) -> bool:
    """The Add of a skip replaced by the branch."""
    node = _skip(graph, rng)
    if node is not None:
        remove(graph, node)
    return node is not None


def skip_subtracted(graph: onnx.GraphProto, rng: Rng) -> bool:
    node = _skip(graph, rng)
    if node is not None:
        node.op_type = "Sub"
    return node is not None


def pads_shifted(graph: onnx.GraphProto, rng: Rng) -> bool:
    """A border of 1 moved from the end to the beginning."""
    found = [n for n in graph.node if attributes_of(n).get("pads", [0])[-1] == 1]
    if not found:
        return False
    pads = _attribute(found[rng.integers(len(found))], "pads")
    pads[0] += 1
    pads[len(pads) // 2] -= 1
    return True


def dilation_changed(graph: onnx.GraphProto, rng: Rng) -> bool:
    """Dilation and pads of a 3x3 Conv doubled or halved, so that all shapes stay."""
    found = []
    for node in graph.node:
        given = attributes_of(node)
        step = given.get("dilations", [1, 1])[0]
        if node.op_type == "Conv" and given.get("pads") == [step] * 4 and "strides" not in given:
            found.append((node, 3 - step))
    if not found:
        return False
    node, step = found[rng.integers(len(found))]
    for name, values in (("pads", [step] * 4), ("dilations", [step] * 2)):
        _set(node, name, values)
    return True


def stride_changed(graph: onnx.GraphProto, rng: Rng) -> bool:
    found = [n for n in graph.node if n.op_type == "Conv" and "strides" in attributes_of(n)]
    if not found:
        return False
    _set(found[rng.integers(len(found))], "strides", [1, 1])
    return True


def pool_changed(graph: onnx.GraphProto, rng: Rng) -> bool:
    """MaxPool and AveragePool taken for each other."""
    found = [n for n in graph.node if n.op_type in ("MaxPool", "AveragePool")]
    if not found:
        return False
    node = found[rng.integers(len(found))]
    node.op_type = "MaxPool" if node.op_type == "AveragePool" else "AveragePool"
    return True


def layers_swapped(graph: onnx.GraphProto, rng: Rng) -> bool:
    """Two layers of one shape with each other's weights."""
    constants = constants_of(graph)
    found: dict[Any, list[str]] = {}
    for node in graph.node:
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
            found.setdefault(constants[node.input[1]].shape, []).append(node.input[1])
    groups = [names for names in found.values() if len(names) > 1]
    if not groups:
        return False
    group = groups[rng.integers(len(groups))]
    first, second = rng.choice(group, 2, replace=False)
    _exchange(graph, constants, str(first), str(second))
    return True


def biases_swapped(graph: onnx.GraphProto, rng: Rng) -> bool:
    """Two layers with each other's biases."""
    constants = constants_of(graph)
    names = [n.input[2] for n in graph.node if n.op_type in ("Conv", "Gemm") and len(n.input) > 2]
    pairs = [(a, b) for a in names for b in names if a < b]
    pairs = [(a, b) for a, b in pairs if constants[a].shape == constants[b].shape]
    if not pairs:
        return False
    _exchange(graph, constants, *pairs[rng.integers(len(pairs))])
    return True


def norm_left_behind(graph: onnx.GraphProto, rng: Rng) -> bool:
    """A norm that is folded and stays as well."""
    found = [n for n in graph.node if n.op_type in ("Conv", "ConvTranspose")]
    if not found:
        return False
    node = found[rng.integers(len(found))]
    channels = len(constants_of(graph)[node.input[2]]) if len(node.input) > 2 else 0
    if not channels:
        return False
    at = [*graph.node].index(node)
    names = ["again_gamma", "again_beta", "again_mean", "again_var"]
    values = [rng.uniform(0.5, 1.5, channels), *(np.zeros(channels),) * 2, np.ones(channels)]
    dtype = constants_of(graph)[node.input[1]].dtype
    for name, array in zip(names, values, strict=True):
        store(graph, name, array, dtype)
    out = node.output[0]
    node.output[0] = f"{out}_once"
    norm = helper.make_node("BatchNormalization", [f"{out}_once", *names], [out], "again")
    graph.node.insert(at + 1, norm)
    return True


def outputs_crossed(graph: onnx.GraphProto, rng: Rng) -> bool:
    """Two outputs of one shape under each other's names."""
    if len(graph.output) < 2:
        return False
    first, second = graph.output[0].name, graph.output[1].name
    other = {first: second, second: first}
    for node in graph.node:
        node.output[:] = [other.get(name, name) for name in node.output]
    return True


def output_transposed(graph: onnx.GraphProto, rng: Rng) -> bool:
    """Height and width changed over; the shape stays."""
    dims = graph.output[0].type.tensor_type.shape.dim
    if len(dims) < 4 or dims[2] != dims[3]:
        return False
    append(graph, "Transpose", perm=[0, 1, 3, 2])
    return True


GRAPH_EDITS: tuple[Edit, ...] = (
    relu_lost,
    relu_moved_before,
    relu_leaks,
    leaky_slope,
    leaky_is_relu,
    clip_bound,
    clip_lost,
    skip_lost,
    skip_subtracted,
    pads_shifted,
    dilation_changed,
    stride_changed,
    pool_changed,
    layers_swapped,
    biases_swapped,
    norm_left_behind,
    outputs_crossed,
    output_transposed,
)


def append(graph: onnx.GraphProto, op_type: str, **attributes: Any) -> None:
    """A node behind the first output, under that output's name."""
    out = graph.output[0].name
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = ["before_last" if name == out else name for name in names]
    graph.node.append(helper.make_node(op_type, ["before_last"], [out], "last", **attributes))


def drawn(graph: onnx.GraphProto, rng: Rng, op_type: str) -> onnx.NodeProto | None:
    found = [node for node in graph.node if node.op_type == op_type]
    return found[rng.integers(len(found))] if found else None


def _skip(graph: onnx.GraphProto, rng: Rng) -> onnx.NodeProto | None:
    constants = constants_of(graph)
    found = [n for n in graph.node if n.op_type == "Add" and n.input[1] not in constants]
    return found[rng.integers(len(found))] if found else None


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    (found,) = [a.ints for a in node.attribute if a.name == name]
    return found


def _set(node: onnx.NodeProto, name: str, values: list[int]) -> None:
    kept = [onnx.AttributeProto.FromString(a.SerializeToString()) for a in node.attribute]
    del node.attribute[:]
    node.attribute.extend([a for a in kept if a.name != name])
    node.attribute.append(helper.make_attribute(name, values))


def _exchange(graph: onnx.GraphProto, constants: dict[str, Array], *names: str) -> None:
    first, second = names
    store(graph, first, constants[second], constants[second].dtype)
    store(graph, second, constants[first], constants[first].dtype)


def _sort_pair(graph: onnx.GraphProto, first: onnx.NodeProto, second: onnx.NodeProto) -> None:
    """``first`` directly in front of ``second``, at the later place of both."""
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in graph.node]
    names = [n.name for n in graph.node]
    at, before = names.index(first.name), names.index(second.name)
    nodes[at], nodes[before] = nodes[before], nodes[at]
    del graph.node[:]
    graph.node.extend(nodes)

"""Large weights part by part, so that no more than a part of one is in memory in float64."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import onnx
from onnx import helper

from bnfold.checking.excerpt import Constant, Excerpt

LARGE = 1 << 21
"""Weights of more elements are multiplied in parts of about so many."""


def part_large(excerpt: Excerpt) -> None:
    """Replace products with large constant weights by parts of them and a Concat."""
    nodes: list[onnx.NodeProto] = []
    for node in excerpt.nodes:
        axis = _channel_axis(node, excerpt.constants)
        if axis is None:
            nodes.append(node)
        else:
            nodes += _parts(node, axis, excerpt.constants)
    excerpt.nodes = nodes


def _channel_axis(node: onnx.NodeProto, constants: Mapping[str, Constant]) -> int | None:
    """The axis of the output channels in a large weight, or None where it stays whole."""
    if node.domain not in ("", "ai.onnx") or len(node.input) < 2:
        return None
    weight = constants.get(node.input[1])
    if weight is None or math.prod(weight.shape) <= LARGE:
        return None
    given = {a.name: a.i for a in node.attribute}
    rank = len(weight.shape)
    if node.op_type == "Conv" and given.get("group", 1) == 1:
        return 0
    if node.op_type == "MatMul" and rank >= 2:
        return rank - 1
    if node.op_type == "Gemm" and rank == 2 and "broadcast" not in given:
        return 0 if given.get("transB", 0) else 1
    return None


def _parts(
    node: onnx.NodeProto, axis: int, constants: dict[str, Constant]
) -> Iterator[onnx.NodeProto]:
    weight, made = constants[node.input[1]], node.output[0]
    channels = weight.shape[axis]
    bias = constants.get(node.input[2]) if len(node.input) > 2 else None
    step = max(1, channels * LARGE // math.prod(weight.shape))
    names: list[str] = []
    for start in range(0, channels, step):
        block = slice(start, min(start + step, channels))
        part = onnx.NodeProto()
        part.CopyFrom(node)
        part.input[1] = f"{node.input[1]}[{start}:]"
        constants[part.input[1]] = weight.part(axis, block)
        if bias is not None and bias.shape[-1:] == (channels,):
            part.input[2] = f"{node.input[2]}[{start}:]"
            constants[part.input[2]] = bias.part(len(bias.shape) - 1, block)
        part.output[0] = f"{made}[{start}:]"
        names.append(part.output[0])
        yield part
    at = -1 if node.op_type == "MatMul" else 1
    yield helper.make_node("Concat", names, [made], axis=at)

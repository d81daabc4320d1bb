"""onnxruntime's fused operators in words of the standard, so that any evaluator can run them.

Written from onnxruntime's documentation of its contrib operators, and apart from bnfold's own.
"""

from __future__ import annotations

import onnx
from onnx import helper

from tests.fuzz.protos import copied

FUSED = ("FusedConv", "FusedGemm", "FusedMatMul")


def spelled_out(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Standard nodes that compute what a fused node does; any other node as it is."""
    if node.domain != "com.microsoft" or node.op_type not in FUSED:
        return [node]
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    made = node.output[0]
    if node.op_type == "FusedMatMul":
        return _product(node, given)
    activation = given.pop("activation", b"").decode()
    last = f"{made}_linear" if activation else made
    if node.op_type == "FusedGemm":
        nodes = [helper.make_node("Gemm", node.input, [last], **given)]
    else:
        has_summand = len(node.input) > 3
        conv = f"{made}_conv" if has_summand else last
        nodes = [helper.make_node("Conv", node.input[:3], [conv], **given)]
        if has_summand:
            nodes.append(helper.make_node("Add", [conv, node.input[3]], [last]))
    if activation:
        nodes.append(helper.make_node(activation, [last], [made]))
    return nodes


def _product(node: onnx.NodeProto, given: dict[str, float]) -> list[onnx.NodeProto]:
    made, nodes, operands = node.output[0], [], list(node.input)
    for at, name in enumerate(("transA", "transB")):
        if given.get(name):
            turned = f"{made}_{name}"
            swap = "...ij->...ji"
            nodes.append(helper.make_node("Einsum", [operands[at]], [turned], equation=swap))
            operands[at] = turned
    nodes.append(helper.make_node("MatMul", operands, [f"{made}_product"]))
    alpha = helper.make_node("Constant", [], [f"{made}_alpha"], value_float=given.get("alpha", 1.0))
    return [*nodes, alpha, helper.make_node("Mul", [f"{made}_product", f"{made}_alpha"], [made])]


def without_fused(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with all fused nodes of its graphs and functions spelled out."""
    copy = copied(model)
    holders: list[onnx.GraphProto | onnx.FunctionProto] = [copy.graph, *copy.functions]
    for holder in holders:
        _spell_out(holder)
    return copy


def _spell_out(holder: onnx.GraphProto | onnx.FunctionProto) -> None:
    for node in holder.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _spell_out(attribute.g)
    nodes = [copied(node) for node in holder.node]
    del holder.node[:]
    for node in nodes:
        holder.node.extend(spelled_out(node))

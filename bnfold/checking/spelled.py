"""Operators in words of the standard, so that they can be compared.

Fused operators of onnxruntime are unknown to the evaluator. The gates of recurrent operators are
nearly zero or one for data of any size, where a wrong weight would hardly be seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import helper

_ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "Relu": (),
    "Tanh": (),
    "Sigmoid": (),
    "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
}
"""Activations, and what their parameters are called, in order."""

_DOUBLE = onnx.TensorProto.DOUBLE
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})


def spelled_out(proto: onnx.NodeProto, ranks: Sequence[int | None]) -> list[onnx.NodeProto]:
    """Standard nodes that do what one node does; the node itself where there are none.

    Of a recurrent operator they are one-to-one with what its input and its parameters are for it.

    Args:
        proto: its tensors have names of their own.
        ranks: of its inputs, as far as they are known.
    """
    if proto.domain == "com.microsoft" and proto.output:
        if proto.op_type == "FusedConv":
            return _fused_conv(proto)
        if proto.op_type == "FusedGemm":
            return _fused_gemm(proto)
        if proto.op_type == "FusedMatMul":
            return _fused_matmul(proto, ranks)
    if proto.domain == "" and proto.op_type in _RECURRENT and any(proto.output):
        return _recurrent(proto)
    return [proto]


def _recurrent(proto: onnx.NodeProto) -> list[onnx.NodeProto]:
    """What it adds up for its gates without the states, of shape ``(steps, D, 2 G H)``.

    That is ``x W' + Wb`` and Rb beside it, for each direction, and the sums of all other inputs,
    which no fold may change.
    """
    made, *others = [name for name in proto.output if name]
    inputs = [*proto.input, ""]
    nodes = [
        helper.make_node("Flatten", [inputs[0]], [f"{made}_x"], axis=2),
        helper.make_node("Transpose", [inputs[1]], [f"{made}_w"], perm=[0, 2, 1]),
        helper.make_node("MatMul", [f"{made}_x", f"{made}_w"], [f"{made}_rows"]),
        helper.make_node("Sub", [f"{made}_rows", f"{made}_rows"], [f"{made}_zero"]),
        helper.make_node("Concat", [f"{made}_rows", f"{made}_zero"], [f"{made}_both"], axis=2),
        helper.make_node("Transpose", [f"{made}_both"], [f"{made}_0"], perm=[1, 0, 2]),
    ]
    added = [inputs[3]] if inputs[3:] and inputs[3] else []
    for at in (at for at, name in enumerate(inputs) if name and at not in (0, 1, 3)):
        double = helper.make_node("Cast", [inputs[at]], [f"{made}_double{at}"], to=_DOUBLE)
        total = helper.make_node(
            "ReduceSum", [f"{made}_double{at}"], [f"{made}_total{at}"], keepdims=0
        )
        nodes += [double, total]
        added.append(f"{made}_total{at}")
    for at, name in enumerate(added):
        # Before opset 7 it has to be told to broadcast.
        names = [f"{made}_{at}", name], [f"{made}_{at + 1}"]
        nodes.append(helper.make_node("Add", *names, broadcast=1))
    last = f"{made}_{len(added)}"
    return nodes + [helper.make_node("Identity", [last], [name]) for name in (made, *others)]


def _fused_conv(proto: onnx.NodeProto) -> list[onnx.NodeProto]:
    made = proto.output[0]
    attributes = {a.name: a for a in proto.attribute}
    values = list(
        attributes["activation_params"].floats if "activation_params" in attributes else ()
    )
    conv = onnx.NodeProto(op_type="Conv", input=proto.input[:3], output=[f"{made}_conv"])
    own = ("activation", "activation_params")
    conv.attribute.extend(a for a in proto.attribute if a.name not in own)
    nodes = [conv]
    if len(proto.input) > 3 and proto.input[3]:
        nodes.append(helper.make_node("Add", [f"{made}_conv", proto.input[3]], [f"{made}_sum"]))
    last = _activated(attributes, values, nodes[-1].output[0], made)
    return [proto] if last is None else [*nodes, last]


def _fused_gemm(proto: onnx.NodeProto) -> list[onnx.NodeProto]:
    made = proto.output[0]
    attributes = {a.name: a for a in proto.attribute}
    names = ("activation_alpha", "activation_beta", "activation_gamma")
    values = [attributes[name].f for name in names if name in attributes]
    gemm = onnx.NodeProto(op_type="Gemm", input=proto.input, output=[f"{made}_gemm"])
    own = ("activation", *names)
    gemm.attribute.extend(a for a in proto.attribute if a.name not in own)
    last = _activated(attributes, values, f"{made}_gemm", made)
    return [proto] if last is None else [gemm, last]


def _activated(
    attributes: dict[str, onnx.AttributeProto], values: Sequence[float], data: str, made: str
) -> onnx.NodeProto | None:
    name = attributes["activation"].s.decode(errors="replace") if "activation" in attributes else ""
    if not name:
        return helper.make_node("Identity", [data], [made])
    if name not in _ACTIVATIONS:
        return None
    node = helper.make_node(name, [data], [made])
    given = zip(_ACTIVATIONS[name], values, strict=False)
    node.attribute.extend(helper.make_attribute(key, value) for key, value in given)
    return node


def _fused_matmul(proto: onnx.NodeProto, ranks: Sequence[int | None]) -> list[onnx.NodeProto]:
    """``alpha A' B'``, where either may have its last two axes exchanged."""
    made = proto.output[0]
    attributes = {a.name: a for a in proto.attribute}
    if any(attributes[name].i for name in ("transBatchA", "transBatchB") if name in attributes):
        return [proto]
    nodes: list[onnx.NodeProto] = []
    operands = list(proto.input)
    for at, name in enumerate(("transA", "transB")):
        rank = ranks[at] if at < len(ranks) else None
        if name not in attributes or not attributes[name].i or (rank is not None and rank < 2):
            continue
        if rank is None:
            return [proto]
        perm = [*range(rank - 2), rank - 1, rank - 2]
        operands[at] = f"{made}_{name}"
        nodes.append(helper.make_node("Transpose", [proto.input[at]], [operands[at]], perm=perm))
    nodes.append(helper.make_node("MatMul", operands, [f"{made}_product"]))
    alpha = attributes["alpha"].f if "alpha" in attributes else 1.0
    factor = helper.make_node("Constant", [], [f"{made}_alpha"], value_float=alpha)
    scaled = helper.make_node("Mul", [f"{made}_product", f"{made}_alpha"], [made])
    return [*nodes, factor, scaled]

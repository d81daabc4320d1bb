"""Write what keeps a border: a Pad before a convolution, an Add of a map behind, a Pad's value."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper

from bnfold.algebra.affine import Array
from bnfold.algebra.layer import Layer
from bnfold.algebra.rounding import flushed, rounded
from bnfold.folding.biases import add_of
from bnfold.folding.rules.border import Border, MapBehind, PadBefore
from bnfold.folding.rules.operators import version_of
from bnfold.folding.rules.reading import Linear
from bnfold.folding.rules.through import Fill
from bnfold.folding.store import dtype_of
from bnfold.folding.surgery import Surgery
from bnfold.onnxgraph.graph import Node


@dataclass
class Around:
    """New nodes around one that is there.

    Attributes:
        before, behind: nodes right in front of it, and right behind it.
    """

    before: list[onnx.NodeProto] = field(default_factory=list)
    behind: list[onnx.NodeProto] = field(default_factory=list)


def write_border(
    linear: Linear,
    layer: Layer,
    border: Border,
    proto: onnx.NodeProto,
    surgery: Surgery,
    opset: int,
) -> Around:
    """The nodes that stand around a convolution from now on; ``proto``, the node itself, changes.

    Args:
        opset: of the model.
    """
    if isinstance(border, MapBehind):
        return _add_map(linear, layer, border, proto, surgery, opset)
    return _pad(linear, border, proto, surgery, opset)


def _pad(
    linear: Linear, border: PadBefore, proto: onnx.NodeProto, surgery: Surgery, opset: int
) -> Around:
    label, data = linear.node.label, proto.input[0]
    made = surgery.fresh(f"{data}_padded")
    pad = helper.make_node("Pad", [data], [made], f"{label}_pad")
    version = version_of("Pad", opset) or 1
    if version < 11:
        name = "paddings" if version < 2 else "pads"
        pad.attribute.append(helper.make_attribute(name, border.pads))
        pad.attribute.append(helper.make_attribute("value", border.value))
    else:
        pads = np.array(border.pads, dtype=np.int64)
        value, _ = flushed(*_rounded(np.array(border.value), linear))
        for values, wish in ((pads, f"{label}_pads"), (value, f"{label}_pad_value")):
            pad.input.append(surgery.store_array(None, [], values, linear.node.scope, wish))
    for at in reversed(range(len(proto.attribute))):
        if proto.attribute[at].name in ("pads", "auto_pad"):
            del proto.attribute[at]
    proto.input[0] = made
    return Around(before=[pad])


def _add_map(
    linear: Linear,
    layer: Layer,
    border: MapBehind,
    proto: onnx.NodeProto,
    surgery: Surgery,
    opset: int,
) -> Around:
    values, _ = flushed(*_rounded(border.values(linear, layer), linear))
    made = proto.output[0]
    proto.output[0] = surgery.fresh(f"{made}_without_border")
    label = linear.node.label
    name = surgery.store_array(None, [], values, linear.node.scope, f"{label}_border")
    return Around(behind=[add_of(proto.output[0], name, made, f"{label}_border_add", opset)])


def write_fill(node: Node, fill: Fill, proto: onnx.NodeProto, surgery: Surgery, opset: int) -> None:
    """Let a Pad fill its border with another value.

    Args:
        proto: the node as it will be written, to be changed.
        opset: of the model.
    """
    value = np.array(fill.value)
    stored, _ = flushed(rounded(value, helper.tensor_dtype_to_np_dtype(fill.data_type)), value)
    if (version_of("Pad", opset) or 1) < 11:
        for at in reversed(range(len(proto.attribute))):
            if proto.attribute[at].name == "value":
                del proto.attribute[at]
        proto.attribute.append(helper.make_attribute("value", float(stored)))
        return
    before = node.input(2)
    if before is not None:
        surgery.unread_once(before)
    proto.input.extend([""] * (3 - len(proto.input)))
    proto.input[2] = surgery.store_array(None, [], stored, node.scope, f"{node.label}_value")


def _rounded(values: Array, linear: Linear) -> tuple[Array, Array]:
    return rounded(values, dtype_of(linear.weight)), values

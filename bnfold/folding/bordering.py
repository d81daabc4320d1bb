"""Write what keeps the border of a convolution: a Pad in front of it, or an Add of a map behind."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper

from bnfold.algebra.affine import Array
from bnfold.algebra.layer import Layer
from bnfold.algebra.rounding import flushed, rounded
from bnfold.folding.rules.border import Border, MapBehind, PadBefore
from bnfold.folding.rules.operators import version_of
from bnfold.folding.rules.reading import Linear
from bnfold.folding.store import dtype_of
from bnfold.folding.surgery import Surgery
from bnfold.onnxgraph.ranges import Computed


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
        pad.input.append(_stored(f"{label}_pads", pads, linear, surgery))
        pad.input.append(_stored(f"{label}_pad_value", value, linear, surgery))
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
    name = _stored(f"{linear.node.label}_border", values, linear, surgery)
    add = helper.make_node(
        "Add", [proto.output[0], name], [made], f"{linear.node.label}_border_add"
    )
    if (version_of("Add", opset) or 1) < 7:
        add.attribute.append(helper.make_attribute("broadcast", 1))
    return Around(behind=[add])


def _rounded(values: Array, linear: Linear) -> tuple[Array, Array]:
    return rounded(values, dtype_of(linear.weight)), values


def _stored(wish: str, values: Array, linear: Linear, surgery: Surgery) -> str:
    little = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    element_type = helper.np_dtype_to_tensor_dtype(values.dtype)
    data = Computed(len(little), lambda: iter((little,)))
    scope = linear.node.scope
    return surgery.store(None, [], data, values.shape, element_type, scope, wish)

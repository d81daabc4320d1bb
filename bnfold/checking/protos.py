"""Copies of nodes, and what of two nodes has to be the same."""

from __future__ import annotations

from collections.abc import Collection

import onnx
from onnx import helper


def kept_attributes(proto: onnx.NodeProto, changed: Collection[str]) -> list[bytes]:
    """The attributes of a node, without some, in an order of their own."""
    return sorted(a.SerializeToString() for a in proto.attribute if a.name not in changed)


def nameless(proto: onnx.NodeProto) -> onnx.NodeProto:
    """A copy without what does not matter to what it computes, so that equal nodes are equal."""
    copy = onnx.NodeProto(op_type=proto.op_type, domain=proto.domain, overload=proto.overload)
    copy.input.extend(proto.input)
    copy.output.extend(proto.output)
    copy.attribute.extend(proto.attribute)
    return copy


def set_inference(proto: onnx.NodeProto) -> None:
    """Read a BatchNormalization as inference, whatever it says."""
    del proto.output[1:]
    kept = [a for a in proto.attribute if a.name not in ("is_test", "training_mode")]
    found = {a.name for a in proto.attribute}
    del proto.attribute[:]
    proto.attribute.extend(kept)
    if "training_mode" not in found:
        proto.attribute.append(helper.make_attribute("is_test", 1))

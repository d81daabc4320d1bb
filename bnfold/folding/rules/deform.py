"""DeformConv: ``y[n, m] = sum of w[m] * mask * x at (place + offset) + b[m]``."""

from __future__ import annotations

from dataclasses import replace

from bnfold.folding.reasons import Refused
from bnfold.folding.rules.conv import read_taps
from bnfold.folding.rules.reading import Context, Inward, Linear
from bnfold.onnxgraph.graph import Node


def read_deform_conv(node: Node, context: Context) -> Linear | Refused:
    """DeformConv of any group and offset group, with or without bias and mask.

    It is linear in its weight as Conv is. Its data is zero outside and goes through a mask, so
    only a scale can go forward into it.
    """
    linear = read_taps(node, context, bias_at=3)
    if isinstance(linear, Refused) or not isinstance(linear.inward, Inward):
        return linear
    uneven = Refused(
        "zero-padding",
        f"{node.label} (DeformConv) reads zeros outside of its input, which the norm before it "
        "does not shift",
    )
    return replace(linear, inward=replace(linear.inward, uneven=uneven))

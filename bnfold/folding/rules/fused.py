"""onnxruntime's FusedConv and FusedGemm: the plain operator and what was fused to it.

``y = activation(conv(x, w) + b + z)`` and ``y = activation(gemm(a, b, c))``
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bnfold.algebra.affine import Affine
from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.conv import read_conv
from bnfold.folding.rules.gemm import read_gemm
from bnfold.folding.rules.reading import Context, Linear
from bnfold.onnxgraph.graph import Node


def summand_map(affine: Affine, rank: int) -> Spread:
    """``scale (conv(x, w) + b + z) + t == scale conv(x, w) + (scale b + t) + scale z``.

    Args:
        rank: number of axes of z, with the channels on axis 1.
    """
    scale = affine.scale.reshape(-1, *[1] * (rank - 2))
    return Spread(scale, np.zeros_like(scale))


def read_fused_conv(node: Node, context: Context) -> Linear | Refused:
    """FusedConv: a Conv, to whose output z of the same shape may be added."""
    linear = read_conv(node, context)
    if isinstance(linear, Refused):
        return linear
    if node.input(3) is not None:
        rank = len(linear.weight.shape)
        linear = replace(linear, asks={**linear.asks, 3: lambda a: summand_map(a, rank)})
    return replace(linear, outward=_activated(node))


def read_fused_gemm(node: Node, context: Context) -> Linear | Refused:
    """FusedGemm: a Gemm."""
    linear = read_gemm(node, context)
    return linear if isinstance(linear, Refused) else replace(linear, outward=_activated(node))


def _activated(node: Node) -> Refused | None:
    """Why no map can go back into an operator that ends in an activation."""
    found = node.attribute("activation")
    name = found.s.decode(errors="replace") if found is not None else ""
    if not name:
        return None
    return Refused(
        "not-through", f"{node.label} ({node.op_type}) ends in {name}, which stands between"
    )

"""MatMul with a constant on the right: ``y[..., n] = sum over k of x[..., k] * w[..., k, n]``."""

from __future__ import annotations

import numpy as np

from bnfold.algebra.affine import Float64Array
from bnfold.algebra.layer import Layer
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.reading import Context, Linear, read_constant, read_version
from bnfold.onnxgraph.graph import Node


def matmul_factor(scale: Float64Array) -> Float64Array:
    """``scale * (x w) == x (factor * w)`` for w of shape ``(..., K, N)`` and scale ``(N,)``."""
    return scale


def read_matmul(node: Node, context: Context) -> Linear | Refused:
    """MatMul whose right operand is constant, of two or more axes. It has no bias of its own."""
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    weight = read_constant(node.input(1), node, "right operand", context, "weight-not-constant")
    if isinstance(weight, Refused):
        return weight
    if len(weight.shape) < 2:
        return Refused(
            "axis-mismatch",
            f"the right operand of {node.label} is a vector, so its output has no channel axis",
        )
    return Linear(
        node=node,
        weight=weight,
        weight_factor=matmul_factor,
        layer=Layer.plain(np.zeros(1), weight.shape[-1]),
        axis=-1,
        rank=lambda: _output_rank(node, len(weight.shape), context),
        bias=None,
        has_bias=False,
    )


def _output_rank(node: Node, weight_rank: int, context: Context) -> int | None:
    """The rank of the product: that of the larger operand, one less for a vector on the left."""
    left = node.input(0)
    rank = context.types.rank(left) if left is not None else None
    if rank is None:
        output = node.outputs[0]
        return context.types.rank(output) if output is not None else None
    return weight_rank - 1 if rank == 1 else max(rank, weight_rank)

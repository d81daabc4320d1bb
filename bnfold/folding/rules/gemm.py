"""Gemm: ``y = alpha * A' B' + beta * C`` with a constant B."""

from __future__ import annotations

import numpy as np

from bnfold.algebra.affine import Float64Array
from bnfold.algebra.layer import Layer
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.reading import (
    Context,
    Linear,
    as_float64,
    malformed,
    read_constant,
    read_version,
)
from bnfold.onnxgraph.constants import LIMIT
from bnfold.onnxgraph.graph import Node


def gemm_factor(scale: Float64Array, *, transposed: bool) -> Float64Array:
    """``scale * (a w) == a (factor * w)`` for w of shape ``(K, N)``, or ``(N, K)`` transposed.

    Args:
        scale: shape ``(N,)``.
    """
    return scale.reshape(-1, 1) if transposed else scale.reshape(1, -1)


def read_gemm(node: Node, context: Context) -> Linear | Refused:
    """Gemm with any transA, transB, alpha, beta, and a constant C of any shape or none.

    The bias of the canonical form is ``beta * C``; it is stored with ``beta = 1``.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    weight = read_constant(node.input(1), node, "weight", context, "weight-not-constant")
    if isinstance(weight, Refused):
        return weight
    if len(weight.shape) != 2:
        return malformed(node, f"its B has shape {list(weight.shape)}, not two axes")
    transposed = node.integer("transB", 0) != 0
    channels = weight.shape[0 if transposed else 1]
    beta = node.real("beta", 1.0)
    values, bias = np.zeros(1), None
    tensor = node.input(2)
    if tensor is not None and beta != 0.0:
        known = read_constant(tensor, node, "C", context, "weight-not-constant")
        if isinstance(known, Refused):
            return known
        if known.data_type != weight.data_type:
            return malformed(node, "its C has another dtype than its B")
        shape = known.shape
        if len(shape) > 2 or (shape and shape[-1] not in (1, channels)):
            return malformed(node, f"its C has shape {list(shape)} for {channels} columns")
        if len(shape) == 2 and shape[0] * channels * 8 > LIMIT:
            return Refused(
                "expression-too-large",
                f"the C of {node.label} would become {shape[0]} by {channels} values",
            )
        bias, values = known, beta * np.atleast_1d(as_float64(known))
        if values.ndim == 2 and values.shape[0] == 1:
            values = values[0]
    return Linear(
        node=node,
        weight=weight,
        weight_factor=lambda scale: gemm_factor(scale, transposed=transposed),
        layer=Layer.plain(values, channels),
        axis=1,
        rank=lambda: 2,
        bias=bias,
    )

"""Gemm: ``y = alpha * A' B' + beta * C`` with a constant B."""

from __future__ import annotations

import numpy as np

from bnfold.algebra.affine import Affine, Float64Array
from bnfold.algebra.layer import Layer
from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.quantised import read_bias, read_weight
from bnfold.folding.rules.reading import (
    Context,
    Inward,
    Linear,
    as_float64,
    malformed,
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


def computed_map(affine: Affine, beta: float) -> Spread:
    """``affine(alpha a w + beta c) == alpha a (scale w) + beta (scale c + shift / beta)``."""
    return Spread(affine.scale, affine.shift / beta)


def read_gemm(node: Node, context: Context) -> Linear | Refused:
    """Gemm with any transA, transB, alpha, beta, and a constant C of any shape or none.

    The bias of the canonical form is ``beta * C``; it is stored with ``beta = 1``. A computed C
    has to have a column for each output channel, and beta stays.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    weight = read_weight(node.input(1), node, "weight", context)
    if isinstance(weight, Refused):
        return weight
    if len(weight.shape) != 2:
        return malformed(node, f"its B has shape {list(weight.shape)}, not two axes")
    transposed = node.integer("transB", 0) != 0
    channels = weight.shape[0 if transposed else 1]
    beta = node.real("beta", 1.0)
    values, bias, why = np.zeros(1), None, None
    tensor = node.input(2)
    known = read_bias(tensor, node, "C", context) if tensor is not None and beta != 0.0 else None
    if isinstance(known, Refused):
        shape = context.types.shape(tensor) if tensor is not None else None
        if known.code != "weight-not-constant" or not shape or shape[-1] != channels:
            return known
        why = known
    elif known is not None:
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
        shift="computed" if why is not None else "input",
        asks={2: lambda affine: computed_map(affine, beta)} if why is not None else {},
        inward=Inward(
            at=0,
            axis=0 if node.integer("transA", 0) else 1,
            rank=lambda: 2,
            channels=weight.shape[1 if transposed else 0],
            factor=lambda scale: gemm_factor(scale, transposed=not transposed),
            gain=node.real("alpha", 1.0),
            uneven=why,
        ),
    )

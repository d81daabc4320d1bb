"""MatMul with one constant operand: ``y[..., m, n] = sum of a[..., m, k] * b[..., k, n]``."""

from __future__ import annotations

import math

import numpy as np

from bnfold.algebra.affine import Float64Array
from bnfold.algebra.layer import Layer
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.quantised import read_weight
from bnfold.folding.rules.reading import (
    Context,
    Inward,
    Linear,
    malformed,
    read_version,
)
from bnfold.onnxgraph.graph import Node
from bnfold.onnxgraph.known import Known


def matmul_factor(scale: Float64Array) -> Float64Array:
    """``scale * (x w) == x (factor * w)`` for w of shape ``(..., K, N)`` and scale ``(N,)``."""
    return scale


def row_factor(scale: Float64Array) -> Float64Array:
    """``scale * (w x) == (factor * w) x`` for w of shape ``(..., M, K)`` and scale ``(M, 1)``.

    Args:
        scale: shape ``(M,)``.
    """
    return scale.reshape(-1, 1)


def read_matmul(node: Node, context: Context) -> Linear | Refused:
    """MatMul with a constant of two or more axes on one side. It has no bias of its own."""
    version = read_version(node, context)
    return version if isinstance(version, Refused) else _read(node, context)


def read_fused_matmul(node: Node, context: Context) -> Linear | Refused:
    """FusedMatMul, ``alpha * a' b'``, with a constant on one side, in plain order of the batch."""
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    if node.integer("transBatchA", 0) or node.integer("transBatchB", 0):
        return Refused(
            "axis-mismatch", f"{node.label} (FusedMatMul) moves the axes of its batch about"
        )
    return _read(
        node,
        context,
        transposed=(node.integer("transA", 0) != 0, node.integer("transB", 0) != 0),
        gain=node.real("alpha", 1.0),
    )


def _read(
    node: Node,
    context: Context,
    *,
    transposed: tuple[bool, bool] = (False, False),
    gain: float = 1.0,
) -> Linear | Refused:
    weight = read_weight(node.input(1), node, "right operand", context)
    if not isinstance(weight, Refused):
        return _product(node, weight, 1, context, transposed=transposed, gain=gain)
    left = read_weight(node.input(0), node, "left operand", context)
    if isinstance(left, Refused):
        return weight
    return _product(node, left, 0, context, transposed=transposed, gain=gain)


def _product(
    node: Node,
    weight: Known,
    at: int,
    context: Context,
    *,
    transposed: tuple[bool, bool],
    gain: float,
) -> Linear | Refused:
    """The canonical form for a weight on the left (0) or on the right (1).

    Output channels are the rows of a weight on the left and the columns of one on the right; the
    axis that is summed over is the other one. A vector on the other side has only that axis, and
    is never transposed.
    """
    side, data_at, shape = ("left", "right")[at], 1 - at, weight.shape
    if len(shape) < 2:
        return Refused(
            "axis-mismatch",
            f"the {side} operand of {node.label} is a vector, so its output has no channel axis",
        )
    data = node.input(data_at)
    if data is None:
        return malformed(node, "it has no data")
    rank = context.types.rank(data)
    if at == 0 and rank is None:
        return Refused(
            "unknown-rank",
            f"the rank of {data.name} is not known, so neither is the axis of the channels of "
            f"{node.label}",
        )
    is_vector = rank == 1
    # Is the axis of the output channels the last one of the weight, and that of the input channels
    # the last one of the data?
    is_last = transposed[at] if at == 0 else not transposed[at]
    data_is_last = is_vector or (transposed[1] if at == 0 else not transposed[0])
    return Linear(
        node=node,
        weight=weight,
        weight_factor=matmul_factor if is_last else row_factor,
        layer=Layer.plain(np.zeros(1), shape[-1 if is_last else -2]),
        axis=-1 if at == 1 or is_vector else -2,
        rank=lambda: _output_rank(node, data_at, len(shape), context),
        bias=None,
        shift="add",
        weight_at=at,
        inward=Inward(
            at=data_at,
            axis=-1 if data_is_last else -2,
            rank=lambda: context.types.rank(data),
            channels=shape[-2 if is_last else -1],
            factor=row_factor if is_last else matmul_factor,
            gain=gain,
            uneven=_stacked(node, side, shape),
        ),
    )


def _stacked(node: Node, side: str, shape: tuple[int, ...]) -> Refused | None:
    """Why a shift would need another bias in each of several stacked products, or None."""
    if math.prod(shape[:-2]) == 1:
        return None
    return Refused(
        "uneven-border",
        f"the {side} operand of {node.label} is a stack of matrices, so a shift before it would "
        "differ between them",
    )


def _output_rank(node: Node, data_at: int, weight_rank: int, context: Context) -> int | None:
    """The rank of the product: that of the larger operand, one less for a vector as data."""
    data, output = node.input(data_at), node.outputs[0]
    rank = context.types.rank(data) if data is not None else None
    if rank is None:
        return context.types.rank(output) if output is not None else None
    return weight_rank - 1 if rank == 1 else max(rank, weight_rank)

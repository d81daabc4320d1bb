"""Conv and ConvTranspose: ``y[n, m] = sum of w[m] * x + b[m]``, whatever the geometry."""

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
from bnfold.onnxgraph.constants import Known
from bnfold.onnxgraph.graph import Node


def conv_factor(scale: Float64Array, rank: int) -> Float64Array:
    """``scale * conv(x, w) == conv(x, factor * w)`` for w of shape ``(M, C/group, *kernel)``.

    Args:
        scale: shape ``(M,)``.
        rank: number of axes of w.
    """
    return scale.reshape(-1, *[1] * (rank - 1))


def conv_transpose_factor(
    scale: Float64Array, in_channels: int, group: int, rank: int
) -> Float64Array:
    """``scale * conv_transpose(x, w) == conv_transpose(x, factor * w)`` for w of shape
    ``(C, M/group, *kernel)``: row c of w makes the output channels of c's own group.

    Args:
        scale: shape ``(M,)``.
        in_channels: C.
        rank: number of axes of w.
    """
    by_group = scale.reshape(group, -1)
    rows = np.repeat(by_group, in_channels // group, axis=0)
    return rows.reshape(*rows.shape, *[1] * (rank - 2))


def read_conv(node: Node, context: Context) -> Linear | Refused:
    """Conv 1-D to 3-D, of any group, with or without bias."""
    return _read(node, context, transposed=False)


def read_conv_transpose(node: Node, context: Context) -> Linear | Refused:
    """ConvTranspose 1-D to 3-D, of any group, with or without bias."""
    return _read(node, context, transposed=True)


def _read(node: Node, context: Context, *, transposed: bool) -> Linear | Refused:
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    weight = read_constant(node.input(1), node, "weight", context, "weight-not-constant")
    if isinstance(weight, Refused):
        return weight
    shape, group = weight.shape, node.integer("group", 1)
    rank = len(shape)
    if rank < 3:
        return malformed(node, f"its weight has shape {list(shape)}, without a kernel")
    if group < 1 or shape[0] % group:
        return malformed(node, f"its weight of shape {list(shape)} has no {group} groups")
    channels = shape[1] * group if transposed else shape[0]
    bias = _read_bias(node, context, channels, weight)
    if isinstance(bias, Refused):
        return bias
    known, values, notes = bias
    in_channels = shape[0]
    return Linear(
        node=node,
        weight=weight,
        weight_factor=(
            (lambda scale: conv_transpose_factor(scale, in_channels, group, rank))
            if transposed
            else (lambda scale: conv_factor(scale, rank))
        ),
        layer=Layer.plain(values, channels),
        axis=1,
        rank=lambda: rank,
        bias=known,
        notes=notes,
    )


def _read_bias(
    node: Node, context: Context, channels: int, weight: Known
) -> tuple[Known | None, Float64Array, tuple[str, ...]] | Refused:
    tensor = node.input(2)
    if tensor is None:
        return None, np.zeros(1), ()
    known = read_constant(tensor, node, "bias", context, "weight-not-constant")
    if isinstance(known, Refused):
        return known
    if known.data_type != weight.data_type:
        return malformed(node, "its bias has another dtype than its weight")
    if known.shape == (channels,):
        return known, as_float64(known), ()
    # Some exporters write the bias of a 3-D convolution with an axis too many. It can mean only
    # one thing where every value of a channel is the same.
    if len(known.shape) > 1 and known.shape[0] == channels and np.prod(known.shape):
        rows = as_float64(known).reshape(channels, -1)
        if (rows == rows[:, :1]).all():
            note = f"the bias of {node.label} has shape {list(known.shape)}; read as [{channels}]"
            return known, rows[:, 0].copy(), (note,)
    return malformed(node, f"its bias has shape {list(known.shape)} for {channels} channels")

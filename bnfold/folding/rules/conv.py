"""Conv and ConvTranspose: ``y[n, m] = sum of w[m] * x + b[m]``, whatever the geometry."""

from __future__ import annotations

import numpy as np

from bnfold.algebra.affine import Float64Array
from bnfold.algebra.layer import Layer
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.quantised import read_bias, read_weight
from bnfold.folding.rules.reading import (
    Context,
    Inward,
    Linear,
    as_float64,
    bias_map,
    malformed,
    read_version,
)
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.known import Known


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


def conv_in_factor(scale: Float64Array, out_channels: int, group: int, rank: int) -> Float64Array:
    """``conv(scale * x, w) == conv(x, factor * w)`` for w of shape ``(M, C/group, *kernel)``: row m
    of w meets the input channels of m's own group.

    Args:
        scale: shape ``(C,)``.
        out_channels: M.
        rank: number of axes of w.
    """
    by_group = scale.reshape(group, -1)
    rows = np.repeat(by_group, out_channels // group, axis=0) if group > 1 else by_group
    return rows.reshape(*rows.shape, *[1] * (rank - 2))


def read_conv(node: Node, context: Context) -> Linear | Refused:
    """Conv 1-D to 3-D, of any group, with or without bias."""
    return read_taps(node, context)


def read_conv_transpose(node: Node, context: Context) -> Linear | Refused:
    """ConvTranspose 1-D to 3-D, of any group, with or without bias."""
    return read_taps(node, context, transposed=True)


def read_taps(
    node: Node, context: Context, *, transposed: bool = False, bias_at: int = 2
) -> Linear | Refused:
    """What Conv, ConvTranspose and their relatives have in common.

    Args:
        bias_at: which input is the bias.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    weight = read_weight(node.input(1), node, "weight", context)
    if isinstance(weight, Refused):
        return weight
    shape, group = weight.shape, node.integer("group", 1)
    rank = len(shape)
    if rank < 3:
        return malformed(node, f"its weight has shape {list(shape)}, without a kernel")
    if group < 1 or shape[0] % group:
        return malformed(node, f"its weight of shape {list(shape)} has no {group} groups")
    channels = shape[1] * group if transposed else shape[0]
    tensor = node.input(bias_at)
    bias = _read_bias(node, tensor, context, channels, weight)
    is_computed = isinstance(bias, Refused) and bias.code == "weight-not-constant"
    if isinstance(bias, Refused) and not is_computed:
        return bias
    known, values, notes = (None, np.zeros(1), ()) if isinstance(bias, Refused) else bias
    in_channels = shape[0] if transposed else shape[1] * group
    inward = Inward(
        at=0,
        axis=1,
        rank=lambda: rank,
        channels=in_channels,
        factor=(
            (lambda scale: conv_factor(scale, rank))
            if transposed
            else (lambda scale: conv_in_factor(scale, shape[0], group, rank))
        ),
        uneven=bias if isinstance(bias, Refused) else _uneven(node, shape[2:], transposed),
    )
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
        shift="computed" if is_computed else "input",
        bias_at=bias_at,
        asks={bias_at: bias_map} if is_computed else {},
        inward=inward,
        notes=notes,
    )


def _uneven(node: Node, kernel: tuple[int, ...], transposed: bool) -> Refused | None:
    """Why not every output meets every weight of its channel, or None where each does."""
    found, auto = node.attribute("pads"), node.attribute("auto_pad")
    pads = list(found.ints) if found is not None else []
    how = auto.s.decode() if auto is not None else ""
    if how not in ("", "NOTSET"):
        # A window of one tap never reaches beyond the data, so SAME pads nothing.
        pads = [0] if how == "VALID" or max(kernel, default=1) == 1 else [1]
    if transposed:
        found = node.attribute("output_padding")
        pads += list(found.ints) if found is not None else []
    if transposed:
        strides = node.attribute("strides")
        is_plain = max(kernel) == 1 and max(strides.ints if strides is not None else [1]) == 1
        if is_plain and not any(pads) and node.attribute("output_shape") is None:
            return None
        return Refused(
            "uneven-border",
            f"{node.label} (ConvTranspose) does not bring every weight to every output, so a "
            "shift before it would not be the same everywhere",
        )
    # A kernel of one tap has no window over the border, but pads still add outputs of zeros.
    if not any(pads):
        return None
    return Refused(
        "zero-padding",
        f"{node.label} pads its input with zeros, which the norm before it does not shift",
    )


def _read_bias(
    node: Node, tensor: Tensor | None, context: Context, channels: int, weight: Known
) -> tuple[Known | None, Float64Array, tuple[str, ...]] | Refused:
    if tensor is None:
        return None, np.zeros(channels), ()
    known = read_bias(tensor, node, "bias", context)
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

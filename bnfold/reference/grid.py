"""Values between the elements of feature maps: GridSample, and DeformConv, which is made of it.

Source: ONNX, GridSample and DeformConv.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from bnfold.reference.call import Array, Call
from bnfold.reference.resize import keys_kernel

# How far the taps reach before and behind the element that a place lies in, by mode.
TAPS = {
    "nearest": (0,),
    "linear": (0, 1),
    "bilinear": (0, 1),
    "cubic": (-1, 0, 1, 2),
    "bicubic": (-1, 0, 1, 2),
}


def grid_sample(call: Call, x: Array, grid: Array) -> Array:
    """x at the places of a grid.

    Args:
        call: of GridSample.
        x: ``(N, C, *spatial)``.
        grid: ``(N, *places, rank)``, last spatial axis first, from -1 to 1 over each axis.

    Returns:
        ``(N, C, *places)``.

    Raises:
        ValueError: a mode that the specification does not name.
    """
    lengths = np.array(x.shape[2:])
    places = grid[..., ::-1].reshape(x.shape[0], -1, len(lengths))
    if call.get("align_corners", 0):
        at = (places + 1) / 2 * (lengths - 1)
    else:
        at = ((places + 1) * lengths - 1) / 2
    mode, padding = call["mode"], call["padding_mode"]
    if mode not in TAPS or padding not in ("zeros", "border", "reflection"):
        raise ValueError(f"mode {mode!r} or padding_mode {padding!r} is not in the specification")
    y = _sampled(x, at, mode, padding, aligned=bool(call.get("align_corners", 0)))
    return y.reshape(*x.shape[:2], *grid.shape[1:-1])


def _sampled(x: Array, at: Array, mode: str, padding: str, *, aligned: bool) -> Array:
    """x ``(N, C, *spatial)`` at coordinates ``(N, P, rank)`` in elements, ``(N, C, P)``."""
    if mode == "nearest":
        at = np.rint(at)
    at = np.stack(
        [
            _inside(at[..., axis], length, padding, aligned=aligned)
            for axis, length in enumerate(x.shape[2:])
        ],
        axis=-1,
    )
    first = np.floor(at)
    flat = x.reshape(*x.shape[:2], -1)
    y = np.zeros((*x.shape[:2], at.shape[1]))
    for taps in product(TAPS[mode], repeat=at.shape[-1]):
        weight: Any = np.ones(at.shape[:-1])
        index: Any = np.zeros(at.shape[:-1], dtype=np.int64)
        for axis, (tap, length) in enumerate(zip(taps, x.shape[2:], strict=True)):
            place = first[..., axis] + tap
            weight = weight * _weight(np.abs(at[..., axis] - place), mode)
            if padding == "zeros":
                weight = np.where((place < 0) | (place >= length), 0.0, weight)
            else:
                place = np.trunc(_inside(place, length, padding, aligned=aligned))
            inner = np.nan_to_num(np.clip(place, 0, length - 1))
            index = index * length + inner.astype(np.int64)
        values = np.take_along_axis(flat, index[:, None], axis=2)
        y += np.where(weight[:, None] == 0, 0.0, weight[:, None] * values)
    return y


def _weight(distance: Array, mode: str) -> Array:
    if mode == "nearest":
        return np.ones(distance.shape)
    return keys_kernel(distance, -0.75) if mode.endswith("cubic") else 1.0 - distance


def _inside(at: Array, length: int, padding: str, *, aligned: bool) -> Array:
    """Coordinates outside of an axis at its edge, or reflected at its border."""
    if padding == "border":
        return np.clip(at, 0, length - 1)
    if padding == "zeros":
        return at
    low, high = (0.0, length - 1.0) if aligned else (-0.5, length - 0.5)
    span = high - low
    if span == 0:
        return np.zeros(at.shape)
    distance = np.abs(at - low) % (2 * span)
    reflected = low + np.where(distance > span, 2 * span - distance, distance)
    return np.where((at < low) | (at > high), reflected, at)


def deform_conv(
    call: Call,
    x: Array,
    w: Array,
    offset: Array,
    b: Array | None = None,
    mask: Array | None = None,
) -> Array:
    """A convolution whose taps are moved, each at each place, by an offset in elements.

    Args:
        call: of DeformConv.
        x: ``(N, C, *spatial)``.
        w: ``(M, C/group, *kernel)``.
        offset: ``(N, offset_group * prod(kernel) * rank, *sizes)``.
        b: ``(M,)``.
        mask: factors of the taps, ``(N, offset_group * prod(kernel), *sizes)``.

    Raises:
        ValueError: shapes or groups that do not fit each other.
    """
    rank, groups, parts = x.ndim - 2, call.get("group", 1), call.get("offset_group", 1)
    kernel, sizes = w.shape[2:], offset.shape[2:]
    taps = int(np.prod(kernel))
    if x.shape[1] != w.shape[1] * groups or x.shape[1] % parts or w.shape[0] % groups:
        raise ValueError(f"x {x.shape}, weight {w.shape}, group {groups}, {parts} do not fit")
    moved = offset.reshape(x.shape[0] * parts, taps, rank, *sizes)
    pads, strides = call.get("pads") or [0] * 2 * rank, call.get("strides") or [1] * rank
    dilations = call.get("dilations") or [1] * rank
    axes = []
    for axis in range(rank):
        tap = np.indices(kernel)[axis].reshape(1, taps, *[1] * rank) * dilations[axis]
        place = np.indices(sizes)[axis] * strides[axis] - pads[axis]
        axes.append((moved[:, :, axis] + tap + place).reshape(len(moved), -1))
    grouped = x.reshape(len(moved), x.shape[1] // parts, *x.shape[2:])
    columns = _sampled(grouped, np.stack(axes, axis=-1), "linear", "zeros", aligned=True)
    columns = columns.reshape(x.shape[0], parts, -1, taps, int(np.prod(sizes)))
    if mask is not None:
        columns = columns * mask.reshape(x.shape[0], parts, 1, taps, -1)
    columns = columns.reshape(x.shape[0], groups, w.shape[1] * taps, -1)
    y = np.matmul(w.reshape(groups, w.shape[0] // groups, -1), columns)
    y = y.reshape(x.shape[0], w.shape[0], *sizes)
    return np.asarray(y if b is None else y + b.reshape(-1, *[1] * rank))

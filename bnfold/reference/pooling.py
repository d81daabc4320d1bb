"""Pooling over windows and over whole feature maps.

Source: ONNX, AveragePool, MaxPool, LpPool, GlobalAveragePool, GlobalMaxPool, GlobalLpPool.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from bnfold.reference.call import Array, Call
from bnfold.reference.windows import Windows, padded, tap, windows_of


def average_pool(call: Call, x: Array) -> Array:
    """Means of windows; pads count only with ``count_include_pad``, what lies beyond never."""
    windows = windows_of(call, x.shape[2:], tuple(call["kernel_shape"]))
    counts = _counts(x.shape[2:], windows, with_pads=bool(call.get("count_include_pad", 0)))
    return np.divide(_sums(x, windows), counts)


def lp_pool(call: Call, x: Array) -> Array:
    """The p-norm of each window: ``(sum |x|^p)^(1/p)``, pads taken as zeros."""
    windows = windows_of(call, x.shape[2:], tuple(call["kernel_shape"]))
    return _root(_sums(_power(x, call["p"]), windows), call["p"])


def max_pool(call: Call, x: Array) -> Array | tuple[Array, Array]:
    """Maxima of windows and, if they are asked for, the places of the first of each.

    Returns:
        ``(N, C, *sizes)``, of the dtype of x; with a second output the index of each maximum in
        the flattened x, int64, spatial axes in column-major order with ``storage_order=1``.
    """
    windows = windows_of(call, x.shape[2:], tuple(call["kernel_shape"]))
    low: Any = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    wide = padded(x, windows, low)
    taps = list(np.ndindex(*windows.kernel))
    y: Array = tap(wide, windows, taps[0]).copy()
    if not call.wants(1):
        for at in taps[1:]:
            np.maximum(y, tap(wide, windows, at), out=y)
        return y
    flat: Array = np.arange(int(np.prod(x.shape[2:])))
    if call.get("storage_order", 0):
        flat = flat.reshape(x.shape[:1:-1]).T
    else:
        flat = flat.reshape(x.shape[2:])
    places = padded(flat[None, None], windows, -1)
    found = np.broadcast_to(tap(places, windows, taps[0]), y.shape).copy()
    for at in taps[1:]:
        values, index = tap(wide, windows, at), tap(places, windows, at)
        # A pad is smaller than every value, or as small: a place in the image wins.
        better = (values > y) | ((found < 0) & (index >= 0))
        np.copyto(y, values, where=better)
        np.copyto(found, np.broadcast_to(index, y.shape), where=better)
    maps = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *[1] * len(windows.sizes))
    return y, (found + maps * flat.size).astype(np.int64)


def global_average_pool(call: Call, x: Array) -> Array:
    """Means over all spatial axes, which stay with length 1."""
    return np.asarray(x.mean(axis=tuple(range(2, x.ndim)), keepdims=True))


def global_max_pool(call: Call, x: Array) -> Array:
    """Maxima over all spatial axes, which stay with length 1."""
    return np.asarray(x.max(axis=tuple(range(2, x.ndim)), keepdims=True))


def global_lp_pool(call: Call, x: Array) -> Array:
    """The p-norm over all spatial axes, which stay with length 1."""
    sums = _power(x, call["p"]).sum(axis=tuple(range(2, x.ndim)), keepdims=True)
    return _root(np.asarray(sums), call["p"])


def _power(x: Array, p: float) -> Array:
    return np.abs(x) if p == 1 else np.square(x) if p == 2 else np.power(np.abs(x), p)


def _root(sums: Array, p: float) -> Array:
    return sums if p == 1 else np.sqrt(sums) if p == 2 else np.power(sums, 1.0 / p)


def _sums(x: Array, windows: Windows) -> Array:
    """Sums of windows, one spatial axis after the other, pads as zeros."""
    sums = padded(x, windows)
    rank = len(windows.kernel)
    for axis, (size, step) in enumerate(zip(windows.sizes, windows.strides, strict=True)):
        after = (slice(None),) * (rank - axis - 1)
        begins = [k * windows.dilations[axis] for k in range(windows.kernel[axis])]
        parts: Any = [
            (..., slice(b, b + step * (size - 1) + 1 if size else b, step), *after) for b in begins
        ]
        sums = reduce(np.add, [sums[part] for part in parts])
    return sums


def _counts(spatial: tuple[int, ...], windows: Windows, *, with_pads: bool) -> Array:
    """How many elements each window averages over, shape ``sizes``, float64."""
    factors = []
    for axis, size in enumerate(spatial):
        begin, end = windows.begins[axis], windows.ends[axis]
        starts = np.arange(windows.sizes[axis]) * windows.strides[axis] - begin
        places = starts[:, None] + np.arange(windows.kernel[axis]) * windows.dilations[axis]
        low, high = (-begin, size + end) if with_pads else (0, size)
        factors.append(((places >= low) & (places < high)).sum(axis=1).astype(np.float64))
    return reduce(np.multiply.outer, factors) if factors else np.ones(())

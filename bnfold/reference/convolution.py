"""Conv and ConvTranspose of any rank: matrix products over strided views.

Source: ONNX, Conv and ConvTranspose.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from bnfold.reference.call import Array, Call
from bnfold.reference.windows import Windows, padded, tap, window_view, windows_of

# Bytes of unfolded windows that are made at a time.
UNFOLDED = 2 << 20


def conv(call: Call, x: Array, w: Array, b: Array | None = None) -> Array:
    """Convolution of ``(N, C, *spatial)`` with ``(M, C/group, *kernel)``, a bias ``(M,)`` added.

    Raises:
        ValueError: shapes, groups, pads or strides that do not fit each other.
    """
    if x.ndim != w.ndim or x.ndim < 2:
        raise ValueError(f"x of rank {x.ndim} and a weight of rank {w.ndim} do not fit")
    groups = call.get("group", 1)
    if groups < 1 or x.shape[1] != w.shape[1] * groups or w.shape[0] % groups:
        raise ValueError(f"{x.shape[1]} channels, weight {w.shape} and group {groups} do not fit")
    windows = windows_of(call, x.shape[2:], w.shape[2:])
    if x.dtype != w.dtype:
        x, w = x.astype(np.result_type(x, w)), w.astype(np.result_type(x, w))
    if w.shape[1] == 1 and groups > 1:
        y = _depthwise(x, w, windows)
    elif groups > 1:
        y = _grouped(x, w, windows, groups)
    elif windows.is_pointwise:
        y = _matrix_product(w.reshape(w.shape[0], -1), x.reshape(*x.shape[:2], -1))
    else:
        y = _unfolded(x, w, windows)
    y = y.reshape(x.shape[0], w.shape[0], *windows.sizes)
    if b is not None:
        np.add(y, _bias(b, w.shape[0]).reshape(-1, *[1] * (x.ndim - 2)), out=y)
    return y


def _bias(b: Array, filters: int) -> Array:
    """The bias ``(M,)``; with an axis too many, as some exporters write it, where that is equal."""
    rows = b.reshape(filters, -1) if b.ndim > 1 and b.shape[0] == filters else b
    return rows[:, 0] if rows.ndim > 1 and (rows == rows[:, :1]).all() else b


def _matrix_product(w: Array, x: Array) -> Array:
    """``(M, K)`` times ``(N, K, P)``: one product where there is one image or one place."""
    if x.shape[2] == 1:
        return np.asarray((x[:, :, 0] @ w.T)[:, :, None])
    return np.asarray(np.matmul(w, x))


def _unfolded(x: Array, w: Array, windows: Windows) -> Array:
    """Windows are copied out and multiplied, as many rows of the output at a time as fit."""
    wide = padded(x, windows)
    images, filters = x.shape[0], w.shape[0]
    matrix = w.reshape(filters, -1)
    if not windows.sizes:
        return np.asarray(np.matmul(matrix, x[:, :, None]))
    views = window_view(wide, windows)
    across = int(np.prod(windows.sizes[1:]))
    y = np.empty((images, filters, windows.sizes[0] * across), dtype=x.dtype)
    rows = max(1, UNFOLDED // max(matrix.shape[1] * across * x.itemsize, 1))
    first = 2 + len(windows.kernel)
    for image, begin in product(range(images), range(0, windows.sizes[0], rows)):
        where: Any = (image, *[slice(None)] * (first - 1), slice(begin, begin + rows))
        columns = views[where].reshape(matrix.shape[1], -1)
        target = y[image, :, begin * across : begin * across + columns.shape[1]]
        np.matmul(matrix, columns, out=target)
    return y


def _grouped(x: Array, w: Array, windows: Windows, groups: int) -> Array:
    inputs = x.shape[1] // groups
    matrix = w.reshape(groups, w.shape[0] // groups, -1)
    if windows.is_pointwise:
        columns = x.reshape(x.shape[0], groups, inputs, -1)
        return np.asarray(np.matmul(matrix, columns))
    wide = padded(x, windows)
    y = np.empty((x.shape[0], groups, matrix.shape[1], int(np.prod(windows.sizes))), x.dtype)
    for image, group in product(range(x.shape[0]), range(groups)):
        part = wide[image : image + 1, group * inputs : (group + 1) * inputs]
        np.matmul(
            matrix[group],
            window_view(part, windows).reshape(matrix.shape[2], -1),
            out=y[image, group],
        )
    return y


def _depthwise(x: Array, w: Array, windows: Windows) -> Array:
    """Every channel has filters of its own: tap by tap, a few channels at a time."""
    channels, times = x.shape[1], w.shape[0] // x.shape[1]
    y = np.zeros((x.shape[0], channels, times, *windows.sizes), dtype=x.dtype)
    size = int(np.prod(windows.sizes)) * x.itemsize
    block = max(1, min(channels, (UNFOLDED // 8) // max(size, 1)))
    wide = padded(x, windows)
    weights = w.reshape(channels, times, *windows.kernel)
    ones = [1] * len(windows.kernel)
    for image, begin, number in product(range(x.shape[0]), range(0, channels, block), range(times)):
        part = slice(begin, begin + block)
        target = y[image, part, number]
        source = wide[image : image + 1, part]
        term = np.empty(target.shape, dtype=x.dtype)
        for at in np.ndindex(*windows.kernel):
            where: Any = (part, number, *at)
            factors = weights[where].reshape(-1, *ones)
            np.multiply(tap(source, windows, at)[0], factors, out=term)
            np.add(target, term, out=target)
    return y


def conv_transpose(call: Call, x: Array, w: Array, b: Array | None = None) -> Array:
    """The gradient of a convolution: ``(N, C, *spatial)`` with ``(C, M/group, *kernel)``.

    Raises:
        ValueError: shapes, groups, pads or strides that do not fit each other.
    """
    groups = call.get("group", 1)
    if x.ndim != w.ndim or groups < 1 or x.shape[1] != w.shape[0] or w.shape[0] % groups:
        raise ValueError(f"x {x.shape}, weight {w.shape} and group {groups} do not fit")
    images, columns = x.shape[0], w.shape[1]
    spatial, kernel = x.shape[2:], w.shape[2:]
    strides = tuple(call.get("strides") or [1] * len(spatial))
    dilations = tuple(call.get("dilations") or [1] * len(spatial))
    full = tuple(
        s * (n - 1) + d * (k - 1) + 1
        for s, n, d, k in zip(strides, spatial, dilations, kernel, strict=True)
    )
    windows = Windows(kernel, strides, dilations, (0,) * len(full), (0,) * len(full), spatial, full)
    taken = x.reshape(images, groups, x.shape[1] // groups, -1)
    matrix = w.reshape(groups, w.shape[0] // groups, -1).transpose(0, 2, 1)
    terms = np.matmul(matrix, taken).reshape(images, groups * columns, *kernel, *spatial)
    y = np.zeros((images, groups * columns, *full), dtype=terms.dtype)
    for at in np.ndindex(*kernel):
        target = tap(y, windows, at)
        where: Any = (slice(None), slice(None), *at)
        np.add(target, terms[where], out=target)
    begins, sizes = _cropping(call, spatial, full, strides)
    y = _cropped(y, begins, sizes)
    return y if b is None else y + b.reshape(-1, *[1] * len(spatial))


def _cropping(
    call: Call, spatial: tuple[int, ...], full: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[list[int], list[int]]:
    """Where the output begins in the full one, and how large it is."""
    rank, auto_pad = len(full), call.get("auto_pad") or "NOTSET"
    extra = call.get("output_padding") or [0] * rank
    sizes = call.get("output_shape")
    if sizes:
        sizes = list(sizes[-rank:])
    elif auto_pad.startswith("SAME"):
        sizes = [s * n for s, n in zip(strides, spatial, strict=True)]
    else:
        pads = call.get("pads") or [0] * 2 * rank
        if auto_pad == "VALID":
            pads = [0] * 2 * rank
        return list(pads[:rank]), [
            max(f + e - a - z, 0)
            for f, e, a, z in zip(full, extra, pads[:rank], pads[rank:], strict=True)
        ]
    totals = [f + e - n for f, e, n in zip(full, extra, sizes, strict=True)]
    if auto_pad == "SAME_UPPER":
        return [t // 2 for t in totals], sizes
    return [t - t // 2 for t in totals], sizes


def _cropped(y: Array, begins: list[int], sizes: list[int]) -> Array:
    """A part of y, zeros where it reaches beyond."""
    if all(b == 0 for b in begins) and list(y.shape[2:]) == sizes:
        return y
    result = np.zeros((*y.shape[:2], *sizes), dtype=y.dtype)
    source: Any = []
    target: Any = []
    for size, begin, count in zip(y.shape[2:], begins, sizes, strict=True):
        low, high = max(begin, 0), min(begin + count, size)
        source.append(slice(low, max(high, low)))
        target.append(slice(low - begin, max(high, low) - begin))
    to: Any = (..., *target)
    of: Any = (..., *source)
    result[to] = y[of]
    return result

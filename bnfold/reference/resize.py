"""Resize and Upsample: every mode of every version, one axis after the other.

Source: ONNX, Resize and Upsample; what Resize leaves open at opset 10 is as onnxruntime does it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from bnfold.reference.call import Array, Call

# Before opset 11 there is one way to find a coordinate and none to choose a neighbour.
OLD = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "simple"}


def resize(
    call: Call,
    x: Array,
    roi: Array | None = None,
    scales: Array | None = None,
    sizes: Array | None = None,
) -> Array:
    """x at another size.

    Args:
        call: of Resize.
        x: any shape.
        roi: begins, then ends, of the part that ``tf_crop_and_resize`` takes, as shares of an axis.
        scales: output size over input size, for each axis; the second input at opset 10.
        sizes: of the output, for each axis.

    Raises:
        ValueError: neither scales nor sizes, or a mode that the specification does not name.
    """
    if call.version < 11:
        return _resized(dict(call.attributes) | OLD, x, None, _floats(roi), None)
    given = scales if scales is not None and scales.size else None
    wanted = sizes if sizes is not None and sizes.size else None
    return _resized(call.attributes, x, _floats(roi), _floats(given), wanted)


def upsample(call: Call, x: Array, scales: Array | None = None) -> Array:
    """x at a larger size; scales are an attribute before opset 9."""
    attributes = dict(call.attributes) | OLD
    if call.version < 7:
        factors = [1.0] * (x.ndim - 2) + [attributes["height_scale"], attributes["width_scale"]]
    else:
        factors = attributes["scales"] if scales is None else [float(s) for s in scales]
    return _resized(attributes, x, None, factors, None)


def _floats(values: Array | None) -> list[float] | None:
    return None if values is None or not values.size else [float(v) for v in values.ravel()]


def _resized(
    attributes: Any,
    x: Array,
    roi: list[float] | None,
    scales: list[float] | None,
    sizes: Array | None,
) -> Array:
    axes = [a % x.ndim for a in attributes.get("axes") or range(x.ndim)]
    old = [x.shape[axis] for axis in axes]
    if sizes is not None:
        new = [int(n) for n in sizes]
        scales = [n / o for n, o in zip(new, old, strict=True)]
        policy = attributes.get("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            scale = min(scales) if policy == "not_larger" else max(scales)
            scales, new = [scale] * len(old), [int(scale * o + 0.5) for o in old]
    elif scales is not None:
        # In float32, as shape inference has it: ten times 0.7 are seven.
        new = [
            int(np.floor(np.float32(o) * np.float32(s))) for o, s in zip(old, scales, strict=True)
        ]
    else:
        raise ValueError("neither scales nor sizes are given")
    y = x
    for i, (axis, scale, size) in enumerate(zip(axes, scales, new, strict=True)):
        part = (0.0, 1.0) if roi is None else (roi[i], roi[len(axes) + i])
        is_cropped = attributes["coordinate_transformation_mode"] == "tf_crop_and_resize"
        if size != old[i] or scale != 1.0 or (is_cropped and part != (0.0, 1.0)):
            y = _along(attributes, y, axis, scale, size, part)
    if x.dtype.kind in "iu" and y.dtype != x.dtype:
        limits = np.iinfo(x.dtype)
        y = np.clip(np.rint(y), limits.min, limits.max)
    return y.astype(x.dtype, copy=False)


def _along(
    attributes: Any, x: Array, axis: int, scale: float, size: int, roi: tuple[float, float]
) -> Array:
    length = x.shape[axis]
    at = _coordinates(attributes["coordinate_transformation_mode"], length, scale, size, roi)
    if attributes["mode"] == "nearest":
        index = _nearest(attributes["nearest_mode"], at, scale)
        y = np.take(x, np.clip(index, 0, length - 1), axis=axis)
    else:
        y = _interpolated(attributes, x, axis, at, scale)
    if attributes["coordinate_transformation_mode"] == "tf_crop_and_resize":
        outside = ((at < 0) | (at > length - 1)).reshape(-1, *[1] * (x.ndim - axis - 1))
        y = np.where(outside, attributes.get("extrapolation_value", 0.0), y)
    return y


def _coordinates(
    mode: str, length: int, scale: float, size: int, roi: tuple[float, float]
) -> Array:
    """Where each place of the output lies in the input, in elements, shape ``(size,)``."""
    places = np.arange(size, dtype=np.float64)
    resized = scale * length
    if mode == "asymmetric":
        return places / scale
    if mode == "align_corners":
        return places * 0.0 if resized == 1 else places * (length - 1) / (resized - 1)
    if mode == "tf_crop_and_resize":
        begin, end = roi
        if resized == 1:
            return np.full(size, 0.5 * (begin + end) * (length - 1))
        return begin * (length - 1) + places * (end - begin) * (length - 1) / (resized - 1)
    if mode == "pytorch_half_pixel" and resized == 1:
        return np.full(size, -0.5)
    half = (places + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        return length / 2 * (1 - size / resized) + half
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return half
    raise ValueError(f"coordinate_transformation_mode {mode!r} is not one of the specification")


def _nearest(mode: str, at: Array, scale: float) -> Array:
    rounded = {
        "round_prefer_floor": lambda: np.ceil(at - 0.5),
        "round_prefer_ceil": lambda: np.floor(at + 0.5),
        "floor": lambda: np.floor(at),
        "ceil": lambda: np.ceil(at),
        "simple": lambda: np.ceil(at) if scale < 1 else np.floor(at),
    }
    if mode not in rounded:
        raise ValueError(f"nearest_mode {mode!r} is not one of the specification")
    return rounded[mode]().astype(np.int64)


def _interpolated(attributes: Any, x: Array, axis: int, at: Array, scale: float) -> Array:
    """Weighted sums of neighbours, which beyond the edges are the elements at the edges."""
    mode, length = attributes["mode"], x.shape[axis]
    is_cubic = mode == "cubic"
    if mode not in ("linear", "bilinear", "cubic"):
        raise ValueError(f"mode {mode!r} is not one of the specification")
    antialias = bool(attributes.get("antialias", 0))
    squeeze = min(scale, 1.0) if antialias else 1.0
    reach = math.ceil((2 if is_cubic else 1) / squeeze)
    index = np.floor(at).astype(np.int64)[:, None] + np.arange(1 - reach, reach + 1)
    distance = np.abs((index - at[:, None]) * squeeze)
    if is_cubic:
        weights = keys_kernel(distance, attributes.get("cubic_coeff_a", -0.75))
    else:
        weights = np.clip(1.0 - distance, 0.0, 1.0)
    if antialias:
        weights = weights / weights.sum(axis=1, keepdims=True)
    if attributes.get("exclude_outside", 0):
        weights = np.where((index < 0) | (index >= length), 0.0, weights)
        sums = weights.sum(axis=1, keepdims=True)
        weights = weights / np.where(sums == 0, 1.0, sums)
    # An element of weight zero is not read: it may be infinite.
    main = np.take_along_axis(index, np.abs(weights).argmax(axis=1)[:, None], axis=1)
    index = np.clip(np.where(weights == 0, main, index), 0, length - 1)
    y: Any = 0.0
    for number in range(index.shape[1]):
        factors = weights[:, number].reshape(-1, *[1] * (x.ndim - axis - 1))
        if factors.any():
            y = y + np.take(x, index[:, number], axis=axis) * factors
    return np.asarray(y) if np.ndim(y) else np.zeros(_replaced(x.shape, axis, len(at)))


def _replaced(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    return (*shape[:axis], size, *shape[axis + 1 :])


def keys_kernel(distance: Array, a: float) -> Array:
    """The weights of cubic interpolation.

    Args:
        distance: from the place to each element, in elements; any shape, not negative.
        a: the free coefficient.

    Source: Keys 1981 (10.1109/TASSP.1981.1163711), equation 4, with a free.
    """
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))

"""Changes of dtype: floats keep their values, codes of quantised values become floats.

Source: ONNX, Cast, CastLike, DequantizeLinear.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from onnx.reference.ops import op_cast

from bnfold.reference.call import COMPUTED_FLOATS, FLOAT64, Array, Call


def cast(call: Call, x: Array) -> Array:
    """To any float that is computed with: float64, unrounded; to another dtype as specified."""
    return _cast(x, call["to"], call)


def cast_like(call: Call, x: Array, like: Array) -> Array:
    """To the dtype of ``like``, by the rules of `cast`."""
    if like.dtype == FLOAT64:
        return _cast(x, TensorProto.DOUBLE, call)
    if like.dtype.kind in "OSUT":
        return _cast(x, TensorProto.STRING, call)
    return _cast(x, onnx.helper.np_dtype_to_tensor_dtype(like.dtype), call)


def _cast(x: Array, to: int, call: Call) -> Array:
    if to in COMPUTED_FLOATS:
        if x.dtype.kind in "OSUT":
            numbers = [float(item) for item in x.ravel()]
            return np.array(numbers, dtype=np.float64).reshape(x.shape)
        return x.astype(np.float64, copy=False)
    if to == TensorProto.STRING:
        return x.astype(np.str_).astype(object)
    saturate = bool(call.get("saturate", 1))
    stock: Any = op_cast.cast_to
    if call.version >= 24:
        return np.asarray(stock(x, to, saturate, call.get("round_mode", "up")))
    return np.asarray(stock(x, to, saturate))


def dequantize_linear(call: Call, x: Array, scale: Array, zero_point: Array | None = None) -> Array:
    """``(x - zero_point) scale``, float64; scale per tensor, per axis, or per block of an axis."""
    axis, block = call.get("axis", 1), call.get("block_size", 0)
    y: Any = x.astype(np.float64)
    if zero_point is not None:
        y = y - _spread(zero_point.astype(np.float64), x.shape, axis, block)
    return np.asarray(y * _spread(scale, x.shape, axis, block))


def _spread(parameter: Array, shape: tuple[int, ...], axis: int, block: int) -> Array:
    if parameter.size == 1 and not block:
        return parameter.reshape(())
    axis %= len(shape)
    if block:
        return np.repeat(parameter, block, axis=axis)[
            tuple(slice(n) if i == axis else slice(None) for i, n in enumerate(shape))
        ]
    return parameter.reshape(-1, *[1] * (len(shape) - axis - 1))

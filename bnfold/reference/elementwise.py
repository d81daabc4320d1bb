"""Operators that act on each element, with the broadcasting of every version.

Functions that take ``out`` write there if it fits; the executor gives it an operand that nobody
else reads.

Source: ONNX, the operators of these names.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from bnfold.reference.call import FLOAT64, Array, Call
from bnfold.reference.error_function import erf

Binary = Callable[..., Array]
Unary = Callable[..., Array]


def aligned(call: Call, a: Array, b: Array) -> Array:
    """The second operand as NumPy broadcasts it; before opset 7 it may begin at ``axis`` of a.

    Raises:
        ValueError: before opset 7, shapes differ and ``broadcast`` is not set.
    """
    if call.version >= 7 or a.shape == b.shape:
        return b
    if not call.get("broadcast", 0):
        raise ValueError(f"shapes {a.shape} and {b.shape} differ, and broadcast is not set")
    axis = call.get("axis")
    if axis is None or b.ndim == 0:
        return b
    trailing = a.ndim - (axis + a.ndim if axis < 0 else axis) - b.ndim
    if trailing < 0:
        raise ValueError(f"shape {b.shape} does not fit {a.shape} from axis {axis} on")
    return b.reshape(*b.shape, *[1] * trailing)


def binary(function: Binary) -> Callable[..., Array]:
    """A kernel of a NumPy function of two operands."""

    def kernel(call: Call, a: Array, b: Array, *, out: Array | None = None) -> Array:
        if call.version < 7:
            b = aligned(call, a, b)
        if out is not None and (out.dtype != FLOAT64 or not _is_shape_of(out, a, b)):
            out = None
        return np.asarray(function(a, b) if out is None else function(a, b, out=out))

    return kernel


def _is_shape_of(out: Array, a: Array, b: Array) -> bool:
    if a.dtype != out.dtype or b.dtype != out.dtype:
        return False
    if a.shape == b.shape:
        return True
    other = b if out is a else a
    return other.ndim <= out.ndim and all(
        n in (1, m) for n, m in zip(reversed(other.shape), reversed(out.shape), strict=False)
    )


def unary(function: Unary) -> Callable[..., Array]:
    """A kernel of a NumPy function of one operand."""

    def kernel(call: Call, x: Array, *, out: Array | None = None) -> Array:
        if out is None or out.dtype != FLOAT64:
            return np.asarray(function(x))
        return np.asarray(function(x, out=out))

    return kernel


def divide(a: Array, b: Array, out: Array | None = None) -> Array:
    """Quotients; those of integers are rounded towards zero."""
    if a.dtype.kind == "f":
        return np.divide(a, b, out=out)
    quotient = a // b
    return np.where((a % b != 0) & ((a < 0) != (b < 0)), quotient + 1, quotient).astype(a.dtype)


def power(a: Array, b: Array, out: Array | None = None) -> Array:
    """Powers, of the dtype of the first operand."""
    return np.asarray(np.power(a, b), dtype=a.dtype)


def relu(x: Array, out: Array | None = None) -> Array:
    """``max(x, 0)``, of any dtype with signs."""
    zero: Array = np.zeros((), dtype=x.dtype)
    return np.maximum(x, zero, out=out)


def sigmoid(x: Array, out: Array | None = None) -> Array:
    """``1 / (1 + exp(-x))``: where exp overflows, the limit 0 is exact to the last bit."""
    y = np.negative(x, out=out)
    np.exp(y, out=y)
    np.add(y, 1.0, out=y)
    return np.reciprocal(y, out=y)


def softplus(x: Array, out: Array | None = None) -> Array:
    """``log(1 + exp(x))``."""
    return np.logaddexp(x, 0.0, out=out)


def hard_swish(x: Array, out: Array | None = None) -> Array:
    """``x max(0, min(1, x/6 + 0.5))``."""
    return np.multiply(x, np.clip(x / 6.0 + 0.5, 0.0, 1.0), out=out)


def mish(x: Array, out: Array | None = None) -> Array:
    """``x tanh(softplus(x))``."""
    return np.multiply(x, np.tanh(softplus(x)), out=out)


def leaky_relu(call: Call, x: Array, *, out: Array | None = None) -> Array:
    """``x`` where it is not negative, ``alpha x`` elsewhere."""
    return np.where(x < 0, x * call["alpha"], x)


def prelu(call: Call, x: Array, slope: Array, *, out: Array | None = None) -> Array:
    """``x`` where it is not negative, ``slope x`` elsewhere; slope per channel before opset 7."""
    if slope.ndim == 1 and x.ndim > 2 and call.version < 7:
        slope = slope.reshape(-1, *[1] * (x.ndim - 2))
    return np.asarray(np.where(x < 0, x * slope, x), dtype=x.dtype)


def hard_sigmoid(call: Call, x: Array, *, out: Array | None = None) -> Array:
    """``max(0, min(1, alpha x + beta))``."""
    return np.asarray(np.clip(x * call["alpha"] + call["beta"], 0.0, 1.0))


def swish(call: Call, x: Array) -> Array:
    """``x sigmoid(alpha x)``."""
    return np.asarray(x * sigmoid(np.asarray(x * call["alpha"])))


def gelu(call: Call, x: Array) -> Array:
    """``x Phi(x)`` with the normal distribution function, or its approximation by tanh."""
    if call.get("approximate", "none") == "tanh":
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        return np.asarray(0.5 * x * (1 + np.tanh(inner)))
    return np.asarray(0.5 * x * (1 + erf(np.asarray(x / math.sqrt(2)))))


def clip(
    call: Call,
    x: Array,
    low: Array | None = None,
    high: Array | None = None,
    *,
    out: Array | None = None,
) -> Array:
    """``min(max(x, low), high)``, bounds from attributes before opset 11."""
    lower: Any = call.get("min") if call.version < 11 else low
    upper: Any = call.get("max") if call.version < 11 else high
    target = out if out is x else None  # not a bound
    y = x
    if lower is not None:
        y = np.maximum(y, np.asarray(lower, dtype=x.dtype), out=target)
    if upper is not None:
        y = np.minimum(y, np.asarray(upper, dtype=x.dtype), out=y if y is not x else target)
    return y.copy() if y is x and target is None else np.asarray(y)


def where(call: Call, condition: Array, a: Array, b: Array) -> Array:
    """``a`` where the condition holds, ``b`` elsewhere."""
    return np.where(condition, a, b)


def softmax(call: Call, x: Array) -> Array:
    """Exponentials that sum to one: along ``axis``, before opset 13 over all axes from it on."""
    y = _along_classes(call, x)
    y = np.subtract(y, y.max(axis=-1, keepdims=True, initial=-np.inf))
    np.exp(y, out=y)
    np.divide(y, y.sum(axis=-1, keepdims=True), out=y)
    return _back(call, y, x)


def log_softmax(call: Call, x: Array) -> Array:
    """The logarithm of `softmax`, without a detour through the exponentials."""
    y = _along_classes(call, x)
    y = np.subtract(y, y.max(axis=-1, keepdims=True, initial=-np.inf))
    y = y - np.log(np.exp(y).sum(axis=-1, keepdims=True))
    return _back(call, y, x)


def hardmax(call: Call, x: Array) -> Array:
    """One at the first maximum, zero elsewhere, along the axes of `softmax`."""
    y = _along_classes(call, x)
    hits = np.arange(y.shape[-1]) == y.argmax(axis=-1)[..., None]
    return _back(call, hits.astype(x.dtype), x)


def _along_classes(call: Call, x: Array) -> Array:
    axis = call.get("axis", -1)
    if call.version >= 13:
        return np.moveaxis(x, axis, -1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(int(np.prod(x.shape[:axis])), -1)


def _back(call: Call, y: Array, x: Array) -> Array:
    if call.version >= 13:
        return np.moveaxis(y, -1, call.get("axis", -1))
    return y.reshape(x.shape)

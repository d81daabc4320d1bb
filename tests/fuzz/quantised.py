"""Quantised weights and biases, and operators that round data to integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.fuzz.constants import constant, initializer
from tests.fuzz.sketch import Builder, Sketch, Unfit, is_defined
from tests.support_models import Array

FLOAT32 = np.dtype(np.float32)


def weight_of(sketch: Sketch, shape: Sequence[int], summed: float, *, axis: int) -> str:
    """A weight: floats, or codes behind a DequantizeLinear.

    Args:
        summed: how many products are added up.
        axis: of the output channels.
    """
    if sketch.chance(0.75) or not _has_scales(sketch):
        return constant(sketch, sketch.weights(shape, summed))
    turned = len(shape) > 1 and sketch.chance(0.15)
    order = [int(at) for at in sketch.rng.permutation(len(shape))] if turned else []
    stored = [shape[at] for at in np.argsort(order)] if turned else list(shape)
    along = axis if sketch.chance(0.75) else sketch.whole(0, len(shape) - 1)
    along = order[along] if turned else along
    made = _dequantised(sketch, stored, along, float(1 / np.sqrt(max(summed, 1))))
    return sketch.aside("Transpose", [made], perm=order) if turned else made


def bias_of(sketch: Sketch, shape: Sequence[int]) -> str:
    """A bias: floats, or int32 codes behind a DequantizeLinear."""
    if sketch.chance(0.96) or not _has_scales(sketch):
        return constant(sketch, sketch.shifts(shape))
    codes = sketch.rng.integers(-3000, 3000, shape).astype(np.int32)
    scale = initializer(sketch, sketch.stored(sketch.rng.uniform(1e-3, 2e-3)))
    return sketch.aside("DequantizeLinear", [initializer(sketch, codes), scale])


def quantize_dequantize(sketch: Sketch, x: str) -> str:
    """Data rounded to 8 bits, and back."""
    codes, scale, zero = _rounded(sketch, x)
    return sketch.node("DequantizeLinear", [codes, scale, zero])


def dynamic_quantize(sketch: Sketch, x: str) -> str:
    """Data rounded to 8 bits with a scale of its own, and back."""
    _require_float32(sketch)
    parts = sketch.split("DynamicQuantizeLinear", [x], 3)
    sketch.data = [name for name in sketch.data if name not in parts]
    return sketch.node("DequantizeLinear", parts)


def qlinear_conv(sketch: Sketch, x: str) -> str:
    """QLinearConv between a QuantizeLinear and a DequantizeLinear."""
    _require_float32(sketch)
    if sketch.rank(x) != 4:
        raise Unfit("no image")
    channels = sketch.shape(x)[1]
    return _qlinear(sketch, x, "QLinearConv", (sketch.whole(1, 3), channels, 1, 1))


def qlinear_matmul(sketch: Sketch, x: str) -> str:
    """QLinearMatMul between a QuantizeLinear and a DequantizeLinear."""
    _require_float32(sketch)
    if sketch.rank(x) < 2:
        raise Unfit("no matrix")
    return _qlinear(sketch, x, "QLinearMatMul", (sketch.shape(x)[-1], sketch.whole(1, 4)))


def conv_integer(sketch: Sketch, x: str) -> str:
    """ConvInteger, cast to floats and scaled."""
    if sketch.rank(x) != 4:
        raise Unfit("no image")
    return _integers(sketch, x, "ConvInteger", (sketch.whole(1, 3), sketch.shape(x)[1], 1, 1))


def matmul_integer(sketch: Sketch, x: str) -> str:
    """MatMulInteger, cast to floats and scaled."""
    if sketch.rank(x) < 2:
        raise Unfit("no matrix")
    return _integers(sketch, x, "MatMulInteger", (sketch.shape(x)[-1], sketch.whole(1, 4)))


def _dequantised(sketch: Sketch, shape: Sequence[int], axis: int, size: float) -> str:
    """Codes with a scale and perhaps a zero point: of the tensor, of an axis, or of blocks."""
    form = sketch.rng.random()
    attributes: dict[str, Any] = {}
    of_scale: tuple[int, ...] = ()
    if form < 0.6 and sketch.opset >= 13:
        attributes, of_scale = {"axis": axis}, (shape[axis],)
    elif form < 0.7 and sketch.opset >= 21:
        block = sketch.whole(1, shape[axis])
        attributes = {"axis": axis, "block_size": block}
        of_scale = tuple(-(-n // block) if at == axis else n for at, n in enumerate(shape))
    kind = sketch.pick([np.dtype(np.int8), np.dtype(np.int8), np.dtype(np.uint8)])
    low, high = (0, 255) if kind == np.uint8 else (-128, 127)
    middle = (low + high + 1) // 2
    codes = sketch.rng.integers(low, high, shape, endpoint=True).astype(kind)
    scale = sketch.rng.uniform(0.3, 1, of_scale) * size / 64
    inputs = [initializer(sketch, codes), initializer(sketch, sketch.stored(scale))]
    if kind == np.uint8 or sketch.chance(0.6):
        zero = middle + sketch.rng.integers(-5, 5, of_scale)
        inputs.append(initializer(sketch, np.asarray(zero).astype(kind)))
    return sketch.aside("DequantizeLinear", inputs, **attributes)


def _rounded(sketch: Sketch, x: str) -> tuple[str, str, str]:
    """Codes of the data, their scale and zero point."""
    top = float(np.abs(sketch.values[x]).max())
    scale = initializer(sketch, sketch.stored(max(top, 1e-3) / 127 * sketch.rng.uniform(0.9, 1.2)))
    zero = initializer(sketch, np.array(sketch.whole(120, 136), np.uint8))
    return sketch.aside("QuantizeLinear", [x, scale, zero]), scale, zero


def _qlinear(sketch: Sketch, x: str, op_type: str, shape: Sequence[int]) -> str:
    codes, scale, zero = _rounded(sketch, x)
    weight, by, middle = _integer_weight(sketch, shape)
    made = initializer(sketch, np.array(sketch.rng.uniform(0.2, 2), np.float32))
    inputs = [codes, scale, zero, weight, by, middle, made, zero]
    y = sketch.aside(op_type, inputs)
    return sketch.node("DequantizeLinear", [y, made, zero])


def _integers(sketch: Sketch, x: str, op_type: str, shape: Sequence[int]) -> str:
    _require_float32(sketch)
    codes, scale, zero = _rounded(sketch, x)
    weight, _, middle = _integer_weight(sketch, shape)
    y = sketch.aside(op_type, [codes, weight, zero, middle])
    wide = sketch.node("Cast", [y], to=sketch.code)
    return sketch.node("Mul", [wide, scale])


def _integer_weight(sketch: Sketch, shape: Sequence[int]) -> tuple[str, str, str]:
    codes = sketch.rng.integers(0, 255, shape).astype(np.uint8)
    parts: list[Array | Any] = [codes, np.float32(0.01), np.uint8(128)]
    weight, scale, zero = (initializer(sketch, np.asarray(part)) for part in parts)
    return weight, scale, zero


def _require_float32(sketch: Sketch) -> None:
    if sketch.dtype != FLOAT32:
        raise Unfit("the operator knows no float but float32")


def _has_scales(sketch: Sketch) -> bool:
    return is_defined("DequantizeLinear", sketch.opset, sketch.code)


ROUNDING: dict[str, Builder] = {
    "QuantizeLinear": quantize_dequantize,
    "DequantizeLinear": quantize_dequantize,
    "DynamicQuantizeLinear": dynamic_quantize,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": qlinear_matmul,
    "ConvInteger": conv_integer,
    "MatMulInteger": matmul_integer,
}
"""Operators that let nothing through; a model has one of them now and then."""

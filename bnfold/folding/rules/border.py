"""A shift in front of a convolution that pads with zeros: two ways to keep its border exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from bnfold.algebra.affine import Affine, Float64Array
from bnfold.algebra.layer import Layer
from bnfold.folding.rules.reading import Context, Inward, Linear
from bnfold.onnxgraph.graph import Node

_CLOSE = 8 * float(np.finfo(np.float64).eps)
"""What rounding in float64 can make of equal values, as a part of them."""


@dataclass(frozen=True, eq=False)
class PadBefore:
    """``conv(pad(affine(x), 0)) == conv'(pad(x, value))``: a Pad of its own in front.

    Holds where ``scale * value + shift == 0`` on every channel.

    Attributes:
        value: what the border is filled with, in units of x.
        pads: of all axes of x, first those before, then those behind.
    """

    value: float
    pads: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Window:
    """How a Conv moves over its data.

    Attributes:
        kernel, strides, dilations: one entry a spatial axis.
        before, behind: zeros that it adds, one entry a spatial axis.
        sizes: of the spatial axes of the data; None where they are not known.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    behind: tuple[int, ...]
    sizes: tuple[int, ...] | None

    @property
    def outputs(self) -> tuple[int, ...] | None:
        """The sizes of the spatial axes of the output."""
        if self.sizes is None:
            return None
        reach = [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        return tuple(
            (size + b + e - r) // s + 1
            for size, b, e, r, s in zip(
                self.sizes, self.before, self.behind, reach, self.strides, strict=True
            )
        )


@dataclass(frozen=True, eq=False)
class MapBehind:
    """``conv(pad(s x + t, 0)) == conv'(pad(x, 0)) + conv(pad(t, 0))``: a constant behind.

    Attributes:
        shift: t, shape ``(C,)``.
        window: how the Conv moves over its data, whose sizes are known.
    """

    shift: Float64Array
    window: Window

    def values(self, linear: Linear, layer: Layer) -> Float64Array:
        """What the shift alone gives, border included, shape ``(M, *spatial)``."""
        taps = _shift_map(linear, self)
        return taps * layer.out.reshape(-1, *[1] * (taps.ndim - 1))


Border = PadBefore | MapBehind


def read_window(node: Node, kernel: tuple[int, ...], context: Context) -> Window | None:
    """The window of a Conv, or None where its zeros depend on sizes that are not known."""
    count = len(kernel)
    data = node.input(0)
    shape = context.types.shape(data) if data is not None else None
    sizes: tuple[int, ...] | None = None
    if shape is not None and len(shape) == count + 2:
        sizes = tuple(size for size in shape[2:] if isinstance(size, int))
        sizes = sizes if len(sizes) == count else None
    strides = _integers(node, "strides", count, 1)
    dilations = _integers(node, "dilations", count, 1)
    pads = _integers(node, "pads", 2 * count, 0)
    found = node.attribute("auto_pad")
    how = found.s.decode() if found is not None and found.s else "NOTSET"
    if how == "VALID":
        pads = (0,) * (2 * count)
    elif how != "NOTSET":
        if sizes is None or how not in ("SAME_UPPER", "SAME_LOWER"):
            return None
        before, behind = [], []
        for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
            whole = max(0, (-(-size // s) - 1) * s + d * (k - 1) + 1 - size)
            small, large = whole // 2, whole - whole // 2
            before.append(small if how == "SAME_UPPER" else large)
            behind.append(large if how == "SAME_UPPER" else small)
        pads = (*before, *behind)
    return Window(kernel, strides, dilations, pads[:count], pads[count:], sizes)


def _integers(node: Node, name: str, count: int, default: int) -> tuple[int, ...]:
    found = node.attribute(name)
    values = tuple(int(value) for value in found.ints) if found is not None else ()
    return values if len(values) == count else (default,) * count


def bordered(linear: Linear, affine: Affine, steps: int, context: Context) -> Border | None:
    """How a Conv that pads with zeros takes up a shift exactly, or None.

    Args:
        linear: a Conv; others have no border of this kind.
        affine: on its input channels, with a shift.
        steps: how many nodes the norm is; a Pad is put only in the place of two or more, and a
            map behind only where it moves fewer bytes than they do.
    """
    node = linear.node
    if node.op_type != "Conv" or linear.shift != "input" or not isinstance(linear.inward, Inward):
        return None
    window = read_window(node, linear.weight.shape[2:], context)
    if window is None:
        return None
    value = _common_value(affine)
    # Before opset 11 the value is an attribute, which is float32 whatever the data is.
    is_wide = context.opset < 11 and linear.weight.data_type == TensorProto.DOUBLE
    if value is not None and is_wide:
        near = float(np.float32(value))
        value = near if abs(near - value) <= _CLOSE * abs(value) else None
    if value is not None and steps > 1:
        return PadBefore(value, (0, 0, *window.before, 0, 0, *window.behind))
    if window.sizes is None or window.outputs is None:
        return None
    made = linear.layer.channels * np.prod(window.outputs, dtype=np.float64)
    read = linear.inward.channels * np.prod(window.sizes, dtype=np.float64)
    # An Add of a map reads two tensors and writes one, a norm reads and writes one.
    if 3 * made >= 2 * read * steps:
        return None
    return MapBehind(affine.shift, window)


def _common_value(affine: Affine) -> float | None:
    """The one x for which the map gives zero on every channel, or None."""
    if not affine.scale.all():
        return None
    values = -affine.shift / affine.scale
    spread = np.abs(values - values[0]).max()
    if not np.isfinite(values).all() or spread > _CLOSE * abs(values[0]):
        return None
    return float(values[0])


def _shift_map(linear: Linear, border: MapBehind) -> Float64Array:
    """``conv(pad(t, 0))`` for a shift t of each input channel, without bias."""
    assert isinstance(linear.inward, Inward)
    window = border.window
    weight = linear.weight.array.astype(np.float64) * linear.inward.factor(border.shift)
    taps: Float64Array = weight.sum(axis=1)
    assert window.sizes is not None
    assert window.outputs is not None
    for axis, (size, made) in enumerate(zip(window.sizes, window.outputs, strict=True)):
        at = np.arange(made)[:, None] * window.strides[axis] - window.before[axis]
        at = at + np.arange(window.kernel[axis]) * window.dilations[axis]
        inside = ((at >= 0) & (at < size)).astype(np.float64)
        taps = np.moveaxis(np.tensordot(taps, inside, axes=([1 + axis], [1])), -1, 1 + axis)
    return taps

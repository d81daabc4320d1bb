"""Store a layer: multiply and round its weight once, in pieces, and say first whether it fits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Literal

import numpy as np
from onnx import helper

from bnfold.algebra.affine import Affine, Array, Float64Array
from bnfold.algebra.layer import Layer
from bnfold.algebra.rounding import TINY, epsilon, flushed, largest, rounded, smallest_normal
from bnfold.folding.reasons import Refused
from bnfold.folding.rescale import why_not_rescaled
from bnfold.folding.rules.quantised import Dequantised
from bnfold.folding.rules.reading import Inward, Linear
from bnfold.onnxgraph.known import Known

BLOCK = 1 << 18
"""Weights are multiplied in blocks of at most this many elements, which a cache can hold."""

_Slices = tuple[slice, ...]


def why_not_storable(linear: Linear, layer: Layer) -> Refused | None:
    """Why a layer cannot be stored: a weight or bias beyond the dtype, with its channel."""
    why = why_not_rescaled(linear, layer)
    if why is not None:
        return why
    is_as_stored = layer.keeps_weight or isinstance(linear.weight, Dequantised)
    if _is_surely_within(linear, layer, is_as_stored):
        return None
    return _beyond_dtype(linear, layer, None if is_as_stored else _peaks(linear, layer))


def lost_factor(
    linear: Linear, layer: Layer, affine: Affine, direction: Literal["backward", "forward"]
) -> Refused | None:
    """Why a layer cannot be multiplied in float64: a factor that is not zero would be lost.

    Args:
        linear: the operator.
        layer: the operator so far.
        affine: what it would take up next, with its channels.
        direction: whether on the output channels (backward) or on the input channels.
    """
    before = layer.out if direction == "backward" else layer.inner
    if before is None:
        before = np.ones(affine.channels)
    factors = np.abs(before * affine.scale)
    if not (factors < TINY).any():
        return None
    lost = np.flatnonzero((factors < TINY) & (before != 0) & (affine.scale != 0))
    if not lost.size:
        return None
    channel = int(lost[0])
    return Refused(
        "beyond-dtype",
        f"channel {channel} of {linear.node.label} would be multiplied by "
        f"{before[channel]:.6g} times {affine.scale[channel]:.6g}, below the smallest normal "
        f"float64 ({TINY:.6g})",
    )


def summed(linear: Linear, values: Float64Array) -> Float64Array:
    """What the stored weight makes of one value for each input channel.

    Args:
        linear: an operator that takes up a map before it.
        values: shape ``(C,)``.

    Returns:
        Shape ``(M,)``: for each output channel the sum of all weights times the value of the input
        channel that they meet.
    """
    assert isinstance(linear.inward, Inward)
    weight = linear.weight.array
    inner = _spread(linear.inward.factor(values), weight.ndim)
    channels = _spread(channels_of(linear), weight.ndim).astype(np.int64)
    axes = _shared_axes(channels)
    total = np.zeros(channels.shape)
    for block in blocks(weight.shape):
        part = np.multiply(weight[block], inner[_within(block, inner.shape)], dtype=np.float64)
        total[_within(block, channels.shape)] += part.sum(axis=axes, keepdims=True)
    by_channel = np.bincount(channels.ravel(), total.ravel(), linear.layer.channels)
    return np.asarray(linear.inward.gain * by_channel)


def dtype_of(known: Known) -> np.dtype[np.generic]:
    """The NumPy dtype in which a constant is stored."""
    return np.dtype(helper.tensor_dtype_to_np_dtype(known.data_type))


def _inner_factor(linear: Linear, layer: Layer) -> Float64Array | None:
    """What the weight is multiplied by for its input channels, or None for ones."""
    if layer.inner is None:
        return None
    assert isinstance(linear.inward, Inward)
    return _spread(linear.inward.factor(layer.inner), linear.weight.array.ndim)


def _peaks(linear: Linear, layer: Layer) -> Float64Array:
    """The largest magnitude among the weights that share a factor, in the factor's shape.

    What the input channels are multiplied by is in it already.
    """
    inner = _inner_factor(linear, layer)
    weight = linear.weight.array
    factor = _spread(linear.weight_factor(np.ones(linear.layer.channels)), weight.ndim)
    axes = _shared_axes(factor)
    peaks = np.zeros(factor.shape)
    for block in blocks(weight.shape):
        part = weight[block]
        if part.dtype.itemsize < 4:
            part = part.astype(np.float32)
        if inner is not None:
            part = part * inner[_within(block, inner.shape)]
        here = _within(block, factor.shape)
        high = part.max(axis=axes, keepdims=True, initial=0)
        low = part.min(axis=axes, keepdims=True, initial=0)
        peaks[here] = np.maximum(peaks[here], np.maximum(high, -low))
    return peaks


def _is_surely_within(linear: Linear, layer: Layer, is_as_stored: bool) -> bool:
    """Whether the largest of each, multiplied, are within the dtype: so nearly every layer is."""
    limit = 0.5 * largest(dtype_of(linear.weight))
    if not np.abs(layer.bias).max(initial=0.0) < limit:
        return False
    if is_as_stored:
        return True
    factor = np.abs(linear.weight_factor(layer.out)).max(initial=0.0)
    if layer.inner is not None:
        assert isinstance(linear.inward, Inward)
        inner = np.abs(linear.inward.factor(layer.inner)).max(initial=0.0)
        factor = max(factor, inner, factor * inner)
    return bool(linear.weight.peak * factor < limit)


def _beyond_dtype(linear: Linear, layer: Layer, peaks: Float64Array | None) -> Refused | None:
    dtype, name = dtype_of(linear.weight), linear.node.label
    if peaks is not None and not layer.keeps_weight:
        factor = _spread(linear.weight_factor(layer.out), peaks.ndim)
        with np.errstate(over="ignore", invalid="ignore"):
            reached = np.abs(peaks * factor)
        bad = np.flatnonzero(~np.isfinite(rounded(reached, dtype)))
        if bad.size:
            channels = _spread(channels_of(linear), peaks.ndim)
            channel = int(np.broadcast_to(channels, reached.shape).reshape(-1)[bad[0]])
            return Refused(
                "beyond-dtype",
                f"channel {channel} of {name} would have a weight of "
                f"{reached.reshape(-1)[bad[0]]:.6g}, beyond {dtype.name} "
                f"(at most {largest(dtype):.6g})",
            )
    bias = rounded(layer.bias, dtype)
    bad = np.flatnonzero(~np.isfinite(bias.astype(np.float64)))
    if bad.size:
        channel = int(bad[0]) % layer.channels
        return Refused(
            "beyond-dtype",
            f"channel {channel} of {name} would have a bias of "
            f"{layer.bias.reshape(-1)[bad[0]]:.6g}, beyond {dtype.name} "
            f"(at most {largest(dtype):.6g})",
        )
    return None


class StoredWeight:
    """The weight of a folded layer, computed block by block when its bytes are asked for.

    Attributes:
        dtype: as the model stores it.
        shape: of the weight.
        flushed: how many values became zero because they fell below the smallest normal number.
        kept_subnormal: how many float16 values stay below it, because zero would be another
            function.
    """

    def __init__(self, linear: Linear, layer: Layer) -> None:
        self._weight: Array = linear.weight.array
        self._factor = _spread(linear.weight_factor(layer.out), self._weight.ndim)
        self._inner = _inner_factor(linear, layer)
        self._linear = linear
        self.dtype = dtype_of(linear.weight)
        self.shape = self._weight.shape
        self._counts: tuple[int, int] | None = None

    @property
    def size(self) -> int:
        """Number of bytes."""
        return int(self._weight.size) * self.dtype.itemsize

    @property
    def flushed(self) -> int:
        """Values that became zero; computes the weight if it was not written yet."""
        return self._counted()[0]

    @property
    def kept_subnormal(self) -> int:
        """Values that stay subnormal; computes the weight if it was not written yet."""
        return self._counted()[1]

    def _counted(self) -> tuple[int, int]:
        if self._counts is None:
            for _ in self.chunks():
                pass
        assert self._counts is not None
        return self._counts

    def array(self) -> Array:
        """The whole weight in memory."""
        data = b"".join(self.chunks())
        return np.frombuffer(data, dtype=self.dtype).reshape(self.shape)

    def chunks(self) -> Iterator[memoryview]:
        """The raw bytes, little endian, in the order of ONNX's raw data."""
        needed = self._needed_subnormals()
        zeroed = kept = 0
        for block in blocks(self.shape):
            here = _within(block, self._factor.shape)
            exact = self._exact(block)
            stored = rounded(exact, self.dtype)
            clean, count = flushed(stored, exact)
            if count and needed is not None:
                keep = np.broadcast_to(needed[here], stored.shape)
                clean = np.where(keep, stored, clean)
                lost = int(np.count_nonzero((clean == 0) & (exact != 0)))
                kept += count - lost
                count = lost
            zeroed += count
            little = np.ascontiguousarray(clean, dtype=self.dtype.newbyteorder("<"))
            yield little.reshape(-1).view(np.uint8).data
        self._counts = (zeroed, kept)

    def _exact(self, block: _Slices) -> Float64Array:
        """A block of the weight in float64, multiplied and not rounded."""
        factor = self._factor[_within(block, self._factor.shape)]
        exact = self._weight[block].astype(np.float64)
        exact *= factor
        if self._inner is not None:
            exact *= self._inner[_within(block, self._inner.shape)]
        return exact

    def _needed_subnormals(self) -> Array | None:
        """Where zero would be another function: only float16 has subnormals that matter.

        The sum of what an output channel would lose has to be above the smallest normal number
        and above what rounding that channel costs anyway.
        """
        if self.dtype != np.float16:
            return None
        lost, whole = np.zeros(self._factor.shape), np.zeros(self._factor.shape)
        axes = _shared_axes(self._factor)
        tiny = smallest_normal(self.dtype)
        for block in blocks(self.shape):
            here = _within(block, self._factor.shape)
            exact = np.abs(self._exact(block))
            whole[here] += exact.sum(axis=axes, keepdims=True)
            lost[here] += np.where(exact < tiny, exact, 0.0).sum(axis=axes, keepdims=True)
        channels = _spread(channels_of(self._linear), self._weight.ndim).astype(np.int64)
        by_channel = np.bincount(channels.ravel(), weights=lost.ravel())
        among = np.bincount(channels.ravel(), weights=whole.ravel())
        needed: Array = by_channel > np.maximum(tiny, epsilon(self.dtype) * among)
        return np.asarray(needed[channels])


def stored_bias(layer: Layer, dtype: np.dtype[np.generic]) -> tuple[Array, int]:
    """The bias of a folded layer in the stored dtype, and how many values were flushed."""
    return flushed(rounded(layer.bias, dtype), layer.bias)


def channels_of(linear: Linear) -> Float64Array:
    """The output channel that each factor of the weight belongs to, in the factor's shape."""
    return linear.weight_factor(np.arange(linear.layer.channels, dtype=np.float64))


def blocks(shape: tuple[int, ...]) -> Iterator[_Slices]:
    """Slices that cover an array in the order of its elements, each of a bounded size."""
    if 0 < math.prod(shape) <= BLOCK:
        yield (slice(None),) * len(shape)
        return
    axis, inner = len(shape), 1
    while axis > 0 and inner * shape[axis - 1] <= BLOCK:
        axis -= 1
        inner *= shape[axis]
    if axis == 0:
        yield tuple(slice(None) for _ in shape)
        return
    step = max(1, BLOCK // max(inner, 1))
    rest = tuple(slice(None) for _ in shape[axis:])
    for outer in product(*(range(size) for size in shape[: axis - 1])):
        for start in range(0, shape[axis - 1], step):
            stop = min(start + step, shape[axis - 1])
            yield (*(slice(at, at + 1) for at in outer), slice(start, stop), *rest)


def _spread(factor: Float64Array, rank: int) -> Float64Array:
    return factor.reshape((*[1] * (rank - factor.ndim), *factor.shape))


def _shared_axes(factor: Array) -> tuple[int, ...]:
    """The axes of the weight along which a factor is the same."""
    return tuple(axis for axis, size in enumerate(factor.shape) if size == 1)


def _within(block: _Slices, shape: tuple[int, ...]) -> _Slices:
    """The part of an array of ``shape`` that broadcasts against a block of the weight."""
    return tuple(part if size > 1 else slice(None) for part, size in zip(block, shape, strict=True))

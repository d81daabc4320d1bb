"""A linear layer that collects affine maps on both sides and stores them once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from bnfold.algebra.affine import Affine, Float64Array


@lru_cache(maxsize=64)
def _ones(channels: int) -> Float64Array:
    ones = np.ones(channels)
    ones.flags.writeable = False
    return ones


@dataclass(frozen=True, eq=False)
class Layer:
    """``y[m] = out[m] * (w (inner * x))[m] + bias[m]`` for the weight w that the model stores.

    Any number of affine maps arrive in ``out``, ``inner`` and ``bias``, in float64; the weight
    itself is multiplied and rounded once, when the layer is stored.

    Attributes:
        out: float64, shape ``(M,)``: the factor of each output channel.
        bias: float64, shape ``(M,)``, or ``(rows, M)`` where it differs by row (Gemm's C).
        inner: float64, shape ``(C,)``: the factor of each input channel; None for ones.
    """

    out: Float64Array
    bias: Float64Array
    inner: Float64Array | None = None

    @classmethod
    def plain(cls, bias: Float64Array, channels: int) -> Layer:
        """The layer as the model has it: factors of one, and ``bias`` spread over M channels."""
        if bias.shape != (channels,):
            bias = np.zeros(channels) + bias
        return cls(_ones(channels), bias)

    @property
    def channels(self) -> int:
        """Number of output channels M."""
        return int(self.out.size)

    @cached_property
    def keeps_weight(self) -> bool:
        """Whether the weight stays as it is: every factor is exactly one."""
        keeps_rows = self.inner is None or bool((self.inner == 1.0).all())
        return keeps_rows and bool((self.out == 1.0).all())

    def scaled_out(self, scale: Float64Array) -> Layer:
        """``scale * layer(x)``: scales weight and bias of each output channel."""
        with np.errstate(over="ignore", invalid="ignore"):
            return Layer(self.out * scale, self.bias * scale, self.inner)

    def shifted_out(self, shift: Float64Array) -> Layer:
        """``layer(x) + shift``: adds to the bias of each output channel."""
        with np.errstate(over="ignore", invalid="ignore"):
            return Layer(self.out, self.bias + shift, self.inner)

    def scaled_in(self, scale: Float64Array) -> Layer:
        """``layer(scale * x)``: scales the weights of each input channel."""
        with np.errstate(over="ignore", invalid="ignore"):
            inner = scale if self.inner is None else self.inner * scale
            return Layer(self.out, self.bias, inner)


def push_back(layer: Layer, affine: Affine) -> Layer:
    """``affine(layer(x)) == layer'(x)`` for any layer that is linear in its weight.

    Exact for Conv, ConvTranspose, Gemm and MatMul alike, whatever the stride, padding, dilation
    or group: each output channel is a linear function of its own slice of the weight, plus its
    bias. ``docs/algebra.md``, equation 2.

    Args:
        layer: M output channels.
        affine: M channels, acting on the axis of the layer's output channels.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        bias = layer.bias * affine.scale + affine.shift
        return Layer(layer.out * affine.scale, bias, layer.inner)


def push_forward(
    layer: Layer, affine: Affine, summed: Callable[[Float64Array], Float64Array]
) -> Layer:
    """``layer(affine(x)) == layer'(x)`` where every output meets every weight of its channel.

    The shift reaches each output as the sum of all weights of its channel times the shift of the
    input channel that they meet. Zero padding breaks that: there only a shift of zero is exact.
    ``docs/algebra.md``, equation 15.

    Args:
        layer: C input channels, M output channels.
        affine: C channels, acting on the axis of the layer's input channels.
        summed: ``(C,) -> (M,)``: what the stored weight makes of one value for each input channel.
    """
    if affine.shift.any():
        inner = affine.shift if layer.inner is None else layer.inner * affine.shift
        with np.errstate(over="ignore", invalid="ignore"):
            layer = layer.shifted_out(layer.out * summed(inner))
    return layer.scaled_in(affine.scale)

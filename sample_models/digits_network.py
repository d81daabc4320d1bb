"""Layers with their gradients, and the networks of them, in float64 and NumPy alone.

The batch normalisation and its gradient are those of `bnfold.reference`, Algorithm 1 of Ioffe &
Szegedy 2015 (arXiv:1502.03167), and nothing else computes them here.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from bnfold.reference import batch_norm_backward, batch_norm_inference, batch_norm_train

Array = npt.NDArray[np.float64]
Place = Literal["before", "after", "none"]

EPS = 1e-5
"""Added to a variance before the root; activations here are of the size of one."""


class Layer:
    """One layer; what it learns stands in ``parameters``, its last gradient in ``gradients``.

    `forward` remembers what `backward` needs, so the two are called in turn.
    """

    def __init__(self, **parameters: Array) -> None:
        self.parameters: dict[str, Array] = parameters
        self.gradients: dict[str, Array] = {}

    def forward(self, x: Array, *, training: bool) -> Array:
        """The output, of a batch on axis 0; only a norm heeds ``training``."""
        raise NotImplementedError

    def backward(self, dy: Array) -> Array:
        """The derivative with respect to the last x, from that with respect to its output."""
        raise NotImplementedError


class Linear(Layer):
    """``y = x weight^T + bias``: weight ``(M, C)``, bias ``(M,)`` or none."""

    def __init__(self, weight: Array, bias: Array | None) -> None:
        super().__init__(weight=weight, **({} if bias is None else {"bias": bias}))
        self._x = weight

    def forward(self, x: Array, *, training: bool) -> Array:
        """``(N, C)`` to ``(N, M)``."""
        self._x = x
        return np.asarray(x @ self.parameters["weight"].T + self.parameters.get("bias", 0.0))

    def backward(self, dy: Array) -> Array:
        """``(N, M)`` to ``(N, C)``."""
        self.gradients["weight"] = dy.T @ self._x
        if "bias" in self.parameters:
            self.gradients["bias"] = dy.sum(axis=0)
        return np.asarray(dy @ self.parameters["weight"])


class Conv(Layer):
    """A convolution of 3 by 3 without padding: weight ``(M, C, 3, 3)``, bias ``(M,)`` or none.

    It is `Linear` on the windows of its input.
    """

    def __init__(self, weight: Array, bias: Array | None) -> None:
        super().__init__(weight=weight, **({} if bias is None else {"bias": bias}))
        self._windows = weight
        self._shape: tuple[int, ...] = ()

    def forward(self, x: Array, *, training: bool) -> Array:
        """``(N, C, H, W)`` to ``(N, M, H - 2, W - 2)``."""
        self._shape = x.shape
        windows = sliding_window_view(x, (3, 3), axis=(2, 3)).transpose(0, 2, 3, 1, 4, 5)
        n, height, width = windows.shape[:3]
        self._windows = windows.reshape(n * height * width, -1)
        weight = self.parameters["weight"]
        y = self._windows @ weight.reshape(len(weight), -1).T + self.parameters.get("bias", 0.0)
        return np.asarray(y.reshape(n, height, width, -1).transpose(0, 3, 1, 2))

    def backward(self, dy: Array) -> Array:
        """``(N, M, H - 2, W - 2)`` to ``(N, C, H, W)``."""
        weight = self.parameters["weight"]
        n, _, height, width = dy.shape
        rows = dy.transpose(0, 2, 3, 1).reshape(-1, len(weight))
        self.gradients["weight"] = (rows.T @ self._windows).reshape(weight.shape)
        if "bias" in self.parameters:
            self.gradients["bias"] = rows.sum(axis=0)
        of_windows = (rows @ weight.reshape(len(weight), -1)).reshape(n, height, width, -1, 3, 3)
        dx = np.zeros(self._shape)
        for i in range(3):
            for j in range(3):
                part = of_windows[..., i, j].transpose(0, 3, 1, 2)
                dx[:, :, i : i + height, j : j + width] += part
        return dx


class Relu(Layer):
    """``max(x, 0)``."""

    def __init__(self) -> None:
        super().__init__()
        self._is_positive: npt.NDArray[np.bool_] = np.zeros(0, dtype=bool)

    def forward(self, x: Array, *, training: bool) -> Array:
        """Of any shape."""
        self._is_positive = x > 0
        return np.maximum(x, 0.0)

    def backward(self, dy: Array) -> Array:
        """Of the same shape."""
        return np.where(self._is_positive, dy, 0.0)


class Flatten(Layer):
    """``(N, ...)`` to ``(N, all)``."""

    def __init__(self) -> None:
        super().__init__()
        self._shape: tuple[int, ...] = ()

    def forward(self, x: Array, *, training: bool) -> Array:
        """Of any shape."""
        self._shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, dy: Array) -> Array:
        """Of the shape that x had."""
        return dy.reshape(self._shape)


class Norm(Layer):
    """Batch normalisation of C channels, with or without scale and shift.

    Attributes:
        mean, var: of the population, as Algorithm 2 estimates them; shape ``(C,)``.
        batch: mean and unbiased variance, ``m / (m - 1)`` of the batch's, of the last batch.
    """

    def __init__(self, channels: int, *, has_scale_and_shift: bool) -> None:
        super().__init__()
        if has_scale_and_shift:
            self.parameters = {"gamma": np.ones(channels), "beta": np.zeros(channels)}
        self.mean, self.var = np.zeros(channels), np.ones(channels)
        self.batch = (self.mean, self.var)
        self._cache: Any = None

    def forward(self, x: Array, *, training: bool) -> Array:
        """``(N, C, *spatial)``, by the batch's statistics in training, else by the population's."""
        gamma, beta = self.parameters.get("gamma"), self.parameters.get("beta")
        if training:
            y, self._cache = batch_norm_train(x, gamma, beta, EPS)
            m = self._cache.count
            self.batch = (self._cache.mean, self._cache.var * m / (m - 1))
            return y
        gamma = np.ones(len(self.mean)) if gamma is None else gamma
        beta = np.zeros(len(self.mean)) if beta is None else beta
        return batch_norm_inference(x, gamma, beta, self.mean, self.var, eps=EPS)

    def backward(self, dy: Array) -> Array:
        """Through the statistics too, as the batch made them."""
        dx, dgamma, dbeta = batch_norm_backward(dy, self._cache)
        if self.parameters:
            self.gradients = {"gamma": dgamma, "beta": dbeta}
        return dx


class Network:
    """Layers in a row; the last one gives logits, of shape ``(N, 10)``."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        self.layers = list(layers)
        self.norms = [layer for layer in self.layers if isinstance(layer, Norm)]

    def forward(self, x: Array, *, training: bool) -> Array:
        """The logits."""
        for layer in self.layers:
            x = layer.forward(x, training=training)
        return x

    def backward(self, dlogits: Array) -> Array:
        """Sets the gradients of all layers; the derivative with respect to the input."""
        for layer in reversed(self.layers):
            dlogits = layer.backward(dlogits)
        return dlogits


def block(linear: Layer, channels: int, place: Place, has_scale_and_shift: bool) -> list[Layer]:
    """A linear layer and its ReLU, with a norm before or after that, or without."""
    norm = [] if place == "none" else [Norm(channels, has_scale_and_shift=has_scale_and_shift)]
    if place == "before":
        return [linear, *norm, Relu()]
    return [linear, Relu(), *norm]


def build(kind: str, place: Place, has_scale_and_shift: bool, draw: np.random.Generator) -> Network:
    """A network for images of 8 by 8, ``(N, 1, 8, 8)``, with He's initial weights.

    Args:
        kind: ``conv``, three convolutions and a linear layer; ``mlp``, four linear layers.
        place: of the norms, one for each ReLU. A linear layer before a norm has no bias: the
            norm would subtract it.
        has_scale_and_shift: whether the norms learn gamma and beta.
        draw: where the weights come from.
    """

    def weight(*shape: int) -> Array:
        return np.asarray(draw.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:])))

    def bias(size: int) -> Array | None:
        return None if place == "before" else np.zeros(size)

    layers: list[Layer] = []
    if kind == "conv":
        sizes = (1, 8, 16, 32)
        for c, m in pairwise(sizes):
            layers += block(Conv(weight(m, c, 3, 3), bias(m)), m, place, has_scale_and_shift)
        layers += [Flatten(), Linear(weight(10, 32 * 2 * 2), np.zeros(10))]
    else:
        layers.append(Flatten())
        sizes = (64, 48, 48, 48)
        for c, m in pairwise(sizes):
            layers += block(Linear(weight(m, c), bias(m)), m, place, has_scale_and_shift)
        layers.append(Linear(weight(10, 48), np.zeros(10)))
    return Network(layers)


def log_loss(logits: Array, labels: npt.NDArray[np.int64]) -> tuple[float, Array]:
    """The mean of ``-log softmax(logits)[label]``, and its derivative; of ``(N, 10)`` logits."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(len(labels))
    slope = np.exp(log_p)
    slope[rows, labels] -= 1.0
    return float(-log_p[rows, labels].mean()), slope / len(labels)

"""Families of models with batch norms: each is a function from a seed to a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from tests.support_mutants_models import FLOAT16, Net


def one(seed: int) -> onnx.ModelProto:
    """Conv, norm, Relu."""
    net = Net(seed, (3, 10, 10), opset=9)
    net.conv(8, pads=[1, 1, 1, 1])
    net.norm()
    net.op("Relu")
    return net.model()


def plain(seed: int) -> onnx.ModelProto:
    """Eight layers: strides, groups, a depthwise layer, dilation, three activations."""
    net = Net(seed, (3, 12, 12), opset=13)
    low, high = net.stored("low", np.array(0.0)), net.stored("high", np.array(1.5))
    pads = [1, 1, 1, 1]
    layers: tuple[tuple[int, int, dict[str, Any], str], ...] = (
        (8, 3, {"pads": pads}, "Relu"),
        (16, 3, {"pads": pads, "strides": [2, 2]}, "LeakyRelu"),
        (16, 3, {"pads": pads, "group": 4}, "Relu"),
        (16, 3, {"pads": pads, "group": 16}, "Clip"),
        (12, 1, {}, "Relu"),
        (12, 3, {"pads": [2, 2, 2, 2], "dilations": [2, 2]}, "LeakyRelu"),
        (12, 3, {"pads": [0, 1, 1, 0], "group": 3}, "Relu"),
        (8, 3, {"pads": pads}, "Relu"),
    )
    for number, (out, kernel, attributes, activation) in enumerate(layers):
        net.conv(out, kernel, bias=number % 3 != 1, **attributes)
        net.norm()
        if activation == "Clip":
            net.op("Clip", net.last, low, high)
        elif activation == "LeakyRelu":
            net.op("LeakyRelu", alpha=0.1)
        else:
            net.op("Relu")
    return net.model()


def deep(seed: int) -> onnx.ModelProto:
    """Fifty layers of Conv, norm, Relu."""
    net = Net(seed, (8, 8, 8), opset=17)
    for _ in range(50):
        net.conv(8, pads=[1, 1, 1, 1])
        net.norm()
        net.op("Relu")
    return net.model()


def small_variance(seed: int) -> onnx.ModelProto:
    """A few channels of every layer have variances of 1e-10 to 1e-6."""
    net = Net(seed, (4, 10, 10), opset=15)
    for _ in range(3):
        small = net.rng.random(8) < 0.5
        small[net.rng.integers(8)] = True
        net.conv(8, pads=[1, 1, 1, 1], rows=np.where(small, 10 ** net.rng.uniform(-5, -3, 8), 1.0))
        net.norm()
        net.op("Relu")
    return net.model()


def unit_variance(seed: int) -> onnx.ModelProto:
    """Mean 0 and variance 1 everywhere; half of the channels have gamma 1 and beta 0."""
    net = Net(seed, (4, 10, 10), opset=17)
    for _ in range(3):
        net.conv(8, pads=[1, 1, 1, 1], bias=False)
        net.unit_norm()
        net.op("Relu")
    return net.model(batch=2)


def float16(seed: int) -> onnx.ModelProto:
    """Three layers, all of it in float16."""
    net = Net(seed, (4, 10, 10), dtype=FLOAT16, opset=17)
    for number in range(3):
        net.conv(8, pads=[1, 1, 1, 1], bias=number != 1)
        net.norm()
        net.op("Relu")
    return net.model()


def dead_channels(seed: int) -> onnx.ModelProto:
    """Filters of zeros with a variance of 1e-12, and channels with gamma 0."""
    net = Net(seed, (4, 10, 10), opset=17)
    for _ in range(3):
        kinds = net.rng.permutation([0, 0, 1, 1, 2, 2, 2, 2])
        net.conv(8, pads=[1, 1, 1, 1], bias=False, rows=np.where(kinds == 0, 0.0, 1.0))
        data = net.values[net.last]
        var = np.where(kinds == 0, 1e-12, data.var((0, 2, 3)))
        mean = np.where(kinds == 0, 1e-7, data.mean((0, 2, 3)))
        gamma = np.where(kinds == 1, 0.0, net.rng.uniform(0.5, 1.5, 8))
        net.norm_of(gamma, 0.3 * net.rng.standard_normal(8), mean, var)
        net.op("LeakyRelu", alpha=0.01)
    return net.model()


def gemm(seed: int) -> onnx.ModelProto:
    """Gemm with every attribute."""
    net = Net(seed, (12,), opset=13)
    net.gemm(16, transB=1, alpha=0.5, beta=2.0)
    net.norm()
    net.op("Relu")
    net.gemm(16, alpha=2.0)
    net.norm()
    net.op("Relu")
    net.op("Transpose", perm=[1, 0])
    net.gemm(16, transA=1, transB=1, beta=0.5)
    net.norm()
    net.op("Relu")
    net.gemm(6, bias=False)
    net.norm()
    return net.model()


def transposed(seed: int) -> onnx.ModelProto:
    """ConvTranspose with one and with several groups, as many channels out as in and not."""
    net = Net(seed, (8, 6, 6), opset=11)
    net.transposed(8, group=2, strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])
    net.norm()
    net.op("Relu")
    net.transposed(12, group=4, pads=[1, 1, 1, 1])
    net.norm()
    net.op("Relu")
    net.transposed(6, kernel=2)
    net.norm()
    return net.model()


def residual(seed: int) -> onnx.ModelProto:
    """Two blocks with skips; the second norm of a third reads a tensor that the skip reads too."""
    net = Net(seed, (8, 10, 10), opset=17)
    for _ in range(2):
        skip = net.last
        net.conv(8, pads=[1, 1, 1, 1], bias=False)
        net.norm()
        net.op("Relu")
        net.conv(8, pads=[1, 1, 1, 1])
        branch = net.norm()
        net.op("Add", branch, skip)
        net.op("Relu")
    shared = net.conv(8, pads=[1, 1, 1, 1])
    net.norm()
    net.op("Add", net.last, shared)
    return net.model()


def maxpool(seed: int) -> onnx.ModelProto:
    """A norm with negative gammas behind MaxPool; the Conv behind it has no pads and takes it."""
    net = Net(seed, (4, 12, 12), opset=12)
    net.conv(8, pads=[1, 1, 1, 1])
    net.op("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    signs = np.where(np.arange(8) % 3 == 0, -1.0, 1.0)
    net.norm(gamma=signs * net.rng.uniform(0.5, 1.5, 8))
    net.conv(8)
    net.op("Relu")
    net.conv(6, pads=[1, 1, 1, 1])
    net.norm()
    net.op("AveragePool", kernel_shape=[2, 2])
    return net.model()


def forward(seed: int) -> onnx.ModelProto:
    """Norms in front of a padded Conv, which stay, and one behind Relu before a Conv 1x1."""
    net = Net(seed, (4, 10, 10), opset=17)
    net.norm_of(*(net.rng.uniform(0.5, 1.5, 4) for _ in range(4)))
    net.conv(8, pads=[1, 1, 1, 1])
    net.op("Relu")
    net.norm()
    net.conv(8, 1)
    net.op("Relu")
    net.conv(6)
    net.norm()
    return net.model()


def two_outputs(seed: int) -> onnx.ModelProto:
    """Three heads: two of one shape, the third of another shape and dtype."""
    net = Net(seed, (4, 10, 10), opset=17)
    net.conv(8, pads=[1, 1, 1, 1], strides=[2, 2])
    net.norm()
    trunk = net.op("Relu")
    heads = []
    for _ in range(2):
        net.conv(6, data=trunk, pads=[1, 1, 1, 1])
        heads.append(net.norm())
    net.op("GlobalAveragePool", trunk)
    net.op("Flatten")
    net.gemm(5, transB=1)
    net.norm()
    heads.append(net.op("Cast", to=TensorProto.DOUBLE))
    return net.model(*heads, batch=2)


def matmul(seed: int) -> onnx.ModelProto:
    """MatMul with an Add behind it and without, on matrices."""
    net = Net(seed, (12,), opset=17)
    net.matmul(12)
    net.norm()
    net.op("Relu")
    net.matmul(12, bias=False)
    net.norm()
    net.op("Relu")
    net.matmul(6)
    net.norm()
    return net.model()


def fresh(seed: int) -> onnx.ModelProto:
    """Norms as they are before training: gamma 1, beta 0, mean 0, variance 1."""
    net = Net(seed, (3, 10, 10), opset=17)
    for _ in range(3):
        net.conv(8, pads=[1, 1, 1, 1], bias=False)
        net.unit_norm(fresh=1.0)
        net.op("Relu")
    return net.model()


FAMILIES: dict[str, Callable[[int], onnx.ModelProto]] = {
    "one": one,
    "plain": plain,
    "deep": deep,
    "small-variance": small_variance,
    "unit-variance": unit_variance,
    "float16": float16,
    "dead-channels": dead_channels,
    "gemm": gemm,
    "transposed": transposed,
    "residual": residual,
    "maxpool": maxpool,
    "forward": forward,
    "two-outputs": two_outputs,
    "matmul": matmul,
    "fresh": fresh,
}

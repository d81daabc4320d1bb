"""Small networks in which norms stand where onnxruntime's optimiser does, and does not, fold them.

Every model is a stack of equal blocks with seeded random weights, and takes about a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

BLOCKS, CHANNELS, SIZE, WIDTH, ROWS = 6, 32, 28, 256, 16


@dataclass(frozen=True)
class Kind:
    """A kind of network.

    Attributes:
        build: makes it.
        merges_branches: whether parallel branches are merged when it is folded.
    """

    build: Callable[[], onnx.ModelProto]
    merges_branches: bool = False


class Stack:
    """A network while it is built."""

    def __init__(self, *dims: int) -> None:
        self.dims = dims
        self.data = "x"
        self.random = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def stored(self, values: Any) -> str:
        name = f"t{len(self.tensors)}"
        array = np.asarray(values)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def weight(self, *shape: int) -> str:
        spread = float(np.prod(shape[1:])) ** -0.5
        return self.stored(spread * self.random.standard_normal(shape))

    def conv(self, data: str, outputs: int, inputs: int, kernel: int = 3, **given: Any) -> str:
        """A convolution without bias that keeps the size."""
        weight = self.weight(outputs, inputs, kernel, kernel)
        return self.node("Conv", data, weight, **({"pads": [kernel // 2] * 4} | given))

    def statistics(self, channels: int) -> list[npt.NDArray[np.float64]]:
        """gamma, beta, mean and var, shape ``(channels,)`` each."""
        draw = self.random
        gamma, beta = draw.uniform(0.5, 1.5, channels), draw.standard_normal(channels)
        return [gamma, beta, draw.standard_normal(channels), draw.uniform(0.5, 2.0, channels)]

    def norm(self, data: str, channels: int) -> str:
        names = [self.stored(values) for values in self.statistics(channels)]
        return self.node("BatchNormalization", data, *names)

    def relu(self, data: str) -> None:
        self.data = self.node("Relu", data)

    def model(self) -> onnx.ModelProto:
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.dims)
        y = helper.make_tensor_value_info(self.data, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "stack", [x], [y], self.tensors)
        opset = helper.make_opsetid("", 17)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=8)
        made = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        model.graph.output[0].CopyFrom(made.graph.output[0])
        return model


def image() -> Stack:
    return Stack(1, CHANNELS, SIZE, SIZE)


def conv_bn() -> onnx.ModelProto:
    """Conv, norm, Relu: what every optimiser folds."""
    net = image()
    for _ in range(BLOCKS):
        net.relu(net.norm(net.conv(net.data, CHANNELS, CHANNELS), CHANNELS))
    return net.model()


def dynamo() -> onnx.ModelProto:
    """As torch exports it with ``dynamo=True, optimize=False``: zeros as a bias, computed."""
    net = image()
    for _ in range(BLOCKS):
        zero, one = net.stored(np.float32(0)), net.stored(np.array([1], np.int64))
        weight = net.weight(CHANNELS, CHANNELS, 3, 3)
        first = net.node("Shape", weight, start=0, end=1)
        sizes = net.node("Expand", first, one)
        bias = net.node("Expand", net.node("CastLike", zero, net.data), sizes)
        made = net.node("Conv", net.data, weight, bias, pads=[1] * 4)
        net.relu(net.norm(made, CHANNELS))
    return net.model()


def spelled_out() -> onnx.ModelProto:
    """The norm as Sub, Div, Mul and Add of constants of shape [C, 1, 1]."""
    net = image()
    for _ in range(BLOCKS):
        data = net.conv(net.data, CHANNELS, CHANNELS)
        gamma, beta, mean, var = (v.reshape(-1, 1, 1) for v in net.statistics(CHANNELS))
        for kind, values in zip(
            ("Sub", "Div", "Mul", "Add"), (mean, np.sqrt(var + 1e-5), gamma, beta), strict=True
        ):
            data = net.node(kind, data, net.stored(values))
        net.relu(data)
    return net.model()


def linear(data: Callable[[Stack, str], str]) -> onnx.ModelProto:
    net = Stack(ROWS, WIDTH)
    for _ in range(BLOCKS):
        net.relu(net.norm(data(net, net.data), WIDTH))
    return net.model()


def gemm_bn() -> onnx.ModelProto:
    """Gemm with a bias, norm, Relu."""

    def layer(net: Stack, data: str) -> str:
        bias = net.stored(net.random.standard_normal(WIDTH))
        return net.node("Gemm", data, net.weight(WIDTH, WIDTH), bias, transB=1)

    return linear(layer)


def matmul_bn() -> onnx.ModelProto:
    """A Linear without bias as MatMul with a transposed weight, norm, Relu."""

    def layer(net: Stack, data: str) -> str:
        turned = net.node("Transpose", net.weight(WIDTH, WIDTH), perm=[1, 0])
        return net.node("MatMul", data, turned)

    return linear(layer)


def bn_after_relu() -> onnx.ModelProto:
    """Conv, Relu, norm: the norm can only go forward, into a Conv that pads nothing."""
    net = image()
    for _ in range(BLOCKS):
        net.relu(net.conv(net.data, CHANNELS, CHANNELS, pads=[0] * 4))
        net.data = net.norm(net.data, CHANNELS)
    net.data = net.conv(net.data, CHANNELS, CHANNELS, 1)
    return net.model()


def gelu_bn() -> onnx.ModelProto:
    """Conv 1x1, Gelu as torch spells it before opset 20, norm; onnxruntime has a Gelu for that."""
    net = image()
    for _ in range(BLOCKS):
        made = net.conv(net.data, CHANNELS, CHANNELS, 1)
        part = net.node("Erf", net.node("Div", made, net.stored(np.float32(2**0.5))))
        product = net.node("Mul", made, net.node("Add", part, net.stored(np.float32(1))))
        net.data = net.norm(net.node("Mul", product, net.stored(np.float32(0.5))), CHANNELS)
    net.data = net.conv(net.data, CHANNELS, CHANNELS, 1)
    return net.model()


def concat_bn() -> onnx.ModelProto:
    """Two Convs, Concat, norm, Relu, as in DenseNet and Inception."""
    net = image()
    for _ in range(BLOCKS):
        halves = [net.conv(net.data, CHANNELS // 2, CHANNELS, kernel) for kernel in (3, 1)]
        net.relu(net.norm(net.node("Concat", *halves, axis=1), CHANNELS))
    return net.model()


def add_bn() -> onnx.ModelProto:
    """The sum of two Convs, norm, Relu."""
    net = image()
    for _ in range(BLOCKS):
        terms = [net.conv(net.data, CHANNELS, CHANNELS, kernel) for kernel in (3, 1)]
        net.relu(net.norm(net.node("Add", *terms), CHANNELS))
    return net.model()


def dead_channels() -> onnx.ModelProto:
    """Conv, norm, Relu, with a gamma of 2e-38 in every other channel.

    Training with weight decay leaves such channels. Folded as they are, their weights are
    subnormal numbers.
    """
    net = image()
    for _ in range(BLOCKS):
        made = net.conv(net.data, CHANNELS, CHANNELS)
        gamma, beta, mean, var = net.statistics(CHANNELS)
        gamma[::2] = 2e-38
        names = [net.stored(values) for values in (gamma, beta, mean, var)]
        net.relu(net.node("BatchNormalization", made, *names))
    return net.model()


def zero_gamma() -> onnx.ModelProto:
    """Conv, norm, Relu, with gamma 0 in every other channel."""
    net = image()
    for _ in range(BLOCKS):
        made = net.conv(net.data, CHANNELS, CHANNELS)
        gamma, *others = net.statistics(CHANNELS)
        gamma[::2] = 0.0
        names = [net.stored(values) for values in (gamma, *others)]
        net.relu(net.node("BatchNormalization", made, *names))
    return net.model()


def repvgg() -> onnx.ModelProto:
    """RepVGG blocks in training form (Ding et al. 2021): 3x3, 1x1 and the input, a norm each."""
    net = image()
    for _ in range(BLOCKS):
        terms = [
            net.norm(net.conv(net.data, CHANNELS, CHANNELS, kernel), CHANNELS) for kernel in (3, 1)
        ]
        made = net.node("Add", net.node("Add", *terms), net.norm(net.data, CHANNELS))
        net.relu(made)
    return net.model()


def transposed_bn() -> onnx.ModelProto:
    """Conv, and the norm as Mul and Add behind a Transpose to channels last, as from TensorFlow."""
    net = image()
    for _ in range(BLOCKS):
        made = net.node("Transpose", net.conv(net.data, CHANNELS, CHANNELS), perm=[0, 2, 3, 1])
        gamma, beta, *_ = net.statistics(CHANNELS)
        made = net.node("Mul", made, net.stored(gamma))
        made = net.node("Relu", net.node("Add", made, net.stored(beta)))
        net.data = net.node("Transpose", made, perm=[0, 3, 1, 2])
    return net.model()


def deconvolution_bn() -> onnx.ModelProto:
    """ConvTranspose, norm, Relu, as in a generator."""
    net = Stack(1, CHANNELS, SIZE, SIZE)
    for _ in range(BLOCKS):
        weight = net.weight(CHANNELS, CHANNELS, 3, 3)
        made = net.node("ConvTranspose", net.data, weight, pads=[1] * 4)
        net.relu(net.norm(made, CHANNELS))
    return net.model()


def depthwise_bn() -> onnx.ModelProto:
    """A depthwise and a pointwise Conv, each with norm and Clip to [0, 6], as in MobileNet."""
    net = image()
    for _ in range(BLOCKS):
        for kernel, group in ((3, CHANNELS), (1, 1)):
            made = net.conv(net.data, CHANNELS, CHANNELS // group, kernel, group=group)
            limits = [net.stored(np.float32(limit)) for limit in (0, 6)]
            net.data = net.node("Clip", net.norm(made, CHANNELS), *limits)
    return net.model()


def input_norm() -> onnx.ModelProto:
    """The input scaled by Sub and Div, then one Conv of large images."""
    net = Stack(1, 3, 8 * SIZE, 8 * SIZE)
    for kind in ("Sub", "Div"):
        values = net.random.uniform(0.3, 0.6, (3, 1, 1))
        net.data = net.node(kind, net.data, net.stored(values))
    net.relu(net.conv(net.data, 8, 3, pads=[0] * 4, strides=[2, 2]))
    return net.model()


KINDS: Final = {
    "Conv, norm": Kind(conv_bn),
    "torch dynamo, not optimised": Kind(dynamo),
    "norm spelled out": Kind(spelled_out),
    "Gemm, norm": Kind(gemm_bn),
    "MatMul, norm": Kind(matmul_bn),
    "norm after Relu": Kind(bn_after_relu),
    "norm after Gelu": Kind(gelu_bn),
    "Concat, norm": Kind(concat_bn),
    "Add, norm": Kind(add_bn),
    "dead channels": Kind(dead_channels),
    "gamma 0": Kind(zero_gamma),
    "RepVGG, merged": Kind(repvgg, merges_branches=True),
    "RepVGG": Kind(repvgg),
    "Transpose, Mul, Add": Kind(transposed_bn),
    "ConvTranspose, norm": Kind(deconvolution_bn),
    "depthwise Conv, norm": Kind(depthwise_bn),
    "scaled input": Kind(input_norm),
}

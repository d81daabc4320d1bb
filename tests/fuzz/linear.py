"""Linear operators: one builder for each, with constant weights in any spelling."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz.constants import constant, initializer
from tests.fuzz.quantised import bias_of, weight_of
from tests.fuzz.sketch import MICROSOFT, Builder, Sketch, Unfit


def conv(sketch: Sketch, x: str) -> str:
    """Conv of any kernel, group, stride, padding and dilation."""
    inputs, attributes = conv_parts(sketch, x)
    return sketch.node("Conv", inputs, **attributes)


def conv_parts(sketch: Sketch, x: str) -> tuple[list[str], dict[str, Any]]:
    """Inputs and attributes of a convolution."""
    channels, spatial = _channels(sketch, x)
    divisors = [n for n in range(1, channels + 1) if channels % n == 0]
    group = sketch.pick([1, 1, 1, channels, *divisors])
    made = channels if sketch.chance(0.3) else group * sketch.whole(1, 3)
    kernel = _kernel(sketch, spatial)
    attributes: dict[str, Any] = {}
    if sketch.chance(0.5):
        attributes["kernel_shape"] = kernel
    padding = sketch.rng.random()
    if 0.45 <= padding < 0.8:
        attributes["pads"] = [sketch.whole(0, 1) for _ in range(2 * spatial)]
    elif padding >= 0.8:
        attributes["auto_pad"] = sketch.pick(["VALID", "SAME_UPPER", "SAME_LOWER"])
    if sketch.chance(0.2):
        attributes["strides"] = [sketch.whole(1, 2) for _ in range(spatial)]
    if sketch.chance(0.15) and not attributes.get("auto_pad", "").startswith("SAME"):
        attributes["dilations"] = [sketch.whole(1, 2) for _ in range(spatial)]
    if group > 1 or sketch.chance(0.2):
        attributes["group"] = group
    shape = (made, channels // group, *kernel)
    inputs = [x, weight_of(sketch, shape, float(np.prod(shape[1:])), axis=0)]
    if sketch.chance(0.5):
        inputs.append(bias_of(sketch, (made,)))
    return inputs, attributes


def conv_transpose(sketch: Sketch, x: str) -> str:
    """ConvTranspose of any kernel, group, stride and padding."""
    channels, spatial = _channels(sketch, x)
    group, made = sketch.pick([1, 1, channels]), sketch.whole(1, 3)
    kernel = _kernel(sketch, spatial)
    attributes: dict[str, Any] = {}
    if sketch.chance(0.4):
        attributes["pads"] = [sketch.whole(0, 1) if taps > 1 else 0 for taps in kernel * 2]
    if sketch.chance(0.4):
        attributes["strides"] = [sketch.whole(1, 2) for _ in range(spatial)]
        if sketch.chance(0.3):
            attributes["output_padding"] = [step - 1 for step in attributes["strides"]]
    if sketch.chance(0.3):
        attributes["kernel_shape"] = kernel
    if group > 1:
        attributes["group"] = group
    summed = channels // group * float(np.prod(kernel))
    inputs = [x, weight_of(sketch, (channels, made, *kernel), summed, axis=1)]
    if sketch.chance(0.5):
        inputs.append(bias_of(sketch, (made * group,)))
    return sketch.node("ConvTranspose", inputs, **attributes)


def gemm(sketch: Sketch, x: str) -> str:
    """Gemm with any transA, transB, alpha, beta and C."""
    inputs, attributes = gemm_parts(sketch, x)
    return sketch.node("Gemm", inputs, **attributes)


def gemm_parts(sketch: Sketch, x: str) -> tuple[list[str], dict[str, Any]]:
    """Inputs and attributes of a Gemm."""
    if sketch.rank(x) != 2:
        raise Unfit("Gemm reads matrices")
    rows, summed = sketch.shape(x)
    attributes: dict[str, Any] = {}
    if sketch.chance(0.2):
        attributes["transA"] = 1
        rows, summed = summed, rows
    made = sketch.pick([summed, sketch.whole(1, 5)])
    turned = sketch.chance(0.4)
    if turned:
        attributes["transB"] = 1
    if sketch.chance(0.25):
        attributes["alpha"] = sketch.pick([0.5, 2.0, -1.0])
    if sketch.chance(0.25):
        attributes["beta"] = sketch.pick([0.5, 2.0, 0.0])
    shape = (made, summed) if turned else (summed, made)
    inputs = [x, weight_of(sketch, shape, summed, axis=0 if turned else 1)]
    if sketch.opset < 11 or sketch.chance(0.7):
        shapes: list[tuple[int, ...]] = [(made,)] * 3
        shapes += [(1, made), (), (1,), (rows, 1), (rows, made)]
        inputs.append(bias_of(sketch, sketch.pick(shapes)))
    return inputs, attributes


def matmul(sketch: Sketch, x: str) -> str:
    """MatMul with the constant on either side, half of the time with a bias behind it."""
    if sketch.rank(x) < 2:
        raise Unfit("a vector has no axis of channels")
    *batch, rows, summed = sketch.shape(x)
    made, side = sketch.pick([summed, sketch.whole(1, 5)]), sketch.rng.random()
    if side < 0.75:
        y = sketch.node("MatMul", [x, weight_of(sketch, (summed, made), summed, axis=1)])
    elif side < 0.9:
        y = sketch.node("MatMul", [weight_of(sketch, (made, rows), rows, axis=0), x])
    else:
        weight = constant(sketch, sketch.weights((*batch, summed, made), summed))
        y = sketch.node("MatMul", [x, weight])
    if sketch.chance(0.5):
        bias = bias_of(sketch, sketch.shape(y)[-1:])
        y = sketch.node("Add", [y, bias] if sketch.chance(0.6) else [bias, y])
    return y


def einsum(sketch: Sketch, x: str) -> str:
    """Einsum of the data and one constant: over any axis, or a scale of an axis."""
    shape, letters = sketch.shape(x), "abcdefgh"[: sketch.rank(x)]
    at = sketch.whole(0, len(shape) - 1)
    axis = letters[at]
    if sketch.chance(0.7):
        made = sketch.whole(1, 4)
        weight, read = sketch.weights((shape[at], made), shape[at]), axis + "z"
        kept = letters.replace(axis, "z" if sketch.chance(0.7) else "")
        written = kept if "z" in kept else kept + "z"
    else:
        weight, read, written = sketch.weights((shape[at],), 1), axis, letters
    name = constant(sketch, weight)
    if sketch.chance(0.25):
        return sketch.node("Einsum", [name, x], equation=f"{read},{letters}->{written}")
    return sketch.node("Einsum", [x, name], equation=f"{letters},{read}->{written}")


def deform_conv(sketch: Sketch, x: str) -> str:
    """DeformConv with constant offsets."""
    channels, spatial = _channels(sketch, x)
    if spatial != 2:
        raise Unfit("DeformConv reads images")
    batch, _, height, width = sketch.shape(x)
    made, kernel = sketch.whole(1, 4), (sketch.pick([1, 2]), sketch.pick([1, 2]))
    size = (height - kernel[0] + 1, width - kernel[1] + 1)
    if min(size) < 1:
        raise Unfit("the kernel is larger than the image")
    offsets = sketch.rng.uniform(-1, 1, (batch, 2 * kernel[0] * kernel[1], *size))
    shape = (made, channels, *kernel)
    weight = constant(sketch, sketch.weights(shape, channels * kernel[0] * kernel[1]))
    inputs = [x, weight, initializer(sketch, sketch.stored(offsets))]
    if sketch.chance(0.6):
        inputs.append(constant(sketch, sketch.shifts((made,))))
    return sketch.node("DeformConv", inputs)


def instance_normalization(sketch: Sketch, x: str) -> str:
    """InstanceNormalization of at least three values a channel."""
    channels = _normalised_channels(sketch, x)
    scale = constant(sketch, sketch.signed((channels,)))
    shift = constant(sketch, sketch.shifts((channels,)))
    return sketch.node("InstanceNormalization", [x, scale, shift])


def group_normalization(sketch: Sketch, x: str) -> str:
    """GroupNormalization: parameters for each group before opset 21, for each channel since."""
    channels = _normalised_channels(sketch, x)
    groups = sketch.pick([n for n in range(1, channels + 1) if channels % n == 0])
    size = (channels if sketch.opset >= 21 else groups,)
    inputs = [x, constant(sketch, sketch.signed(size)), constant(sketch, sketch.shifts(size))]
    return sketch.node("GroupNormalization", inputs, num_groups=groups)


def layer_normalization(sketch: Sketch, x: str) -> str:
    """LayerNormalization over the last axis or two."""
    axis, shape = _last_axes(sketch, x)
    inputs = [x, constant(sketch, sketch.signed(shape))]
    if sketch.chance(0.6):
        inputs.append(constant(sketch, sketch.shifts(shape)))
    return sketch.node("LayerNormalization", inputs, axis=axis)


def rms_normalization(sketch: Sketch, x: str) -> str:
    """RMSNormalization over the last axis or two."""
    axis, shape = _last_axes(sketch, x)
    return sketch.node("RMSNormalization", [x, constant(sketch, sketch.signed(shape))], axis=axis)


def _recurrent(op_type: str, gates: int) -> Builder:
    def build(sketch: Sketch, x: str) -> str:
        """The operator on rows of features, whose gates are neither open nor shut for data of 30.

        All its steps or its last state, of one direction or both.
        """
        if sketch.rank(x) != 3:
            raise Unfit("it reads steps, a batch and features")
        features, hidden, directions = sketch.shape(x)[2], sketch.whole(1, 3), sketch.whole(1, 2)
        rows = gates * hidden
        size = max(np.abs(sketch.values[x]).max(), 1.0)
        inputs = [
            x,
            constant(sketch, sketch.weights((directions, rows, features), features * size**2)),
            initializer(sketch, sketch.weights((directions, rows, hidden), hidden)),
        ]
        if sketch.chance(0.6):
            bias = sketch.weights((directions, 2 * rows), 1.0)
            inputs.append(constant(sketch, bias))
            if sketch.chance(0.3):
                lengths = sketch.rng.integers(1, sketch.shape(x)[0] + 1, sketch.shape(x)[1])
                inputs.append(initializer(sketch, lengths.astype(np.int32)))
        ways = ["forward", "reverse"] if directions == 1 else ["bidirectional"]
        attributes: dict[str, Any] = {"hidden_size": hidden, "direction": sketch.pick(ways)}
        if sketch.opset >= 14 and len(inputs) < 5 and sketch.chance(0.2):
            attributes["layout"] = 1
        steps, last = sketch.split(op_type, inputs, 2, **attributes)
        return steps if sketch.chance(0.6) else last

    return build


def fused_conv(sketch: Sketch, x: str) -> str:
    """onnxruntime's FusedConv: a summand of the output's shape, an activation, or neither."""
    inputs, attributes = conv_parts(sketch, x)
    if sketch.chance(0.5):
        attributes["activation"] = sketch.pick(["Relu", "Tanh", "Sigmoid"])
    y = sketch.split("FusedConv", inputs, 1, domain=MICROSOFT, **attributes)[0]
    if not sketch.chance(0.3):
        return y
    shape = sketch.shape(y)
    summand = sketch.pick([name for name in sketch.data if sketch.shape(name) == shape])
    inputs = [*inputs[:3], *([""] if len(inputs) == 2 else []), summand]
    return sketch.split("FusedConv", inputs, 1, domain=MICROSOFT, **attributes)[0]


def fused_gemm(sketch: Sketch, x: str) -> str:
    """onnxruntime's FusedGemm, with an activation or without."""
    inputs, attributes = gemm_parts(sketch, x)
    if sketch.chance(0.5):
        attributes["activation"] = sketch.pick(["Relu", "Tanh", "Sigmoid"])
    return sketch.split("FusedGemm", inputs, 1, domain=MICROSOFT, **attributes)[0]


def fused_matmul(sketch: Sketch, x: str) -> str:
    """onnxruntime's FusedMatMul: either operand transposed, times alpha."""
    if sketch.rank(x) < 2 or sketch.opset < 12:
        raise Unfit("FusedMatMul is spelled out with an Einsum, of data with two axes or more")
    turned = [sketch.chance(0.3), sketch.chance(0.4)]
    rows, summed = sketch.shape(x)[-2:]
    summed, rows = (rows, summed) if turned[0] else (summed, rows)
    made = sketch.pick([summed, sketch.whole(1, 5)])
    weight = sketch.weights((made, summed) if turned[1] else (summed, made), summed)
    attributes: dict[str, Any] = {"transA": int(turned[0]), "transB": int(turned[1])}
    if sketch.chance(0.4):
        attributes["alpha"] = sketch.pick([0.5, 2.0])
    inputs = [x, constant(sketch, weight)]
    return sketch.split("FusedMatMul", inputs, 1, domain=MICROSOFT, **attributes)[0]


def _channels(sketch: Sketch, x: str) -> tuple[int, int]:
    """How many channels the data has, and how many axes behind them."""
    if sketch.rank(x) < 3:
        raise Unfit("no axis behind the channels")
    return sketch.shape(x)[1], sketch.rank(x) - 2


def _kernel(sketch: Sketch, spatial: int) -> list[int]:
    if sketch.chance(0.3):
        return [1] * spatial
    return [sketch.pick([1, 1, 2, 3]) for _ in range(spatial)]


def _normalised_channels(sketch: Sketch, x: str) -> int:
    channels, _ = _channels(sketch, x)
    if np.prod(sketch.shape(x)[2:]) < 3:
        raise Unfit("too few values to normalise")
    return channels


def _last_axes(sketch: Sketch, x: str) -> tuple[int, tuple[int, ...]]:
    if not sketch.rank(x) or sketch.shape(x)[-1] < 3:
        raise Unfit("too few values to normalise")
    axis = sketch.pick([-1, -1, -1, -min(2, sketch.rank(x))])
    return axis, sketch.shape(x)[axis:]


LINEAR: dict[str, Builder] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": matmul,
    "Einsum": einsum,
    "DeformConv": deform_conv,
    "LSTM": _recurrent("LSTM", 4),
    "GRU": _recurrent("GRU", 3),
    "RNN": _recurrent("RNN", 1),
    "InstanceNormalization": instance_normalization,
    "GroupNormalization": group_normalization,
    "LayerNormalization": layer_normalization,
    "RMSNormalization": rms_normalization,
    "com.microsoft::FusedConv": fused_conv,
    "com.microsoft::FusedGemm": fused_gemm,
    "com.microsoft::FusedMatMul": fused_matmul,
}

"""Convolutions that take up the norm after them, in every geometry."""

from __future__ import annotations

import pytest

from tests.support_cases import Case, check_fold
from tests.support_models import norm_parameters


def conv(
    x: str, w: str, attributes: str = "", *, op: str = "Conv", bias: str = "", channels: int = 4
) -> str:
    """A convolution of an ``x`` by a ``w`` of these shapes, and a norm.

    ``bias`` is what stands in the third input: nothing, ``bias`` or ``""``.
    """
    third = f", {bias}" if bias else ""
    declared = f"float[{channels}] bias, " if bias == "bias" else ""
    rank = len(x.split(","))
    return f"""agraph (float[{x}] x) => (float[{",".join("abcde"[:rank])}] y)
        <float[{w}] w, {declared}{norm_parameters(channels)}> {{
        c = {op} {f"<{attributes}>" if attributes else ""} (x, w{third})
        y = BatchNormalization (c, g, b, m, v)
    }}"""


def transposed(x: str, w: str, attributes: str = "", *, bias: str = "", channels: int = 4) -> str:
    return conv(x, w, attributes, op="ConvTranspose", bias=bias, channels=channels)


ALL = 'auto_pad="SAME_UPPER", dilations=[1,1], group=2, kernel_shape=[3,3], strides=[2,1]'

CONV = {
    "1d": conv("2,3,9", "4,3,3"),
    "1d everything": conv("2,4,9", "4,2,3", "pads=[2,0], strides=[2], dilations=[2], group=2"),
    "2d": conv("2,3,6,5", "4,3,3,3"),
    "2d bias": conv("2,3,6,5", "4,3,3,3", bias="bias"),
    "2d empty bias": conv("2,3,6,5", "4,3,3,3", bias='""'),
    "2d strides": conv("2,3,6,5", "4,3,3,3", "strides=[2,3]", bias="bias"),
    "2d pads": conv("2,3,6,5", "4,3,3,3", "pads=[1,2,0,1]", bias="bias"),
    "2d same upper": conv("2,3,6,5", "4,3,3,2", 'auto_pad="SAME_UPPER", strides=[2,2]'),
    "2d same lower": conv("2,3,6,5", "4,3,3,2", 'auto_pad="SAME_LOWER"', bias="bias"),
    "2d valid": conv("2,3,6,5", "4,3,3,2", 'auto_pad="VALID"'),
    "2d notset": conv("2,3,6,5", "4,3,3,2", 'auto_pad="NOTSET", pads=[1,1,1,1]'),
    "2d dilations": conv("2,3,6,7", "4,3,2,3", "dilations=[3,2], kernel_shape=[2,3]"),
    "2d groups": conv("2,6,6,5", "4,3,3,3", "group=2", bias="bias"),
    "2d every attribute": conv("2,4,6,5", "4,2,3,3", ALL, bias="bias"),
    "2d depthwise": conv("2,4,6,5", "4,1,3,3", "group=4"),
    "2d depthwise bias": conv("2,4,6,5", "4,1,3,3", "group=4", bias="bias"),
    "2d depth multiplier": conv("2,3,6,5", "6,1,3,3", "group=3", bias="bias", channels=6),
    "2d pointwise": conv("2,3,6,5", "4,3,1,1"),
    "2d one channel": conv("2,3,6,5", "1,3,3,3", channels=1),
    "2d square weight": conv("2,4,6,4", "4,4,3,3", "pads=[1,1,1,1]"),
    "3d": conv("1,2,4,5,3", "4,2,2,3,2"),
    "3d everything": conv(
        "1,4,5,5,4",
        "4,2,2,3,2",
        "pads=[1,0,1,0,2,1], strides=[1,2,1], dilations=[2,1,1], group=2",
        bias="bias",
    ),
    "3d depthwise": conv("1,4,4,5,3", "4,1,2,3,2", "group=4", bias="bias"),
}

CONV_TRANSPOSE = {
    "1d": transposed("2,3,5", "3,4,3"),
    "1d everything": transposed(
        "2,6,5", "6,2,3", "pads=[1,2], strides=[3], dilations=[2], group=2, output_padding=[1]"
    ),
    "2d": transposed("2,3,4,3", "3,4,3,2"),
    "2d bias": transposed("2,3,4,3", "3,4,3,2", bias="bias"),
    "2d empty bias": transposed("2,3,4,3", "3,4,3,2", bias='""'),
    "2d square weight": transposed("2,4,4,4", "4,4,3,3", "strides=[2,2]"),
    "2d groups": transposed("2,6,4,3", "6,2,3,2", "group=2", bias="bias"),
    "2d groups, fewer in": transposed("2,2,4,3", "2,2,3,2", "group=2"),
    "2d depthwise": transposed("2,4,4,3", "4,1,3,3", "group=4, strides=[2,2]", bias="bias"),
    "2d depth multiplier": transposed("2,2,4,3", "2,3,3,3", "group=2", bias="bias", channels=6),
    "2d output padding": transposed(
        "2,3,4,3", "3,4,3,3", "strides=[2,3], output_padding=[1,2], pads=[1,1,1,1]", bias="bias"
    ),
    "2d output shape": transposed("2,3,4,3", "3,4,3,3", "strides=[2,2], output_shape=[10,8]"),
    "2d output shape, same upper": transposed(
        "2,3,4,3", "3,4,3,3", 'strides=[2,2], output_shape=[8,6], auto_pad="SAME_UPPER"'
    ),
    "2d same lower": transposed("2,3,4,3", "3,4,3,3", 'strides=[2,2], auto_pad="SAME_LOWER"'),
    "3d": transposed("1,2,3,2,3", "2,4,2,2,2", "strides=[1,2,2]", bias="bias"),
    "3d groups": transposed("1,4,3,2,3", "4,2,2,2,2", "group=2, dilations=[1,2,1]"),
}

SMALL = conv("2,4,6,5", "4,2,3,3", "group=2, pads=[1,1,1,1]", bias="bias")
SMALL_TRANSPOSED = transposed("2,4,3,4", "4,2,3,3", "group=2, strides=[2,2]")


@pytest.mark.parametrize("text", CONV.values(), ids=CONV)
def test_conv(text: str) -> None:
    check_fold(Case(text, "Conv"))


@pytest.mark.parametrize("text", CONV_TRANSPOSE.values(), ids=CONV_TRANSPOSE)
def test_conv_transpose(text: str) -> None:
    check_fold(Case(text, "ConvTranspose"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float", "double"])
def test_dtypes(dtype: str) -> None:
    """One relative rounding of the stored dtype is all that a fold costs."""
    check_fold(Case(SMALL, "Conv", dtype=dtype, opset=22, ir=10))
    check_fold(Case(SMALL_TRANSPOSED, "ConvTranspose", dtype=dtype, opset=22, ir=10))


@pytest.mark.parametrize("opset", [9, 11, 14, 15, 17, 19, 21, 22, 24])
def test_opsets(opset: int) -> None:
    check_fold(Case(SMALL, "Conv", opset=opset))
    check_fold(Case(SMALL_TRANSPOSED, "ConvTranspose", opset=opset))


def test_every_channel_keeps_its_own_group() -> None:
    """With one group after the other scaled by powers of two, each weight is known exactly."""
    import numpy as np

    import bnfold
    from tests.support_models import constant, with_values

    model = with_values(
        Case(transposed("1,6,3", "6,2,3", "group=2"), "").model(),
        w=1,
        g=[1, 2, 4, 8],
        b=[1, 2, 3, 4],
        m=[0, 0, 0, 1],
        v=1,
    )
    model.graph.node[1].attribute.add(name="epsilon", type=1, f=0.0)
    folded = bnfold.fold(model).model
    weight = constant(folded, folded.graph.node[0].input[1])
    expected = np.array([[1, 2]] * 3 + [[4, 8]] * 3, dtype=np.float32)
    assert np.array_equal(weight, np.repeat(expected[:, :, None], 3, axis=2))
    bias = constant(folded, folded.graph.node[0].input[2])
    assert np.array_equal(bias, np.array([1, 2, 3, -4], dtype=np.float32))

"""Norms that stay because what they would fold into is quantised."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

import bnfold
from tests.support_kept import BN, NORM, Row, check_kept, graph, listed, values
from tests.support_models import with_values
from tests.test_quantised import AHEAD, GEMM_ROWS, INT32

CODES = "int8[4,3,3,3] q, float s, int8 z, "
VECTORS = "int8[4,3,3,3] q, float[3] s, int8[3] z, "
DQ = "w = DequantizeLinear (q, s, z)"
PLAIN = f"{DQ}  c = Conv (x, w)  {NORM}"
BIAS = f"{DQ}  bias = DequantizeLinear (bq, t)  c = Conv (x, w, bias)  {NORM}"
BIAS_CODES = ", int32[4] bq, float t"
UP = {"g": [1.0, 2.0, 3.0, 4.0], "q": np.arange(108).reshape(4, 3, 3, 3) - 54}
ROUNDED = "a = QuantizeLinear (e, s, z)  c = DequantizeLinear (a, s, z)"


def plain(code: str, names: tuple[str, ...], *, opset: int = 17, **given: object) -> Row:
    """A Conv of one scale behind it, and a norm with these values."""
    return Row(code, names, graph(PLAIN, w=CODES), opset=opset, change=values(**{**UP, **given}))


def of(
    code: str,
    names: tuple[str, ...],
    body: str,
    *,
    w: str = CODES,
    opset: int = 17,
    norm: str = "y",
    **more: str,
) -> Row:
    """Any body, and a norm whose scales are above zero."""
    text = graph(body, w=w, **more)
    return Row(code, names, text, norm=norm, opset=opset, change=values(g=UP["g"]))


QUANTISED = {
    "one scale before opset 13": plain("quantised-weight", ("c", "w", "opset 13"), opset=12),
    "a factor below zero": plain(
        "quantised-weight", ("channel 1", "c", "-"), g=[1.0, -2.0, 3.0, 4.0]
    ),
    "a factor of zero": plain("quantised-weight", ("channel 2", "by 0"), g=[1.0, 2.0, 0.0, 4.0]),
    "a scale that is no number": plain("quantised-weight", ("w", "finite"), s=float("nan")),
    "scales by input channel": of(
        "quantised-weight", ("axes 0 and 1",), PLAIN.replace("(q, s", "<axis=1> (q, s"), w=VECTORS
    ),
    "a transposed weight that others read": of(
        "quantised-weight",
        ("u", "w", "Transpose"),
        f"u = DequantizeLinear (q, s, z)  w = Transpose <perm=[0,1,3,2]> (u)  c = Conv (x, w) "
        f"{NORM}  e = Relu (w)",
    ),
    "a cast weight": of(
        "quantised-weight",
        ("w", "Cast"),
        f"u = DequantizeLinear (q, s, z)  w = Cast <to=1> (u)  c = Conv (x, w)  {NORM}",
    ),
    "a convolution of integers": of(
        "quantised-weight",
        ("i", "ConvInteger"),
        f"i = ConvInteger (x, q)  c = Cast <to=1> (i)  {NORM}",
        w="int8[4,3,3,3] q, ",
        x="int8[2,3,6,5] x",
    ),
    "a quantised convolution": of(
        "quantised-weight",
        ("i", "QLinearConv", "before quantising"),
        f"i = QLinearConv (x, s, z, q, s, z, s, z)  c = DequantizeLinear (i, s, z)  {NORM}",
        x="int8[2,3,6,5] x",
    ),
    "a scale beyond float32": plain("beyond-dtype", ("scale 0", "w"), s=1e38, g=4.0, v=0.01),
    "a subnormal scale": plain("beyond-dtype", ("scale 0", "w"), s=1e-30, g=1e-9),
    "a weight beyond float16": Row(
        "beyond-dtype",
        ("weight", "float16"),
        graph(PLAIN, w=CODES),
        opset=19,
        dtype="float16",
        change=values(s=1000.0, g=2.0, v=1.0, q=120.0, b=0.0, m=0.0, z=0.0),
    ),
    "a quantised bias and a shift": of(
        "quantised-bias", ("c", "bias", "tied"), BIAS, more=BIAS_CODES
    ),
    "a quantised bias of one value": Row(
        "quantised-bias",
        ("c", "bias"),
        f"""agraph (float[2,6] x) => (float[i,j] y)
        <int8[6,4] q, float s, int8 z, int32[1] bq, float t, float[4] g, float[4] b, float[4] m,
        float[4] v> {{
            {DQ}  bias = DequantizeLinear (bq, t)  c = Gemm (x, w, bias)  {NORM} }}""",
        change=values(g=UP["g"], b=0.0, m=0.0, bq=7.0),
    ),
    "a quantised bias before a shift": Row(
        "quantised-bias",
        ("y", "bias"),
        graph(
            f"c = Sigmoid (x)  n = {BN} (c, g, b, m, v)  {DQ}  "
            "bias = DequantizeLinear (bq, t)  y = Conv (n, w, bias)",
            w="int8[4,4,3,3] q, float s, int8 z, ",
            x="float[2,4,6,5] x",
            more=BIAS_CODES,
        ),
        norm="n",
        change=values(g=UP["g"], q=5.0),
    ),
    "a quantised term of a sum": of(
        "quantised-bias",
        ("bias", "integers"),
        f"bias = DequantizeLinear (bq, t)  e = Conv (x, w)  c = Add (e, bias)  {NORM}",
        w="float[4,3,3,3] w, ",
        more=", int32[4,1,1] bq, float t",
    ),
    "data that were rounded": of(
        "quantised-activation",
        ("c", "DequantizeLinear"),
        f"c = DequantizeLinear (x, s, z)  {NORM}",
        w="float s, int8 z, ",
        x="int8[2,4,6,5] x",
    ),
    "rounding between": of(
        "quantised-activation",
        ("c", "DequantizeLinear"),
        f"e = Conv (x, w)  {ROUNDED}  {NORM}",
        w="float[4,3,3,3] w, float s, int8 z, ",
    ),
    "rounding behind": of(
        "quantised-activation",
        ("e", "a", "QuantizeLinear"),
        f"c = Sigmoid (x)  e = {BN} (c, g, b, m, v)  a = QuantizeLinear (e, s, z)  "
        f"d = DequantizeLinear (a, s, z)  y = Conv (d, w)",
        w="float[4,4,3,3] w, float s, int8 z, ",
        x="float[2,4,6,5] x",
        norm="e",
    ),
    "codes that a caller may replace": Row(
        "overridable-initializer", ("q", "w"), graph(PLAIN, w=CODES), change=listed("q")
    ),
    "a scale that a caller may replace": Row(
        "overridable-initializer", ("s", "w"), graph(PLAIN, w=CODES), change=listed("s")
    ),
    "a weight that is rounded where it runs": of(
        "weight-not-constant",
        ("c", "w"),
        f"u = Conv (x, k)  a = QuantizeLinear (u, s, z)  w = DequantizeLinear (a, s, z)  "
        f"c = Conv (x, w)  {NORM}",
        w="float[3,3,3,3] k, float s, int8 z, ",
    ),
    "as many scales as nothing": of(
        "malformed-node", ("w", "[3]"), PLAIN.replace("(q, s", "<axis=0> (q, s"), w=VECTORS
    ),
    "several scales before opset 13": of(
        "malformed-node", ("w", "[3]"), PLAIN, w=VECTORS, opset=12
    ),
    "a zero point of another shape": of(
        "malformed-node", ("w", "zero point"), PLAIN, w="int8[4,3,3,3] q, float s, int8[4] z, "
    ),
    "codes that are floats": of(
        "malformed-node", ("w", "codes"), PLAIN, w="double[4,3,3,3] q, float s, double z, "
    ),
}


@pytest.mark.parametrize("name", QUANTISED)
def test_stays(name: str) -> None:
    check_kept(QUANTISED[name])


def test_a_bias_that_takes_no_shift_stays_without_a_scale() -> None:
    row = replace(AHEAD["gemm without a shift"], has_shift=True)
    (kept,) = bnfold.explain(row.model()).kept
    assert kept.code == "quantised-bias"


def test_a_tiny_shift_is_one() -> None:
    model = replace(GEMM_ROWS, bias=INT32, has_shift=False).model()
    beta = np.array([0.0, 1e-9, 0.0, 0.0])
    (kept,) = bnfold.explain(with_values(model, b=beta)).kept
    assert kept.code == "quantised-bias"
    assert "channel 1" in kept.reason


def test_blocks_of_input_channels_take_no_factor_inside() -> None:
    row = replace(AHEAD["matmul of blocks"], axis=0, w=(6, 4))
    (kept,) = bnfold.explain(row.model()).kept
    assert kept.code == "quantised-weight"
    assert "blocks of 2" in kept.reason


def test_a_scale_of_powers_of_two_stays() -> None:
    model = replace(GEMM_ROWS, opset=25).model()
    for tensor in model.graph.initializer:
        if tensor.name == "ws":
            tensor.data_type = onnx.TensorProto.FLOAT8E8M0
            tensor.raw_data = b"\x7f"
    (kept,) = bnfold.explain(model).kept
    assert kept.code == "unsupported-dtype"

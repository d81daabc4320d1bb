"""Norms that stay because of what they are themselves."""

from __future__ import annotations

import pytest

from tests.support_kept import (
    BN,
    INF,
    NAN,
    OLD,
    PLAIN,
    Row,
    attribute,
    check_kept,
    graph,
    listed,
    values,
)

STATISTICS = {
    "scale is an input": Row(
        "statistics-not-constant",
        ("y", "q"),
        graph(f"c = Conv (x, w)  y = {BN} (c, q, b, m, v)", x="float[2,3,6,5] x, float[4] q"),
    ),
    "mean is computed from the data": Row(
        "statistics-not-constant",
        ("y", "mean", "x"),
        graph(
            f"q = ReduceMean <axes=[0,2,3], keepdims=0> (x)  c = Conv (x, w)"
            f"  y = {BN} (c, g, b, q, v)",
            w="float[4,4,3,3] w, ",
            x="float[2,4,6,5] x",
        ),
    ),
    "variance overridable": Row(
        "overridable-initializer", ("y", "v", "variance"), PLAIN, ir=4, change=listed("v")
    ),
    "scale overridable at a newer IR": Row(
        "overridable-initializer", ("y", "g"), PLAIN, ir=10, change=listed("g")
    ),
    "training_mode=1": Row(
        "training-mode", ("y", "training_mode=1"), OLD.replace("ATTRIBUTES", "<training_mode=1>")
    ),
    "opset 1 without is_test": Row(
        "training-mode",
        ("y", "is_test"),
        OLD.replace("ATTRIBUTES", "<consumed_inputs=[0,0,0,1,1]>"),
        opset=1,
    ),
    "opset 6 without is_test": Row(
        "training-mode", ("y", "is_test"), OLD.replace("ATTRIBUTES", ""), opset=6
    ),
    "opset 6 with is_test=0": Row(
        "training-mode", ("y", "is_test"), OLD.replace("ATTRIBUTES", "<is_test=0>"), opset=6
    ),
    "opset 6 with is_test=1 and its statistics in use": Row(
        "training-mode",
        ("y", "mean2"),
        graph(
            f"c = Conv (x, w)  y, mean2 = {BN} <is_test=1> (c, g, b, m, v)",
            y="float[a,b,c,d] y, float[4] mean2",
        ),
        opset=6,
    ),
    "opset 9 with five outputs in use": Row(
        "training-mode",
        ("y", "5 outputs"),
        graph(
            f"c = Conv (x, w)  y, o1, o2, o3, o4 = {BN} (c, g, b, m, v)",
            y="float[a,b,c,d] y, float[4] o1, float[4] o2, float[4] o3, float[4] o4",
        ),
        opset=9,
    ),
    "opset 7 with five outputs": Row(
        "training-mode",
        ("y", "5 outputs"),
        graph(f"c = Conv (x, w)  y, o1, o2, o3, o4 = {BN} (c, g, b, m, v)"),
        opset=7,
    ),
    "opset 15 with statistics in use": Row(
        "training-mode",
        ("y", "o2"),
        graph(
            f"c = Conv (x, w)  y, o1, o2 = {BN} (c, g, b, m, v)", y="float[a,b,c,d] y, float[4] o2"
        ),
    ),
    "spatial=0, opset 1": Row(
        "spatial-zero",
        ("y", "spatial=0"),
        OLD.replace("ATTRIBUTES", "<spatial=0, is_test=1, consumed_inputs=[0,0,0,1,1]>"),
        opset=1,
    ),
    "spatial=0, opset 6": Row(
        "spatial-zero", ("y",), OLD.replace("ATTRIBUTES", "<spatial=0, is_test=1>"), opset=6
    ),
    "spatial=0, opset 8": Row(
        "spatial-zero", ("y",), OLD.replace("ATTRIBUTES", "<spatial=0>"), opset=8
    ),
    "NaN mean": Row(
        "non-finite-statistics",
        ("y", "channel 2", "mean", "nan"),
        PLAIN,
        change=values(m=[0, 1, NAN, 3]),
    ),
    "infinite variance": Row(
        "non-finite-statistics",
        ("y", "channel 1", "variance", "inf"),
        PLAIN,
        change=values(v=[1, INF, 1, 1]),
    ),
    "infinite scale": Row(
        "non-finite-statistics", ("y", "channel 3", "-inf"), PLAIN, change=values(g=[1, 1, 1, -INF])
    ),
    "NaN constant": Row(
        "non-finite-statistics",
        ("d", "channel 0", "nan"),
        graph(
            f"c = Conv (x, w)  d = Mul (c, k)  y = {BN} (d, g, b, m, v)", more=", float[4,1,1] k"
        ),
        change=values(k=[[[NAN]], [[1]], [[1]], [[1]]]),
    ),
    "division by zero": Row(
        "non-finite-statistics",
        ("d", "channel 3", "zero"),
        graph(
            f"c = Conv (x, w)  d = Div (c, k)  y = {BN} (d, g, b, m, v)", more=", float[4,1,1] k"
        ),
        change=values(k=[[[1]], [[1]], [[1]], [[0]]]),
    ),
    "negative variance": Row(
        "non-positive-variance",
        ("y", "channel 3", "-0.99999"),
        PLAIN,
        change=values(v=[1, 1, 1, -1]),
    ),
    "variance and epsilon are zero": Row(
        "non-positive-variance",
        ("y", "channel 0"),
        OLD.replace("ATTRIBUTES", "<epsilon=0.0>"),
        change=values(v=[0, 1, 1, 1]),
    ),
    "float16 weight overflows": Row(
        "beyond-dtype",
        ("c", "channel 1", "weight", "float16", "65504"),
        PLAIN,
        dtype="float16",
        change=values(g=[1, 3e4, 1, 1], v=1e-4, w=1),
    ),
    "float16 bias overflows": Row(
        "beyond-dtype",
        ("c", "channel 2", "bias", "65504"),
        PLAIN,
        dtype="float16",
        change=values(g=2, b=6e4, m=[0, 0, -6e4, 0], v=1, w=1),
    ),
    "float32 weight overflows": Row(
        "beyond-dtype", ("c", "channel 0", "weight"), PLAIN, change=values(g=3e38, v=1e-4, w=1)
    ),
    "a factor below float64": Row(
        "beyond-dtype",
        ("y", "channel 1", "scale 1.8e-283", "1.7e+107", "2.22507e-308"),
        PLAIN,
        dtype="double",
        change=values(g=[1, 1.8e-283, 0, 1], v=[1, 1.7e107, 1, 1], w=1e273),
    ),
    "a subnormal factor": Row(
        "beyond-dtype",
        ("y", "channel 2"),
        PLAIN,
        dtype="double",
        change=values(g=[1, 0, -1e-300, 1], v=[1, 1, 1e20, 1]),
    ),
    "attribute of the norm": Row(
        "unknown-attribute",
        ("y", "data_format"),
        PLAIN,
        change=attribute(1, "data_format", "NHWC"),
    ),
    "attribute of a later opset": Row(
        "unknown-attribute",
        ("y", "training_mode", "9"),
        OLD.replace("ATTRIBUTES", "<training_mode=0>"),
        opset=9,
    ),
    "attribute of an earlier opset": Row(
        "unknown-attribute", ("y", "is_test"), OLD.replace("ATTRIBUTES", "<is_test=1>")
    ),
    "attribute of Mul": Row(
        "unknown-attribute",
        ("d", "Mul", "axis"),
        graph(
            f"c = Conv (x, w)  d = Mul <axis=1> (c, k)  y = {BN} (d, g, b, m, v)",
            more=", float[4,1,1] k",
        ),
    ),
    "attribute of another type": Row(
        "malformed-node", ("y", "epsilon"), PLAIN, change=attribute(1, "epsilon", 1)
    ),
    "opset of the future": Row("unknown-opset", ("y", "9999"), PLAIN, opset=9999),
    "norm of another domain": Row(
        "unknown-domain",
        ("y", "com.example"),
        graph(f"c = Conv (x, w)  y = com.example.{BN} (c, g, b, m, v)"),
        imports='"com.example" : 1',
    ),
    "statistics of two axes": Row(
        "malformed-node",
        ("y", "scale", "[4, 1]"),
        graph(f"c = Conv (x, w)  y = {BN} (c, q, b, m, v)", more=", float[4,1] q"),
    ),
    "statistics of different lengths": Row(
        "malformed-node",
        ("y", "mean", "[3]"),
        graph(f"c = Conv (x, w)  y = {BN} (c, g, b, q, v)", more=", float[3] q"),
    ),
    "without a variance": Row(
        "malformed-node", ("y", "variance"), graph(f"c = Conv (x, w)  y = {BN} (c, g, b, m)")
    ),
    "int64 statistics": Row(
        "unsupported-dtype",
        ("y", "mean", "int64"),
        graph(f"c = Conv (x, w)  y = {BN} (c, g, b, q, v)", more=", int64[4] q = {1,2,3,4}"),
    ),
    "excluded by skip": Row("excluded", ("y", "--skip", "[xy]"), PLAIN, skip=("nothing", "[xy]")),
    "excluded by only": Row("excluded", ("y", "--only"), PLAIN, only=("other*",)),
}


@pytest.mark.parametrize("row", STATISTICS.values(), ids=STATISTICS)
def test_norms(row: Row) -> None:
    check_kept(row)

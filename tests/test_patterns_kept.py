"""Patterns right beside those that fold: no exact fold exists, and the reason says why."""

from __future__ import annotations

import onnx
import pytest

import bnfold
from tests.support_patterns import Pattern, W

KEPT = {
    "norms that differ behind two Transposes": (
        Pattern(
            "c = Conv(x, w)  t = Transpose<perm=[0,1,3,2]>(c)  s = Transpose<perm=[0,1,3,2]>(c)"
            "  n = BN(t)  o = OTHER(s)  r = Relu(n)  y = Add(r, o)",
            W,
            "",
        ),
        {"n": ("shared-tensor", "also read by s"), "o": ("shared-tensor", "also read by t")},
    ),
    "equal norms, and a reader that is none": (
        Pattern(
            "c = Conv(x, w)  t = Transpose<perm=[0,1,3,2]>(c)  s = GlobalAveragePool(c)"
            "  n = BN(t)  o = BN(s)  r = Relu(s)  p = Add(n, o)  y = Add(p, r)",
            W,
            "",
        ),
        {"n": ("shared-tensor", "also read by s"), "o": ("shared-tensor", "also read by r")},
    ),
    "equal norms that are both outputs": (
        Pattern("c = Conv(x, w)  y = BN(c)  z = BN(c)", W, "", y="y:4 z:4"),
        {"y": ("graph-output", "both are outputs"), "z": ("graph-output", "both are outputs")},
    ),
    "Where with zeros, and a shift": (
        Pattern(
            "c = Conv(x, w)  e = Where(k, c, z)  y = BN(e)",
            f"{W}, float z",
            "",
            "float[2,3,8,6] x, bool[6,4] k",
            values=(("z", 0),),
        ),
        {"y": ("not-through", "broadcasts z")},
    ),
    "norms of the halves of a Split that differ": (
        Pattern(
            "c = Conv(x, w)  d, e = Split<axis=2>(c)  n = BN(d)  o = OTHER(e)  y = Add(n, o)",
            W,
            "",
        ),
        {"n": ("axis-mismatch", "another axis of c"), "o": ("axis-mismatch", "another axis of c")},
    ),
    "a size that only the input tells": (
        Pattern(
            "c = Conv(x, w)  sh = Shape(c)  e = Slice(sh, zero, one)  d = Slice(c, zero, e, one)"
            "  y = BN(d)",
            f"{W}, int64[1] zero = {{0}}, int64[1] one = {{1}}",
            "",
            "float[N,3,8,6] x",
        ),
        {"y": ("not-through", "at no constant place")},
    ),
    "a shift of each channel behind a Pad": (
        Pattern(
            "c = Conv(x, w)  p = Pad(c, q)  y = BN(p)",
            f"{W}, int64[8] q = {{0,0,1,1,0,0,1,1}}",
            "",
        ),
        {"y": ("not-through", "pads with 0")},
    ),
    "a constant of one value, and a norm of channels": (
        Pattern(
            "s = Tanh(x)  n = BN3(s)  e = Where(k, n, z)  y = Conv(e, w)",
            f"{W}, float z",
            "",
            "float[2,3,8,6] x, bool[8,6] k",
        ),
        {"n": ("not-through", "also reads z")},
    ),
    "branches scaled differently": (
        Pattern(
            "s = Tanh(x)  n = BN3(s)  t = Sigmoid(x)  o = OTHER3(t)  e = Add(n, o)  y = Conv(e, w)",
            W,
            "",
        ),
        {"n": ("not-through", "differently"), "o": ("not-through", "differently")},
    ),
    "a quantised weight, a bias, a negative scale": (
        Pattern(
            "w = DequantizeLinear(q, s, z)  c = MatMul(x, w)  d = Add(c, k)  y = BN(d)",
            "uint8[3,4] q, float s, uint8 z = {7}, float[4] k",
            "",
            "float[2,3] x",
            "y:2",
        ),
        {"y": ("quantised-weight", "can only stay above zero")},
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_norms_that_stay(name: str) -> None:
    pattern, reasons = KEPT[name]
    model = pattern.model()
    onnx.checker.check_model(model)
    result = bnfold.fold(model)
    assert not result.report.folded
    assert result.model.SerializeToString() == model.SerializeToString()
    assert {kept.norm for kept in result.report.kept} == set(reasons)
    for kept in result.report.kept:
        code, words = reasons[kept.norm]
        assert words in kept.reason
        assert kept.code == code, kept.reason

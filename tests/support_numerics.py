"""Number formats in exact arithmetic, and a Conv with norms behind it for tests of rounding."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import onnx

import bnfold
from tests.support_models import Array, constant, filled, norm_parameters, parsed


class Format(NamedTuple):
    """A binary format of IEEE 754: digits of the significand, least and largest exponent."""

    digits: int
    least: int
    largest: int


FORMATS = {
    "float16": Format(11, -14, 15),
    "bfloat16": Format(8, -126, 127),
    "float": Format(24, -126, 127),
    "double": Format(53, -1022, 1023),
}


def quantum(value: float | Fraction, kind: Format) -> Fraction:
    """The distance between neighbours of a format at the size of ``value`` (its ulp)."""
    exact = abs(Fraction(value))
    exponent = kind.least
    if exact:
        exponent = exact.numerator.bit_length() - exact.denominator.bit_length()
        exponent -= exact < Fraction(2) ** exponent
    return Fraction(2) ** (max(exponent, kind.least) - kind.digits + 1)


def nearest(value: float, kind: Format) -> float:
    """``value`` to the nearest number of a format, ties to even; infinite beyond the last half."""
    if not math.isfinite(value):
        return value
    step = quantum(value, kind)
    exact = round(Fraction(value) / step) * step
    if abs(exact) >= Fraction(2) ** (kind.largest + 1):
        return math.copysign(math.inf, value)
    return math.copysign(float(exact), value)


CONV = "agraph (float[1,C,9] x) => (float[n,c,w] y) <float[3,C,2] w, float[3] bias, P> { BODY }"
TWO = """c = Conv (x, w, bias)  n = BatchNormalization (c, g, b, m, v)
    y = BatchNormalization <epsilon=0.001> (n, g2, b2, m2, v2)"""
ONE = "c = Conv (x, w, bias)  y = BatchNormalization <epsilon=0.0> (c, g, b, m, v)"
CHAIN = "c = Conv (x, w, bias)  d = Mul (c, k)  y = Add (d, l)"


def conv(body: str, name: str, *, channels: int = 3, seed: int = 0) -> onnx.ModelProto:
    """A Conv with three output channels, the norms of ``body``, and random parameters."""
    possible = [*norm_parameters(3).split(", "), *norm_parameters(3, "2").split(", ")]
    possible += ["float[3,1] k", "float[3,1] l"]
    words = set(body.replace(",", " ").replace(")", " ").replace("(", " ").split())
    used = ", ".join(p for p in possible if p.split()[-1] in words)
    text = CONV.replace("C", str(channels), 2).replace("P", used).replace("BODY", body)
    return filled(parsed(text, dtype=name, opset=22, ir=10), seed)


def folded(model: onnx.ModelProto) -> tuple[Array, Array, bnfold.Report]:
    """The stored weight and bias, and the report."""
    result = bnfold.fold(model)
    (node,) = [n for n in result.model.graph.node if n.op_type != "Constant"]
    weight, bias = (constant(result.model, name) for name in node.input[1:])
    return weight, bias, result.report

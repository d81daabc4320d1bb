"""Models to insert norms into, and statistics that were not measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from bnfold.onnxgraph.load import load
from bnfold.statistics.inserted import LeftOut, Where
from bnfold.statistics.insertion import Insertion, InsertResult
from bnfold.statistics.moments import Moments
from tests.support_models import filled, parsed

CONV = """
g (float[N,3,6,6] x) => (float[N,4,4,4] y)
<float[4,3,3,3] w, float[4] b> { c = Conv(x, w, b)  y = Relu(c) }
"""

RESIDUAL = """
g (float[N,4,6,6] x) => (float[N,4,6,6] y, float[N,4,6,6] first)
<float[4,4,3,3] w1, float[4] b1, float[4,1,3,3] w2, float[N,4,6,6] first> {
    first = Conv<pads=[1,1,1,1]>(x, w1, b1)
    r = Relu(first)
    second = Conv<pads=[1,1,1,1], group=4>(r, w2)
    a = Relu(second)
    y = Add(a, first)
}
"""

ALL_OPERATORS = """
g (float[N,3,6,6] x) => (float[N,5] y)
<float[4,3,3,3] w, float[4] b, float[4,2,2,2] wt, float[3,50] wg, float[3] bg, float[3,5] wm,
 float[5] bm> {
    c = Conv(x, w, b)
    r = Relu(c)
    t = ConvTranspose(r, wt)
    s = Sigmoid(t)
    f = Flatten(s)
    z = Gemm<transB=1>(f, wg, bg)
    h = LeakyRelu(z)
    m = MatMul(h, wm)
    y = Add(m, bm)
}
"""


def model_of(text: str, *, opset: int = 17, ir: int = 8, dtype: str = "float") -> onnx.ModelProto:
    """A model with random weights."""
    return filled(parsed(text, opset=opset, ir=ir, dtype=dtype))


def drawn(insertion: Insertion, seed: int = 0, *, widest: float = 4.0) -> dict[str, Moments]:
    """Made-up statistics: deviations from 2^-6 to 2^widest, and a dead first channel."""
    rng = np.random.default_rng(seed)
    found = {}
    for site in insertion.sites:
        mean = rng.normal(0, 2, site.channels)
        var = np.square(2.0 ** rng.uniform(-6, widest, site.channels))
        var[0] = 0.0
        found[site.made.name] = Moments(64, mean, var * 63, 2, mean, var)
    return found


def with_norms(
    model: Any,
    where: Where = "before-activation",
    *,
    only: tuple[str, ...] = (),
    skip: tuple[str, ...] = (),
    remove_bias: bool = False,
    seed: int = 0,
    widest: float = 4.0,
) -> InsertResult:
    """The result of ``insert`` with statistics that were not measured."""
    insertion = Insertion(load(model, name="m.onnx"), where, only, skip)
    moments = drawn(insertion, seed, widest=widest)
    return insertion.finished(moments, remove_bias=remove_bias)


def left_out(result: InsertResult) -> dict[str, LeftOut]:
    """What got no norm, by the name of the operator."""
    return {left.operator: left for left in result.report.left_out}

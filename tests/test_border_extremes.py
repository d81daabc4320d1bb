"""A border map that is rounded once, seen through the least of several channels."""

from __future__ import annotations

import numpy as np
import pytest

import bnfold
from tests.support_models import filled, parsed, with_values

TEXT = """net ({0}[4,4,6,6] x) => ({0}[4,1,3,3] y) <{0}[2,4,3,3] w, {0}[4] g, {0}[4] b, {0}[4] m,
    {0}[4] v, {0}[1] g2, {0}[1] b2, {0}[1] m2, {0}[1] v2> {{
        n = BatchNormalization (x, g, b, m, v)
        c = Conv <pads = [1,1,1,1], strides = [2,2]> (n, w)
        r = {1} <axes = [1], keepdims = 1> (c)
        y = BatchNormalization (r, g2, b2, m2, v2) }}"""


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("reduction", ["ReduceMin", "ReduceMax"])
@pytest.mark.parametrize("dtype", ["float16", "float"])
def test_the_check_lets_it_round(dtype: str, reduction: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = with_values(
        filled(parsed(TEXT.format(dtype, reduction), opset=13)),
        w=rng.normal(size=(2, 4, 3, 3)),
        g=rng.normal(size=4),
        b=10 * rng.normal(size=4),
        m=10 * rng.normal(size=4),
        v=rng.uniform(0.3, 2, 4),
        g2=np.array([1 + abs(rng.normal())]),
        b2=rng.normal(size=1),
        m2=rng.normal(size=1),
        v2=rng.uniform(0.5, 2, 1),
    )
    result = bnfold.fold(model)
    assert len(result.report.folded) == 2
    assert result.verify(runtime=False).is_same


@pytest.mark.parametrize("seed", range(3))
def test_the_check_lets_it_round_before_a_negative_quantised_weight(seed: int) -> None:
    text = """net (float[4,4,6,6] x) => (float[4,1,3,3] y, float[4,1,3,3] z) <float[1,4,3,3] w,
        float[4] g, float[4] b, float[4] m, float[4] v, float[1] g2, float[1] b2, float[1] m2,
        float[1] v2, int8[1,1,1,1] q = {-58}, float s> {
            n = BatchNormalization (x, g, b, m, v)
            c = Conv <pads = [1,1,1,1], strides = [2,2]> (n, w)
            r = BatchNormalization (c, g2, b2, m2, v2)
            t = BatchNormalization (c, g2, b2, m2, v2)
            d = DequantizeLinear (q, s)
            y = Conv (r, d)
            z = Relu (t) }"""
    rng = np.random.default_rng(seed)
    model = with_values(
        filled(parsed(text, opset=13)),
        b=10 * rng.normal(size=4),
        m=10 * rng.normal(size=4),
        g2=np.array([1 + abs(rng.normal())]),
        s=np.array(0.0084),
    )
    result = bnfold.fold(model)
    assert len(result.report.folded) == 3
    assert result.verify(runtime=False).is_same

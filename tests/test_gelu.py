"""A Gelu that is written out stays whole: runtimes fuse all of it, or nothing."""

from __future__ import annotations

import onnx
import pytest

import bnfold
from tests.support_models import filled, norm_parameters, op_types, parsed

GELU = "d = Div (c, r) e = {} (d) a = Add (e, one) p = Mul (c, a) h = {} (p, half)"


def after(gelu: str, behind: str, outer: str = "y = Conv (n, w)") -> onnx.ModelProto:
    """A Conv, an activation, a norm, and a Conv that could take it up."""
    text = f"""net (float[1,4,5,5] x) => (float[1,4,5,5] y)
        <{norm_parameters(4)}, float[4,4,1,1] w, float r, float one = {{1.0}},
        float half = {{0.5}}, float two = {{2.0}}, float[4,1,1] k> {{
            c = Conv (x, w) {gelu} n = {behind} {outer} }}"""
    return filled(parsed(text))


@pytest.mark.parametrize("function", ["Erf", "Tanh"])
@pytest.mark.parametrize("last", ["Mul", "Div"])
@pytest.mark.parametrize("norm", ["BatchNormalization (h, g, b, m, v)", "Mul (h, k)"])
def test_the_norm_goes_and_the_half_stays(function: str, last: str, norm: str) -> None:
    result = bnfold.fold(after(GELU.format(function, last), norm))
    (folded,) = result.report.folded
    assert folded.direction == "forward"
    assert len(folded.nodes) == 1
    assert op_types(result.model) == ["Conv", "Div", function, "Add", "Mul", last, "Conv"]
    assert result.verify(runtime=False).is_same


def test_the_half_of_something_else_goes_along() -> None:
    gelu = "e = Erf (c) h = Mul (e, half)"
    result = bnfold.fold(after(gelu, "BatchNormalization (h, g, b, m, v)"))
    assert op_types(result.model) == ["Conv", "Erf", "Conv"]

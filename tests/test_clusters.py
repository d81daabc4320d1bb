"""A right fold through other operators passes its own check, whatever it crosses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bnfold
from bnfold.checking import extents, parted
from bnfold.report.as_json import report_json
from bnfold.report.as_text import fold_text
from tests.support_clusters import models
from tests.support_float64 import differences
from tests.support_models import filled, norm_parameters, parsed

EPSILONS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float": 2.0**-23, "double": 2.0**-52}


@settings(deadline=None, max_examples=300)
@given(models(), st.sampled_from(sorted(EPSILONS)), st.integers(0, 99))
def test_a_right_fold_never_fails(text: str, dtype: str, seed: int) -> None:
    model = filled(parsed(text, dtype=dtype, opset=22, ir=10), seed)
    result = bnfold.fold(model)
    checked = result.report.checked
    assert checked is not None
    assert checked.max_ulp <= 0.5
    assert checked.unchecked == 0
    data = np.random.default_rng(seed).uniform(-30, 30, (2, 4, 6, 7))
    epsilon = EPSILONS[dtype]
    for ratio, bound in differences(model, result.model, {"x": data}, epsilon=epsilon, roundings=6):
        assert ratio <= 1, f"{ratio} times the bound {bound}"


BN = "BatchNormalization"
NORM = norm_parameters(4)
WAYS = {
    "two norms around an operator": (
        f"n = {BN} (x, g, b, m, v)  c = Conv (n, w)  y = {BN} (c, g2, b2, m2, v2)",
        f"float[4,4,3,3] w, {NORM}, {norm_parameters(4, '2')}",
        1,
    ),
    "through a transpose and a sum": (
        "c = Conv (x, w)  d = Conv (x, z)  s = Add (c, d)  t = Transpose <perm=[0,2,3,1]> (s)  "
        "y = Mul (t, k)",
        "float[4,4,1,1] w, float[4,4,1,1] z, float[4] k",
        2,
    ),
    "with a reader of the shape": (
        f"n = {BN} (x, g, b, m, v)  s = Shape (n)  c = Conv (n, w)  r = Shape (c)  "
        f"q = Concat <axis=0> (s, r)  e = Cast <to=1> (q)  z = ReduceSum <keepdims=0> (e)  "
        f"y = Mul (c, z)",
        f"float[4,4,1,1] w, {NORM}",
        1,
    ),
    "behind a size that is computed": (
        f"c = Conv (x, w)  i = Shape <start=0, end=2> (c)  r = Concat <axis=0> (i, last)  "
        f"f = Reshape (c, r)  y = {BN} (f, g, b, m, v)",
        f"float[4,4,3,3] w, {NORM}, int64[1] last = {{-1}}",
        1,
    ),
}


@pytest.mark.parametrize("size", ["6,7", "H,W", "224,224"])
@pytest.mark.parametrize("name", WAYS)
def test_each_way_passes(name: str, size: str) -> None:
    body, declared, operators = WAYS[name]
    axes = "a,b,c" if "Reshape" in body else "a,b,c,d"
    text = f"agraph (float[N,4,{size}] x) => (float[{axes}] y) <{declared}> {{ {body} }}"
    result = bnfold.fold(filled(parsed(text)))
    checked = result.report.checked
    assert not result.report.kept
    assert checked is not None
    assert (checked.regions, checked.unchecked) == (operators, 0)
    assert checked.max_ulp > 0.3


def test_large_images_shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes keep their ratio, so that a branch of half the size meets the other one."""
    seen: list[dict[str, tuple[int, ...]]] = []
    trials = extents.Extents.trials

    def noted(self: extents.Extents) -> Iterator[dict[str, tuple[int, ...]]]:
        for shapes in trials(self):
            seen.append(shapes)
            yield shapes

    monkeypatch.setattr(extents.Extents, "trials", noted)
    text = f"""agraph (float[1,4,448,640] x, float[1,4,224,320] z) => (float[1,4,224,320] y)
        <float[4,4,3,3] w, float[4,4,1,1] u, {NORM}> {{
        c = Conv <strides=[2,2], pads=[1,1,1,1]> (x, w)  d = Conv (z, u)
        s = Add (c, d)  y = {BN} (s, g, b, m, v) }}"""
    checked = bnfold.fold(filled(parsed(text))).report.checked
    assert checked is not None
    assert (checked.regions, checked.unchecked) == (2, 0)
    assert max(np.prod(shape) for shape in seen[-1].values()) < 1000


def test_large_weights_are_multiplied_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parted, "LARGE", 20)
    for name in WAYS:
        test_each_way_passes(name, "6,7")
    text = f"""agraph (float[3,4] x) => (float[3,4] y) <float[4,4] w, float[4] b1, {NORM}> {{
        n = {BN} (x, g, b, m, v)  y = Gemm <transB=1, beta=2.0, alpha=0.5> (n, w, b1) }}"""
    for changed in (text, text.replace("transB=1, ", "")):
        checked = bnfold.fold(filled(parsed(changed))).report.checked
        assert checked is not None
        assert checked.regions == 1


def test_what_cannot_be_evaluated_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extents.Extents, "trials", lambda self: iter(()))
    body, declared, _ = WAYS["through a transpose and a sum"]
    text = f"agraph (float[2,4,6,7] x) => (float[a,b,c,d] y) <{declared}> {{ {body} }}"
    report = bnfold.fold(filled(parsed(text))).report
    assert report.checked is not None
    assert (report.checked.regions, report.checked.unchecked) == (0, 2)
    assert "unchecked  2 folds" in fold_text(report, None)
    assert report_json(report)["checked"]["unchecked"] == 2

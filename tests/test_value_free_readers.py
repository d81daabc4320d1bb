"""Nodes that read a tensor's type or shape only are no reason to keep a norm."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import parser
from onnx.reference import ReferenceEvaluator

import bnfold

HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'
SIZES = "float[N,2,5,5] x) => (float[N,3,5,5] y"
WEIGHT = "float[3,2,1,1] w = {1,2,3,4,5,6}, float[3] m = {1,2,3}, float[3] v = {4,5,6}"

# name: graph, what is left of it
CASES: dict[str, tuple[str, list[str]]] = {
    # As torch writes a BatchNorm2d without affine parameters.
    "gamma made from the data's own type and shape": (
        f"""g ({SIZES}) <{WEIGHT}, float[1] one = {{1}}, float[1] zero = {{0}}> {{
          c = Conv(x, w)
          t = CastLike(one, c)
          n = Shape<start=1, end=2>(c)
          s = Expand(t, n)
          u = CastLike(zero, c)
          k = Shape<start=1, end=2>(c)
          b = Expand(u, k)
          y = BatchNormalization(c, s, b, m, v)
        }}""",
        ["Conv"],
    ),
    "a shape that is used elsewhere": (
        f"""g (float[N,2,5,5] x) => (float[N,3,5,5] y, int64[4] n)
        <{WEIGHT}, float[3] s = {{1,2,3}}> {{
          c = Conv(x, w)
          n = Shape(c)
          y = BatchNormalization(c, s, m, m, v)
        }}""",
        ["Conv", "Shape"],
    ),
    "a type that is used elsewhere": (
        f"""g (float[N,2,5,5] x, double[1] d) => (float[N,3,5,5] y, float[1] e, int64 k)
        <{WEIGHT}, float[3,1,1] s2 = {{1,2,3}}, float[3] s = {{1,2,3}}> {{
          c = Conv(x, w)
          e = CastLike(d, c)
          z = BatchNormalization(c, s, m, m, v)
          k = Size(z)
          y = Mul(z, s2)
        }}""",
        ["Conv", "CastLike", "Size"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_folds(case: str) -> None:
    text, left = CASES[case]
    model = parser.parse_model(HEAD + text)
    folded = bnfold.fold(model).model
    onnx.checker.check_model(folded, full_check=True)
    assert sorted(n.op_type for n in folded.graph.node) == sorted(left)
    feeds = {"x": 30 * np.random.default_rng(0).standard_normal((2, 2, 5, 5)).astype(np.float32)}
    if len(model.graph.input) > 1:
        feeds["d"] = np.array([0.5])
    expected = ReferenceEvaluator(model).run(None, feeds)
    found = ReferenceEvaluator(folded).run(None, feeds)
    for before, after in zip(expected, found, strict=True):
        assert before.dtype == after.dtype
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-4)


def test_a_symbolic_channel_count_is_not_constant() -> None:
    text = (
        HEAD
        + f"""g (float[N,2,H,W] x) => (float[N,3,H,W] y)
    <{WEIGHT}, float[1] one = {{1}}> {{
      c = Conv(x, w)
      n = Shape<start=0, end=1>(c)
      s = Expand(one, n)
      y = BatchNormalization(c, s, m, m, v)
    }}"""
    )
    report = bnfold.explain(parser.parse_model(text))
    assert [norm.code for norm in report.kept] == ["statistics-not-constant"]

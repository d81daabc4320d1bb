"""MatMul, FusedMatMul, Gemm and FusedGemm take up a map behind them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support_linear import NORM, check_folds, check_kept, graph

COLUMN = "float[4,1] s, float[4,1] t"
LINE = "float[4] s, float[4] t"
MAP = "d = Mul (c, s)  y = Add (d, t)"
FLAT = "float[j,k] y"
OLD = "float[j] y"


FOLDS = {
    "MatMul, left": (
        graph(f"c = MatMul (w, x)  {MAP}", f"float[4,3] w, {COLUMN}", x="float[3,5] x", y=FLAT),
        "MatMul Add",
    ),
    "MatMul, left, BatchNormalization": (
        graph(f"c = MatMul (w, x)  {NORM}", "float[4,3] w", x="float[2,3,5] x"),
        "MatMul Add",
    ),
    "MatMul, left, an Add that is there": (
        graph(
            f"d = MatMul (w, x)  c = Add (k, d)  {NORM}",
            "float[4,3] w, float[4,1] k",
            x="float[2,3,5] x",
        ),
        "MatMul Add",
    ),
    "MatMul, left, stacked": (
        graph(f"c = MatMul (w, x)  {NORM}", "float[1,4,3] w", x="float[2,3,5] x"),
        "MatMul Add",
    ),
    "MatMul, left, a stack of two": (
        graph(f"c = MatMul (w, x)  {NORM}", "float[2,4,3] w", x="float[2,3,5] x"),
        "MatMul Add",
    ),
    "MatMul, left, a vector on the right": (
        graph(f"c = MatMul (w, x)  {MAP}", f"float[4,3] w, {LINE}", x="float[3] x", y=OLD),
        "MatMul Add",
    ),
    "MatMul, left, scaled only": (
        graph("c = MatMul (w, x)  y = Mul (c, s)", f"float[4,3] w, {COLUMN}", x="float[2,3,5] x"),
        "MatMul",
    ),
    "MatMul, right, a stack of two": (
        graph(f"c = MatMul (x, w)  {MAP}", f"float[2,3,4] w, {LINE}", x="float[2,5,3] x"),
        "MatMul Add",
    ),
    "MatMul, right, a vector on the left": (
        graph(f"c = MatMul (x, w)  {MAP}", f"float[3,4] w, {LINE}", x="float[3] x", y=OLD),
        "MatMul Add",
    ),
    "FusedMatMul": (
        graph(
            f"c = com.microsoft.FusedMatMul <alpha = -0.5> (x, w)  {MAP}",
            f"float[3,4] w, {LINE}",
            x="float[2,5,3] x",
        ),
        "FusedMatMul Add",
    ),
    "FusedMatMul, all transposed": (
        graph(
            f"c = com.microsoft.FusedMatMul <alpha = -0.5, transA = 1, transB = 1> (x, w)  {NORM}",
            "float[4,3] w",
            x="float[3,5] x",
            y=FLAT,
        ),
        "FusedMatMul Add",
    ),
    "FusedMatMul, left, all transposed": (
        graph(
            f"c = com.microsoft.FusedMatMul <alpha = 3.0, transA = 1, transB = 1> (w, x)  {NORM}",
            "float[3,4] w",
            x="float[2,5,3] x",
        ),
        "FusedMatMul Add",
    ),
    "Gemm with a computed C": (
        graph(
            f"k = Gemm (z, h)  c = Gemm <alpha = 3.0, beta = -0.5> (x, w, k)  {NORM}",
            "float[3,4] w, float[6,4] h",
            x="float[5,3] x, float[5,6] z",
            y=FLAT,
        ),
        "Gemm Gemm",
    ),
    "Gemm with a computed C of one row": (
        graph(
            f"k = MatMul (z, h)  c = Gemm (x, w, k)  {NORM}",
            "float[3,4] w, float[6,4] h",
            x="float[5,3] x, float[6] z",
            y=FLAT,
        ),
        "MatMul Add Gemm",
    ),
    "Gemm with a computed C and an Add to it": (
        graph(
            f"i = MatMul (z, h)  k = Add (i, o)  c = Gemm (x, w, k)  {NORM}",
            "float[3,4] w, float[6,4] h, float[4] o",
            x="float[5,3] x, float[6] z",
            y=FLAT,
        ),
        "MatMul Add Gemm",
    ),
    "Gemm that does not read its C": (
        graph(
            f"c = Gemm <beta = 0.0> (x, w, k)  {NORM}",
            "float[3,4] w",
            x="float[5,3] x, float[5,4] k",
            y=FLAT,
        ),
        "Gemm",
    ),
    "FusedGemm": (
        graph(
            f"c = com.microsoft.FusedGemm <alpha = 3.0, beta = -0.5, transB = 1> (x, w, k)  {NORM}",
            "float[4,3] w, float[5,4] k",
            x="float[5,3] x",
            y=FLAT,
        ),
        "FusedGemm",
    ),
    "FusedGemm without C": (
        graph(
            f'c = com.microsoft.FusedGemm <activation = "", transA = 1> (x, w)  {NORM}',
            "float[3,4] w",
            x="float[3,5] x",
            y=FLAT,
        ),
        "FusedGemm",
    ),
}

KEPT = {
    "a vector on the left": (
        "axis-mismatch",
        graph(f"c = MatMul (w, x)  {MAP}", f"float[3] w, {LINE}", x="float[3,4] x", y=OLD),
        ("vector",),
    ),
    "columns of a weight on the left": (
        "axis-mismatch",
        graph(f"c = MatMul (w, x)  {MAP}", f"float[4,3] w, {LINE}", x="float[3,4] x", y=FLAT),
        (),
    ),
    "the rank of the right operand is not known": (
        "unknown-rank",
        graph("c = MatMul (w, x)  y = Mul (c, s)", f"float[4,3] w, {COLUMN}", x="float[] x"),
        ("x",),
    ),
    "no operand is constant": (
        "weight-not-constant",
        graph(f"c = MatMul (x, u)  {MAP}", LINE, x="float[5,3] x, float[3,4] u", y=FLAT),
        ("right operand",),
    ),
    "C is an input": (
        "weight-not-constant",
        graph(f"c = Gemm (x, w, k)  {NORM}", "float[3,4] w", x="float[5,3] x, float[4] k", y=FLAT),
        (),
    ),
    "C may have one column": (
        "weight-not-constant",
        graph(
            f"k = Gemm (z, h)  c = Gemm (x, w, k)  {NORM}",
            "float[3,4] w, float[6,1] h",
            x="float[5,3] x, float[5,6] z",
            y=FLAT,
        ),
        (),
    ),
    "FusedMatMul, a transposed batch": (
        "axis-mismatch",
        graph(
            f"c = com.microsoft.FusedMatMul <transBatchA = 1> (x, w)  {MAP}",
            f"float[3,4] w, {LINE}",
            x="float[2,5,3] x",
        ),
        (),
    ),
    "FusedGemm with an activation": (
        "not-through",
        graph(
            f'c = com.microsoft.FusedGemm <activation = "Relu"> (x, w)  {NORM}',
            "float[3,4] w",
            x="float[5,3] x",
            y=FLAT,
        ),
        ("Relu",),
    ),
}


@pytest.mark.parametrize(("text", "left"), FOLDS.values(), ids=FOLDS)
def test_folds(text: str, left: str) -> None:
    check_folds(text, left)


@pytest.mark.parametrize(("code", "text", "names"), KEPT.values(), ids=KEPT)
def test_kept(code: str, text: str, names: tuple[str, ...]) -> None:
    check_kept(text, code, *names)


@settings(max_examples=30, deadline=None)
@given(st.booleans(), st.booleans(), st.booleans(), st.floats(-3, 3), st.integers(0, 99))
def test_any_fused_matmul(
    is_left: bool, trans_a: bool, trans_b: bool, alpha: float, seed: int
) -> None:
    """BN on axis 1: rows of a weight on the left, columns of one on the right."""
    own, other = ("4,3", "3,5") if is_left else ("3,4", "5,3")
    if trans_a if is_left else trans_b:
        own = own[::-1]
    if trans_b if is_left else trans_a:
        other = other[::-1]
    other, y = (f"2,{other}", "float[j,k,l] y") if is_left else (other, FLAT)
    attributes = f"alpha = {alpha:.3f}, transA = {int(trans_a)}, transB = {int(trans_b)}"
    read = "w, x" if is_left else "x, w"
    body = f"c = com.microsoft.FusedMatMul <{attributes}> ({read})  {NORM}"
    check_folds(
        graph(body, f"float[{own}] w", x=f"float[{other}] x", y=y), "FusedMatMul Add", seed=seed
    )

"""Gemm and MatMul that take up the norm after them."""

from __future__ import annotations

from itertools import product

import pytest

from tests.support_cases import Case, check_fold
from tests.support_models import norm_parameters

NORM = "y = BatchNormalization (c, g, b, m, v)"
C_SHAPES = {"scalar": "", "(1,)": "[1]", "(N,)": "[4]", "(1,N)": "[1,4]", "(M,1)": "[2,1]"}
C_SHAPES |= {"(M,N)": "[2,4]", "(1,1)": "[1,1]"}


def gemm(attributes: str = "", c: str | None = None, *, norm: str = NORM) -> str:
    """A Gemm of a 2 x 3 by a 3 x 4, either of them transposed, with a C of shape ``c``."""
    x = "3,2" if "transA=1" in attributes else "2,3"
    w = "4,3" if "transB=1" in attributes else "3,4"
    declared, third = ("", "") if c is None else (f"float{c} bias, ", ", bias")
    return f"""agraph (float[{x}] x) => (float[2,4] y)
        <float[{w}] w, {declared}{norm_parameters(4)}> {{
        c = Gemm {f"<{attributes}>" if attributes else ""} (x, w{third})
        {norm}
    }}"""


def matmul(x: str, w: str, body: str, more: str = "") -> str:
    """A MatMul by a ``w``, and ``body``, which makes y of c; y has one of x's or w's ranks."""
    rank = max(len(x.split(",")), len(w.split(",")))
    return f"""agraph (float[{x}] x) => (float[{",".join("abcde"[:rank])}] y)
        <float[{w}] w, {norm_parameters(4)}, float[4] k, float[4] l{more}> {{
        c = MatMul (x, w)
        {body}
    }}"""


GEMM = {
    f"{c} beta={beta} transA={a} transB={b} alpha={alpha}": gemm(
        f"beta={beta}, transA={a}, transB={b}, alpha={alpha}", C_SHAPES[c]
    )
    for c, beta, a, b, alpha in product(C_SHAPES, ["0.0", "0.5", "1.0", "2.0"], [0], [0, 1], [1.0])
}
GEMM |= {
    f"{c} transA={a} transB={b} alpha={alpha}": gemm(
        f"beta=0.5, transA={a}, transB={b}, alpha={alpha}", C_SHAPES[c]
    )
    for c, a, b, alpha in product(["(N,)", "(M,1)"], [0, 1], [0, 1], ["0.5", "-2.0"])
}
GEMM |= {f"no C, {a}": gemm(a) for a in ["", "transA=1", "transB=1", "alpha=0.5", "beta=2.0"]}
GEMM |= {
    "no C, empty": gemm().replace("(x, w)", '(x, w, "")'),
    "no attributes": gemm("", "[4]"),
    "square weight": gemm("", "[4]").replace("[2,3] x", "[2,4] x").replace("[3,4] w", "[4,4] w"),
    "Mul and Add": gemm("beta=2.0", "[4]", norm="d = Mul (c, g)  y = Add (b, d)"),
    "Mul and Add, (M,1)": gemm("beta=2.0", "[2,1]", norm="d = Mul (c, g)  y = Add (b, d)"),
    "Add of (1,N)": gemm("beta=2.0", "[4]", norm="d = Mul (c, g)  y = Add (d, k)").replace(
        "4] w", "4] w, float[1,4] k"
    ),
    "beta=0 and a C that is an input": gemm("beta=0.0", "[4]")
    .replace("[2,3] x", "[2,3] x, float[2,4] z")
    .replace("(x, w, bias)", "(x, w, z)")
    .replace("float[4] bias, ", ""),
}

MATMUL = {
    "2-D": (matmul("2,3", "3,4", NORM), "MatMul Add"),
    "2-D, no shift": (matmul("2,3", "3,4", "y = Mul (c, k)"), "MatMul"),
    "2-D, no shift, constant first": (matmul("2,3", "3,4", "y = Mul (k, c)"), "MatMul"),
    "2-D, division": (matmul("2,3", "3,4", "y = Div (c, k)"), "MatMul"),
    "2-D, Add before": (
        matmul("2,3", "3,4", "d = Add (c, k)  y = BatchNormalization (d, g, b, m, v)"),
        "MatMul Add",
    ),
    "2-D, Add before, constant first": (
        matmul("2,3", "3,4", "d = Add (k, c)  y = BatchNormalization (d, g, b, m, v)"),
        "MatMul Add",
    ),
    "2-D, Add of (1,N) before": (
        matmul(
            "2,3",
            "3,4",
            "d = Add (c, r)  y = BatchNormalization (d, g, b, m, v)",
            ", float[1,4] r",
        ),
        "MatMul Add",
    ),
    "2-D, Add after": (matmul("2,3", "3,4", "d = Mul (c, k)  y = Add (d, l)"), "MatMul Add"),
    "2-D, Add after, constant first": (
        matmul("2,3", "3,4", "d = Mul (k, c)  y = Add (l, d)"),
        "MatMul Add",
    ),
    "2-D, Sub after": (matmul("2,3", "3,4", "d = Mul (c, k)  y = Sub (d, l)"), "MatMul Add"),
    "2-D, constant minus": (matmul("2,3", "3,4", "y = Sub (k, c)"), "MatMul Add"),
    "2-D, two Adds": (matmul("2,3", "3,4", "d = Add (c, k)  y = Add (d, l)"), "MatMul Add"),
    "2-D, scalar": (matmul("2,3", "3,4", "y = Mul (c, s)", ", float s"), "MatMul"),
    "2-D, Add of a scalar": (
        matmul("2,3", "3,4", "d = Mul (c, k)  y = Add (d, s)", ", float s"),
        "MatMul Add",
    ),
    "3-D by 2-D": (matmul("2,5,3", "3,4", "d = Mul (c, k)  y = Add (l, d)"), "MatMul Add"),
    "3-D by 2-D, [1,1,C]": (
        matmul(
            "2,5,3", "3,4", "d = Mul (c, q)  y = Add (q2, d)", ", float[1,1,4] q, float[1,4] q2"
        ),
        "MatMul Add",
    ),
    "batched weight": (
        matmul("2,5,3", "2,3,4", "d = Mul (c, k)  y = Add (l, d)"),
        "MatMul Add",
    ),
    "batched weight, 2-D data": (matmul("5,3", "2,3,4", "y = Mul (c, k)"), "MatMul"),
    "4-D by 3-D": (matmul("2,2,5,3", "2,3,4", "y = Div (c, k)"), "MatMul"),
    "vector on the left": (
        matmul("3", "3,4", "y = Mul (c, k)").replace("[a,b] y", "[4] y"),
        "MatMul",
    ),
    "square weight": (matmul("2,4", "4,4", NORM), "MatMul Add"),
    "L == C": (matmul("2,4,3", "3,4", "d = Mul (c, k)  y = Add (d, l)"), "MatMul Add"),
}


@pytest.mark.parametrize("text", GEMM.values(), ids=GEMM)
def test_gemm(text: str) -> None:
    check_fold(Case(text, "Gemm"), draws=1)


@pytest.mark.parametrize(("text", "left"), MATMUL.values(), ids=MATMUL)
def test_matmul(text: str, left: str) -> None:
    check_fold(Case(text, left))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float", "double"])
def test_dtypes(dtype: str) -> None:
    check_fold(Case(gemm("beta=0.5", "[2,1]"), "Gemm", dtype=dtype, opset=15, ir=8))
    check_fold(Case(MATMUL["3-D by 2-D"][0], "MatMul Add", dtype=dtype))


@pytest.mark.parametrize("beta", ["0.0", "0.5", "2.0"])
def test_beta_is_multiplied_once(beta: str) -> None:
    """Bias 3 under a scale of 2 becomes 6 beta, whatever the node's own beta does to it."""
    import numpy as np

    import bnfold
    from tests.support_models import constant, with_values

    case = Case(gemm(f"beta={beta}", "[4]", norm="d = Mul (c, g)  y = Add (b, d)"), "Gemm")
    folded = bnfold.fold(with_values(case.model(), bias=3, g=2, b=1)).model
    node = folded.graph.node[0]
    factor = next(attribute.f for attribute in node.attribute if attribute.name == "beta")
    assert np.array_equal(factor * constant(folded, node.input[2]), [6 * float(beta) + 1] * 4)

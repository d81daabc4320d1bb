"""Norms in all their spellings: chains of constant arithmetic, one norm after another."""

from __future__ import annotations

import pytest

from tests.support_cases import Case, check_fold
from tests.support_models import norm_parameters

PARAMETERS = f"""float[4,3,3,3] w, float[4] bias, {norm_parameters(4)}, {norm_parameters(4, "2")},
    float[4,1,1] k, float[4,1,1] l, float[1,4,1,1] k4, float[1,4,1,1] l4, float s, float t,
    float[1] s1, float[1,1,1,1] s4, float r = {{0.5}}, float r1 = {{0.1}}, bool never = {{0}}"""
BN = "BatchNormalization"


def after_conv(body: str, conv: str = "Conv (x, w)") -> str:
    """A graph in which ``body`` makes y of c, the output of a convolution."""
    used = [p.strip() for p in _declared() if _name(p) in _words(body + conv)]
    return f"""agraph (float[2,3,6,5] x) => (float[n,c,h,w] y) <{", ".join(used)}> {{
        c = {conv}
        {body}
    }}"""


def _declared() -> list[str]:
    depth, parts, part = 0, [], ""
    for character in PARAMETERS:
        depth += {"[": 1, "]": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += character
    return [*parts, part]


def _name(declaration: str) -> str:
    return declaration.split("=")[0].split()[-1]


def _words(text: str) -> set[str]:
    return set(text.replace(",", " ").replace("(", " ").replace(")", " ").split())


CHAINS = {
    "mul": "y = Mul (c, k)",
    "mul, constant first": "y = Mul (k, c)",
    "mul [1,C,1,1]": "y = Mul (c, k4)",
    "mul then add": "d = Mul (c, k)  y = Add (d, l)",
    "mul then add, constants first": "d = Mul (k, c)  y = Add (l, d)",
    "mul then add of different ranks": "d = Mul (c, k4)  y = Add (d, l)",
    "sub then mul": "d = Sub (c, l)  y = Mul (d, k)",
    "sub then div": "d = Sub (c, l)  y = Div (d, k)",
    "input normalisation": "d = Sub (c, l)  e = Div (d, k)  f = Mul (e, l)  y = Add (f, k)",
    "constant minus": "d = Sub (l, c)  y = Mul (d, k)",
    "constant minus, twice": "d = Sub (l, c)  e = Sub (k, d)  y = Mul (e, k)",
    "minus itself a scalar": "d = Sub (t, c)  y = Mul (d, k)",
    "div by a scalar": "d = Div (c, s)  y = Mul (d, k)",
    "scalars between": "d = Mul (c, s)  e = Mul (d, k)  f = Add (e, t)  y = Sub (f, l)",
    "[1] and [1,1,1,1]": "d = Mul (c, s1)  e = Add (d, s4)  y = Mul (e, k)",
    "long": "d = Mul (c, k)  e = Mul (d, k4)  f = Add (e, l)  g1 = Div (f, k)  y = Sub (l4, g1)",
}
CHAINS = {name: after_conv(body) for name, body in CHAINS.items()}
CHAINS |= {
    "keras": after_conv("d = Mul (c, k)  y = Add (d, l)", "Conv <pads=[1,1,1,1]> (x, w, bias)"),
    "scale only, bias": after_conv("y = Mul (c, k)", "Conv (x, w, bias)"),
    "shift only, bias": after_conv("d = Add (c, l)  y = Mul (d, k4)", "Conv (x, w, bias)"),
    "caffe": after_conv(f"n = {BN} (c, g, b, m, v)  d = Mul (n, k)  y = Add (d, l)"),
    "arithmetic before": after_conv(f"d = Mul (c, s)  e = Add (d, l)  y = {BN} (e, g, b, m, v)"),
    "paddle": after_conv(f"d = Add (c, l4)  e = Identity (d)  y = {BN} (e, g, b, m, v)"),
    "identity before": after_conv(f"d = Identity (c)  y = {BN} (d, g, b, m, v)"),
    "identities": after_conv(
        f"d = Identity (c)  e = Identity (d)  f = {BN} (e, g, b, m, v)  h = Identity (f)"
        "  y = Mul (h, k)"
    ),
    "dropout": after_conv(f"d = Dropout (c)  y = {BN} (d, g, b, m, v)"),
    "dropout with ratio": after_conv(f"d = Dropout (c, r)  y = {BN} (d, g, b, m, v)"),
    "dropout with training_mode=0": after_conv(
        f"d = Dropout (c, r, never)  y = {BN} (d, g, b, m, v)"
    ),
    "dropout with a mask": after_conv(f"d, mask = Dropout (c)  y = {BN} (d, g, b, m, v)"),
    "dropout, identity": after_conv(
        f"d = Dropout <seed=3> (c, r1)  e = Identity (d)  y = {BN} (e, g, b, m, v)"
    ),
}

TWO_NORMS = {
    "BN after BN": f"d = {BN} (c, g, b, m, v)  y = {BN} (d, g2, b2, m2, v2)",
    "BN after BN, Identity between": (
        f"d = {BN} (c, g, b, m, v)  e = Identity (d)  y = {BN} (e, g2, b2, m2, v2)"
    ),
    "BN after BN, Mul between": (
        f"d = {BN} (c, g, b, m, v)  e = Mul (d, k)  y = {BN} (e, g2, b2, m2, v2)"
    ),
    "BN after itself": f"d = {BN} (c, g, b, m, v)  y = {BN} (d, g, b, m, v)",
}

REST = {
    "Relu after": Case(
        after_conv(f"n = {BN} (c, g, b, m, v)  d = Mul (n, k)  y = Relu (d)"), "Conv Relu"
    ),
    "Identity after": Case(
        after_conv(f"n = {BN} (c, g, b, m, v)  y = Identity (n)"), "Conv Identity"
    ),
    "Relu between": Case(
        after_conv(
            f"n = {BN} (c, g, b, m, v)  d = Relu (n)  e = Conv (d, q)  y = Mul (e, k)"
        ).replace("float[4] g", "float[4,4,1,1] q, float[4] g"),
        "Conv Relu Conv",
        folds=2,
        roundings=2,
    ),
    "norm of the rest is an output too": Case(
        after_conv(f"n = {BN} (c, g, b, m, v)  y = Mul (n, k)").replace(
            "=> (float[n,c,h,w] y", "=> (float[n,c,h,w] n, float[n,c,h,w] y"
        ),
        "Conv Mul",
        kept=("graph-output",),
    ),
    "bias spelt by Add and shared norm": Case(
        after_conv(
            f"d = Add (c, l)  n = {BN} (d, g, b, m, v)  e = Conv (x, w)  f = Add (e, l)"
            f"  o = {BN} (f, g, b, m, v)  y = Add (n, o)"
        ),
        "Conv Conv Add",
        folds=2,
    ),
    "unsorted nodes": Case(
        f"""agraph (float[2,3,6,5] x) => (float[n,c,h,w] y)
        <float[4,3,3,3] w, {norm_parameters(4)}, float[4,1,1] k> {{
            y = Mul (n, k)
            n = {BN} (c, g, b, m, v)
            c = Conv (x, w)
        }}""",
        "Conv",
        check="none",
    ),
}


@pytest.mark.parametrize("text", CHAINS.values(), ids=CHAINS)
def test_chain(text: str) -> None:
    check_fold(Case(text, "Conv"))


@pytest.mark.parametrize("body", TWO_NORMS.values(), ids=TWO_NORMS)
def test_two_norms(body: str) -> None:
    check_fold(Case(after_conv(body), "Conv", folds=2))


@pytest.mark.parametrize("case", REST.values(), ids=REST)
def test_surroundings(case: Case) -> None:
    check_fold(case)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "double"])
def test_dtypes(dtype: str) -> None:
    check_fold(Case(CHAINS["caffe"], "Conv", dtype=dtype, opset=22, ir=10))
    check_fold(Case(CHAINS["input normalisation"], "Conv", dtype=dtype, opset=22, ir=10))


@pytest.mark.parametrize("opset", [13, 14, 17, 22, 25])
def test_opsets(opset: int) -> None:
    check_fold(Case(CHAINS["caffe"], "Conv", opset=opset))
    check_fold(Case(CHAINS["dropout, identity"], "Conv", opset=opset))

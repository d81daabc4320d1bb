"""Norms that stay because no way through the graph is exact, or none gains anything."""

from __future__ import annotations

import pytest

import bnfold
from tests.support_kept import ALSO, BN, Row, check_kept, graph
from tests.support_models import filled, norm_parameters, parsed

WITH_OTHER = "float[2,3,6,5] x, float[2,4,4,3] o"
KERNEL = ", float[4,4,3,3] u"


def behind(nodes: str, more: str = KERNEL, y: str | None = None) -> str:
    """A norm y of a sigmoid, and what reads it."""
    head = f"c = Conv (x, w)  s = Sigmoid (c)  y = {BN} (s, g, b, m, v)"
    return graph(f"{head}  {nodes}", more=more, y=y or "float[i,j,k,l] z")


ROUTES = {
    "a shift before zeros": Row(
        "zero-padding", ("s", "z"), behind("z = Conv <pads=[1,1,1,1]> (y, u)")
    ),
    "a shift before zeros on one side": Row(
        "zero-padding", ("z",), behind("z = Conv <pads=[0,0,0,1]> (y, u)", ", float[9,4,2,2] u")
    ),
    "a shift before SAME": Row(
        "zero-padding", ("z",), behind('z = Conv <auto_pad="SAME_UPPER"> (y, u)')
    ),
    "one reader of two pads": Row(
        "zero-padding",
        ("z",),
        behind("a = Conv (y, u)  z = Conv <pads=[1,1,1,1]> (y, u)", y=ALSO.replace("y", "a") + "z"),
    ),
    "a shift before ConvTranspose": Row(
        "uneven-border", ("z", "ConvTranspose"), behind("z = ConvTranspose (y, u)")
    ),
    "a shift before a stack of matrices": Row(
        "uneven-border",
        ("z", "stack"),
        graph(
            f"s = Sigmoid (x)  y = {BN} (s, g, b, m, v)  z = MatMul (y, u)",
            x="float[2,4] x",
            y="float[i,j,k] z",
            more=", float[3,4,2] u",
        ),
    ),
    "two heads without a bias": Row(
        "adds-work",
        ("y", "2 Add"),
        graph(
            f"s = Sigmoid (x)  y = {BN} (s, g, b, m, v)  a = MatMul (y, u)  z = MatMul (y, u)",
            x="float[2,4] x",
            y="float[i,j] a, float[i,j] z",
            more=", float[4,3] u",
        ),
    ),
    "the scale of a LayerNormalization in parts": Row(
        "written-out-norm",
        ("y", "n"),
        graph(
            "a = ReduceMean <axes=[-1]> (x)  d = Sub (x, a)  p = Mul (d, d)"
            "  e = ReduceMean <axes=[-1]> (p)  f = Add (e, tiny)  q = Sqrt (f)  n = Div (d, q)"
            "  y = Mul (n, k)  o = Add (y, l)  z = MatMul (o, u)",
            x="float[2,7,4] x",
            y="float[i,j,k] z",
            more=", float[4] k, float[4] l, float tiny, float[4,3] u",
        ),
    ),
    "a Relu before a Conv": Row(
        "not-through",
        ("r (Relu) lets only positive scales", "; nor can it go back: s is made by s, a Sigmoid"),
        behind("r = Relu (y)  z = Conv (r, u)"),
    ),
    "a Relu before nothing linear": Row(
        "producer-not-linear",
        ("s is made by s, a Sigmoid", "; nor can it go forward: r is read by z, a Tanh"),
        behind("r = Relu (y)  z = Tanh (r)", ""),
    ),
    "a Relu on the way back, zeros on the way forward": Row(
        "zero-padding",
        ("z pads its input with zeros", "; nor can it go back: r (Relu) lets only positive"),
        graph(
            f"c = Conv (x, w)  r = Relu (c)  y = {BN} (r, g, b, m, v)"
            "  z = Conv <pads=[1,1,1,1]> (y, u)",
            y="float[i,j,k,l] z",
            more=KERNEL,
        ),
    ),
    "a branch that begins at an input": Row(
        "producer-not-linear",
        ("o, which a (Sum) joins to what linear operators make, is a graph input",),
        graph(f"c = Conv (x, w)  a = Sum (c, o)  y = {BN} (a, g, b, m, v)", x=WITH_OTHER),
    ),
    "a branch that ends at an input": Row(
        "producer-not-linear",
        ("p, which a (Concat) joins to what linear operators make, comes from none: e is made by",),
        graph(
            f"c = Conv (x, u)  e = Tanh (o)  q = Sum (e, c)  p = MaxPool <kernel_shape=[1,1]> (q)"
            f"  d = Conv (x, u)  a = Concat <axis=1> (d, p)  y = {BN} (a, g, b, m, v)",
            x=WITH_OTHER.replace("4,4,3] o", "2,4,3] o"),
            w="float[2,3,3,3] u, ",
        ),
    ),
    "a sigmoid between": Row(
        "producer-not-linear",
        ("s", "z"),
        behind("z = Sigmoid (y)", ""),
    ),
}


@pytest.mark.parametrize("row", ROUTES.values(), ids=ROUTES)
def test_routes(row: Row) -> None:
    check_kept(row)


BY_THEMSELVES = {"different-norms"}
"""Codes that two norms get at once, so that no row can hold them."""


def test_two_norms_that_differ() -> None:
    text = graph(
        f"c = Conv (x, w)  y = {BN} (c, g, b, m, v)  z = {BN} (c, g2, b2, m2, v2)",
        y=ALSO + "z",
        more=f", {norm_parameters(4, '2')}",
    )
    report = bnfold.fold(filled(parsed(text))).report
    assert [norm.norm for norm in report.kept] == ["y", "z"]
    for norm, other in zip(report.kept, ("z", "y"), strict=True):
        assert norm.code == "different-norms"
        assert f"also read by {other}" in norm.reason

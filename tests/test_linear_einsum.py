"""Einsum of data and a constant takes up a map behind it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support_linear import NORM, check_folds, check_kept, graph

LINE = "float[4] s, float[4] t"
MAP = "d = Mul (c, s)  y = Add (d, t)"
FLAT = "float[j,k] y"


def einsum(equation: str, first: str = "x", second: str = "w") -> str:
    return f'c = Einsum <equation = "{equation}"> ({first}, {second})'


FOLDS = {
    "Einsum": (
        graph(f"{einsum('bij,jk->bik')}  {MAP}", f"float[3,4] w, {LINE}", x="float[2,5,3] x"),
        "Einsum Add",
    ),
    "Einsum, implicit": (
        graph(f"{einsum(' bij , jk ')}  {MAP}", f"float[3,4] w, {LINE}", x="float[2,5,3] x"),
        "Einsum Add",
    ),
    "Einsum, the weight first, channels on axis 1": (
        graph(
            f"{einsum('oi,bil->bol', 'w', 'x')}  {NORM}",
            "float[4,3] w",
            x="float[2,3,5] x",
        ),
        "Einsum Add",
    ),
    "Einsum, two labels summed": (
        graph(
            f"{einsum('bhd,hdk->bk')}  {MAP}",
            f"float[3,2,4] w, {LINE}",
            x="float[5,3,2] x",
            y=FLAT,
        ),
        "Einsum Add",
    ),
    "Einsum, a label of both in the output": (
        graph(f"{einsum('hbi,hij->hbj')}  {MAP}", f"float[2,3,4] w, {LINE}", x="float[2,5,3] x"),
        "Einsum Add",
    ),
    "Einsum, elementwise": (
        graph(f"{einsum('bic,c->bic')}  {MAP}", f"float[4] w, {LINE}", x="float[2,5,4] x"),
        "Einsum Add",
    ),
    "Einsum, a label that only the data sums": (
        graph(f"{einsum('bij,k->bk')}  {MAP}", f"float[4] w, {LINE}", x="float[2,5,3] x", y=FLAT),
        "Einsum Add",
    ),
    "Einsum, an ellipsis": (
        graph(f"{einsum('...j,jk->...k')}  {MAP}", f"float[3,4] w, {LINE}", x="float[2,5,3] x"),
        "Einsum Add",
    ),
    "Einsum, an Add that is there": (
        graph(
            f"{einsum('bij,jk->bik')}  i = Add (c, o)  d = Mul (i, s)  y = Add (d, t)",
            f"float[3,4] w, float[4] o, {LINE}",
            x="float[2,5,3] x",
        ),
        "Einsum Add",
    ),
}

KEPT = {
    "Einsum, an ellipsis of both": (
        "axis-mismatch",
        graph(f"{einsum('...j,...jk->...k')}  {MAP}", f"float[3,4] w, {LINE}", x="float[2,5,3] x"),
        ("ellipsis",),
    ),
    "Einsum, a repeated label": (
        "axis-mismatch",
        graph(
            f"{einsum('bjj,jk->bk')}  {MAP}", f"float[3,4] w, {LINE}", x="float[2,3,3] x", y=FLAT
        ),
        ("repeats",),
    ),
    "Einsum, another axis": (
        "axis-mismatch",
        graph(f"{einsum('bij,jk->bki')}  {MAP}", f"float[3,4] w, {LINE}", x="float[2,4,3] x"),
        (),
    ),
    "Einsum, nothing of the constant in the output": (
        "axis-mismatch",
        graph(f"{einsum('bij,j->bi')}  {MAP}", f"float[3] w, {LINE}", x="float[2,4,3] x", y=FLAT),
        (),
    ),
    "Einsum of one operand": (
        "weight-not-constant",
        graph(f'c = Einsum <equation = "ij->ji"> (x)  {MAP}', LINE, x="float[4,3] x", y=FLAT),
        (),
    ),
    "Einsum, no constant": (
        "weight-not-constant",
        graph(
            f"{einsum('ij,jk->ik', 'x', 'u')}  {MAP}", LINE, x="float[5,3] x, float[3,4] u", y=FLAT
        ),
        (),
    ),
    "Einsum, a wrong equation": (
        "malformed-node",
        graph(f"{einsum('ij->ik')}  {MAP}", f"float[3,4] w, {LINE}", x="float[5,3] x", y=FLAT),
        (),
    ),
    "Einsum, labels that do not fit": (
        "malformed-node",
        graph(f"{einsum('ij,k->ik')}  {MAP}", f"float[3,4] w, {LINE}", x="float[5,3] x", y=FLAT),
        (),
    ),
}


@pytest.mark.parametrize(("text", "left"), FOLDS.values(), ids=FOLDS)
def test_folds(text: str, left: str) -> None:
    check_folds(text, left)


@pytest.mark.parametrize(("code", "text", "names"), KEPT.values(), ids=KEPT)
def test_kept(code: str, text: str, names: tuple[str, ...]) -> None:
    check_kept(text, code, *names)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_einsum(data: st.DataObject) -> None:
    """Labels of every kind: of the data, of the constant, of both; summed or not."""
    sizes = dict(zip("abcdk", (2, 3, 5, 2, 4), strict=True))
    others = data.draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True))
    more = data.draw(st.lists(st.sampled_from("abcd"), max_size=2, unique=True))
    constant = data.draw(st.permutations([*more, "k"]))
    both = sorted({*others, *more})
    kept = data.draw(st.lists(st.sampled_from(both), max_size=2, unique=True))
    equation = f"{''.join(others)},{''.join(constant)}->{''.join(kept)}k"

    def shape(labels: list[str]) -> str:
        return ",".join(str(sizes[label]) for label in labels)

    axes = ",".join("pqr"[: len(kept) + 1])
    text = graph(
        f"{einsum(equation)}  {MAP}",
        f"float[{shape(constant)}] w, {LINE}",
        x=f"float[{shape(others)}] x",
        y=f"float[{axes}] y",
    )
    check_folds(text, "Einsum Add")

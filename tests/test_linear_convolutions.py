"""DeformConv and FusedConv take up maps, and so do convolutions whose bias is computed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support_linear import NORM, check_folds, check_kept, graph

Y = "float[i,j,k,l] y"
IMAGE = "float[2,3,6,5] x"
W = "float[4,3,3,3] w"
SHIFTED = "s = Mul (x, a)  c = Add (s, t)"
SCALED = "c = Mul (x, a)"
FACTORS = "float[3,1,1] a, float[3,1,1] t"


def conv(op: str, inputs: str, declared: str = "", x: str = "", before: str = "") -> str:
    """An operator, and a norm behind it."""
    more = f"{W}, {declared}" if declared else W
    return graph(f"{before} c = {op} ({inputs})  {NORM}", more, x=f"{IMAGE}{x}", y=Y)


FUSED = "com.microsoft.FusedConv"
DEFORM = "DeformConv <pads = [1,1,1,1]>"
OFFSET = ", float[2,18,6,5] o"

FOLDS = {
    "DeformConv": (conv(DEFORM, "x, w, o", x=OFFSET), "DeformConv"),
    "DeformConv with a bias": (
        conv(DEFORM, "x, w, o, b0", "float[4] b0", x=OFFSET),
        "DeformConv",
    ),
    "DeformConv with a mask and no bias": (
        conv(DEFORM, 'x, w, o, "", k', x=f"{OFFSET}, float[2,9,6,5] k"),
        "DeformConv",
    ),
    "DeformConv with all": (
        graph(
            "c = DeformConv <group = 2, offset_group = 2, strides = [2,1], dilations = [1,2]> "
            f"(x, w, o, b0, k)  {NORM}",
            "float[4,2,2,2] w, float[4] b0",
            x="float[2,4,5,5] x, float[2,16,2,3] o, float[2,8,2,3] k",
            y=Y,
        ),
        "DeformConv",
    ),
    "a scale before DeformConv": (
        graph(
            f"{SCALED}  y = DeformConv (c, w, o)",
            f"{W}, {FACTORS}",
            x=f"{IMAGE}, float[2,18,4,3] o",
            y=Y,
        ),
        "DeformConv",
    ),
    "FusedConv": (conv(FUSED, "x, w"), "FusedConv"),
    "FusedConv, an empty activation": (
        conv(f'{FUSED} <activation = "", pads = [1,1,1,1]>', "x, w, b0", "float[4] b0"),
        "FusedConv",
    ),
    "FusedConv and a convolution added to it": (
        conv(FUSED, 'x, w, "", z', "float[4,3,3,3] u", before="z = Conv <strides = [1,1]> (x, u) "),
        "Conv FusedConv",
    ),
    "FusedConv with a bias and a convolution added to it": (
        conv(FUSED, "x, w, b0, z", "float[4,3,3,3] u, float[4] b0", before="z = Conv (x, u) "),
        "Conv FusedConv",
    ),
    "a norm before FusedConv with an activation": (
        graph(
            f'{SHIFTED}  y = {FUSED} <activation = "Relu"> (c, w, b0, z)',
            f"{W}, {FACTORS}, float[4] b0",
            x=f"{IMAGE}, float[2,4,4,3] z",
            y=Y,
        ),
        "FusedConv",
    ),
    "Conv whose bias is a MatMul": (
        conv("Conv", "x, w, k", "float[6,4] h", x=", float[6] z", before="k = MatMul (z, h) "),
        "MatMul Add Conv",
    ),
    "Conv whose bias is a MatMul with an Add": (
        conv(
            "Conv",
            "x, w, k",
            "float[6,4] h, float[4] o",
            x=", float[6] z",
            before="i = MatMul (z, h)  k = Add (i, o) ",
        ),
        "MatMul Add Conv",
    ),
    "Conv whose bias is a Gemm": (
        conv(
            "Conv",
            "x, w, k",
            "float[6,4] h, float[4] o, int64[1] axes",
            x=", float[1,6] z",
            before="i = Gemm (z, h, o)  axes = Constant <value_ints = [0]> ()  "
            "k = Squeeze (i, axes) ",
        ).replace(", int64[1] axes", ""),
        "Gemm Constant Squeeze Conv",
    ),
    "ConvTranspose whose bias is a MatMul": (
        graph(
            f"k = MatMul (z, h)  c = ConvTranspose <group = 2> (x, w, k)  {NORM}",
            "float[4,2,3,3] w, float[6,4] h",
            x="float[2,4,4,3] x, float[6] z",
            y=Y,
        ),
        "MatMul Add ConvTranspose",
    ),
    "a scale before a Conv whose bias is an input": (
        graph(f"{SCALED}  y = Conv (c, w, k)", f"{W}, {FACTORS}", x=f"{IMAGE}, float[4] k", y=Y),
        "Conv",
    ),
}

KEPT = {
    "DeformConv with a computed weight": (
        "weight-not-constant",
        graph(f"c = DeformConv (x, w, o)  {NORM}", "", x=f"{IMAGE}, {W}, float[2,18,4,3] o", y=Y),
        ("weight",),
    ),
    "a shift before DeformConv": (
        "zero-padding",
        graph(
            f"{SHIFTED}  y = DeformConv (c, w, o)",
            f"{W}, {FACTORS}",
            x=f"{IMAGE}, float[2,18,4,3] o",
            y=Y,
        ),
        ("zeros outside",),
    ),
    "FusedConv with an activation": (
        "not-through",
        conv(f'{FUSED} <activation = "Relu">', "x, w"),
        ("Relu",),
    ),
    "FusedConv and an input added to it": (
        "weight-not-constant",
        conv(FUSED, 'x, w, "", z', x=", float[2,4,4,3] z"),
        ("input 3", "z is a graph input"),
    ),
    "FusedConv and an activation added to it": (
        "not-through",
        conv(FUSED, 'x, w, "", z', "float[4,3,3,3] u", before="i = Conv (x, u)  z = Relu (i) "),
        ("z (Relu)",),
    ),
    "FusedConv with another attribute": (
        "unknown-attribute",
        conv(f"{FUSED} <alpha = 1.0>", "x, w"),
        ("alpha",),
    ),
    "Conv whose bias is an input": (
        "weight-not-constant",
        conv("Conv", "x, w, k", x=", float[4] k"),
        ("k is a graph input",),
    ),
    "Conv whose bias others read": (
        "shared-tensor",
        graph(
            f"k = MatMul (z, h)  c = Conv (x, w, k)  e = Exp (k)  {NORM}",
            f"{W}, float[6,4] h",
            x=f"{IMAGE}, float[6] z",
            y=f"{Y}, float[4] e",
        ),
        ("k is also read by e",),
    ),
    "a norm before a Conv whose bias is an input": (
        "weight-not-constant",
        graph(f"{SHIFTED}  y = Conv (c, w, k)", f"{W}, {FACTORS}", x=f"{IMAGE}, float[4] k", y=Y),
        ("the bias of y: k is a graph input",),
    ),
}


@pytest.mark.parametrize(("text", "left"), FOLDS.values(), ids=FOLDS)
def test_folds(text: str, left: str) -> None:
    check_folds(text, left)


@pytest.mark.parametrize(("code", "text", "names"), KEPT.values(), ids=KEPT)
def test_kept(code: str, text: str, names: tuple[str, ...]) -> None:
    check_kept(text, code, *names)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 2),
    st.integers(1, 2),
    st.integers(1, 2),
    st.integers(0, 1),
    st.booleans(),
    st.booleans(),
    st.sampled_from([19, 22]),
)
def test_any_deform_conv(
    group: int, offsets: int, stride: int, pad: int, has_bias: bool, has_mask: bool, opset: int
) -> None:
    rows, columns = (6 + 2 * pad - 3) // stride + 1, (5 + 2 * pad - 2) // stride + 1
    place = f"{rows},{columns}"
    third = "b0" if has_bias else '""'
    inputs = f"x, w, o, {third}, k" if has_mask else f"x, w, o, {third}"
    attributes = f"group = {group}, offset_group = {offsets}, strides = [{stride},{stride}]"
    body = f"c = DeformConv <{attributes}, pads = [{pad},{pad},{pad},{pad}]> ({inputs})  {NORM}"
    text = graph(
        body,
        f"float[4,{4 // group},3,2] w" + ", float[4] b0" * has_bias,
        x=f"float[2,4,6,5] x, float[2,{12 * offsets},{place}] o"
        + f", float[2,{6 * offsets},{place}] k" * has_mask,
        y=Y,
    )
    check_folds(text, "DeformConv", opset=opset)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 2), st.booleans(), st.booleans(), st.integers(0, 99))
def test_any_fused_conv(group: int, has_bias: bool, has_sum: bool, seed: int) -> None:
    inputs = f"x, w, {'b0' if has_bias else chr(34) * 2}" + ", z" * has_sum
    body = f"c = {FUSED} <group = {group}, pads = [1,0,1,0]> ({inputs})  {NORM}"
    if has_sum:
        body = f"z = Conv <pads = [1,0,1,0]> (x, u)  {body}"
    declared = f"float[4,{4 // group},3,2] w" + ", float[4] b0" * has_bias
    declared += ", float[4,4,3,2] u" * has_sum
    text = graph(body, declared, x="float[2,4,6,5] x", y=Y)
    check_folds(text, "Conv FusedConv" if has_sum else "FusedConv", seed=seed)

"""Linear operators take up a map in front of them: ``op(s x + t, W, b) == op(x, W s, b + W t)``."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support_linear import check_folds, check_kept, graph

NORM = "c = BatchNormalization (x, g, b, m, v)"
MAP = "d = Mul (x, s)  c = Add (d, t)"
LINE = "float[4] s, float[4] t"
IMAGE = "float[2,4,6,5] x"
Y = "float[i,j,k,l] y"
FLAT = "float[j,k] y"

FOLDS = {
    "Gemm": (graph(f"{NORM}  y = Gemm (c, w)", "float[4,3] w", x="float[5,4] x", y=FLAT), "Gemm"),
    "Gemm with a C of each form": (
        graph(
            f"{NORM}  y = Gemm (c, w, k0)  z = Gemm (c, w, k1)  u = Gemm (c, w, k2)  "
            "p = Gemm (c, w, k3)  q = Gemm <beta = 0.0> (c, w, k4)",
            "float[4,3] w, float[3] k0, float k1, float[1,3] k2, float[5,3] k3, float[5,1] k4",
            x="float[5,4] x",
            y=f"{FLAT}, float[j,k] z, float[j,k] u, float[j,k] p, float[j,k] q",
        ),
        "Gemm Gemm Gemm Gemm Gemm",
    ),
    "Gemm with a C for each of unknown rows": (
        graph(
            f"{NORM}  y = Gemm <alpha = 2.0, beta = 0.5> (c, w, k)",
            "float[4,3] w, float[2,1] k",
            x="float[rows,4] x",
            y=FLAT,
        ),
        "Gemm",
    ),
    "MatMul": (
        graph(f"{MAP}  y = MatMul (c, w)", f"float[4,3] w, {LINE}", x="float[2,5,4] x"),
        "MatMul Add",
    ),
    "MatMul with an Add behind": (
        graph(
            f"{MAP}  p = MatMul (c, w)  y = Add (k, p)",
            f"float[4,3] w, float[3] k, {LINE}",
            x="float[2,5,4] x",
        ),
        "MatMul Add",
    ),
    "MatMul, scaled only": (
        graph("c = Mul (x, s)  y = MatMul (c, w)", f"float[2,4,3] w, {LINE}", x="float[2,5,4] x"),
        "MatMul",
    ),
    "MatMul, left": (
        graph(f"{NORM}  y = MatMul (w, c)", "float[3,4] w", x="float[2,4,5] x"),
        "MatMul Add",
    ),
    "MatMul, left, with an Add behind": (
        graph(
            f"{NORM}  p = MatMul (w, c)  y = Add (p, k)",
            "float[3,4] w, float[3,1] k",
            x="float[2,4,5] x",
        ),
        "MatMul Add",
    ),
    "MatMul, left, a vector on the right": (
        graph(f"{MAP}  y = MatMul (w, c)", f"float[3,4] w, {LINE}", x="float[4] x", y="float[j] y"),
        "MatMul Add",
    ),
    "FusedGemm with an activation": (
        graph(
            f'{NORM}  y = com.microsoft.FusedGemm <activation = "Relu", alpha = 0.5> (c, w, k)',
            "float[4,3] w, float[3] k",
            x="float[5,4] x",
            y=FLAT,
        ),
        "FusedGemm",
    ),
    "Einsum": (
        graph(
            f'{MAP}  y = Einsum <equation = "bij,jk->bik"> (c, w)',
            f"float[4,3] w, {LINE}",
            x="float[2,5,4] x",
        ),
        "Einsum Add",
    ),
    "Einsum, two labels summed": (
        graph(
            f'{MAP}  y = Einsum <equation = "bij,kji->bk"> (c, w)',
            f"float[3,4,5] w, {LINE}",
            x="float[2,5,4] x",
            y=FLAT,
        ),
        "Einsum Add",
    ),
    "Einsum, scaled only, a label in the output": (
        graph(
            'c = Mul (x, s)  y = Einsum <equation = "bij,jk->bijk"> (c, w)',
            f"float[4,3] w, {LINE}",
            x="float[2,5,4] x",
            y=Y,
        ),
        "Einsum",
    ),
    "readers of every kind": (
        graph(
            f"{NORM}  y = Conv (c, w)  z = Conv <group = 2> (c, u, k)  "
            "p = ConvTranspose (c, h)  q = GlobalAveragePool (c)",
            "float[3,4,2,2] w, float[4,2,3,3] u, float[4] k, float[4,3,1,1] h",
            x=IMAGE,
            y=f"{Y}, float[i,j,k,l] z, float[i,j,k,l] p",
        ).replace("  q = GlobalAveragePool (c)", ""),
        "Conv Conv ConvTranspose",
    ),
    "ConvTranspose, scaled only": (
        graph(
            "c = Mul (x, s)  y = ConvTranspose <group = 2, strides = [2,1], pads = [1,0,0,1]> "
            "(c, w, k)",
            "float[4,3,3,2] w, float[6] k, float[4,1,1] s",
            x=IMAGE,
            y=Y,
        ),
        "ConvTranspose",
    ),
    "Conv with pads, scaled only": (
        graph(
            "c = Mul (x, s)  y = Conv <pads = [1,1,1,1]> (c, w)",
            "float[3,4,3,3] w, float[4,1,1] s",
            x=IMAGE,
            y=Y,
        ),
        "Conv",
    ),
}

KEPT = {
    "Conv with pads": (
        "zero-padding",
        graph(f"{NORM}  y = Conv <pads = [1,1,1,1]> (c, w)", "float[3,4,3,3] w", x=IMAGE, y=Y),
    ),
    "ConvTranspose": (
        "uneven-border",
        graph(f"{NORM}  y = ConvTranspose (c, w)", "float[4,3,2,2] w", x=IMAGE, y=Y),
    ),
    "MatMul of two": (
        "uneven-border",
        graph(f"{NORM}  y = MatMul (c, w)", "float[2,4,3] w", x="float[2,4] x"),
    ),
    "Einsum, a label of both in the output": (
        "uneven-border",
        graph(
            f'{NORM}  y = Einsum <equation = "hi,hij->hj"> (c, w)',
            "float[2,4,3] w",
            x="float[2,4] x",
            y=FLAT,
        ),
    ),
    "Einsum, a label that only the data sums": (
        "uneven-border",
        graph(
            f'{NORM}  y = Einsum <equation = "bji,jk->k"> (c, w)',
            "float[4,3] w",
            x="float[2,4,5] x",
            y="float[j] y",
        ),
    ),
    "Einsum, two output labels": (
        "uneven-border",
        graph(
            f'{NORM}  y = Einsum <equation = "bi,ijk->bjk"> (c, w)',
            "float[4,2,3] w",
            x="float[2,4] x",
        ),
    ),
    "Einsum, a label of one": (
        "channel-mismatch",
        graph(
            f'{NORM}  y = Einsum <equation = "bi,ik->bk"> (c, w)',
            "float[1,3] w",
            x="float[2,4] x",
            y=FLAT,
        ),
    ),
}


@pytest.mark.parametrize(("text", "left"), FOLDS.values(), ids=FOLDS)
def test_folds(text: str, left: str) -> None:
    check_folds(text, left)


@pytest.mark.parametrize(("code", "text"), KEPT.values(), ids=KEPT)
def test_kept(code: str, text: str) -> None:
    check_kept(text, code)


FORMS = ["", "3", "1,3", "5,3", "5,1", "1", "1,1"]


@settings(max_examples=40, deadline=None)
@given(
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 1.0, -0.5, 3.0]),
    st.sampled_from([0.0, 1.0, -0.5, 3.0]),
    st.sampled_from(FORMS),
    st.booleans(),
    st.integers(0, 99),
)
def test_any_gemm(
    trans_a: bool, trans_b: bool, alpha: float, beta: float, c: str, behind: bool, seed: int
) -> None:
    """A norm on the axis that is summed over, and another one behind."""
    x, w = ("4,5" if trans_a else "5,4"), ("3,4" if trans_b else "4,3")
    attributes = f"alpha = {alpha}, beta = {beta}, transA = {int(trans_a)}, transB = {int(trans_b)}"
    column = "[4,1]" if trans_a else "[4]"
    made = "q = Gemm" if behind else "y = Gemm"
    body = f"{MAP}  {made} <{attributes}> (c, w, k)" + "  y = Mul (q, u)" * behind
    declared = f"float[{w}] w, float{column} s, float{column} t, float[3] u, "
    declared += f"float[{c}] k" if c else "float k"
    check_folds(graph(body, declared, x=f"float[{x}] x", y=FLAT), "Gemm", seed=seed)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 3),
    st.sampled_from([(1, 1, 1), (2, 2, 3), (4, 1, 2), (2, 1, 1)]),
    st.integers(1, 2),
    st.integers(1, 2),
    st.booleans(),
    st.integers(0, 99),
)
def test_any_conv(
    spatial: int, groups: tuple[int, int, int], stride: int, dilation: int, bias: bool, seed: int
) -> None:
    """Without pads, of any group, a norm in front and one behind."""
    group, inner, outer = groups
    size, kernel = ",".join("654"[:spatial]), ",".join("232"[:spatial])
    inputs, outputs = group * inner, group * outer
    form = f"strides = {[stride] * spatial}, dilations = {[dilation] * spatial}".replace(" ", "")
    body = (
        f"c = BatchNormalization (x, g, b, m, v)  q = Conv <group = {group}, {form}> "
        f"(c, w{', k' * bias})  y = Mul (q, u)"
    )
    ones = ",1" * spatial
    text = graph(
        body,
        f"float[{outputs},{inner},{kernel}] w, float[{outputs}{ones}] u"
        + f", float[{outputs}] k" * bias,
        x=f"float[2,{inputs},{size}] x",
        y=f"float[{','.join('abcde'[: spatial + 2])}] y",
        channels=inputs,
    )
    check_folds(text, "Conv", seed=seed)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 3),
    st.sampled_from([(1, 2, 3), (2, 2, 1), (3, 1, 2)]),
    st.integers(1, 2),
    st.integers(0, 1),
    st.integers(0, 99),
)
def test_any_conv_transpose(
    spatial: int, groups: tuple[int, int, int], stride: int, pad: int, seed: int
) -> None:
    """Any geometry, a scale in front."""
    group, inner, outer = groups
    size, kernel = ",".join("432"[:spatial]), ",".join("323"[:spatial])
    form = f"group={group}, strides={[stride] * spatial}, pads={[pad] * 2 * spatial}"
    ones = ",1" * spatial
    text = graph(
        f"c = Mul (x, s)  y = ConvTranspose <{form}> (c, w)",
        f"float[{group * inner},{outer},{kernel}] w, float[{group * inner}{ones}] s",
        x=f"float[2,{group * inner},{size}] x",
        y=f"float[{','.join('abcde'[: spatial + 2])}] y",
    )
    check_folds(text, "ConvTranspose", seed=seed)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_any_einsum(data: st.DataObject) -> None:
    """Any equation: a scale in front goes in wherever the constant has its label."""
    sizes = dict(zip("abcdk", (2, 3, 5, 2, 4), strict=True))
    others = data.draw(st.lists(st.sampled_from("abcd"), max_size=2, unique=True))
    more = data.draw(st.lists(st.sampled_from("abcd"), max_size=2, unique=True))
    constant = data.draw(st.permutations([*more, "k"]))
    both = sorted({*others, *more, "k"})
    kept = data.draw(st.lists(st.sampled_from(both), min_size=1, max_size=3, unique=True))
    if not set(kept) & set(constant):
        kept.append("k")
    if [label for label in [*others, "k"] if label in constant and label not in kept][-1:] != ["k"]:
        return
    equation = f"{''.join([*others, 'k'])},{''.join(constant)}->{''.join(kept)}"

    def shape(labels: list[str]) -> str:
        return ",".join(str(sizes[label]) for label in labels)

    text = graph(
        f'c = Mul (x, s)  y = Einsum <equation = "{equation}"> (c, w)',
        f"float[{shape(constant)}] w, float[4] s",
        x=f"float[{shape([*others, 'k'])}] x",
        y=f"float[{','.join('pqrs'[: len(kept)])}] y",
    )
    check_folds(text, "Einsum")

"""Blocks of parallel branches that become one Conv, exactly."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from tests.support_branches import bn, branches, check_merge, merged_of, norm
from tests.support_models import filled, parsed

K3 = "a = Conv <pads=[1,1,1,1]> (x, w)"
W = "float[4,4,3,3] w, float[4,4,1,1] u"
N1, N2, N3 = norm("1"), norm("2"), norm("3")

# Name -> (body that makes s of x, declared parameters).
BLOCKS = {
    "3x3 and 1x1": (f"{K3}  c = Conv (x, u)  s = Add (a, c)", W),
    "3x3, 1x1, x": (f"{K3}  c = Conv (x, u)  d = Add (a, c)  s = Add (d, x)", W),
    "RepVGG": (
        f"{K3}  {bn('b', 'a', '1')}  c = Conv (x, u)  {bn('d', 'c', '2')}  {bn('i', 'x', '3')} "
        "e = Add (b, d)  s = Add (e, i)",
        f"{W}, {N1}, {N2}, {N3}",
    ),
    "RepVGG with a norm behind": (
        f"{K3}  {bn('b', 'a', '1')}  c = Conv (x, u)  e = Add (b, c)  {bn('s', 'e', '2')}",
        f"{W}, {N1}, {N2}",
    ),
    "x and 3x3": (f"{K3}  s = Add (x, a)", "float[4,4,3,3] w"),
    "norm of x and 1x1": (
        f"c = Conv (x, u)  {bn('i', 'x', '1')}  s = Add (i, c)",
        f"float[4,4,1,1] u, {N1}",
    ),
    "biases": (
        "a = Conv <pads=[1,1,1,1]> (x, w, k)  c = Conv (x, u, l)  s = Add (a, c)",
        f"{W}, float[4] k, float[4] l",
    ),
    "difference": (f"{K3}  c = Conv (x, u, k)  s = Sub (c, a)", f"{W}, float[4] k"),
    "difference of a difference": (
        f"{K3}  c = Conv (x, u)  d = Sub (x, c)  s = Sub (a, d)",
        W,
    ),
    "Sum of four": (
        f"{K3}  c = Conv (x, u)  s = Sum (a, c, x, a2)  a2 = Conv (x, t)",
        f"{W}, float[4,4,1,1] t",
    ),
    "Sum with a constant": (f"{K3}  s = Sum (a, k)", "float[4,4,3,3] w, float[4,1,1] k"),
    "Sum with one constant for all": (f"{K3}  s = Sum (k, a, x)", "float[4,4,3,3] w, float k"),
    "asymmetric": (
        f"{K3}  c = Conv <pads=[0,1,0,1]> (x, u)  d = Conv <pads=[1,0,1,0]> (x, t)"
        "  e = Add (a, c)  s = Add (e, d)",
        "float[4,4,3,3] w, float[4,4,1,3] u, float[4,4,3,1] t",
    ),
    "kernels of one size": (
        f"{K3}  c = Conv <pads=[1,1,1,1]> (x, u)  s = Add (a, c)",
        "float[4,4,3,3] w, float[4,4,3,3] u",
    ),
    "even kernel, begins differ": (
        f"{K3}  c = Conv <pads=[0,0,1,1]> (x, u)  s = Add (a, c)",
        "float[4,4,3,3] w, float[4,4,2,2] u",
    ),
    "windows side by side": (
        "a = Conv <pads=[1,0,0,0]> (x, w)  c = Conv <pads=[0,0,1,0]> (x, u)  s = Add (a, c)",
        "float[4,4,2,1] w, float[4,4,2,1] u",
    ),
    "stride": (
        "a = Conv <pads=[1,1,1,1], strides=[2,2]> (x, w)  c = Conv <strides=[2,2]> (x, u)"
        "  s = Add (a, c)",
        W,
    ),
    "dilation": (
        "a = Conv <pads=[2,2,2,2], dilations=[2,2]> (x, w)  c = Conv (x, u)  s = Add (a, c)",
        W,
    ),
    "dilation of a single tap": (
        f"{K3}  c = Conv <dilations=[5,3]> (x, u)  s = Add (a, c)",
        W,
    ),
    "groups": (
        "a = Conv <pads=[1,1,1,1], group=2> (x, w)  c = Conv <group=2> (x, u)  d = Add (a, c)"
        "  s = Add (d, x)",
        "float[4,2,3,3] w, float[4,2,1,1] u",
    ),
    "depthwise into a full kernel": (
        f"{K3}  c = Conv <pads=[1,1,1,1], group=4> (x, u)  s = Add (a, c)",
        "float[4,4,3,3] w, float[4,1,3,3] u",
    ),
    "two groups into a full kernel": (
        f"{K3}  c = Conv <group=2> (x, u)  s = Add (a, c)",
        "float[4,4,3,3] w, float[4,2,1,1] u",
    ),
    "average pooling": (
        f"{K3}  c = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1> (x)"
        "  s = Add (a, c)",
        "float[4,4,3,3] w",
    ),
    "average pooling, stride, a norm": (
        "a = Conv <strides=[2,2]> (x, w)  c = AveragePool <kernel_shape=[3,3], strides=[2,2]> (x)"
        f"  {bn('d', 'c', '1')}  s = Add (d, a)",
        f"float[4,4,3,3] w, {N1}",
    ),
    "1x1 before 3x3, no padding": (
        f"c = Conv (x, u, k)  {bn('d', 'c', '1')}  e = Conv (d, t)  {bn('f', 'e', '2')}"
        "  a = Conv (x, w)  s = Add (a, f)",
        f"{W}, float[4,4,3,3] t, float[4] k, {N1}, {N2}",
    ),
    "1x1 before 3x3, padding, no shift": (
        f"{K3}  c = Conv (x, u)  e = Conv <pads=[1,1,1,1]> (c, t, k)  s = Add (a, e)",
        f"{W}, float[4,4,3,3] t, float[4] k",
    ),
    "1x1 before pooling": (
        "a = Conv (x, w)  c = Conv (x, u, k)  d = AveragePool <kernel_shape=[3,3]> (c)"
        "  s = Add (a, d)",
        f"{W}, float[4] k",
    ),
    "3x3 before 1x1": (
        f"{K3}  {bn('b', 'a', '1')}  e = Conv (b, u, k)  c = Conv <pads=[1,1,1,1]> (x, t)"
        "  s = Add (c, e)",
        f"{W}, float[4,4,3,3] t, float[4] k, {N1}",
    ),
    "groups one after another": (
        f"{K3}  c = Conv <group=2> (x, u)  e = Conv <group=4, pads=[1,1,1,1]> (c, t)"
        "  s = Add (a, e)",
        "float[4,4,3,3] w, float[8,2,1,1] u, float[4,2,3,3] t",
    ),
    "a scale before a padded 3x3": (
        "i = Mul (x, k)  e = Conv <pads=[1,1,1,1]> (i, w)  s = Add (e, x)",
        "float[4,4,3,3] w, float[4,1,1] k",
    ),
    "a norm before a 3x3 without padding": (
        f"{bn('i', 'x', '1')}  e = Conv (i, w)  a = Conv (x, t)  s = Add (e, a)",
        f"float[4,4,3,3] w, float[4,4,3,3] t, {N1}",
    ),
    "sums inside of branches": (
        f"{K3}  c = Conv (x, u)  d = Add (a, c)  {bn('e', 'd', '1')}  f = Conv (x, t)"
        f"  g = Add (f, x)  {bn('h', 'g', '2')}  s = Sub (e, h)",
        f"{W}, float[4,4,1,1] t, {N1}, {N2}",
    ),
    "chains, Identity, Dropout": (
        f"{K3}  b = Mul (a, k)  e = Identity (b)  f = Add (l, e)  h = Dropout (x)  s = Add (f, h)",
        "float[4,4,3,3] w, float[4,1,1] k, float[1,4,1,1] l",
    ),
    "SAME": (
        'a = Conv <auto_pad="SAME_UPPER"> (x, w)  c = Conv <auto_pad="SAME_LOWER"> (x, u)'
        "  s = Add (a, c)",
        "float[4,4,4,3] w, float[4,4,4,3] u",
    ),
    "SAME, stride, sizes known": (
        'a = Conv <auto_pad="SAME_UPPER", strides=[2,2]> (x, w)'
        "  c = Conv <strides=[2,2]> (x, u)  s = Add (a, c)",
        W,
    ),
    "VALID": (
        'a = Conv <auto_pad="VALID"> (x, w)  c = Conv <pads=[0,0,0,0]> (x, u)  s = Add (a, c)',
        "float[4,4,3,3] w, float[4,4,3,3] u",
    ),
    "other excess, sizes known": (
        "a = Conv <strides=[2,3]> (x, w)  c = Conv <strides=[2,3]> (x, u)  s = Add (a, c)",
        "float[4,4,3,3] w, float[4,4,2,3] u",
    ),
}


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("dtype", ["float", "double"])
def test_block(block: str, dtype: str) -> None:
    body, declared = BLOCKS[block]
    is_sorted = block != "Sum of four"
    text = branches(body, declared)
    check_merge(text, "Conv Relu", dtype=dtype, full_check=is_sorted)


# The same kernels on other ranks, symbolic sizes, in inner graphs, in old files.
OTHERS = {
    "1-D": (
        branches(
            "a = Conv <pads=[1,1]> (x, w)  c = Conv (x, u)  d = Add (a, c)  s = Add (d, x)",
            "float[4,4,3] w, float[4,4,1] u",
            "float[2,4,9] x",
        ),
        "Conv Relu",
    ),
    "3-D": (
        branches(
            "a = Conv <pads=[1,1,1,1,1,1]> (x, w)  c = Conv (x, u)  s = Sum (a, c, x)",
            "float[4,4,3,3,3] w, float[4,4,1,1,1] u",
            "float[1,4,3,4,5] x",
        ),
        "Conv Relu",
    ),
    "SAME of unknown size": (
        branches(
            'a = Conv <auto_pad="SAME_UPPER", strides=[2,2]> (x, w)'
            '  c = Conv <auto_pad="SAME_UPPER", strides=[2,2]> (x, u)  s = Add (a, c)',
            "float[4,4,3,3] w, float[4,4,3,3] u",
            "float[2,4,H,W] x",
        ),
        "Conv Relu",
    ),
    "only a part": (
        branches(
            f"{K3}  c = Conv (x, u)  d = Add (a, c)  e = Add (d, z)  z = Tanh (x)  s = Add (e, x)",
            W,
        ),
        "Conv Add Tanh Add Relu",
    ),
    "one block after another": (
        branches(
            f"{K3}  c = Conv (x, u)  d = Add (a, c)  r = Relu (d)"
            "  e = Conv <pads=[1,1,1,1]> (r, w)  s = Add (e, r)",
            W,
        ),
        "Conv Relu Conv Relu",
    ),
    "in an If": (
        """agraph (bool q, float[2,4,7,6] x) => (float[n,c,h,w] y)
        <float[4,4,3,3] w, float[4,4,1,1] u> {
            y = If (q) <
                then_branch = yes () => (float[n,c,h,w] t) {
                    a = Conv <pads=[1,1,1,1]> (x, w)  c = Conv (x, u)  t = Add (a, c) },
                else_branch = no () => (float[n,c,h,w] e) {
                    f = Conv <pads=[1,1,1,1]> (x, w)  e = Add (f, x) }
            > }""",
        "If Conv Conv",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_surroundings(case: str) -> None:
    text, left = OTHERS[case]
    check_merge(text, left, full_check=case != "only a part")


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 19, 22, 24])
def test_opsets(opset: int) -> None:
    for name in ("RepVGG", "average pooling", "difference", "chains, Identity, Dropout"):
        body, declared = BLOCKS[name]
        check_merge(branches(body, declared), "Conv Relu", opset=opset)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "double"])
def test_dtypes(dtype: str) -> None:
    body, declared = BLOCKS["RepVGG"]
    text = branches(body, declared)
    check_merge(text, "Conv Relu", dtype=dtype, opset=22, ir=10, full_check=dtype != "bfloat16")


def test_ir_3_takes_constant_nodes() -> None:
    body, declared = BLOCKS["RepVGG"]
    model = filled(parsed(branches(body, declared), opset=7, ir=3))
    _, after = merged_of(model)
    assert [n.op_type for n in after.graph.node] == ["Constant", "Constant", "Conv", "Relu"]
    assert [v.name for v in after.graph.input] == ["x"]
    assert not after.graph.initializer


def test_names_and_numbers() -> None:
    """By hand: an identity adds one to the centre tap, a norm on it scale and shift."""
    text = branches(
        "[big] a = Conv <pads=[1,1,1,1]> (x, w, k)  [small] c = Conv (x, u)  d = Add (a, c)"
        "  [id] i = Mul (x, l)  [end] s = Add (d, i)",
        "float[2,2,3,3] w, float[2,2,1,1] u, float[2] k, float[2,1,1] l",
        "float[1,2,5,5] x",
    )
    model = filled(parsed(text))
    values = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in model.graph.initializer}
    merged, after = merged_of(model)
    conv = after.graph.node[0]
    assert (conv.name, list(conv.input), list(conv.output)) == (
        "big",
        ["x", "w_merged", "k_merged"],
        ["s"],
    )
    right = values["w"].copy()
    right[:, :, 1, 1] += values["u"][:, :, 0, 0] + np.diag(values["l"].ravel())
    found = {t.name: numpy_helper.to_array(t) for t in after.graph.initializer}
    assert set(found) == {"w_merged", "k_merged"}
    np.testing.assert_array_equal(found["w_merged"], right.astype(np.float32))
    np.testing.assert_array_equal(found["k_merged"], values["k"].astype(np.float32))
    (merge,) = merged.merges
    assert merge.outcome.branches == ("big", "small", "id")
    assert merge.outcome.kernel == (3, 3)
    assert merge.outcome.nodes == 5


def test_large_weights_and_shared_ones() -> None:
    """Weights above 4 KiB stay outside of the skeleton; those that others read stay."""
    text = branches(
        "a = Conv <pads=[1,1,1,1]> (x, w)  c = Conv (x, u)  d = Add (a, c)  r = Relu (d)"
        "  e = Conv (r, w)  s = Relu (e)",
        "float[32,32,3,3] w, float[32,32,1,1] u",
        "float[1,32,6,6] x",
    )
    check_merge(text, "Conv Relu Conv Relu Relu")
    _, after = merged_of(filled(parsed(text)))
    assert {t.name for t in after.graph.initializer} == {"w", "w_merged"}

"""The float64 evaluator that judges folds: it agrees with onnx where that is right, and bites."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import bnfold
from tests.support_float64 import as_float64, differences, evaluate, magnitude
from tests.support_models import constant, feeds_for, filled, norm_parameters, parsed, with_values

NORM = "BatchNormalization (c, g, b, m, v)"
STOCK = {
    "norm": f"y = BatchNormalization (x, g, b, m, v)  [{norm_parameters(4)}]",
    "conv transpose": "y = ConvTranspose <strides=[2,2], pads=[1,0,0,1], output_padding=[1,1]>"
    " (x, w, b)  [float[4,3,3,2] w, float[3] b]",
    "conv transpose, same": "y = ConvTranspose <strides=[2,2], dilations=[1,2],"
    ' auto_pad="SAME_UPPER"> (x, w)  [float[4,3,3,2] w]',
    "arithmetic": "h = Mul (x, k)  i = Sub (k, h)  j = Div (i, k)  y = Add (j, l)"
    "  [float[4,1,1] k, float[1] l]",
}


@pytest.mark.parametrize("row", STOCK.values(), ids=STOCK)
def test_agrees_with_the_stock_evaluator(row: str) -> None:
    body, declared = row.rstrip("]").rsplit("  [", 1)
    model = filled(
        parsed(f"agraph (float[2,4,3,5] x) => (float[n,c,h,w] y) <{declared}> {{ {body} }}")
    )
    feeds = feeds_for(model)
    stock = ReferenceEvaluator(as_float64(model)).run(None, dict(feeds))
    for ours, theirs in zip(evaluate(model, feeds), stock, strict=True):
        assert ours.shape == theirs.shape
        assert np.allclose(ours, theirs, rtol=1e-13, atol=1e-13)


def test_gemm_by_hand() -> None:
    model = parsed(
        """agraph (float[2,1] x) => (float[1,2] y)
        <float[2,2] w = {1.0, 2.0, 3.0, 4.0}, float[1] c = {10.0}> {
            y = Gemm <transA=1, transB=1, alpha=2.0, beta=0.5> (x, w, c)
        }"""
    )
    (y,) = evaluate(model, {"x": np.array([[1.0], [-1.0]])})
    assert np.array_equal(y, [[2 * (1 - 2) + 5, 2 * (3 - 4) + 5]])
    (size,) = magnitude(model, {"x": np.array([[1.0], [-1.0]])})
    assert np.array_equal(size, [[2 * 3 + 5, 2 * 7 + 5]])


def test_grouped_transpose_is_one_transpose_per_group() -> None:
    text = "agraph (float[2,{c},3] x) => (float[n,c,w] y) <float[{c},2,3] w> {{ {body} }}"
    both = filled(parsed(text.format(c=6, body="y = ConvTranspose <group=2, strides=[2]> (x, w)")))
    single = parsed(text.format(c=3, body="y = ConvTranspose <strides=[2]> (x, w)"))
    x, w = feeds_for(both)["x"], constant(both, "w").astype(np.float64)
    (whole,) = evaluate(both, {"x": x})
    for half in (0, 1):
        part = with_values(filled(single), w=w[3 * half : 3 * half + 3])
        (expected,) = evaluate(part, {"x": x[:, 3 * half : 3 * half + 3]})
        assert np.allclose(whole[:, 2 * half : 2 * half + 2], expected, rtol=1e-14, atol=1e-14)


def test_output_shape_crops_or_widens_the_full_transpose() -> None:
    """Without auto_pad the larger half of the total padding is at the start."""
    text = """agraph (float[1,2,3,5] x) => (float[n,c,h,w] y) <float[2,3,3,2] w> {
        y = ConvTranspose <strides=[2,2] SHAPE> (x, w)
    }"""
    full = filled(parsed(text.replace("SHAPE", "")))
    cut = filled(parsed(text.replace("SHAPE", ", output_shape=[4,9]")))
    wide = filled(parsed(text.replace("SHAPE", ", output_shape=[9,11]")))
    feeds = feeds_for(full)
    (whole,) = evaluate(full, feeds)
    assert whole.shape == (1, 3, 7, 10)
    assert np.array_equal(evaluate(cut, feeds)[0], whole[:, :, 2:6, 1:10])
    padded = np.pad(whole, [(0, 0), (0, 0), (1, 1), (0, 1)])
    assert np.array_equal(evaluate(wide, feeds)[0], padded)


def test_old_broadcasting_by_hand() -> None:
    model = parsed(
        """agraph (float[1,2,3] x) => (float[1,2,3] y) <float[2] k = {10.0, 20.0}> {
            y = Mul <broadcast=1, axis=1> (x, k)
        }""",
        opset=6,
        ir=4,
    )
    (y,) = evaluate(model, {"x": np.ones((1, 2, 3))})
    assert np.array_equal(y, [[[10] * 3, [20] * 3]])


@pytest.mark.parametrize("by", [1e-3, -1e-5])
def test_the_bound_notices_one_wrong_parameter(by: float) -> None:
    """A relative error of a few float32 roundings in one weight or bias is above the bound."""
    model = filled(
        parsed(
            f"""agraph (float[2,1,3] x) => (float[n,c,w] y)
            <float[4,1,1] w, {norm_parameters(4)}> {{
                c = Conv (x, w)
                y = {NORM}
            }}"""
        )
    )
    folded = bnfold.fold(model).model
    feeds = feeds_for(model)
    epsilon = 2.0**-23
    assert differences(model, folded, feeds, epsilon=epsilon)[0][0] <= 1
    for name in folded.graph.node[0].input[1:]:
        wrong = constant(folded, name).astype(np.float64)
        wrong[(1,) * 1] *= 1 + by
        found = differences(model, with_values(folded, **{name: wrong}), feeds, epsilon=epsilon)
        assert found[0][0] > 10


def test_nodes_may_come_in_any_order() -> None:
    model = filled(
        parsed(
            f"""agraph (float[2,3,6] x) => (float[n,c,w] y)
            <float[4,3,3] w, {norm_parameters(4)}> {{
                c = Conv (x, w)
                y = {NORM}
            }}"""
        )
    )
    turned = onnx.ModelProto()
    turned.CopyFrom(model)
    turned.graph.node.reverse()
    feeds = feeds_for(model)
    assert np.array_equal(evaluate(model, feeds)[0], evaluate(turned, feeds)[0])


def test_magnitudes_reach_constants_inside_of_bodies() -> None:
    model = parsed(
        """agraph (bool when, float[2] x) => (float[2] y) {
            y = If (when) <
                then_branch = t () => (float[2] n) {
                    k = Constant <value = float[2] {-1.0, 2.0}> ()  n = Mul (x, k)
                },
                else_branch = e () => (float[2] o) { o = Neg (x) }>
        }"""
    )
    feeds = {"when": np.array(True), "x": np.array([3.0, -4.0])}
    assert np.array_equal(evaluate(model, feeds)[0], [-3, -8])
    assert np.array_equal(magnitude(model, feeds)[0], [3, 8])

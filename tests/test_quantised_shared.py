"""Quantised weights that several nodes read, or that lie in another graph than their reader."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import bnfold
from bnfold.folding.rules.quantised import Dequantised, Rescaled, read_weight, rescaled
from bnfold.reference import evaluate
from tests.support_models import (
    Array,
    constant,
    filled,
    norm_parameters,
    op_types,
    parsed,
    with_values,
)
from tests.support_quantised import Quantised, off, raw
from tests.support_through import node_of

BN = "BatchNormalization"
CODES = np.arange(-54, 54).reshape(4, 3, 3, 3)
DECLARED = "int8[4,3,3,3] wq, float ws, int8 wz, "
CONV = "w = DequantizeLinear (wq, ws, wz)  c = Conv (x, w)"
HEAD = f"{CONV}  y = {BN} (c, g, b, m, v)"


def shared(body: str, outputs: str, *, suffixes: tuple[str, ...] = ("",)) -> onnx.ModelProto:
    """A model of some norms, each with parameters of its own, whose scales are above zero."""
    declared = ", ".join(norm_parameters(4, suffix) for suffix in suffixes)
    text = f"agraph (float[2,3,6,5] x) => ({outputs}) <{DECLARED}{declared}> {{ {body} }}"
    model = filled(parsed(text))
    given = {f"g{suffix}": np.linspace(0.5, 2.0, 4) + at for at, suffix in enumerate(suffixes)}
    return with_values(model, wq=CODES, ws=0.02, wz=3, **given)


def axes(model: onnx.ModelProto) -> list[str]:
    """What each DequantizeLinear makes, and whether its scale differs by channel."""
    return [
        f"{node.output[0]} {constant(model, node.input[1]).shape}"
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
    ]


def check(model: onnx.ModelProto) -> onnx.ModelProto:
    result = bnfold.fold(model)
    assert not result.report.kept
    onnx.checker.check_model(result.model, full_check=True)
    assert raw(result.model, "wq") == raw(model, "wq")
    assert off(model, result.model) < 1e-6
    assert result.report.nodes_after == len([*op_types(result.model)])
    return result.model


Y, YZ = "float[i,j,k,l] y", "float[i,j,k,l] y, float[m,n,o,p] z"


def test_two_readers_of_one_factor_share_the_scale() -> None:
    more = f"r = Neg (x)  d = Conv (r, w)  z = {BN} (d, g, b, m, v)"
    folded = check(shared(f"{HEAD}  {more}", YZ))
    assert axes(folded) == ["w_folded (4,)"]


def test_two_readers_of_two_factors_get_one_weight_each() -> None:
    more = f"r = Neg (x)  d = Conv (r, w)  z = {BN} (d, g2, b2, m2, v2)"
    folded = check(shared(f"{HEAD}  {more}", YZ, suffixes=("", "2")))
    assert axes(folded) == ["w_folded (4,)", "w_folded_1 (4,)"]


def test_a_zero_point_that_one_of_two_copies_reads_stays() -> None:
    model = parsed(
        """agraph (float[2,4,1] x) => (float[2,4,4] y, float[2,4,4] u)
        <int8[1,4] q = {1,2,3,4}, float s = {0.5}, int8 o = {2}, float[4] k = {1,2,3,4},
         float[1] l = {3}> {
            w = DequantizeLinear (q, s, o)  c = MatMul (x, w)
            y = Mul (c, k)  u = Mul (c, l) }"""
    )
    result = bnfold.fold(model, duplicate=True)
    onnx.checker.check_model(result.model, full_check=True)
    assert len(result.report.folded) == 2
    x = {"x": np.linspace(-30, 30, 8).reshape(2, 4, 1)}
    for old, new in zip(evaluate(model, x), evaluate(result.model, x), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-6)


def test_a_reader_without_a_norm_keeps_the_weight() -> None:
    folded = check(shared(f"{HEAD}  r = Neg (x)  z = Conv (r, w)", YZ))
    assert axes(folded) == ["w ()", "w_folded (4,)"]
    assert constant(folded, "ws") == np.float32(0.02)


def test_a_weight_that_is_an_output_stays() -> None:
    folded = check(shared(HEAD, "float[i,j,k,l] y, float[4,3,3,3] w"))
    assert axes(folded) == ["w ()", "w_folded (4,)"]


def test_a_scale_that_others_read_stays() -> None:
    model = shared(f"{HEAD}  z = Mul (x, ws)", YZ)
    result = bnfold.fold(model)
    assert constant(result.model, "ws") == np.float32(0.02)
    assert off(model, result.model) < 1e-6


def test_an_earlier_fold_and_a_later_one_make_one_scale() -> None:
    more = f"d = {BN} (c, g, b, m, v)  y = {BN} (d, g2, b2, m2, v2)"
    folded = check(shared(f"{CONV}  {more}", Y, suffixes=("", "2")))
    assert axes(folded) == ["w_folded (4,)"]
    assert " ".join(op_types(folded)) == "DequantizeLinear Conv"


def test_a_step_that_does_not_fit_is_left_behind() -> None:
    model = with_values(
        filled(
            parsed(
                f"""agraph (float[2,3,6,5] x) => (float[i,j,k,l] y)
                <{DECLARED}{norm_parameters(4)}, float[4,1,1] k> {{
                w = DequantizeLinear (wq, ws, wz)  c = Conv (x, w)
                d = {BN} (c, g, b, m, v)  y = Mul (d, k) }}"""
            )
        ),
        wq=CODES,
        ws=0.02,
        g=1.5,
        k=np.array([1.0, -1.0, 2.0, 3.0]).reshape(4, 1, 1),
    )
    result = bnfold.fold(model)
    assert [n.op_type for n in result.model.graph.node] == ["DequantizeLinear", "Conv", "Mul"]
    assert off(model, result.model) < 1e-6


def test_a_body_reads_a_weight_of_the_graph_around_it() -> None:
    body = f"""w = DequantizeLinear (wq, ws, wz)
        y = If (when) <
            then_branch = t () => (float[i,j,k,l] n) {{
                c = Conv (x, w)  n = {BN} (c, g, b, m, v) }},
            else_branch = f () => (float[i,j,k,l] e) {{ e = Conv (x, w) }}>"""
    declared = f"{DECLARED}{norm_parameters(4)}, bool when"
    text = f"agraph (float[2,3,6,5] x) => ({Y}) <{declared}> {{ {body} }}"
    model = with_values(filled(parsed(text)), wq=CODES, ws=0.02, wz=3, g=1.5, when=True)
    folded = check(model)
    assert axes(folded) == ["w ()", "w_folded (4,)"]
    assert BN not in op_types(folded)


ONE, BY_OUT, BY_IN = Quantised(), Quantised(axis=0), Quantised(axis=1)
BLOCKS = Quantised(axis=1, block=2, opset=21)
NO_ZERO = Quantised(has_zero=False)
BY_BLOCK = np.array([1.5, 1.5, 0.75]).reshape(3, 1, 1)
TAKEN = [
    (ONE, ()),
    (ONE, (1,)),
    (ONE, (4, 1, 1, 1)),
    (ONE, (3, 1, 1)),
    (ONE, (3,)),
    (NO_ZERO, (4, 1, 1, 1)),
    (BY_OUT, ()),
    (BY_OUT, (4, 1, 1, 1)),
    (BY_IN, (3, 1, 1)),
    (BLOCKS, ()),
    (BLOCKS, (4, 1, 1, 1)),
    (BLOCKS, (4, 1, 3, 3)),
]
LEFT = [
    (ONE, (4, 3, 1, 1)),
    (ONE, (3, 3)),
    (BY_OUT, (3, 1, 1)),
    (BY_IN, (4, 1, 1, 1)),
    (BLOCKS, (3, 1, 1)),
    (ONE, (5, 1, 1, 1)),
]


def weight_of(row: Quantised, seed: int) -> Dequantised:
    node, context = node_of(row.model(seed), "Conv")
    weight = read_weight(node.input(1), node, "weight", context)
    assert isinstance(weight, Dequantised)
    return weight


def check_equation(weight: Dequantised, factor: Array) -> None:
    found = rescaled(weight, factor)
    assert isinstance(found, Rescaled)
    scale, codes = np.asarray(found.scale), np.asarray(weight.codes.array).astype(np.float64)
    zero = np.zeros(1) if weight.zero is None else np.asarray(weight.zero.array).astype(np.float64)
    if found.widened:
        zero = np.full(scale.shape, zero.reshape(-1)[0])
    parts = []
    for part in (scale, np.broadcast_to(zero, scale.shape)):
        if weight.block:
            parts.append(part[:, [0, 0, 1]])
        elif part.size == 1:
            parts.append(part.reshape(()))
        else:
            assert found.axis is not None
            parts.append(np.expand_dims(part, tuple(range(1, 4 - found.axis))))
    np.testing.assert_allclose(
        (codes - parts[1]) * parts[0], factor * weight.values(), rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("row", "shape"), TAKEN)
def test_the_equation(row: Quantised, shape: tuple[int, ...], seed: int) -> None:
    factor = np.random.default_rng(seed).uniform(0.5, 2.0, shape)
    check_equation(weight_of(row, seed), factor)


def test_the_equation_by_blocks() -> None:
    check_equation(weight_of(BLOCKS, 0), BY_BLOCK)
    check_equation(weight_of(BLOCKS, 0), BY_BLOCK * np.arange(1.0, 5.0).reshape(4, 1, 1, 1))


def test_scales_that_are_all_one_value_are_one_scale() -> None:
    model = with_values(BY_IN.model(), ws=0.02, wz=3)
    node, context = node_of(model, "Conv")
    weight = read_weight(node.input(1), node, "weight", context)
    assert isinstance(weight, Dequantised)
    check_equation(weight, np.arange(1.0, 5.0).reshape(4, 1, 1, 1))


@pytest.mark.parametrize(("row", "shape"), LEFT)
def test_what_a_scale_cannot_take_up(row: Quantised, shape: tuple[int, ...]) -> None:
    factor = np.random.default_rng(0).uniform(0.5, 2.0, shape)
    assert isinstance(rescaled(weight_of(row, 0), factor), str)


def test_a_quantised_bias_of_no_axes_behind_a_norm_of_the_input() -> None:
    text = """net (float[2,6] x) => (float[2,6] y)
        <float[6] k, float[6,6] w, int32 q = {-231}, float s> {
        n = Div (x, k)
        b = DequantizeLinear (q, s)
        y = Gemm (n, w, b) }"""
    model = filled(parsed(text, opset=13))
    result = bnfold.fold(model)
    (folded,) = result.report.folded
    assert folded.direction == "forward"
    assert result.verify(runtime=False).is_same

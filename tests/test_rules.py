"""Each rule's equation, in float64 against the ONNX reference evaluator, at 1e-12 of its terms."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from bnfold import Affine
from bnfold.algebra.layer import Layer, push_back
from bnfold.folding.rules.conv import conv_factor, conv_transpose_factor
from bnfold.folding.rules.elementwise import affine_of
from bnfold.folding.rules.gemm import gemm_factor
from bnfold.folding.rules.matmul import matmul_factor
from tests.support_float64 import evaluate
from tests.support_models import Array

TOLERANCE = 1e-12
EXAMPLES = settings(deadline=None, max_examples=60)

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 4)


def operator(op_type: str, inputs: list[Array], **attributes: Any) -> Array:
    """What an operator of opset 17 makes of its inputs, in float64."""
    names = [f"i{at}" for at in range(len(inputs))]
    declared = [
        helper.make_tensor_value_info(name, TensorProto.DOUBLE, value.shape)
        for name, value in zip(names, inputs, strict=True)
    ]
    node = helper.make_node(op_type, names, ["y"], **attributes)
    output = helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)
    graph = helper.make_graph([node], "operator", declared, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    (y,) = evaluate(model, dict(zip(names, inputs, strict=True)))
    return y


def drawn(rng: np.random.Generator, *shape: int) -> Array:
    """Data of size 30 and of both signs."""
    return np.asarray(rng.uniform(-30, 30, shape))


def drawn_affine(rng: np.random.Generator, channels: int) -> Affine:
    """Scales of both signs, from 1e-3 to 1e3, some of them zero; shifts of size 30."""
    scale = 10.0 ** rng.uniform(-3, 3, channels) * rng.choice([-1.0, 1.0, 1.0, 0.0], channels)
    return Affine(scale, drawn(rng, channels))


def on_channels(vector: Array, rank: int) -> Array:
    return vector.reshape(-1, *[1] * (rank - 2))


def assert_equal(found: Array, expected: Array, terms: Array) -> None:
    """Equal to 1e-12 of the sum of the magnitudes of all terms."""
    assert found.shape == expected.shape
    assert (np.abs(found - expected) <= TOLERANCE * terms).all()


@st.composite
def geometries(draw: st.DrawFn, *, transposed: bool = False) -> dict[str, Any]:
    """Attributes of a convolution of 1 to 3 axes, with the kernel and the data that they fit."""
    rank = draw(st.integers(1, 3))
    upto = st.integers(1, 3 if rank < 3 else 2)
    several = st.lists(upto, min_size=rank, max_size=rank)
    kernel, strides, dilations = draw(several), draw(several), draw(several)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if transposed:
        data = draw(several)
        pads = [draw(st.integers(0, (r - 1) // 2)) for r in [*reach, *reach]]
        extra = [
            draw(st.integers(0, max(s, d) - 1)) for s, d in zip(strides, dilations, strict=True)
        ]
        more = {"output_padding": extra}
    else:
        data = [r + draw(st.integers(0, 3)) for r in reach]
        pads = draw(st.lists(st.integers(0, 2), min_size=2 * rank, max_size=2 * rank))
        more = {}
    group = draw(sizes)
    return {
        "in": group * draw(st.integers(1, 3)),
        "out": group * draw(st.integers(1, 3)),
        "kernel": kernel,
        "data": data,
        "attributes": {
            "group": group,
            "strides": strides,
            "dilations": dilations,
            "pads": pads,
            **more,
        },
    }


@EXAMPLES
@given(geometries(), seeds, st.booleans())
def test_conv(geometry: dict[str, Any], seed: int, has_bias: bool) -> None:
    rng = np.random.default_rng(seed)
    channels, group = geometry["out"], geometry["attributes"]["group"]
    x = drawn(rng, 2, geometry["in"], *geometry["data"])
    w = drawn(rng, channels, geometry["in"] // group, *geometry["kernel"])
    _check_convolution("Conv", geometry, rng, x, w, channels, has_bias)


@EXAMPLES
@given(geometries(transposed=True), seeds, st.booleans())
def test_conv_transpose(geometry: dict[str, Any], seed: int, has_bias: bool) -> None:
    rng = np.random.default_rng(seed)
    channels, group = geometry["out"], geometry["attributes"]["group"]
    x = drawn(rng, 2, geometry["in"], *geometry["data"])
    w = drawn(rng, geometry["in"], channels // group, *geometry["kernel"])
    _check_convolution("ConvTranspose", geometry, rng, x, w, channels, has_bias)


def _check_convolution(
    op_type: str,
    geometry: dict[str, Any],
    rng: np.random.Generator,
    x: Array,
    w: Array,
    channels: int,
    has_bias: bool,
) -> None:
    attributes = geometry["attributes"]
    bias = drawn(rng, channels) if has_bias else np.zeros(1)
    affine = drawn_affine(rng, channels)
    layer = push_back(Layer.plain(bias, channels), affine)
    if op_type == "Conv":
        factor = conv_factor(layer.out, w.ndim)
    else:
        factor = conv_transpose_factor(layer.out, w.shape[0], attributes["group"], w.ndim)
    scale, shift = on_channels(affine.scale, x.ndim), on_channels(affine.shift, x.ndim)
    given_bias = [bias] if has_bias else []
    expected = scale * operator(op_type, [x, w, *given_bias], **attributes) + shift
    found = operator(op_type, [x, w * factor, layer.bias], **attributes)
    sizes_of = [np.abs(value) for value in (x, w, *given_bias)]
    terms = np.abs(scale) * operator(op_type, sizes_of, **attributes) + np.abs(shift)
    assert_equal(found, expected, terms)


@EXAMPLES
@given(
    st.tuples(sizes, sizes, sizes),
    seeds,
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.5, 1.0, -2.0]),
    st.sampled_from([0.0, 0.5, 1.0, 2.0, -1.0]),
    st.sampled_from(["none", "scalar", "(N,)", "(1,N)", "(M,1)", "(M,N)"]),
)
def test_gemm(
    shape: tuple[int, int, int],
    seed: int,
    trans_a: bool,
    trans_b: bool,
    alpha: float,
    beta: float,
    kind: str,
) -> None:
    """``alpha`` stays with the node; the bias of the layer is ``beta C``, stored with beta 1."""
    rng = np.random.default_rng(seed)
    rows, inner, columns = shape
    a = drawn(rng, *((inner, rows) if trans_a else (rows, inner)))
    b = drawn(rng, *((columns, inner) if trans_b else (inner, columns)))
    shapes = {"scalar": (), "(N,)": (columns,), "(1,N)": (1, columns)}
    shapes |= {"(M,1)": (rows, 1), "(M,N)": (rows, columns)}
    c = [] if kind == "none" else [drawn(rng, *shapes[kind])]
    affine = drawn_affine(rng, columns)
    attributes: dict[str, Any] = {"transA": int(trans_a), "transB": int(trans_b)}
    bias = beta * np.atleast_1d(c[0]) if c else np.zeros(1)
    layer = push_back(Layer.plain(bias, columns), affine)
    factor = gemm_factor(layer.out, transposed=trans_b)
    y = operator("Gemm", [a, b, *c], alpha=alpha, beta=beta, **attributes)
    found = operator("Gemm", [a, b * factor, layer.bias], alpha=alpha, beta=1.0, **attributes)
    terms = operator(
        "Gemm",
        [np.abs(value) for value in (a, b, *c)],
        alpha=abs(alpha),
        beta=abs(beta),
        **attributes,
    )
    assert_equal(
        found, affine.scale * y + affine.shift, np.abs(affine.scale) * terms + np.abs(affine.shift)
    )


@EXAMPLES
@given(st.tuples(sizes, sizes), st.tuples(*[st.integers(0, 2)] * 2), st.tuples(*[sizes] * 3), seeds)
def test_matmul(
    batch: tuple[int, int], skipped: tuple[int, int], shape: tuple[int, int, int], seed: int
) -> None:
    """Either operand may have fewer batch axes than the other."""
    rng = np.random.default_rng(seed)
    left, right = batch[skipped[0] :], batch[skipped[1] :]
    rows, inner, columns = shape
    x, w = drawn(rng, *left, rows, inner), drawn(rng, *right, inner, columns)
    affine = drawn_affine(rng, columns)
    layer = push_back(Layer.plain(np.zeros(1), columns), affine)
    found = operator("MatMul", [x, w * matmul_factor(layer.out)]) + layer.bias
    expected = affine.scale * operator("MatMul", [x, w]) + affine.shift
    terms = np.abs(affine.scale) * operator("MatMul", [np.abs(x), np.abs(w)])
    assert_equal(found, expected, terms + np.abs(affine.shift))


@EXAMPLES
@given(st.sampled_from(["Add", "Sub", "Mul", "Div"]), st.booleans(), sizes, st.booleans(), seeds)
def test_elementwise(
    op_type: str, constant_is_first: bool, channels: int, scalar: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = drawn(rng, 2, channels, 3)
    count = 1 if scalar else channels
    constant = 10.0 ** rng.uniform(-3, 3, count) * rng.choice([-1.0, 1.0], count)
    affine = affine_of(op_type, constant, constant_is_first=constant_is_first)
    operands = [x, constant.reshape(-1, 1)]
    if constant_is_first:
        operands.reverse()
    if op_type == "Div" and constant_is_first:
        assert affine is None
        return
    assert affine is not None
    assert affine.channels == count
    scale, shift = on_channels(affine.scale, 3), on_channels(affine.shift, 3)
    terms = np.abs(scale * x) + np.abs(shift)
    assert_equal(scale * x + shift, operator(op_type, operands), terms)


@EXAMPLES
@given(sizes, seeds, st.sampled_from([1e-5, 1e-3, 0.0, 0.1]))
def test_batch_norm(channels: int, seed: int, epsilon: float) -> None:
    """``scale x + shift`` is what BatchNormalization computes; epsilon is a float32 attribute."""
    rng = np.random.default_rng(seed)
    x = drawn(rng, 2, channels, 3)
    gamma, beta, mean = (drawn(rng, channels) for _ in range(3))
    var = 10.0 ** rng.uniform(-6, 6, channels)
    stored = float(np.float32(epsilon))
    affine = Affine.from_batch_norm(gamma, beta, mean, var, eps=stored)
    scale, shift = on_channels(affine.scale, 3), on_channels(affine.shift, 3)
    expected = operator("BatchNormalization", [x, gamma, beta, mean, var], epsilon=epsilon)
    means, betas = on_channels(mean, 3), on_channels(beta, 3)
    terms = np.abs(scale) * (np.abs(x) + np.abs(means)) + np.abs(betas)
    assert_equal(scale * x + shift, expected, terms)


@EXAMPLES
@given(sizes, seeds, st.integers(1, 5))
def test_then(channels: int, seed: int, count: int) -> None:
    """``first.then(second)`` is the second map of the first, for any number of maps."""
    rng = np.random.default_rng(seed)
    maps = [drawn_affine(rng, channels) for _ in range(count)]
    x = drawn(rng, 7, channels)
    y, terms, whole = x, np.abs(x), maps[0]
    for affine in maps[1:]:
        whole = whole.then(affine)
    for affine in maps:
        y = affine.scale * y + affine.shift
        terms = np.abs(affine.scale) * terms + np.abs(affine.shift)
    assert_equal(whole.scale * x + whole.shift, y, terms)


@EXAMPLES
@given(sizes, seeds)
def test_collecting_is_composing(channels: int, seed: int) -> None:
    """Pushing two maps back one by one is pushing back the two of them as one."""
    rng = np.random.default_rng(seed)
    first, second = drawn_affine(rng, channels), drawn_affine(rng, channels)
    bias = drawn(rng, channels)
    plain = Layer.plain(bias, channels)
    singly = push_back(push_back(plain, first), second)
    jointly = push_back(plain, first.then(second))
    assert_equal(singly.out, jointly.out, np.abs(jointly.out))
    terms = np.abs(second.scale) * (np.abs(first.scale * bias) + np.abs(first.shift))
    assert_equal(singly.bias, jointly.bias, terms + np.abs(second.shift))


def test_the_evaluator_judges_in_float64() -> None:
    x = np.array([[1.0 + 2.0**-50]])
    assert operator("MatMul", [x, np.eye(1)])[0, 0] == 1.0 + 2.0**-50

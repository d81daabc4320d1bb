"""Small models that random ones led to: each folds, to the same function under the same names.

The random models mix every operator of the tables with every way to write a constant. What went
wrong with these was seldom one rule, but two things that met.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bnfold
from bnfold.reference import Evaluator
from tests.support_graphs import Array, parsed
from tests.support_models import filled as filled_in
from tests.support_models import parsed as dtyped
from tests.support_models import with_values

Shapes = dict[str, tuple[int, ...]]

# Constants of one value, for whichever graph reads them.
EQUAL: dict[str, tuple[tuple[int, ...], float]] = {
    "no_shift": ((1,), 0.0),
    "no_rows": ((6, 1), 0.0),
    "no_batch": ((2, 1, 1, 1), 0.0),
    "two": ((2,), 2.0),
    "zeros": ((6,), 0.0),
    "halves": ((6,), 0.5),
    "ones": ((3,), 1.0),
    "one": ((1,), 1.0),
    "five": ((5,), 1.0),
    "fives": ((5, 1), 1.0),
    "scale": ((1, 1, 1, 1), 1.965189985584285),
    "shift": ((1, 1, 1, 1), -2.1186909769998383),
    "tap": ((1, 1, 1, 1), 0.3746233997219255),
    "gamma": ((1,), 1.7829256369477955),
    "factor": ((1,), 0.585704854736824),
}

# Graph, shapes of its other constants, norms that fold.
CASES: dict[str, tuple[str, Shapes, int]] = {
    "equal values on another axis than the channels of a ConvTranspose": (
        "(double[1,3,2] x) => (double[1,2,2] y) { c = ConvTranspose(x, w)  y = Mul(c, two) }",
        {"w": (3, 2, 1)},
        1,
    ),
    "a computed constant of more axes than a MatMul's weight": (
        """(double[1,4,N,4] x) => (double[1,4,N,3] y) {
            k = Constant<value = double[1,1,1,1] {2.0}>()
            c = MatMul(x, w)  y = Div(c, k) }""",
        {"w": (4, 3)},
        1,
    ),
    "equal channels on another axis than those of a MatMul": (
        """(double[1,6,N,1] x) => (double[1,6,N,4] y) {
            c = MatMul(x, w)  y = BatchNormalization(c, halves, zeros, zeros, halves) }""",
        {"w": (1, 4)},
        1,
    ),
    "a Shape between a MatMul and the norm that becomes its bias": (
        """(double[2,3] x) => (double[2,5] y, int64[2] s) {
            c = MatMul(x, w)  s = Shape(c)
            n = BatchNormalization(c, g, b, m, five)  y = Mul(n, g) }""",
        {"g": (5,), "b": (5,), "m": (5,), "w": (3, 5)},
        1,
    ),
    "a Shape of an Identity between a MatMul and the norm that becomes its bias": (
        """(double[2,3] x) => (double[2,5] y, int64[2] s) {
            c = MatMul(x, w)  i = Identity(c)  s = Shape(i)
            n = BatchNormalization(i, g, b, m, five)  y = Mul(n, g) }""",
        {"g": (5,), "b": (5,), "m": (5,), "w": (3, 5)},
        1,
    ),
    "one tensor as scale and bias of an InstanceNormalization, and a map that does nothing": (
        """(double[1,5,4] x) => (double[1,5,4] y) {
            c = InstanceNormalization(x, k, k)  n = Mul(c, fives)  y = Softplus(n) }""",
        {"k": (5,)},
        1,
    ),
    "a reader between two steps, the second of which does nothing": (
        """(double[2,3] x) => (double[2,5] y, double[2,5] z) {
            c = MatMul(x, w)  s = Sub(c, k)  y = Relu(s)
            n = Mul(s, five)  z = Softplus(n) }""",
        {"k": (5,), "w": (3, 5)},
        1,
    ),
    "zeros of a Min behind the norm, which cancel on the written side": (
        """(double[2,6,1] x) => (double[2,6,1] y) {
            n = BatchNormalization(x, halves, b, m, halves)  c = Min(n, no_rows)
            y = Conv<group = 6>(c, w) }""",
        {"b": (6,), "m": (6,), "w": (6, 1, 1)},
        1,
    ),
    "two equal norms of a Conv whose sum is normalised": (
        """(double[1,3,4,4] x) => (double[1,3,4,4] y) {
            c = Conv(x, w)
            a = BatchNormalization(c, g, b, m, ones)  d = BatchNormalization(c, g, b, m, ones)
            e = Add(a, d)  y = BatchNormalization(e, g, b, m, ones) }""",
        {"w": (3, 3, 1, 1), "g": (3,), "b": (3,), "m": (3,)},
        3,
    ),
    "two equal norms of a MatMul whose sum is normalised": (
        """(double[1,3] x) => (double[1,3] y) {
            c = MatMul(x, w)
            a = BatchNormalization(c, g, b, m, ones)  d = BatchNormalization(c, g, b, m, ones)
            e = Add(a, d)  y = BatchNormalization(e, g, b, m, ones) }""",
        {"w": (3, 3), "g": (3,), "b": (3,), "m": (3,)},
        3,
    ),
    "what a MatMul makes is read beside the Add that stays as its bias": (
        """(double[4,2] x) => (double[4,1] y) {
            mask = Constant<value = bool[1,1] {1}>()
            c = MatMul(x, w)  a = Add(c, no_shift)  e = Where(mask, c, a)
            n = BatchNormalization(e, g, b, m, one)  y = Relu(n) }""",
        {"w": (2, 1), "g": (1,), "b": (1,), "m": (1,)},
        1,
    ),
    "the Add behind a MatMul stays, and the tensor between them is scaled": (
        """(double[2,4] x) => (double[2,3] y) {
            c = MatMul(x, w)  a = Add(c, k)  y = Mul(a, g) }""",
        {"w": (4, 3), "k": (3,), "g": (3,)},
        1,
    ),
    "an Identity before an operator that is crossed": (
        """(double[1,6] x) => (double[4,1] y) {
            c = MatMul(x, w)  i = Identity(c)  t = Transpose(i)  m = Mul(t, k)  y = Relu(m) }""",
        {"w": (6, 4), "k": (1,)},
        1,
    ),
    "padded by the value that becomes zero": (
        """(double[1,1,4,1] x) => (double[1,1,4,3] y) {
            a = Mul(x, scale)  b = Add(a, shift)  y = Conv<pads = [0, 1, 0, 1]>(b, tap) }""",
        {},
        1,
    ),
    "SAME pads nothing around a window of one tap": (
        """(double[1,5,7] x) => (double[1,5,4] y) {
            n = BatchNormalization(x, g, b, m, five)
            y = Conv<auto_pad = "SAME_LOWER", group = 5, strides = [2]>(n, w) }""",
        {"w": (5, 1, 1), "g": (5,), "b": (5,), "m": (5,)},
        1,
    ),
    "a sum over what is normalised, which is zero": (
        """(double[1,1,2,2] x) => (double[1,1,1,1] y) {
            axes = Constant<value = int64[2] {2, 3}>()
            n = InstanceNormalization(x, gamma, no_shift)
            r = ReduceSum(n, axes)  y = Mul(r, factor) }""",
        {},
        1,
    ),
    "the channels of an InstanceNormalization before other sizes": (
        """(double[N,4,6] x) => (double[N,24] y) {
            r = Relu(x)  n = InstanceNormalization(r, g, b)
            f = Flatten(n)  y = Mul(f, k) }""",
        {"g": (4,), "b": (4,), "k": (1,)},
        1,
    ),
    "a size that only a later product needs": (
        """(double[N,1,3,M] x) => (double[N,1,3,1] y) {
            r = Relu(x)  a = Add(r, k)  m = MatMul(a, w)  y = Add(m, no_shift) }""",
        {"k": (1, 1, 1, 1), "w": (2, 1)},
        1,
    ),
    "a part of a sequence and a constant that adds nothing": (
        """(double[2,8,2,2] x) => (double[2,8,2,1] y) {
            each = Constant<value_int = 1>()  first = Constant<value_int = 0>()
            c = MatMul(x, w)  q = SplitToSequence<axis = 3>(c, each)  p = SequenceAt(q, first)
            y = Add(no_batch, p) }""",
        {"w": (2, 1)},
        1,
    ),
    "steps of a chain go forward and leave nothing to say of the others": (
        """(double[N,6,5] x) => (double[N,6,5] b, double[N,6,5] y) {
            c = MatMul(x, w)  a = Mul(c, k)  b = Mul(c, k)  d = Add(a, no_rows)  y = Div(d, r) }""",
        {"w": (5, 5), "k": (1,), "r": (5,)},
        3,
    ),
}

REFUSED: dict[str, tuple[str, Shapes]] = {
    "more axes than an Expand makes": (
        """(double[1,3,1] x) => (double[1,3,9,2,3] y) {
            axes = Constant<value = int64[1] {2}>()
            shape = Constant<value = int64[4] {3, 9, 2, 3}>()
            c = Conv<group = 3>(x, w)  u = Unsqueeze(c, axes)  e = Expand(u, shape)
            y = Add(e, k) }""",
        {"w": (9, 1, 1), "k": (1, 1, 1, 1, 1)},
    ),
    "one axis, and data without any": (
        "(double x) => (double[1] y) { a = Add(x, no_shift)  y = Abs(a) }",
        {},
    ),
}


def model(text: str, shapes: Shapes) -> onnx.ModelProto:
    """A graph with constants of random values, or of one value."""
    made = parsed(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')
    generator = np.random.default_rng(7)
    values = {
        name: generator.uniform(0.5, 2, shape) * generator.choice([-1, 1], shape)
        for name, shape in shapes.items()
    }
    values |= {name: np.full(shape, value) for name, (shape, value) in EQUAL.items()}
    for name in dict.fromkeys(name for node in made.graph.node for name in node.input):
        if name in values:
            made.graph.initializer.append(numpy_helper.from_array(np.asarray(values[name]), name))
    for node in made.graph.node:
        node.name = node.output[0]
    onnx.checker.check_model(made, full_check=True)
    return made


def everything(made: onnx.ModelProto) -> dict[str, Array]:
    """All tensors that are computed, on data of size 30."""
    (data,) = made.graph.input
    shape = [dim.dim_value or 2 for dim in data.type.tensor_type.shape.dim]
    x = 30 * np.random.default_rng(1).normal(size=shape)
    names = [name for node in made.graph.node for name in node.output if name[0] != "q"]
    return {name: np.asarray(v) for name, v in Evaluator(made).run({"x": x}, names).items()}


@pytest.mark.parametrize("case", CASES)
def test_each_is_the_same_function_under_the_same_names(case: str) -> None:
    text, shapes, count = CASES[case]
    original = model(text, shapes)
    result = bnfold.fold(original)
    onnx.checker.check_model(result.model, full_check=True)
    assert len(result.report.folded) == count
    assert len(result.model.graph.node) < len(original.graph.node)
    assert result.report.checked is not None
    assert result.report.checked.unchecked == 0
    before, after = everything(original), everything(result.model)
    assert {output.name for output in original.graph.output} <= set(after)
    for name in before.keys() & after.keys():
        size = np.abs(before[name]).max(initial=1.0)
        np.testing.assert_allclose(after[name], before[name], rtol=0, atol=1e-9 * size)


@pytest.mark.parametrize("case", REFUSED)
def test_a_constant_with_more_axes_than_its_data_is_no_norm(case: str) -> None:
    original = model(*REFUSED[case])
    assert bnfold.fold(original).model == original


def test_the_order_of_the_nodes_says_nothing() -> None:
    """Of two norms that begin alike, one goes on."""
    one = model(
        """(double[1,3,4,4] x) => (double[1,3,4,4] a, double[1,3,4,4] y) {
            c = Conv(x, w)  a = Mul(c, k)  b = Mul(c, k)  d = Add(b, no_shift)  y = Relu(d) }""",
        {"w": (3, 3, 1, 1), "k": (1, 1, 1)},
    )
    other = onnx.ModelProto()
    other.CopyFrom(one)
    del other.graph.node[:]
    other.graph.node.extend(one.graph.node[at] for at in (0, 2, 3, 1, 4))
    first, second = (bnfold.fold(made).report for made in (one, other))
    assert {norm.nodes for norm in first.folded} == {norm.nodes for norm in second.folded}


def test_sizes_that_are_an_input_with_values_are_taken_as_they_are() -> None:
    """The check makes no other sizes up for a Split whose parts the model tells."""
    made = model(
        """(double[N,4,1,1] x, int64[2] sizes) => (double[N,5,1,1] a, double[N,1,1,1] y)
        <int64[2] sizes = {5, 1}, double[N,1,1,1] b> {
            c = Conv(x, w)  a, b = Split<axis = 1>(c, sizes)
            y = BatchNormalization(b, g, t, m, one) }""",
        {"w": (6, 4, 1, 1), "g": (1,), "t": (1,), "m": (1,)},
    )
    assert len(bnfold.fold(made).report.folded) == 1


def test_a_bias_without_axes() -> None:
    made = model(
        """(double[2,4] x) => (double[2,3] y) {
            c = Gemm(x, w, number)  a = Add(c, no_shift)  y = Mul(a, k) }""",
        {"w": (4, 3), "number": (), "k": ()},
    )
    assert len(bnfold.fold(made).report.folded) == 1


def test_a_constant_without_axes_takes_up_a_norm_itself() -> None:
    made = model(
        """(double[1,1] x, int64[2] shape) => (double[1,1] y) <int64[2] shape = {1, 1}> {
            k = Expand(number, shape)  h = Mul(k, halved)  y = Add(h, x) }""",
        {"number": (), "halved": (1, 1)},
    )
    assert [norm.taken for norm in bnfold.fold(made).report.folded] == [("number",)]


def test_no_block_of_branches_begins_where_a_constant_adds_an_axis() -> None:
    made = model(
        """(double[1,4,5,2] x) => (double[1,1,4,5,2] y) {
            a = Add(k, x)  c = Conv(a, w)  y = Sum(x, c) }""",
        {"k": (1, 1, 1, 1, 1), "w": (1, 1, 1, 1, 1)},
    )
    assert bnfold.fold(made, merge_branches=True).model == made


def test_an_input_with_a_default_stays_though_it_does_not_count() -> None:
    made = dtyped(
        """agraph (float[2,3] x, float[4] c) => (float[2,4] y) <float[3,4] w, float[4] k> {
            d = Gemm <beta = 0.0> (x, w, c)
            y = Add (d, k) }"""
    )
    given = filled_in(made)
    given.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), "c"))
    result = bnfold.fold(given)
    assert len(result.report.folded) == 1
    assert result.model.graph.input == given.graph.input
    onnx.checker.check_model(result.model, full_check=True)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float"])
def test_the_value_of_a_pad_in_an_attribute_is_rounded_as_its_data(dtype: str) -> None:
    made = dtyped(
        """agraph (float[2,3] x) => (float[3,4] y)
        <float[3,4] w, float[4] c, float[1] k, float[1] l> {
            d = Gemm (x, w, c)
            e = Pad <pads = [0,0,1,0], value = 0.7> (d)
            f = Mul (e, k)
            y = Add (f, l) }""",
        opset=9 if dtype != "bfloat16" else 10,
        dtype=dtype,
    )
    filled = with_values(filled_in(made), k=1.37, l=-2.119)
    assert len(bnfold.fold(filled).report.folded) == 1

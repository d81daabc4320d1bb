"""Small models that random ones led to: each folds, to the same function under the same names.

The random models mix every operator of the tables with every way to write a constant. What went
wrong with one of these was not a rule, but two of them that met.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bnfold
from bnfold.reference import Evaluator
from tests.support_graphs import Array, parsed

NORM = "BatchNormalization"

# Graph, shapes of its constants (a number for equal values), norms that fold.
CASES: dict[str, tuple[str, dict[str, tuple[int, ...] | tuple[tuple[int, ...], float]], int]] = {
    "equal values on another axis than the channels of a ConvTranspose": (
        "(double[1,3,2] x) => (double[1,2,2] y) { c = ConvTranspose(x, w)  y = Mul(c, k) }",
        {"w": (3, 2, 1), "k": ((2,), 2.0)},
        1,
    ),
    "a computed constant of more axes than a MatMul's weight": (
        "(double[1,4,N,4] x) => (double[1,4,N,3] y)"
        "{ k = Constant<value = double[1,1,1,1] {2}>()  c = MatMul(x, w)  y = Div(c, k) }",
        {"w": (4, 3)},
        1,
    ),
    "equal channels on another axis than those of a MatMul": (
        f"(double[1,6,N,1] x) => (double[1,6,N,4] y)"
        f"{{ c = MatMul(x, w)  y = {NORM}(c, g, b, b, g) }}",
        {"w": (1, 4), "g": ((6,), 0.5), "b": ((6,), 0.0)},
        1,
    ),
    "two equal norms of a Conv whose sum is normalised": (
        f"(double[1,3,4,4] x) => (double[1,3,4,4] y) {{ c = Conv(x, w)"
        f"  a = {NORM}(c, g, b, m, v)  d = {NORM}(c, g, b, m, v)"
        f"  e = Add(a, d)  y = {NORM}(e, g, b, m, v) }}",
        {"w": (3, 3, 1, 1), "g": (3,), "b": (3,), "m": (3,), "v": ((3,), 2.0)},
        3,
    ),
    "two equal norms of a MatMul whose sum is normalised": (
        f"(double[1,3] x) => (double[1,3] y) {{ c = MatMul(x, w)"
        f"  a = {NORM}(c, g, b, m, v)  d = {NORM}(c, g, b, m, v)"
        f"  e = Add(a, d)  y = {NORM}(e, g, b, m, v) }}",
        {"w": (3, 3), "g": (3,), "b": (3,), "m": (3,), "v": ((3,), 2.0)},
        3,
    ),
    "what a MatMul makes is read beside the Add that stays as its bias": (
        f"(double[4,2] x) => (double[4,1] y) {{ c = MatMul(x, w)  a = Add(c, zero)"
        f"  e = Where(mask, c, a)  n = {NORM}(e, g, b, m, v)  y = Relu(n)"
        "  mask = Constant<value = bool[1,1] {1}>() }",
        {"w": (2, 1), "zero": ((1,), 0.0), "g": (1,), "b": (1,), "m": (1,), "v": ((1,), 2.0)},
        1,
    ),
    "a sum of what a MatMul makes takes the shift of the Add beside it": (
        "(double[2,5] x) => (double[2,5] a, double[2,5] y)"
        "{ r = Relu(x)  c = MatMul(r, w)  a = Add(k, c)  e = Sum(r, r, c)  y = Add(e, k) }",
        {"w": (5, 5), "k": (5,)},
        0,
    ),
    "an Identity before an operator that is crossed": (
        "(double[1,6] x) => (double[6,4] y) { c = MatMul(x, w)  i = Identity(c)"
        "  t = Transpose(i)  m = Mul(t, k)  y = Expand(m, shape)"
        "  shape = Constant<value = int64[2] {6, 4}>() }",
        {"w": (6, 6), "k": (1,)},
        0,
    ),
    "the Add behind a MatMul stays, the tensor between them is scaled": (
        "(double[2,4] x) => (double[2,3] y) { c = MatMul(x, w)  a = Add(c, k)  y = Mul(a, g) }",
        {"w": (4, 3), "k": (3,), "g": (3,)},
        1,
    ),
    "padded by the value that becomes zero": (
        "(double[1,1,4,1] x) => (double[1,1,4,3] y)"
        "{ a = Mul(x, s)  b = Add(a, t)  y = Conv<pads = [0, 1, 0, 1]>(b, w) }",
        {
            "s": ((1, 1, 1, 1), 1.965189985584285),
            "t": ((1, 1, 1, 1), -2.1186909769998383),
            "w": ((1, 1, 1, 1), 0.3746233997219255),
        },
        1,
    ),
    "SAME pads nothing around a window of one tap": (
        f"(double[1,5,7] x) => (double[1,5,4] y) {{ n = {NORM}(x, g, b, m, v)"
        '  y = Conv<auto_pad = "SAME_LOWER", group = 5, strides = [2]>(n, w) }',
        {"w": (5, 1, 1), "g": (5,), "b": (5,), "m": (5,), "v": ((5,), 2.0)},
        1,
    ),
    "a sum over what is normalised to zero": (
        "(double[1,1,2,2] x) => (double[1,1,1,1] y) { n = InstanceNormalization(x, s, z)"
        "  r = ReduceSum(n, axes)  y = Mul(r, k)"
        "  axes = Constant<value = int64[2] {2, 3}>() }",
        {"s": ((1,), 1.7829256369477955), "z": ((1,), 0.0), "k": ((1,), 0.585704854736824)},
        0,
    ),
    "a part of a sequence and a constant that adds nothing": (
        "(double[2,8,2,2] x) => (double[2,8,2,1] y) { c = MatMul(x, w)"
        "  q = SplitToSequence<axis = 3>(c, one)  p = SequenceAt(q, zero)  y = Add(k, p)"
        "  one = Constant<value_int = 1>()  zero = Constant<value_int = 0>() }",
        {"w": (2, 1), "k": ((2, 1, 1, 1), 0.0)},
        0,
    ),
    "some steps of a chain go forward and leave nothing to say of the others": (
        "(double[N,6,5] x) => (double[N,6,5] b, double[N,6,5] y) { c = MatMul(x, w)"
        "  a = Mul(c, k)  b = Mul(c, k)  d = Add(a, z)  y = Div(d, r) }",
        {"w": (5, 5), "k": (1,), "z": ((6, 1), 0.0), "r": (5,)},
        0,
    ),
}


def model(text: str, shapes: dict[str, tuple[int, ...] | tuple[tuple[int, ...], float]]) -> onnx.ModelProto:
    made = parsed(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')
    generator = np.random.default_rng(7)
    for name, given in shapes.items():
        if given and isinstance(given[0], tuple):
            values = np.full(*given)
        else:
            values = generator.uniform(0.5, 2, given) * generator.choice([-1, 1], given)
        made.graph.initializer.append(numpy_helper.from_array(np.asarray(values, float), name))
    for node in made.graph.node:
        node.name = node.output[0]
    for order in range(len(made.graph.node)):
        # Constants may stand behind their readers in the text.
        if made.graph.node[order].op_type == "Constant":
            node = made.graph.node[order]
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            del made.graph.node[order]
            made.graph.node.insert(0, copy)
    onnx.checker.check_model(made, full_check=True)
    return made

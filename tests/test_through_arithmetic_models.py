"""Whole models whose norms cross operators that compute, before and after, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

import bnfold
from tests.support_models import (
    Array,
    feeds_for,
    filled,
    norm_parameters,
    op_types,
    parsed,
    with_values,
)

BN = "BatchNormalization"
HEAD = f"n = {BN} (x, g, b, m, v)"
VALUES: dict[str, Array] = {
    "scales": np.array([1.0, 1.0, 2.0, 1.5], np.float32),
    "pads": np.array([0, 0, 1, 2, 0, 0, 2, 1], np.int64),
    "axes": np.array([2, 3], np.int64),
}
"""What a parameter of this name is; others are random."""


@dataclass(frozen=True)
class Row:
    """A model, and what is left of it.

    Attributes:
        body: the nodes.
        left: the operators afterwards.
        inputs: of the graph.
        more: declarations of parameters.
        kept: whether the norm stays, because of an operator that it cannot cross.
        positive: whether the norm's scales are positive; else they have both signs.
        shift: whether the norm has a shift.
    """

    body: str
    left: str
    inputs: str = "float[2,3,8,8] x"
    more: str = "float[4,3,3,3] w"
    kept: bool = False
    positive: bool = False
    shift: bool = True

    def model(self, seed: int) -> onnx.ModelProto:
        """The model, with random parameters of both signs."""
        more = f"{self.more}, {norm_parameters(4)}"
        text = f"agraph ({self.inputs}) => (float y) <{more}> {{ {self.body} }}"
        model = parsed(text, dtype="double")
        model.graph.output[0].type.tensor_type.ClearField("shape")
        model = filled(model, seed)
        for tensor in model.graph.initializer:
            if tensor.name in VALUES:
                tensor.CopyFrom(numpy_helper.from_array(VALUES[tensor.name], tensor.name))
        gamma = np.array([0.5, -0.75, 2.0, -0.25])
        values: dict[str, Array] = {"g": np.abs(gamma) if self.positive else gamma}
        if not self.shift:
            values |= {"b": np.zeros(4), "m": np.zeros(4)}
        return with_values(model, **values)


def behind(
    body: str,
    left: str,
    *,
    more: str = "",
    inputs: str = "float[2,3,8,8] x",
    kept: bool = False,
    positive: bool = False,
    shift: bool = True,
) -> Row:
    """A norm behind what makes p of c, the output of a Conv."""
    return Row(
        f"c = Conv <pads=[1,1,1,1]> (x, w) {body} y = {BN} (p, g, b, m, v)",
        f"Conv {left} {BN}" if kept else f"Conv {left}",
        inputs,
        f"float[4,3,3,3] w{more}",
        kept,
        positive,
        shift,
    )


def joined(join: str, left: str, *, positive: bool = False, shift: bool = True) -> Row:
    """A norm behind what makes p of two convolutions, c and d."""
    more = ", float[4,3,1,1] u"
    body = f"d = Conv (x, u) p = {join}"
    return behind(body, f"Conv {left}", more=more, positive=positive, shift=shift)


def before(body: str, left: str, more: str, *, positive: bool = False, shift: bool = True) -> Row:
    """A norm before what makes y of n."""
    return Row(f"{HEAD} {body}", left, "float[2,4,8,8] x", more, positive=positive, shift=shift)


SAME = "kernel_shape=[3,3], pads=[1,1,1,1]"
COUNTED = f"p = AveragePool <{SAME}, count_include_pad=1> (c)"
PADS = ", int64[8] pads"
BACKWARD = {
    "average pool": behind("p = AveragePool <kernel_shape=[2,2]> (c)", "AveragePool"),
    "average pool, pads": behind(f"p = AveragePool <{SAME}> (c)", "AveragePool"),
    "average pool, counted pads": behind(COUNTED, "AveragePool", kept=True),
    "average pool, counted pads, no shift": behind(COUNTED, "AveragePool", shift=False),
    "max pool": behind(f"p = MaxPool <{SAME}, strides=[2,2]> (c)", "MaxPool", positive=True),
    "max pool, both signs": behind(f"p = MaxPool <{SAME}> (c)", "MaxPool", kept=True),
    "mean": behind("p = ReduceMean <axes=[-1,-2]> (c)", "ReduceMean"),
    "global maximum": behind("p = GlobalMaxPool (c)", "GlobalMaxPool", positive=True),
    "sum": behind("p = ReduceSum (c, axes)", "ReduceSum", more=", int64[2] axes"),
    "two branches": joined("Add (c, d)", "Add"),
    "difference": joined("Sub (c, d)", "Sub"),
    "sum of three": joined("Sum (c, d, c)", "Sum"),
    "mean of two": joined("Mean (c, d)", "Mean"),
    "larger of two": joined("Max (c, d)", "Max", positive=True),
    "quotient": behind(
        "d = Conv (x, z) s = Sigmoid (d) p = Div (c, s)",
        "Conv Sigmoid Div",
        more=", float[4,3,1,1] z",
        shift=False,
    ),
    "choice": behind(
        "d = Conv (x, u) p = Where (choice, c, d)",
        "Conv Where",
        more=", float[4,3,1,1] u",
        inputs="float[2,3,8,8] x, bool choice",
    ),
    "relu": behind("p = Relu (c)", "Relu", positive=True, shift=False),
    "relu, shift": behind("p = Relu (c)", "Relu", positive=True, kept=True),
    "relu, both signs": behind("p = Relu (c)", "Relu", shift=False, kept=True),
    "leaky relu": behind("p = LeakyRelu (c)", "LeakyRelu", positive=True, shift=False),
    "prelu": behind(
        "p = PRelu (c, slope)", "PRelu", more=", float[4,1,1] slope", positive=True, shift=False
    ),
    "negation": behind("p = Neg (c)", "Neg"),
    "resize": behind(
        'p = Resize <mode="linear"> (c, "", scales)', "Resize", more=", float[4] scales"
    ),
    "pad, reflected": behind('p = Pad <mode="reflect"> (c, pads)', "Pad", more=PADS),
    "pad, zeros": behind("p = Pad (c, pads)", "Pad", more=PADS, kept=True),
    "pad, zeros, no shift": behind("p = Pad (c, pads)", "Pad", more=PADS, shift=False),
    "gate": behind(
        "d = Conv (x, z) s = Sigmoid (d) p = Mul (c, s)",
        "Conv Sigmoid Mul",
        more=", float[4,3,1,1] z",
        shift=False,
    ),
    "gate, shift": behind(
        "d = Conv (x, z) s = Sigmoid (d) p = Mul (c, s)",
        "Conv Sigmoid Mul",
        more=", float[4,3,1,1] z",
        kept=True,
    ),
    "pools in a row": behind(
        "q = MaxPool <kernel_shape=[2,2]> (c) r = AveragePool <kernel_shape=[2,2]> (q) "
        "p = GlobalAveragePool (r)",
        "MaxPool AveragePool GlobalAveragePool",
        positive=True,
    ),
}
FORWARD = {
    "head": before(
        "p = GlobalAveragePool (n) f = Flatten (p) y = Gemm <transB=1> (f, w, bias)",
        "GlobalAveragePool Flatten Gemm",
        "float[5,4] w, float[5] bias",
    ),
    "mean": before(
        "p = ReduceMean <axes=[2,3], keepdims=0> (n) y = MatMul (p, w)",
        "ReduceMean MatMul Add",
        "float[4,5] w",
    ),
    "relu": before(
        "r = Relu (n) y = Conv (r, w)", "Relu Conv", "float[5,4,3,3] w", positive=True, shift=False
    ),
    "max pool": before(
        "r = MaxPool <kernel_shape=[2,2]> (n) y = Conv (r, w)",
        "MaxPool Conv",
        "float[5,4,3,3] w",
        positive=True,
    ),
    "channel attention": before(
        "a = GlobalAveragePool (n) e = Conv (a, u) s = Sigmoid (e) p = Mul (n, s) y = Conv (p, w)",
        "GlobalAveragePool Conv Sigmoid Mul Conv",
        "float[5,4,3,3] w, float[4,4,1,1] u",
        shift=False,
    ),
    "resize and pools, two readers": before(
        'r = Resize <mode="nearest"> (n, "", scales) c = Conv (r, w) '
        "a = AveragePool <kernel_shape=[2,2]> (n) d = Conv (a, u) p = GlobalAveragePool (c) "
        "q = GlobalAveragePool (d) y = Add (p, q)",
        "Resize Conv AveragePool Conv GlobalAveragePool GlobalAveragePool Add",
        "float[5,4,3,3] w, float[5,4,1,1] u, float[4] scales",
    ),
}
ROWS = {f"behind: {k}": v for k, v in BACKWARD.items()}
ROWS |= {f"before: {k}": v for k, v in FORWARD.items()}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("seed", [0, 1])
def test_models(row: Row, seed: int) -> None:
    model = row.model(seed)
    result = bnfold.fold(model)
    assert " ".join(op_types(result.model)) == row.left
    assert [norm.code for norm in result.report.kept] == ["not-through"] * row.kept
    feeds = feeds_for(model, seed)
    wanted, found = (
        np.asarray(next(iter(ReferenceEvaluator(one).run(None, feeds))))
        for one in (model, result.model)
    )
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())
    again = bnfold.fold(result.model).model
    assert again.SerializeToString() == result.model.SerializeToString()

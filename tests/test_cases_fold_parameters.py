"""Parameters that are constant in value, however the file spells them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support_cases import Case, check_fold
from tests.support_models import (
    initializers_as_nodes,
    list_initializers_as_inputs,
    norm_parameters,
)

BN = "BatchNormalization"
NORM = f"y = {BN} (c, g, b, m, v)"


def graph(body: str, declared: str = "", *, outputs: str = "float[n,c,h,w] y") -> str:
    more = f", {declared}" if declared else ""
    return f"""agraph (float[2,3,6,5] x) => ({outputs})
        <float[4,3,3,3] w, {norm_parameters(4)}{more}> {{ {body} }}"""


PLAIN = graph(f"c = Conv (x, w, bias)  {NORM}", "float[4] bias")
CHAIN = graph(f"c = Conv (x, w)  n = {BN} (c, g, b, m, v)  d = Mul (n, k)  y = Add (d, k)").replace(
    "float[4] g", "float[4,1,1] k, float[4] g"
)


def constants(tensor: onnx.TensorProto) -> list[onnx.NodeProto]:
    return [helper.make_node("Constant", [], [tensor.name], value=tensor)]


def constant_floats(tensor: onnx.TensorProto) -> list[onnx.NodeProto]:
    """Vectors as ``value_floats``, all else as ``value``."""
    if len(tensor.dims) != 1:
        return constants(tensor)
    values = [float(value) for value in numpy_helper.to_array(tensor)]
    return [helper.make_node("Constant", [], [tensor.name], value_floats=values)]


def identities(tensor: onnx.TensorProto) -> list[onnx.NodeProto]:
    return [helper.make_node("Identity", [f"{tensor.name}_raw"], [tensor.name])]


def constant_identities(tensor: onnx.TensorProto) -> list[onnx.NodeProto]:
    made = f"{tensor.name}_made"
    return [
        helper.make_node("Constant", [], [made], value=tensor),
        helper.make_node("Identity", [made], [tensor.name]),
    ]


def casts(tensor: onnx.TensorProto) -> list[onnx.NodeProto]:
    wide = numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float64"))
    made = f"{tensor.name}_wide"
    return [
        helper.make_node("Constant", [], [made], value=wide),
        helper.make_node("Cast", [made], [tensor.name], to=TensorProto.FLOAT),
    ]


def double_transposes(tensor: onnx.TensorProto) -> list[onnx.NodeProto]:
    made = f"{tensor.name}_back"
    return [
        helper.make_node("Transpose", [f"{tensor.name}_raw"], [made]),
        helper.make_node("Transpose", [made], [tensor.name]),
    ]


def reshapes(tensor: onnx.TensorProto) -> list[onnx.NodeProto]:
    flat, shape = f"{tensor.name}_flat", f"{tensor.name}_shape"
    return [
        helper.make_node("Constant", [], [f"{tensor.name}_all"], value_ints=[-1]),
        helper.make_node("Reshape", [f"{tensor.name}_raw", f"{tensor.name}_all"], [flat]),
        helper.make_node("Shape", [f"{tensor.name}_raw"], [shape]),
        helper.make_node("Reshape", [flat, shape], [tensor.name]),
    ]


def with_weight(model: onnx.ModelProto) -> onnx.ModelProto:
    weight = np.linspace(-1, 1, 108, dtype=np.float32).reshape(4, 3, 3, 3)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    return model


def with_listed_other(model: onnx.ModelProto) -> onnx.ModelProto:
    listed = list_initializers_as_inputs(model)
    kept = [value for value in listed.graph.input if value.name in ("x", "other")]
    model.graph.input.extend(kept[1:])
    return model


SPELLINGS = {
    "Constant": (constants, "Constant Constant Conv"),
    "value_floats": (constant_floats, "Constant Conv"),
    "Identity": (identities, "Conv"),
    "Identity of Constant": (constant_identities, "Conv"),
    "Cast": (casts, "Conv"),
    "Transpose": (double_transposes, "Conv"),
    "Reshape": (reshapes, "Conv"),
}

COMPUTED = {
    "torch's bias": graph(
        f"""zero = Constant <value_float: float = 0.0> ()
        none = CastLike (zero, x)
        size = Shape <start: int = 0, end: int = 1> (w)
        bias = Expand (none, size)
        c = Conv (x, w, bias)  {NORM}"""
    ),
    "torch's bias, shared": graph(
        f"""zero = Constant <value_float: float = 0.0> ()
        none = CastLike (zero, x)
        size = Shape <start: int = 0, end: int = 1> (w)
        bias = Expand (none, size)
        c = Conv (x, w, bias)  n = {BN} (c, g, b, m, v)  d = Conv (n, q, bias)
        y = {BN} (d, g, b, m, v)""",
        "float[4,4,1,1] q",
    ),
    "ConstantOfShape": graph(
        f"""bias = ConstantOfShape <value = float[1] {{2.5}}> (four)
        c = Conv (x, w, bias)  {NORM}""",
        "int64[1] four = {4}",
    ),
    "ConstantOfShape of zero": graph(
        f"bias = ConstantOfShape (four)  c = Conv (x, w, bias)  {NORM}",
        "int64[1] four = {4}",
    ),
    "scale and bias of ones and zeros": graph(
        f"""one = Constant <value = float[1] {{1.0}}> ()  ones = Expand (one, four)
        zeros = ConstantOfShape (four)
        c = Conv (x, w)  y = {BN} (c, ones, zeros, m, v)""",
        "int64[1] four = {4}",
    ),
    "statistics by arithmetic": graph(
        f"two = Constant <value_float: float = 2.0> ()  mm = Mul (m, two)  vv = Add (v, two)"
        f"  c = Conv (x, w)  y = {BN} (c, g, b, mm, vv)"
    ),
    "Unsqueeze": graph(
        "axes = Constant <value_ints: ints = [1, 2]> ()  gg = Unsqueeze (g, axes)"
        "  bb = Unsqueeze (b, axes)  c = Conv (x, w)  d = Mul (c, gg)  y = Add (d, bb)"
    ),
    "transposed weight": graph(
        f"t = Transpose <perm: ints = [3, 0, 1, 2]> (q)  c = Conv (x, t)  {NORM}",
        "float[3,3,3,4] q",
    ),
    "half of a longer vector": graph(
        f"g1, g2 = Split (long, halves)  c = Conv (x, w)  y = {BN} (c, g2, b, m, v)",
        "float[8] long, int64[2] halves = {4, 4}",
    ),
}

SHARED = {
    "weight, two norms": Case(
        graph(
            f"c = Conv (x, w)  n = {BN} (c, g, b, m, v)  d = Conv (x, w)"
            f"  o = {BN} (d, g2, b2, m2, v2)  y = Add (n, o)",
            norm_parameters(4, "2"),
        ),
        "Conv Conv Add",
        folds=2,
    ),
    "weight, one norm": Case(
        graph(f"c = Conv (x, w)  n = {BN} (c, g, b, m, v)  d = Conv (x, w)  y = Add (n, d)"),
        "Conv Conv Add",
    ),
    "weight, norm and all": Case(
        graph(
            f"c = Conv (x, w)  n = {BN} (c, g, b, m, v)  d = Conv (x, w)"
            f"  o = {BN} (d, g, b, m, v)  y = Add (n, o)"
        ),
        "Conv Conv Add",
        folds=2,
    ),
    "bias": Case(
        graph(f"c = Conv (x, w, b)  n = {BN} (c, g, b, m, v)  d = Conv (x, w, b)  y = Add (n, d)"),
        "Conv Conv Add",
    ),
    "one vector for everything": Case(
        graph(f"c = Conv (x, w, v)  y = {BN} (c, v, v, v, v)").replace(
            norm_parameters(4), "float[4] v"
        ),
        "Conv",
    ),
    "the weight is an output": Case(
        graph(f"c = Conv (x, w)  {NORM}", outputs="float[n,c,h,i] y, float[4,3,3,3] w").replace(
            "<float[4,3,3,3] w, ", "<"
        ),
        "Conv",
        check="plain",
        change=with_weight,
    ),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings(spelling: str) -> None:
    make, left = SPELLINGS[spelling]
    check_fold(Case(PLAIN, left, change=lambda model: initializers_as_nodes(model, make)))
    no_bias = left.replace("Constant Constant", "Constant") if spelling == "Constant" else left
    check_fold(Case(CHAIN, no_bias, change=lambda model: initializers_as_nodes(model, make)))


@pytest.mark.parametrize("text", COMPUTED.values(), ids=COMPUTED)
def test_computed(text: str) -> None:
    two = text.count(f"= {BN}") == 2
    left = "Conv Conv" if two else "Conv"
    check_fold(Case(text, left, folds=1 + two, roundings=1 + two))


@pytest.mark.parametrize("case", SHARED.values(), ids=SHARED)
def test_shared(case: Case) -> None:
    check_fold(case)


@pytest.mark.parametrize("opset", [7, 8, 9])
def test_initializers_listed_as_inputs(opset: int) -> None:
    """Up to IR version 3 every initializer is an input, and constant all the same."""
    check_fold(Case(PLAIN, "Conv", opset=opset, ir=3))
    check_fold(Case(graph(f"c = Conv (x, w)  {NORM}"), "Constant Conv", opset=opset, ir=3))


def test_only_what_is_an_input_is_overridable() -> None:
    """From IR version 4 on a listed initializer that the fold does not touch does no harm."""
    text = graph(f"c = Conv (x, w)  n = {BN} (c, g, b, m, v)  y = Add (n, other)")
    text = text.replace("float[4] g", "float[2,4,4,3] other, float[4] g")
    check_fold(Case(text, "Conv Add", change=with_listed_other))

"""The short cuts for plain norms find what the long way finds, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bnfold
from bnfold.folding import apply, biases, plan, survey
from tests.support_models import filled, norm_parameters, parsed, with_values

OPERATORS = {
    "Conv": ("Conv <pads=[1,1,1,1]> ({0}, {1})", "[4,4,3,3]"),
    "biased Conv": ("Conv <pads=[1,1,1,1]> ({0}, {1}, h)", "[4,4,3,3]"),
    "depthwise Conv": ("Conv <group=4> ({0}, {1})", "[4,1,1,1]"),
    "ConvTranspose": ("ConvTranspose ({0}, {1})", "[4,4,1,1]"),
    "Relu": ("Relu ({0})", ""),
    "Identity": ("Identity ({0})", ""),
}
NORMS = {
    "BN": "BatchNormalization ({}, g, b, m, v)",
    "BN of its own epsilon": "BatchNormalization <epsilon=0.01, momentum=0.5> ({}, g, b, m, v)",
    "BN in training mode": "BatchNormalization <training_mode=1> ({}, g, b, m, v)",
    "BN of shared parameters": "BatchNormalization ({}, g, g, m, v)",
    "BN of a constant": "BatchNormalization ({}, g, b, zeros, v)",
    "Mul": "Mul ({}, k)",
    "none": "Identity ({})",
}
LAYERS = st.lists(
    st.tuples(st.sampled_from(list(OPERATORS)), st.sampled_from(list(NORMS)), st.booleans()),
    min_size=1,
    max_size=5,
)


def model_of(layers: list[tuple[str, str, bool]], dtype: str) -> onnx.ModelProto:
    """Operators with norms behind them, some of which others read too."""
    body, held, outputs = ["zeros = Constant <value_floats=[0.0, 0.0, 0.0, 0.0]> ()"], [], []
    data = "x"
    for at, (operator, norm, is_shared) in enumerate(layers):
        written, shape = OPERATORS[operator]
        if shape:
            held.append(f"{dtype}{shape} w{at}")
        body.append(f"c{at} = {written.format(data, f'w{at}')}")
        body.append(f"n{at} = {NORMS[norm].format(f'c{at}')}")
        if is_shared:
            body.append(f"s{at} = Sigmoid (c{at})")
            outputs.append(f"{dtype}[1,4,5,5] s{at}")
        data = f"n{at}"
    body.append(f"y = Identity ({data})")
    outputs.append(f"{dtype}[1,4,5,5] y")
    held += [norm_parameters(4).replace("float", dtype), f"{dtype}[4] h", f"{dtype}[4,1,1] k"]
    text = f"""net ({dtype}[1,4,5,5] x) => ({", ".join(outputs)}) <{", ".join(held)}>
        {{ {" ".join(body)} }}"""
    return filled(parsed(text))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(layers=LAYERS, dtype=st.sampled_from(["float", "double", "float16"]))
def test_the_long_way_gives_the_same_bytes(layers: list[tuple[str, str, bool]], dtype: str) -> None:
    if dtype != "float":
        layers = [
            (operator, "BN" if "constant" in norm else norm, s) for operator, norm, s in layers
        ]
    require_the_same(model_of(layers, dtype))


ODD: dict[str, dict[str, Any]] = {
    "gammas of zero": {"g": [0, 1, 0, 2]},
    "factors of one": {"g": 1, "b": 3, "m": 0, "v": 1},
    "factors of one, and nothing added": {"g": 1, "b": 0, "m": 0, "v": 1},
    "nothing added": {"b": 0, "m": 0},
    "weights of zero": {"w0": 0},
    "weights that become zero": {"w0": 1e-7, "g": 1e-3},
    "float32 weights that become zero": {"w0": 1e-30, "g": [1e-9, 1e-7, 1, 1]},
    "weights that overflow": {"w0": 1e4, "g": 1e2},
    "float32 weights that overflow": {"w0": 1e30, "g": 1e30},
    "weights that are none": {"w0": np.nan},
    "biases that overflow": {"b": 6e4, "m": -6e4},
    "biases that become zero": {"b": 1e-7, "m": 0, "g": 1e-3},
    "factors below float64": {"g": 1e-38, "v": 3e38},
}


@pytest.mark.parametrize("dtype", ["float", "double", "float16", "bfloat16"])
@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("operator", ["Conv", "biased Conv", "depthwise Conv"])
@pytest.mark.filterwarnings("ignore:overflow")
def test_the_long_way_gives_the_same_for_odd_numbers(operator: str, name: str, dtype: str) -> None:
    layers = [(operator, "BN", False), ("Relu", "none", False), ("Conv", "BN", False)]
    model = model_of(layers, dtype)
    model.graph.node[-2].attribute.extend([onnx.helper.make_attribute("epsilon", 0.0)])
    model.graph.node[2].attribute.extend([onnx.helper.make_attribute("epsilon", 0.0)])
    require_the_same(with_values(model, **ODD[name]))


def require_the_same(model: onnx.ModelProto) -> None:
    """Fold a model with and without the short cuts."""
    short = bnfold.fold(model, verify=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "ready_folds", lambda survey: {})
        patch.setattr(plan, "plain_route", lambda survey, step: None)
        patch.setattr(survey, "read_plain_batch_norms", lambda nodes, context: {})
        long = bnfold.fold(model, verify=False)
    assert short.report == long.report
    assert short.model.SerializeToString() == long.model.SerializeToString()


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("v", -1.0, "non-positive-variance"),
        ("v", np.inf, "non-finite-statistics"),
        ("v", np.nan, "non-finite-statistics"),
        ("m", np.inf, "non-finite-statistics"),
        ("g", -np.inf, "non-finite-statistics"),
        ("b", np.nan, "non-finite-statistics"),
    ],
)
def test_one_bad_norm_among_good_ones(name: str, value: float, code: str) -> None:
    parameters = ", ".join(
        norm_parameters(4)
        .replace(" g", f" g{at}")
        .replace(" b", f" b{at}")
        .replace(" m", f" m{at}")
        .replace(" v", f" v{at}")
        for at in range(3)
    )
    body = " ".join(
        f"c{at} = Conv (n{at}, w) "
        f"n{at + 1} = BatchNormalization (c{at}, g{at}, b{at}, m{at}, v{at})"
        for at in range(3)
    )
    text = f"""net (float[1,4,5,5] n0) => (float[1,4,5,5] y) <{parameters}, float[4,4,1,1] w>
        {{ {body} y = Identity (n3) }}"""
    model = filled(parsed(text))
    for tensor in model.graph.initializer:
        if tensor.name == f"{name}1":
            values = onnx.numpy_helper.to_array(tensor).copy()
            values[2] = value
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    report = bnfold.fold(model).report
    assert [norm.norm for norm in report.folded] == ["n1", "n3"]
    assert [(norm.norm, norm.code) for norm in report.kept] == [("n2", code)]
    assert "channel 2" in report.kept[0].reason


def test_small_weights_are_computed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("a weight is computed by itself")

    monkeypatch.setattr(apply, "StoredWeight", refuse)
    monkeypatch.setattr(biases.Biases, "store", refuse)
    layers = [("Conv", "BN", False), ("Relu", "none", False), ("depthwise Conv", "BN", False)]
    assert bnfold.fold(model_of(layers, "float")).report.batch_norms_after == 0
    with pytest.raises(AssertionError, match="by itself"):
        bnfold.fold(model_of([("ConvTranspose", "BN", False)], "float"))

"""Biases that the graph computes though they are constant: stored, where a model folds anyway."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import bnfold
from bnfold.errors import VerificationError
from bnfold.folding import apply
from bnfold.folding.surgery import Surgery
from tests.support_models import constant, filled, norm_parameters, op_types, parsed

ZEROS = "l = CastLike (zero, {0}) e = Expand (l, four)"


def model_of(bias: str = ZEROS, norm: str = "BatchNormalization (c, g, b, m, v)") -> Any:
    """A Conv with a norm behind it, and one without, whose bias is computed."""
    text = f"""net (float[1,4,5,5] x) => (float[1,4,5,5] y) <
        {norm_parameters(4)}, float[4,4,1,1] w, float[4,4,1,1] u, float zero = {{0}},
        int64[1] four = {{4}}, float[4] k> {{
            c = Conv (x, w) n = {norm} r = Relu (n) {bias.format("r")}
            o = Conv (r, u, e) s = Sigmoid (o) y = Add (s, r) }}"""
    return filled(parsed(text, opset=17))


def test_it_is_stored_and_what_computed_it_goes() -> None:
    model = model_of()
    result = bnfold.fold(model)
    assert result.report.stored_biases == ("o",)
    assert op_types(result.model) == ["Conv", "Relu", "Conv", "Sigmoid", "Add"]
    second = [node for node in result.model.graph.node if node.op_type == "Conv"][1]
    assert constant(result.model, second.input[2]).tobytes() == bytes(16)
    assert result.verify(runtime=False).is_same
    assert result.report.nodes_after == 5
    assert result.report.checked is not None
    assert result.report.checked.regions == 1
    again = bnfold.fold(result.model)
    assert again.report.stored_biases == ()


def test_values_stay_bit_by_bit() -> None:
    model = model_of("e = Mul (k, k)")
    for tensor in model.graph.initializer:
        if tensor.name == "k":
            values = np.array([1e-20, -3.0, 0.0, 1e19], np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, "k"))
    result = bnfold.fold(model)
    second = [node for node in result.model.graph.node if node.op_type == "Conv"][1]
    # The first one is a subnormal number: a fold stores none, but this is no fold.
    np.testing.assert_array_equal(
        constant(result.model, second.input[2]), (values * values).astype(np.float32)
    )


@pytest.mark.parametrize(
    ("bias", "norm"),
    [
        (ZEROS, "Identity (c)"),
        (
            "e = Constant <value_floats=[1.0, 2.0, 3.0, 4.0]> ()",
            "BatchNormalization (c, g, b, m, v)",
        ),
        ("q = GlobalAveragePool (r) e = Reshape (q, four)", "BatchNormalization (c, g, b, m, v)"),
    ],
)
def test_what_is_left_alone(bias: str, norm: str) -> None:
    """A model without a fold, a bias that is stored already, one that is not constant."""
    model = model_of(bias, norm)
    result = bnfold.fold(model)
    assert result.report.stored_biases == ()
    assert op_types(result.model)[-2:] == ["Sigmoid", "Add"]
    if norm.startswith("Identity"):
        assert result.model.SerializeToString() == model.SerializeToString()


def test_a_bias_that_two_read_is_stored_once() -> None:
    bias = f"{ZEROS} p = Conv (r, u, e)"
    result = bnfold.fold(model_of(bias.replace("{0}", "x")))
    assert sorted(result.report.stored_biases) == ["o", "p"]
    names = {
        n.input[2] for n in result.model.graph.node if n.op_type == "Conv" and len(n.input) > 2
    }
    stored = [t.name for t in result.model.graph.initializer if t.name.startswith("e_")]
    assert len(stored) == 1
    assert set(stored) <= names


def test_a_wrong_value_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(linears: Any, surgery: Surgery, proto: Any) -> None:
        for linear in linears:
            values = np.ones(4, np.float32)
            name = surgery.store_array(None, [], values, linear.node.scope, "wrong")
            proto(linear.node).input[2] = name

    monkeypatch.setattr(apply, "store_biases", wrong)
    with pytest.raises(VerificationError, match="the bias of o changes"):
        bnfold.fold(model_of())

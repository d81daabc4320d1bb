"""Data that models cannot be compared on, and the words in which that is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from bnfold.errors import UsageError
from tests.support_models import with_values
from tests.support_verify import judged, model_of

PLAIN = "float[N,3,H,W] x, float[N,3] z"
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "unknown name": (
        PLAIN,
        {"feeds": {"u": np.ones(3)}},
        r"data: the model has no input 'u' \(it has: x, z\)",
    ),
    "unknown name of an input": (
        PLAIN,
        {"inputs": {"u": np.ones(3)}},
        r"inputs: the model has no input 'u' \(it has: x, z\)",
    ),
    "missing": (
        PLAIN,
        {"feeds": [{}, {"z": np.ones((2, 3))}]},
        "data 1 has no values for input 'x'",
    ),
    "rank": (
        PLAIN,
        {"inputs": {"x": np.ones((2, 3, 4))}},
        r"inputs: input 'x' has shape \[N, 3, H, W\], not \[2, 3, 4\]",
    ),
    "size": (
        PLAIN,
        {"inputs": {"z": np.ones((2, 4))}},
        r"inputs: input 'z' has shape \[N, 3\], not \[2, 4\]",
    ),
    "text for numbers": (
        PLAIN,
        {"inputs": {"z": np.array([["a"] * 3])}},
        "inputs: input 'z' is float, not <U1",
    ),
    "unknown dimension": (
        PLAIN,
        {"dims": {"K": 3}},
        r"no input has a dimension 'K' \(symbolic dimensions: H, N, W\)",
    ),
    "no dimensions": (
        "float[2,3,4,4] x, float[2,3] z",
        {"dims": {"K": 3}},
        r"no input has a dimension 'K' \(symbolic dimensions: none\)",
    ),
    "a size that does not run": (
        PLAIN,
        {"dims": {"H": 2, "W": 2}},
        r"does not run on random inputs.*--dim N=SIZE",
    ),
    "nothing to do": (PLAIN, {"trials": 0}, "no data: at least one trial, or real data"),
    "too large": (
        PLAIN,
        {"dims": {"N": 100_000, "H": 1000}},
        "input 'x' of shape .* is too large to draw",
    ),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_refused_data(name: str) -> None:
    inputs, options, words = REFUSED[name]
    model = model_of(inputs, "y = Conv (x, w)  u = Relu (z)", more="float[1,3,3,3] w")
    with pytest.raises(UsageError, match=words):
        judged(model, model, **options)


def test_what_cannot_be_drawn() -> None:
    model = model_of("string[N] x", "y = Identity (x)", output="string y")
    with pytest.raises(UsageError, match="input 'x' is string, which cannot be drawn"):
        judged(model, model)
    model = model_of("float[N,3] x", "y = Relu (x)")
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(UsageError, match="input 'x' has no shape: give it with --input"):
        judged(model, model)
    sequence = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)
    model.graph.input[0].CopyFrom(sequence)
    model.graph.node[0].CopyFrom(helper.make_node("ConcatFromSequence", ["x"], ["y"], axis=0))
    with pytest.raises(UsageError, match="input 'x' is no tensor: verify cannot feed it"):
        judged(model, model)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_number_in_any_output(value: float) -> None:
    model = model_of(
        "float[N,3] x", "z = Mul (x, zero)  y = Add (z, w)", more="float zero, float w"
    )
    model = with_values(model, zero=0.0, w=value)
    with pytest.raises(UsageError, match=r"output 'y' of .* is NaN or infinite on every feed"):
        judged(model, model)

"""LSTM, GRU and RNN of the evaluator, against that of onnx and, for what it lacks, onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from bnfold.errors import ModelError
from bnfold.reference import evaluate
from tests.support_models import Array

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STEPS, BATCH, FEATURES, HIDDEN = 5, 3, 2, 4


def one_node(
    op_type: str,
    *,
    directions: int = 1,
    has: str = "b",
    seed: int = 0,
    opset: int = 14,
    dtype: int = TensorProto.DOUBLE,
    **attributes: Any,
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A model of one node, all of whose outputs are read, and its inputs.

    Args:
        has: which optional inputs it has: ``b``, ``l`` (lengths), ``h``, ``c``, ``p``.
    """
    rng, rows = np.random.default_rng(seed), GATES[op_type] * HIDDEN
    state = (BATCH, directions, HIDDEN) if attributes.get("layout") else (directions, BATCH, HIDDEN)
    x = (BATCH, STEPS, FEATURES) if attributes.get("layout") else (STEPS, BATCH, FEATURES)
    shapes = {
        "x": x,
        "w": (directions, rows, FEATURES),
        "r": (directions, rows, HIDDEN),
        "b": (directions, 2 * rows),
        "l": (BATCH,),
        "h": state,
        "c": state,
        "p": (directions, 3 * HIDDEN),
    }
    kept = ["x", "w", "r", *has]
    names = list(shapes)[: {"LSTM": 8}.get(op_type, 6)]
    real = helper.tensor_dtype_to_np_dtype(dtype)
    feeds = {name: rng.normal(size=shapes[name]).astype(real) for name in kept if name in names}
    if "l" in feeds:
        feeds["l"] = np.array([STEPS, 2, 3], np.int32)
    made = ["y", "yh", "yc"][: 3 if op_type == "LSTM" else 2]
    inputs = [name if name in feeds else "" for name in names]
    node = helper.make_node(op_type, inputs, made, hidden_size=HIDDEN, **attributes)
    values = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in feeds.items()
    ]
    outputs = [helper.make_tensor_value_info(name, dtype, None) for name in made]
    graph = helper.make_graph([node], "one", values, outputs)
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8), feeds


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([*GATES]),
    st.sampled_from(["forward", "reverse", "bidirectional"]),
    st.sampled_from(["", "b", "bh", "bhc", "bhcp", "h"]),
    st.sampled_from([7, 14, 22]),
    st.integers(0, 1),
    st.integers(0, 99),
)
def test_that_of_onnx(
    op_type: str, direction: str, has: str, opset: int, option: int, seed: int
) -> None:
    attributes: dict[str, Any] = {"layout": option} if opset >= 14 else {}
    if op_type == "GRU":
        attributes["linear_before_reset"] = seed % 2
    if op_type != "LSTM":
        has = has.replace("c", "").replace("p", "")
    model, feeds = one_node(
        op_type,
        directions=2 if direction == "bidirectional" else 1,
        direction=direction,
        has=has,
        seed=seed,
        opset=opset,
        **attributes,
    )
    known: list[Any] = list(ReferenceEvaluator(model).run(None, feeds))
    for found, expected in zip(evaluate(model, feeds), known, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


RUNTIME: dict[str, tuple[str, dict[str, Any]]] = {
    "lengths": ("LSTM", {"has": "bl"}),
    "lengths, from the end": ("LSTM", {"has": "blhc", "direction": "reverse"}),
    "lengths, both directions": ("GRU", {"has": "bl", "direction": "bidirectional"}),
    "lengths of an RNN": ("RNN", {"has": "blh", "direction": "reverse"}),
    "peepholes and lengths": ("LSTM", {"has": "blhcp"}),
    "a clip, GRU": ("GRU", {"has": "bh", "clip": 0.2}),
    "a clip, GRU of the other form": ("GRU", {"clip": 0.2, "linear_before_reset": 1}),
    "a clip, RNN": ("RNN", {"clip": 0.2}),
    "coupled gates": ("LSTM", {"has": "bhc", "input_forget": 1}),
    "Softsign": ("RNN", {"activations": ["Softsign"]}),
    "Softplus": ("RNN", {"activations": ["Softplus"]}),
    "Relu": ("RNN", {"activations": ["Relu"]}),
    "Elu": ("RNN", {"activations": ["Elu"], "activation_alpha": [0.5]}),
    "LeakyRelu": ("RNN", {"activations": ["LeakyRelu"], "activation_alpha": [0.3]}),
    "Affine": (
        "RNN",
        {"activations": ["Affine"], "activation_alpha": [0.3], "activation_beta": [0.1]},
    ),
    "ThresholdedRelu": ("RNN", {"activations": ["ThresholdedRelu"], "activation_alpha": [0.2]}),
    "ScaledTanh": (
        "RNN",
        {"activations": ["ScaledTanh"], "activation_alpha": [0.7], "activation_beta": [0.6]},
    ),
    "parameters of some": (
        "GRU",
        {
            "activations": ["Sigmoid", "LeakyRelu", "HardSigmoid", "Tanh"],
            "activation_alpha": [0.3, 0.4],
            "activation_beta": [0.6],
            "direction": "bidirectional",
        },
    ),
}


@pytest.mark.parametrize("name", RUNTIME)
def test_that_of_onnxruntime(name: str) -> None:
    ort = pytest.importorskip("onnxruntime")
    op_type, given = RUNTIME[name]
    directions = 2 if given.get("direction") == "bidirectional" else 1
    model, feeds = one_node(op_type, directions=directions, dtype=TensorProto.FLOAT, **given)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for found, expected in zip(evaluate(model, feeds), session.run(None, feeds), strict=True):
        assert np.abs(expected).max() > 0.05
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=3e-6)


def test_a_clip_of_an_lstm_by_hand() -> None:
    """It bounds the input of each activation; onnxruntime leaves that of the last one out."""
    model, feeds = one_node("LSTM", has="c", clip=0.25)
    feeds = {name: np.zeros_like(value) for name, value in feeds.items()}
    feeds["x"][0], feeds["w"][:], feeds["c"][:] = 1.0, 5.0, 1.0
    y, _, cell = evaluate(model, feeds)
    gate, new = 1 / (1 + np.exp(-0.25)), np.tanh(0.25)
    first = gate * 1.0 + gate * new
    np.testing.assert_allclose(y[0], gate * np.tanh(0.25), rtol=1e-14)
    # The gates of the other steps are half open, and nothing is added to the cell.
    np.testing.assert_allclose(cell, first * 0.5**4, rtol=1e-14)


WRONG: dict[str, dict[str, Any]] = {
    "is not in the specification": {"activations": ["Sigmoid", "Tanh", "Gelu"]},
    "2 activations for 1": {"activations": ["Sigmoid", "Tanh"]},
    "'sideways'": {"direction": "sideways"},
    "'bidirectional' with weights of 1": {"direction": "bidirectional"},
}


@pytest.mark.parametrize("words", WRONG)
def test_refused(words: str) -> None:
    model, feeds = one_node("LSTM", **WRONG[words])
    with pytest.raises(ModelError, match=words):
        evaluate(model, feeds)

"""LSTM, GRU and RNN take up a map of the features in front of them, in W and in the Wb of B.

The evaluator of onnx computes both sides in float64, on weights so small that no gate is nearly
zero or one; onnxruntime computes what that evaluator does not know.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

import bnfold
from bnfold.folding.rules import tables
from bnfold.reference import evaluate
from tests.support_linear import by_onnx, check_folds, check_kept, data_for, graph, model_of
from tests.support_models import Array, Feeds, constant, op_types, with_values

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
NORMS = {
    "a norm and a Transpose": "n = BatchNormalization (x, g, b, m, v)  "
    "c = Transpose <perm = [2,0,1]> (n)",
    "a chain": "t = Transpose <perm = [2,0,1]> (x)  d = Mul (t, s)  c = Add (d, q)",
    "a scale": "t = Transpose <perm = [2,0,1]> (x)  c = Mul (t, s)",
}
"""From x of shape (batch, 4, steps) to c of shape (steps, batch, 4)."""


def text_of(
    op_type: str = "LSTM",
    *,
    norm: str = NORMS["a norm and a Transpose"],
    directions: int = 1,
    direction: str = "",
    inputs: str = "c, w, r, b0",
    more: str = "",
    declared: str = "",
    x: str = "float[2,4,5] x",
    hidden: int = 3,
) -> str:
    """A model of one recurrent operator behind a norm; two of its outputs are those of the model.

    Args:
        inputs: of the operator.
        more: its further attributes.
        declared: what else is declared.
    """
    rows = GATES[op_type] * hidden
    direction = direction or ("bidirectional" if directions == 2 else "forward")
    attributes = f'hidden_size = {hidden}, direction = "{direction}"{more}'
    weights = (
        f"float[{directions},{rows},4] w, float[{directions},{rows},{hidden}] r, "
        f"float[{directions},{2 * rows}] b0, float[4] s, float[4] q"
    )
    return graph(
        f"{norm}  y, h = {op_type} <{attributes}> ({inputs})",
        weights + (f", {declared}" if declared else ""),
        x=x,
        y="float[i,j,k,l] y, float[i,j,k] h",
    )


def calm(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a W so small that the gates are neither open nor shut, and small biases."""
    names = {tensor.name for tensor in model.graph.initializer}
    generator = np.random.default_rng(5)
    values: dict[str, Array] = {}
    for tensor in model.graph.initializer:
        shape = tuple(tensor.dims)
        if tensor.name in ("w", "u"):
            values[tensor.name] = generator.normal(size=shape) / 60
        elif tensor.name in ("r", "b0", "h0"):
            values[tensor.name] = generator.normal(size=shape) / 2
    return with_values(model, **{name: v for name, v in values.items() if name in names})


def require_calm(model: onnx.ModelProto) -> None:
    """What the model makes is neither nearly one nor nearly zero, so that an error shows."""
    made = np.abs(by_onnx(model, data_for(model))[0])
    assert 0.02 < np.median(made) < 0.95


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("inputs", ["c, w, r, b0", "c, w, r", 'c, w, r, "", "", h0'])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("op_type", GATES)
def test_folds(op_type: str, directions: int, inputs: str, norm: str) -> None:
    declared = f"float[{directions},2,3] h0"
    text = text_of(op_type, directions=directions, inputs=inputs, norm=norm, declared=declared)
    result = check_folds(text, f"Transpose {op_type}", change=calm)
    require_calm(calm(model_of(text)))
    assert result.report.checked is not None
    assert result.report.checked.unchecked == 0
    (node,) = (n for n in result.model.graph.node if n.op_type == op_type)
    assert node.input[2] == "r"
    if len(node.input) > 3 and node.input[3]:
        rows = 2 * GATES[op_type] * 3
        assert constant(result.model, node.input[3]).shape == (directions, rows)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([*GATES]),
    st.sampled_from(["forward", "reverse", "bidirectional"]),
    st.sampled_from([7, 13, 14, 21, 22]),
    st.booleans(),
    st.integers(1, 4),
    st.integers(0, 99),
)
def test_any_form(
    op_type: str, direction: str, opset: int, layout: bool, hidden: int, seed: int
) -> None:
    directions = 2 if direction == "bidirectional" else 1
    more, norm = "", NORMS["a norm and a Transpose"]
    if layout and opset >= 14:
        more, norm = ", layout = 1", norm.replace("[2,0,1]", "[0,2,1]")
    if op_type == "GRU" and seed % 2:
        more += ", linear_before_reset = 1"
    text = text_of(
        op_type, directions=directions, direction=direction, more=more, norm=norm, hidden=hidden
    )
    check_folds(text, f"Transpose {op_type}", opset=opset, seed=seed, change=calm)


@pytest.mark.parametrize("op_type", GATES)
@pytest.mark.parametrize("opset", [1, 3, 6])
def test_old_opsets(op_type: str, opset: int) -> None:
    norm = NORMS["a norm and a Transpose"].replace("on (x", "on <is_test = 1> (x")
    if opset < 6:
        norm = norm.replace("is_test = 1", "is_test = 1, consumed_inputs = [0,0,0,0,0]")
    model = calm(model_of(text_of(op_type, norm=norm), opset=opset))
    result = bnfold.fold(model)
    assert op_types(result.model) == ["Transpose", op_type], result.report.kept
    assert result.report.checked is not None
    assert result.report.checked.unchecked == 0
    feeds = data_for(model)
    for old, new in zip(evaluate(model, feeds), evaluate(result.model, feeds), strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=1e-12)


def test_numbers_by_hand() -> None:
    """W takes the factors of the features, Wb what W makes of the shifts, Rb nothing."""
    norm = "d = Mul (x, s)  c = Add (d, q)"
    text = text_of("RNN", norm=norm, directions=2, hidden=1, x="float[5,2,4] x")
    model = with_values(
        model_of(text),
        w=[[[1, 2, 3, 4]], [[1, 0, 0, 1]]],
        b0=[[10, 20], [30, 40]],
        s=[2, -1, 0, 1],
        q=[1, 0, 5, 100],
    )
    folded = bnfold.fold(model).model
    (node,) = folded.graph.node
    assert constant(folded, node.input[1]).tolist() == [[[2, -2, 0, 4]], [[2, 0, 0, 1]]]
    assert constant(folded, node.input[3]).tolist() == [[426, 20], [131, 40]]


def test_two_readers_and_shared_parameters() -> None:
    """Both read the norm, so both change; a third that reads the old W keeps it."""
    norm = NORMS["a norm and a Transpose"]
    more = "z, e = LSTM <hidden_size = 3> (c, w, r, b0)  a = Transpose <perm = [2,0,1]> (o)"
    text = text_of(norm=norm, x="float[2,4,5] x, float[2,4,5] o", more="").replace(
        "y, h =", f"{more}  f, i = LSTM <hidden_size = 3> (a, w, r, b0)  y, h ="
    )
    text = text.replace("float[i,j,k] h", "float[i,j,k] h, float[i,j,k,l] z, float[i,j,k,l] f")
    result = check_folds(text, "Transpose LSTM Transpose LSTM LSTM", change=calm)
    old, new, also = (n.input[1] for n in result.model.graph.node if n.op_type == "LSTM")
    assert {old, new, also} >= {"w"}
    assert len({old, new, also}) == 2


KEPT: dict[str, tuple[str, str, str]] = {
    "a norm of the batch": (
        "axis-mismatch",
        "another axis of c",
        text_of(norm="c = BatchNormalization (x, g, b, m, v)", x="float[5,4,4] x"),
    ),
    "a norm of the steps": (
        "axis-mismatch",
        "another axis",
        text_of(
            norm="n = BatchNormalization (x, g, b, m, v)  c = Transpose <perm = [1,0,2]> (n)",
            x="float[2,4,4] x",
        ),
    ),
    "a computed W": (
        "weight-not-constant",
        "the weight of y",
        text_of(inputs="c, p, r, b0", x="float[2,4,5] x, float[1,12,4] p"),
    ),
    "a computed B and a shift": (
        "weight-not-constant",
        "the bias of y",
        text_of(inputs="c, w, r, p", x="float[2,4,5] x, float[1,24] p"),
    ),
    "a B of another shape": (
        "malformed-node",
        "its B has shape [24]",
        text_of(inputs="c, w, r, p", declared="float[24] p"),
    ),
    "a W of two axes": (
        "malformed-node",
        "its W has shape [12, 4]",
        text_of(inputs="c, p, r", declared="float[12,4] p"),
    ),
    "a W of no whole gates": (
        "malformed-node",
        "its W has shape [1, 6, 4]",
        text_of(inputs="c, p, r", declared="float[1,6,4] p"),
    ),
    "an attribute of another operator": (
        "unknown-attribute",
        "linear_before_reset",
        text_of(more=", linear_before_reset = 1"),
    ),
    "a layout of an older opset": (
        "unknown-attribute",
        "layout",
        text_of(more=", layout = 0"),
    ),
    "an attribute of another type": (
        "malformed-node",
        "activations has the wrong type",
        text_of(more=', activations = "Tanh"'),
    ),
    "the data is also the first state": (
        "not-through",
        "has no weights",
        text_of(
            "RNN",
            norm="n = BatchNormalization (x, g, b, m, v)  c = Transpose <perm = [2,0,1]> (n)",
            inputs='c, w, r, b0, "", c',
            x="float[1,4,1] x",
            hidden=4,
        ),
    ),
}


@pytest.mark.parametrize(("code", "words", "text"), KEPT.values(), ids=KEPT)
def test_kept(code: str, words: str, text: str) -> None:
    opset = 13 if "layout" in words else 21
    model = model_of(text, opset=opset)
    result = bnfold.fold(model)
    (norm,) = result.report.norms
    assert isinstance(norm, bnfold.Kept)
    assert norm.code == code, norm.reason
    assert words in norm.reason
    assert result.model.SerializeToString() == model.SerializeToString()


@pytest.mark.parametrize("output", ["y", "h"])
def test_no_map_goes_back_into_it(output: str) -> None:
    behind = f"o = Squeeze (y, one)  p = Mul (o, k)  y2 = Add (p, k)  q = {output}"
    text = graph(
        f"y, h = LSTM <hidden_size = 4> (x, w, r)  {behind.split('  q')[0]}",
        "float[1,16,4] w, float[1,16,4] r, float[4] k, int64[1] one = {1}",
        x="float[5,2,4] x",
        y="float[i,j,k] y2",
    )
    if output == "h":
        text = text.replace("Squeeze (y, one)", "Squeeze (h, zero)").replace(
            "one = {1}", "zero = {0}"
        )
    check_kept(text, "not-through", "ends in the activations of its gates")


def test_a_scale_needs_no_bias() -> None:
    """With a computed B there is no place for a shift, but W takes a scale."""
    text = text_of(inputs="c, w, r, p", norm=NORMS["a scale"], x="float[2,4,5] x, float[1,24] p")
    result = check_folds(text, "Transpose LSTM", change=calm)
    assert result.model.graph.node[1].input[3] == "p"


def test_a_quantised_weight_takes_the_factors_in_its_scale() -> None:
    body = "w = DequantizeLinear (codes, step)"
    text = text_of(norm=NORMS["a scale"]).replace("{ t =", f"{{ {body}  t =", 1)
    text = text.replace("float[1,12,4] w", "int8[1,12,4] codes, float step")
    model = with_values(model_of(text, dtype="float"), s=[1, 2, 3, 4], step=0.01)
    generator = np.random.default_rng(0)
    codes = generator.integers(-100, 100, (1, 12, 4)).astype(np.int8)
    (stored,) = (t for t in model.graph.initializer if t.name == "codes")
    stored.CopyFrom(numpy_helper.from_array(codes, "codes"))
    result = bnfold.fold(model)
    assert op_types(result.model) == ["DequantizeLinear", "Transpose", "LSTM"]
    assert result.verify(runtime=False).is_same
    (node,) = (n for n in result.model.graph.node if n.op_type == "DequantizeLinear")
    expected = np.float32(0.01) * np.array([1, 2, 3, 4], np.float32)
    np.testing.assert_allclose(constant(result.model, node.input[1]), expected, rtol=1e-7)


RUN = {
    "lengths of the sequences": ("LSTM", "c, w, r, b0, lengths", "", 1),
    "lengths, both directions": ("GRU", "c, w, r, b0, lengths", "", 2),
    "lengths, from the end": ("RNN", "c, w, r, b0, lengths", "reverse", 1),
    "states and peepholes": ("LSTM", "c, w, r, b0, lengths, h0, h0, p", "", 1),
    "a clip and other activations": (
        "LSTM",
        "c, w, r, b0",
        'clip = 0.5, activations = ["HardSigmoid", "Softsign", "Tanh"], activation_alpha = [0.3]',
        1,
    ),
    "coupled gates": ("LSTM", "c, w, r, b0", "input_forget = 1", 1),
}


@pytest.mark.parametrize("name", RUN)
def test_what_onnx_does_not_compute(name: str) -> None:
    ort = pytest.importorskip("onnxruntime")
    op_type, inputs, more, directions = RUN[name]
    direction = "reverse" if more == "reverse" else ""
    text = text_of(
        op_type,
        directions=directions,
        direction=direction,
        inputs=inputs,
        more=f", {more}" if more and not direction else "",
        declared="int32[2] lengths = {5,3}, float[1,2,3] h0, float[1,9] p",
    )
    model = calm(model_of(text, dtype="float"))
    folded = bnfold.fold(model).model
    assert op_types(folded) == ["Transpose", op_type]
    feeds: Feeds = {k: v.astype(np.float32) for k, v in data_for(model).items()}

    def run(proto: onnx.ModelProto) -> list[Any]:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        session = ort.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return list(session.run(None, feeds))

    for old, new in zip(run(model), run(folded), strict=True):
        assert np.abs(old).max() > 0.05
        np.testing.assert_allclose(new, old, rtol=0, atol=5e-6)


def wrong_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first feature gets no factor."""
    right: Any = tables.LINEAR["LSTM"]

    def read(node: Any, context: Any) -> Any:
        linear = right(node, context)
        object.__setattr__(
            linear.inward, "factor", lambda v: np.concatenate([[1.0], v[1:]]).reshape(1, 1, -1)
        )
        return linear

    monkeypatch.setitem(tables.LINEAR, "LSTM", read)


def wrong_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """What W makes of a shift goes into Rb."""
    right: Any = tables.LINEAR["LSTM"]

    def read(node: Any, context: Any) -> Any:
        linear = right(node, context)
        object.__setattr__(
            linear, "weight_factor", lambda v: v.reshape(1, 2, -1)[:, 1, :, np.newaxis]
        )
        return linear

    monkeypatch.setitem(tables.LINEAR, "LSTM", read)


@pytest.mark.parametrize("break_it", [wrong_features, wrong_half])
def test_the_check_of_a_fold_sees_a_wrong_rule(
    break_it: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On data of size 30, on which the gates are nearly open or shut."""
    model = model_of(text_of(), dtype="float")
    bnfold.fold(model)
    break_it(monkeypatch)
    with pytest.raises(bnfold.VerificationError):
        bnfold.fold(model)

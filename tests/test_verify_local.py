"""Each part between tensors that both models share is judged on its own."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bnfold.checking.outcome import MULTIPLE
from tests.support_models import constant, filled, norm_parameters, parsed, with_values
from tests.support_mutants import fold_right
from tests.support_verify import chain, copied, folded_of, judged, own_fold, renamed, scaled

ONE_CHANNEL = np.array([1, 1, 1.001, 1])
FIVE = 5


@pytest.mark.parametrize("layer", range(FIVE))
def test_a_right_fold_of_one_layer(layer: int) -> None:
    model = chain(FIVE)
    report = judged(model, own_fold(model, layer))
    assert report.is_same, report.verdict
    assert [norm.is_same for norm in report.norms] == [True] * FIVE
    judged_at = [norm.tensor for norm in report.norms]
    assert judged_at == [f"n{at}" for at in range(FIVE)]
    assert 0 < report.norms[layer].units < MULTIPLE
    assert all(norm.units == 0 for at, norm in enumerate(report.norms) if at != layer)


@pytest.mark.parametrize("layer", range(FIVE))
def test_an_error_is_found_where_it_is(layer: int) -> None:
    model = chain(FIVE)
    report = judged(model, own_fold(model, layer, wrong=ONE_CHANNEL))
    assert not report.is_same
    found = report.difference
    assert found is not None
    assert (found.tensor, found.norm) == (f"n{layer}", f"bn{layer}")
    assert (found.axis, found.channel) == (1, 2)
    assert found.units > MULTIPLE
    # What was folded wrongly is the scale alone.
    gamma, beta, mean, var = (constant(model, f"{k}{layer}").astype(np.float64) for k in "gbmv")
    shift = (beta - gamma / np.sqrt(var + 1e-5) * mean)[2]
    assert (found.folded - shift) / (found.original - shift) == pytest.approx(1.001, rel=1e-5)
    assert f"n{layer} (norm bn{layer})" in report.verdict


def test_each_wrong_norm_fails_by_itself() -> None:
    model = folded = chain(6)
    for layer in range(6):
        wrong = ONE_CHANNEL if layer in (1, 4) else np.ones(4)
        folded = own_fold(folded, layer, wrong=wrong)
    report = judged(model, folded)
    assert not report.is_same
    verdicts = {norm.norm: norm.is_same for norm in report.norms}
    assert verdicts == {f"bn{at}": at not in (1, 4) for at in range(6)}
    assert {norm.norm: norm.units < MULTIPLE for norm in report.norms} == verdicts
    assert report.difference is not None
    assert report.difference.norm == "bn1"


# Whatever comes behind the wrong layer makes the outputs equal, or nearly so.
HIDING = {
    "times zero": ("y = Mul (t, zero)", {"zero": 0.0}),
    "squashed": ("far = Add (t, zero)  y = Sigmoid (far)", {"zero": 40.0}),
    "saturated": ("far = Add (t, zero)  y = Clip (far, low, high)", {"zero": 1e6}),
    "a norm by the data": ("y = InstanceNormalization <epsilon=1e-12> (t, four, none)", {}),
    "a norm that is all but zero": ("y = BatchNormalization (t, g, b, m, v)", {"g": 1e-30}),
}


@pytest.mark.parametrize("name", list(HIDING))
def test_an_error_that_later_layers_hide(name: str) -> None:
    line, values = HIDING[name]
    text = f"""agraph (float[N,4,5,5] x) => (float[N,4,5,5] y)
    <float[4,4,3,3] w0, {norm_parameters(4, "0")}, float zero, float low, float high,
     float[4] four, float[4] none, {norm_parameters(4)}> {{
        [conv0] c0 = Conv <pads=[1,1,1,1]> (x, w0)
        [bn0] n0 = BatchNormalization (c0, g0, b0, m0, v0)
        t = Relu (n0)
        {line}
    }}"""
    fixed = {"low": 0.0, "high": 1.0, "four": 1.0, "none": 0.0}
    model = with_values(filled(parsed(text)), **{**fixed, **values})
    assert judged(model, own_fold(model, 0)).is_same
    report = judged(model, own_fold(model, 0, wrong=np.array([1, 1, 1.01, 1])))
    assert not report.is_same
    assert report.difference is not None
    assert (report.difference.norm, report.difference.channel) == ("bn0", 2)
    assert [norm.is_same for norm in report.norms if norm.norm == "bn0"] == [False]
    assert all(output.is_same for output in report.outputs) == (name != "a norm by the data")


def test_the_folded_values_under_the_name_before_the_norm() -> None:
    model = chain(FIVE)
    folded = fold_right(model)
    assert [node.output[0] for node in folded.graph.node][:2] == ["c0", "r0"]
    report = judged(model, folded)
    assert report.is_same, report.verdict
    assert any("hold other values" in note for note in report.notes)
    assert [norm.tensor for norm in report.norms] == ["r0", "r1", "r2", "r3", "y"]
    wrong = fold_right(scaled(model, "g2", 1.001, at=1))
    found = judged(model, wrong).difference
    assert found is not None
    assert (found.norm, found.channel) == ("bn2", 1)


ADD = f"""agraph (float[N,3,5,5] x) => (float[N,4,5,5] y)
<float[4,3,3,3] w, float[4,3,1,1] w2, float[4] bias, float[4] bias2, {norm_parameters(4)}> {{
    p = Conv <pads=[1,1,1,1]> (x, w, bias)
    q = Conv (x, w2, bias2)
    s = Add (p, q)
    [norm] n = BatchNormalization (s, g, b, m, v)
    y = Relu (n)
}}"""


def moved_into_branches(model: onnx.ModelProto, *branches: str) -> onnx.ModelProto:
    """The norm's scale goes into the given branches, its shift into the first one."""
    gamma, beta, mean, var = (constant(model, name).astype(np.float64) for name in "gbmv")
    scale = gamma / np.sqrt(var + 1e-5)
    values = {}
    for weight, bias, shift in (("w", "bias", beta - scale * mean), ("w2", "bias2", 0.0)):
        factor = scale if weight in branches else np.ones(4)
        values[weight] = constant(model, weight) * factor.reshape(-1, 1, 1, 1)
        values[bias] = constant(model, bias) * factor + shift
    folded = with_values(model, **values)
    del folded.graph.node[3]
    return renamed(folded, {"n": "s"})


def test_a_scale_that_moved_into_both_branches_of_an_add() -> None:
    model = filled(parsed(ADD))
    folded = moved_into_branches(model, "w", "w2")
    report = judged(model, folded)
    assert report.is_same, report.verdict
    (note,) = report.notes
    assert "3 tensors hold other values under the same name" in note
    assert all(name in note.split(": ")[1] for name in "pqs")
    (norm,) = report.norms
    assert (norm.is_same, norm.tensor) == (True, "y")


@pytest.mark.parametrize("branch", ["w", "w2"])
def test_a_scale_that_moved_into_one_branch_only(branch: str) -> None:
    model = filled(parsed(ADD))
    report = judged(model, moved_into_branches(model, branch))
    assert not report.is_same
    assert [norm.is_same for norm in report.norms] == [False]


def test_a_scale_that_is_off_in_one_branch() -> None:
    model = filled(parsed(ADD))
    folded = scaled(moved_into_branches(model, "w", "w2"), "w2", 1.0001, at=3)
    report = judged(model, folded)
    assert not report.is_same
    assert report.difference is not None
    assert (report.difference.norm, report.difference.channel) == ("norm", 3)


def test_tensors_with_other_names() -> None:
    model = chain(FIVE)
    folded = folded_of(model)
    inner = {name for node in folded.graph.node for name in node.output} - {"y"}
    names = {name: f"renamed_{name}" for name in inner}
    report = judged(model, renamed(folded, names))
    assert report.is_same, report.verdict
    assert report.tensors_checked == 1
    assert {norm.tensor for norm in report.norms} == {"y"}
    wrong = own_fold(model, 1, wrong=np.full(4, 1.01))
    found = judged(model, renamed(wrong, {"n1": "other", "c0": "none"})).difference
    assert found is not None
    assert (found.tensor, found.norm) == ("r1", "bn1")


def test_an_unchanged_model() -> None:
    model = chain(FIVE)
    report = judged(model, copied(model))
    assert report.is_same
    assert report.verdict == "same function: no difference at all"
    assert report.tensors_checked == 3 * FIVE
    assert all(norm.is_same and norm.units == 0 for norm in report.norms)
    (output,) = report.outputs
    assert (output.max_abs, output.units, output.argmax_agreement) == (0, 0, 1)


def test_the_numbers_of_an_output() -> None:
    text = "agraph (float[1,2] x) => (float[1,2] y) <float[2] w> { y = Mul (x, w) }"
    model = with_values(filled(parsed(text)), w=[1.0, 1.0])
    folded = with_values(model, w=[1.0, 1.5])
    data = np.array([[4.0, 3.0]], np.float32)
    (output,) = judged(model, folded, feeds={"x": data}, trials=0).outputs
    assert (output.max_abs, output.max_relative) == (1.5, 1.5 / 4)
    # Signal 25/2, noise 2.25/2; the largest channel was 0 and is 1.
    assert output.snr_db == pytest.approx(10 * np.log10(25 / 2.25))
    assert output.argmax_agreement == 0
    assert (output.name, output.dtype, output.is_same) == ("y", "float32", False)


@pytest.mark.parametrize("kind", ["gamma", "filter"])
def test_dead_channels(kind: str) -> None:
    model = chain(2, between="LeakyRelu")
    if kind == "gamma":
        model = scaled(model, "g0", 0.0, at=1)
    else:
        model = scaled(scaled(model, "w0", 0.0, at=1), "v0", 1e-12, at=1)
    assert judged(model, folded_of(model)).is_same
    folded = own_fold(model, 0)
    assert judged(model, folded).is_same
    report = judged(model, scaled(folded, "bias0", 1.0001, at=1))
    assert not report.is_same
    assert report.difference is not None
    assert (report.difference.tensor, report.difference.channel) == ("n0", 1)


def test_a_bias_that_large_values_hide() -> None:
    text = f"""agraph (float[N,4,5,5] x) => (float[N,4,5,5] y)
    <float[4,4,3,3] w0, float far, {norm_parameters(4, "0")}> {{
        z = Mul (x, far)
        [conv0] c0 = Conv <pads=[1,1,1,1]> (z, w0)
        [bn0] n0 = BatchNormalization (c0, g0, b0, m0, v0)
        y = Relu (n0)
    }}"""
    model = with_values(filled(parsed(text)), far=1e6)
    folded = own_fold(model, 0)
    assert judged(model, folded).is_same
    report = judged(model, scaled(folded, "bias0", 1.0001, at=3))
    assert all(output.units < MULTIPLE for output in report.outputs)
    assert not report.is_same
    found = report.difference
    assert found is not None
    assert found.feed.startswith("normal, ")  # zeros or impulses in place of the data
    assert found.channel == 3


GIVEN = f"""agraph (float[N,3,5,5] x, float[4] g) => (float[N,4,3,3] y)
<float[4,3,3,3] w, {norm_parameters(4)}> {{
    c = Conv (x, w)
    [norm] y = BatchNormalization (c, g, b, m, v)
}}"""


def overridable_model() -> onnx.ModelProto:
    """A model whose gamma a caller may replace."""
    model = filled(parsed(GIVEN))
    gamma = np.array([1, -1, 0.5, 2], np.float32)
    model.graph.initializer.append(numpy_helper.from_array(gamma, "g"))
    return model


def test_what_a_caller_may_replace_is_not_folded() -> None:
    model = overridable_model()
    assert judged(model, folded_of(model)).is_same
    # Right for the value that is stored, and the input is still there, but nothing reads it.
    plain = copied(model)
    del plain.graph.input[1]
    folded = fold_right(plain)
    folded.graph.input.append(model.graph.input[1])
    folded.graph.initializer.append(next(t for t in model.graph.initializer if t.name == "g"))
    onnx.checker.check_model(folded)
    report = judged(model, folded)
    assert report.interface == ()
    assert not report.is_same
    assert report.difference is not None
    assert "replaced" in report.difference.feed


def test_another_default_of_what_a_caller_may_replace() -> None:
    model = overridable_model()
    report = judged(model, scaled(model, "g", 1.01, at=2))
    assert not report.is_same
    assert report.difference is not None
    assert (report.difference.tensor, report.difference.channel) == ("y", 2)
    assert [output.is_same for output in report.outputs] == [False]


def test_a_tensor_without_values_on_the_way() -> None:
    text = """agraph (float[N,4] x) => (float[N,4] y) <float[4,4] w, int64[1] zero = {0}> {
        none = Slice (x, zero, zero)  p = MatMul (none, w)  q = MatMul (x, w)
        y = Concat <axis=0> (p, q)
    }"""
    model = filled(parsed(text))
    rounded = with_values(model, w=constant(model, "w").astype(np.float64) * (1 + 2.0**-25))
    assert judged(model, rounded).is_same
    assert not judged(model, scaled(model, "w", 1.001)).is_same

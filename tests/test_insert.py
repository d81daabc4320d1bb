"""Norms are inserted and change nothing; a fold takes them out again, byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bnfold
from bnfold.onnxgraph.load import load
from bnfold.statistics.identity import EPSILON
from bnfold.statistics.inserted import Where
from bnfold.statistics.insertion import Insertion
from bnfold.statistics.moments import Moments
from tests.support_faults import Fault, inject
from tests.support_float64 import evaluate
from tests.support_graphs import externalised, snapshot
from tests.support_insert import ALL_OPERATORS, CONV, RESIDUAL, left_out, model_of, with_norms
from tests.support_models import Array, constant, feeds_for, list_initializers_as_inputs, op_types

MODELS = {"conv": CONV, "residual": RESIDUAL, "all operators": ALL_OPERATORS}
SIDES: tuple[Where, ...] = ("before-activation", "after-activation")


def values_of(model: onnx.ModelProto) -> dict[str, bytes]:
    """Every initializer by its name, as it is stored."""
    return {tensor.name: tensor.SerializeToString() for tensor in model.graph.initializer}


def scaled(first: list[Array], second: list[Array]) -> float:
    """The largest difference, as a part of the largest value of its output."""
    pairs = zip(first, second, strict=True)
    return max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)


@pytest.mark.parametrize("where", SIDES)
@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize("dtype", ["float", "double"])
def test_the_function_is_the_same_before_any_training(case: str, where: Where, dtype: str) -> None:
    model = model_of(MODELS[case], dtype=dtype)
    result = with_norms(model, where)
    assert result.report.norms
    onnx.checker.check_model(result.model, full_check=True)
    feeds = feeds_for(model)
    assert scaled(evaluate(model, feeds), evaluate(result.model, feeds)) <= 1e-12
    assert result.verify(runtime=False).is_same


@pytest.mark.parametrize("where", SIDES)
@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_fold_gives_back_the_model_byte_for_byte(case: str, where: Where, seed: int) -> None:
    model = model_of(MODELS[case])
    result = with_norms(model, where, seed=seed)
    assert all(norm.exact for norm in result.report.norms)
    back = bnfold.fold(result.model)
    assert back.report.batch_norms_after == 0
    if any(norm.direction == "forward" for norm in back.report.folded):
        # A Sigmoid lets no norm through, so that goes on into the Gemm; what the Sigmoid makes
        # keeps the name that it had before the norm.
        assert where == "after-activation"
        for node in back.model.graph.node:
            for names in (node.input, node.output):
                names[:] = [name.removesuffix("_before_norm") for name in names]
    assert back.model.SerializeToString() == model.SerializeToString()


@pytest.mark.parametrize(
    ("dtype", "opset", "widest"),
    [("float", 7, 4.0), ("float", 13, 7.6), ("double", 9, 10.0), ("float16", 15, 4.0)],
)
def test_weights_come_back_bit_for_bit(dtype: str, opset: int, widest: float) -> None:
    model = model_of(CONV, opset=opset, dtype=dtype)
    result = with_norms(model, widest=widest)
    assert result.report.norms[0].exact
    assert values_of(bnfold.fold(result.model).model) == values_of(model)


def test_where_no_exact_pair_is_near_weights_still_come_back() -> None:
    """The factor is one to within half a unit, which no weight can see; a bias can."""
    model = model_of(CONV)
    insertion = Insertion(load(model), "before-activation")
    mean, var = np.array([3.0, -700.0, 0.1, 90.0]), np.array([1e5, 3e6, 7e7, 1.1e9])
    result = insertion.finished({"c": Moments(64, mean, var * 63, 2, mean, var)})
    assert not result.report.norms[0].exact
    back = bnfold.fold(result.model).model
    assert constant(back, "w").tobytes() == constant(model, "w").tobytes()
    off = np.abs(constant(back, "b").astype(float) - constant(model, "b"))
    assert (off <= 2.0**-24 * (np.abs(mean) + np.abs(constant(model, "b")))).all()


@pytest.mark.parametrize("where", SIDES)
def test_operators_of_every_kind_get_a_norm(where: Where) -> None:
    model = model_of(ALL_OPERATORS)
    report = with_norms(model, where).report
    assert [norm.operator_type for norm in report.norms] == (
        ["Conv", "ConvTranspose", "Gemm", "MatMul"][: 4 if where == SIDES[0] else 3]
    )
    assert [norm.tensor for norm in report.norms] == (
        ["c", "t", "z", "y"] if where == SIDES[0] else ["r", "s", "h"]
    )
    assert report.where == where
    assert report.nodes_after - report.nodes_before == len(report.norms)
    assert report.bytes_after > report.bytes_before


def test_the_norm_stands_right_behind_the_operator_or_its_activation() -> None:
    model = model_of(CONV)
    assert op_types(with_norms(model).model) == ["Conv", "BatchNormalization", "Relu"]
    after = with_norms(model, "after-activation").model
    assert op_types(after) == ["Conv", "Relu", "BatchNormalization"]
    assert after.graph.output[0].name == after.graph.node[2].output[0] == "y"


def test_an_add_behind_a_matmul_is_its_bias() -> None:
    model = model_of(ALL_OPERATORS)
    nodes = with_norms(model, only=("m",)).model.graph.node
    assert [node.op_type for node in nodes][-3:] == ["MatMul", "Add", "BatchNormalization"]


def test_the_parameters_are_those_of_the_data() -> None:
    model = model_of(CONV)
    result = with_norms(model)
    norm = result.model.graph.node[1]
    gamma, beta, mean, var = (constant(result.model, name) for name in norm.input[1:])
    assert all(values.dtype == np.float32 for values in (gamma, beta, mean, var))
    eps = norm.attribute[0].f
    assert eps == EPSILON
    assert (gamma.astype(float) / np.sqrt(var.astype(float) + eps) == 1.0).all()
    assert (beta == mean).all()
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(mean, rng.normal(0, 2, 4).astype(np.float32))
    told = np.square(2.0 ** rng.uniform(-6, 4, 4))
    np.testing.assert_allclose(var[1:] + eps, told[1:] + eps, rtol=2.0**-8)
    # A dead channel has no variance, and gamma is the root of epsilon.
    assert var[0] == 0
    assert gamma[0] == EPSILON**0.5
    assert result.report.norms[0].dead == 1


def test_names_are_unique_and_say_what_they_are() -> None:
    text = CONV.replace("c = ", "c_before_norm = ").replace("Relu(c)", "Relu(c_before_norm)")
    model = model_of(text)
    model.graph.node[0].name = "conv_1"
    model.graph.node[1].name = "conv_1_norm"
    made = with_norms(model).model
    conv, norm = made.graph.node[0], made.graph.node[1]
    assert norm.name == "conv_1_norm_1"
    assert list(conv.output) == ["c_before_norm_before_norm"]
    assert list(norm.input[1:]) == [
        f"conv_1_norm_1_{what}" for what in ("scale", "bias", "mean", "var")
    ]
    names = [node.name for node in made.graph.node]
    assert len(set(names)) == len(names)


def test_types_of_the_file_stay_right() -> None:
    model = model_of(RESIDUAL)
    made = with_norms(model).model
    told = {value.name: value.type for value in made.graph.value_info}
    shapes = {value.name: value.type for value in model.graph.output}
    assert told["first_before_norm"] == shapes["first"]
    assert [value.name for value in made.graph.output] == ["y", "first"]


def test_everything_that_read_the_operator_reads_the_norm() -> None:
    """A residual branch, a graph output and the activation read one tensor, under its old name."""
    model = model_of(RESIDUAL)
    made = with_norms(model).model
    by_output = {node.output[0]: node.op_type for node in made.graph.node}
    assert by_output["first"] == "BatchNormalization"
    assert by_output["second"] == "BatchNormalization"
    assert left_out(with_norms(model, "after-activation")).keys() == {"first"}


@pytest.mark.parametrize(("opset", "ir"), [(7, 3), (8, 4), (9, 4), (14, 7), (15, 8), (25, 12)])
def test_every_form_of_batch_normalization(opset: int, ir: int) -> None:
    model = model_of(CONV, opset=opset, ir=ir)
    result = with_norms(model)
    onnx.checker.check_model(result.model, full_check=True)
    assert [v.name for v in result.model.graph.input] == [v.name for v in model.graph.input]
    feeds = feeds_for(model)
    assert scaled(evaluate(model, feeds), evaluate(result.model, feeds)) <= 1e-12
    assert bnfold.fold(result.model).report.batch_norms_after == 0


@pytest.mark.parametrize(("opset", "stored"), [(13, np.float16), (14, np.float32)])
def test_float16_has_float32_statistics_where_it_may(opset: int, stored: type) -> None:
    model = model_of(CONV, opset=opset, dtype="float16")
    result = with_norms(model)
    onnx.checker.check_model(result.model, full_check=True)
    kinds = [constant(result.model, name).dtype for name in result.model.graph.node[1].input[1:]]
    assert kinds == [np.float16, np.float16, stored, stored]
    assert result.report.norms[0].exact == (opset == 14)
    assert result.verify(runtime=False).is_same


def test_bfloat16() -> None:
    model = model_of(CONV, opset=17, dtype="bfloat16")
    result = with_norms(model, widest=3.9)
    assert result.report.norms[0].exact
    assert result.verify(runtime=False).is_same
    assert values_of(bnfold.fold(result.model).model) == values_of(model)


def test_nothing_else_of_the_file_changes() -> None:
    model = model_of(RESIDUAL)
    model.doc_string, model.producer_name = "kept", "somebody"
    made = with_norms(model, only=("second",)).model
    assert (made.doc_string, made.producer_name) == ("kept", "somebody")
    before = values_of(model)
    assert {name: data for name, data in values_of(made).items() if name in before} == before
    assert made.graph.node[0] == model.graph.node[0]


def test_external_data_stays_where_it_is(tmp_path: Path) -> None:
    model = externalised(model_of(CONV), tmp_path, {"w": ("w.data", 0)})
    path, out = tmp_path / "m.onnx", tmp_path / "out" / "o.onnx"
    path.write_bytes(model.SerializeToString())
    out.parent.mkdir()
    with_norms(path).save(out)
    # Loading it with its data finds that beside it.
    loaded = onnx.load(out)
    weight = numpy_helper.to_array(next(t for t in loaded.graph.initializer if t.name == "w"))
    np.testing.assert_array_equal(weight, constant(model_of(CONV), "w"))
    assert bnfold.verify(path, out, runtime=False).is_same


def test_an_input_with_the_weights_of_an_old_file() -> None:
    """In IR version 3 constants are graph inputs; those of the norm become Constant nodes."""
    model = list_initializers_as_inputs(model_of(CONV, opset=8, ir=3))
    made = with_norms(model).model
    assert op_types(made).count("Constant") == 4
    assert bnfold.fold(made).model.SerializeToString() == model.SerializeToString()


@pytest.mark.parametrize("at", range(0, 12, 2))
def test_a_failure_while_it_is_written_leaves_what_was_there(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model_of(CONV).SerializeToString())
    before = snapshot(tmp_path)
    result = with_norms(path)
    fault = Fault(at, lambda: OSError(28, "No space left on device"))
    with monkeypatch.context() as patched:
        inject(patched, fault)
        try:
            result.save(path, form="external")
        except bnfold.FileError:
            assert snapshot(tmp_path) == before
    assert fault.calls
    assert bnfold.verify(model_of(CONV), path, runtime=False).is_same

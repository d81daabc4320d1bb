"""remove_bias: the norm adds what the operator's bias added, and the function stays the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import pytest

import bnfold
from tests.support_float64 import evaluate
from tests.support_insert import model_of, with_norms
from tests.support_models import constant, feeds_for, op_types


@dataclass(frozen=True)
class Case:
    """A model, which of its tensors go, and its operators afterwards."""

    text: str
    gone: tuple[str, ...]
    nodes: tuple[str, ...]
    opset: int = 17
    bias: str = "removed"


CONV = "g (float[N,3,6,6] x) => (float[N,4,4,4] y)"
FLAT = "g (float[N,3] x) => (float[N,4] y)"
BN = "BatchNormalization"
CASES = {
    "conv": Case(
        f"{CONV} <float[4,3,3,3] w, float[4] b> {{ c = Conv(x, w, b)  y = Relu(c) }}",
        ("b",),
        ("Conv", BN, "Relu"),
    ),
    "conv without one": Case(
        f"{CONV} <float[4,3,3,3] w> {{ c = Conv(x, w)  y = Relu(c) }}",
        (),
        ("Conv", BN, "Relu"),
        bias="none",
    ),
    "transposed conv": Case(
        "g (float[N,3,2,2] x) => (float[N,4,4,4] y) <float[3,4,3,3] w, float[4] b> "
        "{ y = ConvTranspose(x, w, b) }",
        ("b",),
        ("ConvTranspose", BN),
    ),
    "conv and an add": Case(
        f"{CONV} <float[4,3,3,3] w, float[4] b, float[4,1,1] k> "
        "{ c = Conv(x, w, b)  d = Add(k, c)  y = Relu(d) }",
        ("b", "k"),
        ("Conv", BN, "Relu"),
    ),
    "matmul and an add": Case(
        f"{FLAT} <float[3,4] w, float[4] b> {{ c = MatMul(x, w)  y = Add(c, b) }}",
        ("b",),
        ("MatMul", BN),
    ),
    "gemm with alpha and beta": Case(
        f"{FLAT} <float[3,4] w, float[1,4] b> {{ y = Gemm<alpha=0.5, beta=3.0>(x, w, b) }}",
        ("b",),
        ("Gemm", BN),
    ),
    "gemm with one value": Case(
        f"{FLAT} <float[3,4] w, float b> {{ y = Gemm(x, w, b) }}", ("b",), ("Gemm", BN)
    ),
    "gemm before opset 11": Case(
        f"{FLAT} <float[3,4] w, float[4] b> {{ y = Gemm(x, w, b) }}",
        (),
        ("Gemm", BN),
        opset=10,
        bias="kept",
    ),
    "gemm with rows": Case(
        "g (float[2,3] x) => (float[2,4] y) <float[3,4] w, float[2,4] b> { y = Gemm(x, w, b) }",
        (),
        ("Gemm", BN),
        bias="kept",
    ),
    "a computed bias": Case(
        "g (float[N,3,6,6] x, float[4] z) => (float[N,4,4,4] y) <float[4,3,3,3] w> "
        "{ y = Conv(x, w, z) }",
        (),
        ("Conv", BN),
        bias="kept",
    ),
    "a shared bias": Case(
        "g (float[N,3,6,6] x) => (float[N,4,4,4] y, float[4] z) <float[4,3,3,3] w, float[4] b> "
        "{ y = Conv(x, w, b)  z = Neg(b) }",
        (),
        ("Conv", BN, "Neg"),
    ),
}


def initializers(model: onnx.ModelProto) -> set[str]:
    return {tensor.name for tensor in model.graph.initializer}


@pytest.mark.parametrize("case", CASES)
def test_the_norm_takes_over_the_bias(case: str) -> None:
    told = CASES[case]
    model = model_of(told.text, opset=told.opset)
    result = with_norms(model, remove_bias=True)
    made = result.model
    onnx.checker.check_model(made, full_check=True)
    assert tuple(op_types(made)) == told.nodes
    assert initializers(model) - initializers(made) == set(told.gone)
    norm = result.report.norms[0]
    assert norm.bias == told.bias
    assert norm.exact
    assert bool(norm.notes) == (told.bias == "kept")
    assert result.verify(runtime=False).is_same


@pytest.mark.parametrize("case", [name for name, case in CASES.items() if case.bias == "removed"])
def test_the_function_is_the_same_in_float64(case: str) -> None:
    told = CASES[case]
    model = model_of(told.text, opset=told.opset, dtype="double")
    made = with_norms(model, remove_bias=True).model
    feeds = feeds_for(model)
    for before, after in zip(evaluate(model, feeds), evaluate(made, feeds), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-12, atol=1e-12 * np.abs(before).max())


def test_the_mean_is_that_of_the_data_without_the_bias() -> None:
    model = model_of(CASES["conv"].text)
    kept, removed = (with_norms(model, remove_bias=flag).model for flag in (False, True))
    norms = [
        next(node for node in made.graph.node if node.op_type == BN) for made in (kept, removed)
    ]
    scale, beta, mean, var = (
        [constant(made, node.input[at]) for made, node in zip((kept, removed), norms, strict=True)]
        for at in range(1, 5)
    )
    for same in (scale, beta, var):
        np.testing.assert_array_equal(same[0], same[1])
    np.testing.assert_allclose(mean[1], mean[0] - constant(model, "b"), rtol=1e-6, atol=1e-6)


def test_a_fold_gives_the_bias_back_to_rounding() -> None:
    model = model_of(CASES["conv"].text)
    result = with_norms(model, remove_bias=True)
    back = bnfold.fold(result.model).model
    assert op_types(back) == ["Conv", "Relu"]
    assert constant(back, "w").tobytes() == constant(model, "w").tobytes()
    name = back.graph.node[0].input[2]
    beta = constant(result.model, result.model.graph.node[1].input[2])
    off = np.abs(constant(back, name).astype(float) - constant(model, "b"))
    assert (off <= 2.0**-23 * (np.abs(beta) + np.abs(constant(model, "b")))).all()

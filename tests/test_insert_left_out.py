"""Operators that get no norm, each with its reason; and where a norm goes."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import bnfold
from bnfold.errors import ModelError
from bnfold.onnxgraph.load import load
from bnfold.statistics.inserted import LEFT_OUT, Where
from bnfold.statistics.insertion import Insertion
from tests.support_insert import CONV, drawn, model_of
from tests.support_models import filled, parsed

HEAD = "g (float[N,3,6,6] x) => (float[N,4,4,4] y) <float[4,3,3,3] w, float[4] b"
NORM = "float[4] g, float[4] e, float[4] m, float[4] v"

BEFORE: dict[str, tuple[str, str, str]] = {
    "a norm behind": (
        f"{HEAD}, {NORM}> {{ c = Conv(x, w, b)  y = BatchNormalization(c, g, e, m, v) }}",
        "already-normalised",
        "stands behind c",
    ),
    "a norm behind an Identity": (
        f"{HEAD}, {NORM}> {{ c = Conv(x, w)  i = Identity(c)  "
        "y = BatchNormalization(i, g, e, m, v) }",
        "already-normalised",
        "stands behind c",
    ),
    "a norm behind the activation": (
        f"{HEAD}, {NORM}> {{ c = Conv(x, w)  r = Relu(c)  y = BatchNormalization(r, g, e, m, v) }}",
        "already-normalised",
        "stands behind c",
    ),
    "a norm beside another reader": (
        f"{HEAD}, {NORM}> {{ c = Conv(x, w)  n = BatchNormalization(c, g, e, m, v)  "
        "y = Add(c, n) }",
        "already-normalised",
        "stands behind c",
    ),
    "channels on the last axis": (
        "g (float[N,7,3] x) => (float[N,7,4] c) <float[3,4] w> { c = MatMul(x, w) }",
        "channel-axis",
        "the channels of c are on axis 2 of 3",
    ),
    "a weight on the left": (
        "g (float[3,7] x) => (float[4,7] c) <float[4,3] w> { c = MatMul(w, x) }",
        "channel-axis",
        "the channels of c are on axis 0 of 2",
    ),
    "one value of each channel": (
        "g (float[1,3,6,6] x) => (float[1,4,1,1] c) <float[4,3,1,1] w> "
        "{ p = GlobalAveragePool(x)  c = Conv(p, w) }",
        "single-value",
        "c is [1, 4, 1, 1]: one value for each channel",
    ),
    "two tensors that are computed": (
        "g (float[N,3] x, float[3,4] z) => (float[N,4] c) { c = MatMul(x, z) }",
        "unreadable",
        "z is a graph input",
    ),
    "another operator": (
        "g (float[N,3] x) => (float[N,4] c) <float[3,4] w> "
        '{ c = Einsum<equation="nk,km->nm">(x, w) }',
        "other-operator",
        "c is a Einsum",
    ),
    "a body of an If": (
        "g (float[N,3,6,6] x, bool k) => (float[N,4,4,4] y) <float[4,3,3,3] w> { y = If(k) <"
        "then_branch = a () => (float[N,4,4,4] c) { c = Conv(x, w) }, "
        "else_branch = o () => (float[N,4,4,4] d) { d = Conv(x, w) }> }",
        "inner-graph",
        "is in the body of y",
    ),
}
AFTER: dict[str, tuple[str, str, str]] = {
    "nothing behind": (f"{HEAD}> {{ y = Conv(x, w, b) }}", "no-activation", "reads y"),
    "two readers": (
        f"{HEAD}> {{ c = Conv(x, w)  r = Relu(c)  y = Add(r, c) }}",
        "no-activation",
        "reads c",
    ),
    "no activation": (f"{HEAD}> {{ c = Conv(x, w)  y = Softmax(c) }}", "no-activation", "reads c"),
    "an output too": (
        "g (float[N,3,6,6] x) => (float[N,4,4,4] y, float[N,4,4,4] c) <float[4,3,3,3] w> "
        "{ c = Conv(x, w)  y = Relu(c) }",
        "no-activation",
        "reads c",
    ),
}


def found_in(
    model: onnx.ModelProto, where: Where = "before-activation", **patterns: tuple[str, ...]
) -> Insertion:
    return Insertion(load(model, name="m.onnx"), where, **patterns)


@pytest.mark.parametrize("case", BEFORE)
def test_an_operator_is_left_out(case: str) -> None:
    text, code, words = BEFORE[case]
    insertion = found_in(model_of(text))
    assert not insertion.sites
    assert insertion.left_out[0].code == code
    assert words in insertion.left_out[0].reason


@pytest.mark.parametrize("case", AFTER)
def test_no_activation_for_a_norm_to_stand_behind(case: str) -> None:
    text, code, words = AFTER[case]
    insertion = found_in(model_of(text), "after-activation")
    assert [left.code for left in insertion.left_out] == [code]
    assert words in insertion.left_out[0].reason
    assert found_in(model_of(text)).sites


def test_an_unknown_rank() -> None:
    text = (
        "g (float[N] x, int64[K] s) => (float[A,B] y) <float[3,4] w> "
        "{ h = Reshape(x, s)  c = MatMul(h, w)  y = Relu(c) }"
    )
    left = found_in(model_of(text)).left_out
    assert [(entry.code, entry.operator) for entry in left] == [("unknown-rank", "c")]


def test_bfloat16_before_its_norm() -> None:
    left = found_in(model_of(CONV, opset=13, dtype="bfloat16")).left_out
    assert [entry.code for entry in left] == ["unsupported-dtype"]


def test_a_function_body() -> None:
    text = """
    g (float[N,3,6,6] x) => (float[N,4,4,4] y) <float[4,3,3,3] w> { y = local.block(x, w) }
    """
    function = '<domain: "local", opset_import: ["" : 17]> block (x, w) => (c) { c = Conv(x, w) }'
    model = filled(parsed(f"{text}\n{function}", imports='"local" : 1'))
    left = found_in(model).left_out
    assert [(entry.code, entry.graph) for entry in left] == [("function-body", "block")]


def test_statistics_that_the_dtype_cannot_hold() -> None:
    insertion = found_in(model_of(CONV, opset=13, dtype="float16"))
    moments = drawn(insertion, widest=12.0, seed=1)
    result = insertion.finished(moments)
    assert [left.code for left in result.report.left_out] == ["beyond-dtype"]
    assert result.rewrite.is_empty


def test_patterns_choose_operators() -> None:
    text = """g (float[N,4] x) => (float[N,4] y) <float[4,4] w> {
        [a1] a = MatMul(x, w)  [a2] b = MatMul(a, w)  [b1] y = MatMul(b, w) }"""
    model = model_of(text)
    chosen = found_in(model, only=("a*",), skip=("*2",))
    assert [site.node.label for site in chosen.sites] == ["a1"]
    reasons = {left.operator: left.reason for left in chosen.left_out}
    assert reasons == {
        "a2": "a2 matches --skip *2",
        "b1": "b1 matches no --only pattern",
    }
    assert {left.code for left in chosen.left_out} == {"excluded"}


ACTIVATED = {
    "Relu": "r = Relu(c)",
    "a slope for each channel": "r = PRelu(c, s)",
    "SiLU": "q = Sigmoid(c)  r = Mul(c, q)",
    "SiLU the other way round": "q = Sigmoid(c)  r = Mul(q, c)",
    "HardSwish in two nodes": "q = HardSigmoid(c)  r = Mul(c, q)",
    "bounds": "r = Clip(c, low, high)",
}


@pytest.mark.parametrize("case", ACTIVATED)
def test_a_norm_goes_behind_the_activation(case: str) -> None:
    text = (
        f"{HEAD}, float[4,1,1] s, float low, float high> "
        f"{{ c = Conv(x, w, b)  {ACTIVATED[case]}  y = Neg(r) }}"
    )
    insertion = found_in(model_of(text), "after-activation")
    assert insertion.tensors == ["r"]


@pytest.mark.parametrize(
    "gate", ["q = Sigmoid(x2)  r = Mul(c, q)", "q = Sigmoid(c)  r = Mul(c, q)  u = Neg(q)"]
)
def test_a_gate_of_something_else_is_no_activation(gate: str) -> None:
    more = ", float[N,4,4,4] u" if "u =" in gate else ""
    text = (
        f"g (float[N,3,6,6] x, float[N,4,4,4] x2) => (float[N,4,4,4] y{more}) "
        f"<float[4,3,3,3] w> {{ c = Conv(x, w)  {gate}  y = Neg(r) }}"
    )
    assert not found_in(model_of(text), "after-activation").sites


@pytest.mark.parametrize(
    ("shape", "is_bias"), [("4,1,1", True), ("1,4,1,1", True), ("1", True), ("4", False)]
)
def test_which_add_is_a_bias(shape: str, is_bias: bool) -> None:
    text = f"{HEAD}, float[{shape}] k> {{ c = Conv(x, w)  d = Add(c, k)  y = Relu(d) }}"
    assert found_in(model_of(text)).tensors == ["d" if is_bias else "c"]


def test_old_operator_sets_are_refused() -> None:
    with pytest.raises(ModelError, match=r"m\.onnx has opset 6: norms are inserted from opset 7"):
        found_in(model_of(CONV, opset=6))


def test_every_reason_has_a_test_and_stands_in_the_docs() -> None:
    tested = {code for _, code, _ in (*BEFORE.values(), *AFTER.values())}
    tested |= {"unknown-rank", "unsupported-dtype", "function-body", "beyond-dtype", "excluded"}
    assert tested == set(LEFT_OUT)
    docs = (Path(__file__).parent.parent / "docs" / "commands.md").read_text()
    for code, meaning in LEFT_OUT.items():
        assert f"| `{code}` | {meaning} |" in docs


def test_a_model_without_operators_stays_as_it_is() -> None:
    model = model_of("g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }")
    result = found_in(model).finished({})
    assert result.model.SerializeToString() == model.SerializeToString()
    assert not result.report.norms
    assert not result.report.left_out
    assert isinstance(result.report, bnfold.InsertReport)

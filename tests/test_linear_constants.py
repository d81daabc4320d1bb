"""Constants beside the data take up a map themselves: tables, class tokens, what is chosen."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

import bnfold
from tests.support_linear import NORM, check_folds, check_kept, graph, model_of
from tests.support_models import constant, list_initializers_as_inputs, op_types, with_values

MAP = "d = Mul (c, s)  y = Add (d, t)"
LINE = "float[4] s, float[4] t"
TOKENS = "float[2,5,3] x"
TABLE = "float[6,4] e"
PICKED = "int64[2,5] i"

FOLDS = {
    "Gather from a table": (
        graph(f"c = Gather (e, i)  {MAP}", f"{TABLE}, {LINE}", x=PICKED),
        "Gather",
        "e",
    ),
    "Gather from a table of three axes": (
        graph(
            f"c = Gather <axis = 1> (e, i)  {MAP}",
            f"float[2,6,4] e, {LINE}",
            x="int64[5] i",
        ),
        "Gather",
        "e",
    ),
    "Gather, Transpose, BatchNormalization": (
        graph(f"n = Gather (e, i)  c = Transpose <perm = [0,2,1]> (n)  {NORM}", TABLE, x=PICKED),
        "Gather Transpose",
        "e",
    ),
    "a table from a Constant": (
        graph(
            f"e = Constant <value = float[2,4] {{1, 2, 3, 4, 5, 6, 7, 8}}> ()  "
            f"c = Gather (e, i)  {MAP}",
            LINE,
            x="int64[2,5] i",
        ),
        "Constant Gather",
        "e",
    ),
    "two readers that need the same": (
        graph(
            "p = Gather (e, i)  q = Gather (e, k)  c = Add (p, q)  y = Mul (c, s)",
            f"{TABLE}, float[4] s",
            x=f"{PICKED}, int64[2,5] k",
        ),
        "Gather Gather Add",
        "e",
    ),
    "Concat with a class token": (
        graph(
            f"n = MatMul (x, w)  c = Concat <axis = 1> (token, n)  {MAP}",
            f"float[3,4] w, float[2,1,4] token, {LINE}",
            x=TOKENS,
        ),
        "MatMul Add Concat",
        "token",
    ),
    "Expand of a class token": (
        graph(
            "n = MatMul (x, w)  h = Shape <start = 0, end = 1> (x)  "
            "o = Constant <value_ints = [1, 4]> ()  z = Concat <axis = 0> (h, o)  "
            f"p = Expand (token, z)  c = Concat <axis = 1> (p, n)  {MAP}",
            f"float[3,4] w, float[1,1,4] token, {LINE}",
            x="float[batch,5,3] x",
        ),
        "MatMul Add Shape Constant Concat Expand Concat",
        "token",
    ),
    "Where with a constant": (
        graph(
            f"n = MatMul (x, w)  c = Where (q, n, k)  {MAP}",
            f"float[3,4] w, float[4] k, {LINE}",
            x=f"bool[2,5,1] q, {TOKENS}",
        ),
        "MatMul Add Where",
        "k",
    ),
    "an Add of a position embedding": (
        graph(
            f"n = MatMul (x, w)  c = Add (n, p)  {MAP}",
            f"float[3,4] w, float[1,5,4] p, {LINE}",
            x=TOKENS,
        ),
        "MatMul Add",
        "p",
    ),
    "a position embedding of fewer axes that is taken from": (
        graph(
            f"n = MatMul (x, w)  c = Sub (p, n)  {MAP}",
            f"float[3,4] w, float[5,4] p, {LINE}",
            x=TOKENS,
        ),
        "MatMul Sub",
        "p",
    ),
    "words and places": (
        graph(
            f"n = Gather (e, i)  c = Add (n, p)  {MAP}",
            f"{TABLE}, float[5,4] p, {LINE}",
            x=PICKED,
        ),
        "Gather Add",
        "p",
    ),
}

HUGE = f"float[5000,4] e, {LINE}"

KEPT = {
    "a large table that is tied": (
        "adds-work",
        graph(
            f"c = Gather (e, i)  {MAP}  u = Transpose (e)  z = MatMul (x, u)",
            HUGE,
            x=f"{PICKED}, {TOKENS.replace('3', '4')}",
            y="float[j,k,l] y, float[m,n,o] z",
        ),
        ("is also needed by u", "160000 more bytes"),
    ),
    "a table that is an input": (
        "producer-not-linear",
        graph(f"c = Gather (x, i)  {MAP}", LINE, x=f"{PICKED}, float[6,4] x"),
        ("x is a graph input",),
    ),
    "rows of a table": (
        "not-through",
        graph(f"c = Gather (e, i)  {NORM}", "float[6,3] e", x="int64[2,4] i"),
        ("axis 0",),
    ),
    "a norm of a constant": (
        "producer-not-linear",
        graph(f"c = Identity (k)  {NORM}  z = Relu (x)", "float[2,4,3] k", x="float[1] x").replace(
            "float[j,k,l] y", "float[j,k,l] y, float[1] z"
        ),
        ("constant",),
    ),
}


@pytest.mark.parametrize(("text", "left", "name"), FOLDS.values(), ids=FOLDS)
def test_folds(text: str, left: str, name: str) -> None:
    result = check_folds(text, left)
    before, after = constant(model_of(text), name), constant(result.model, name)
    assert before.shape == after.shape
    assert not np.array_equal(before, after)


@pytest.mark.parametrize(("code", "text", "names"), KEPT.values(), ids=KEPT)
def test_kept(code: str, text: str, names: tuple[str, ...]) -> None:
    check_kept(text, code, *names)


def test_numbers_by_hand() -> None:
    text = FOLDS["Gather from a table"][0]
    rows = np.arange(24).reshape(6, 4)
    model = with_values(model_of(text), e=rows, s=[2, -1, 0, 1], t=[0, 1, 5, 0])
    folded = constant(bnfold.fold(model).model, "e")
    assert np.array_equal(folded, rows * [2, -1, 0, 1] + [0, 1, 5, 0])


def test_the_report_names_what_reads_the_constant() -> None:
    (norm,) = check_folds(*FOLDS["Gather from a table"][:2]).report.folded
    assert (norm.into, norm.operator, norm.channels) == ("c", "Gather", 4)


def test_a_small_table_that_others_read_is_stored_twice() -> None:
    text = graph(
        f"c = Gather (e, i)  {MAP}  z = Exp (e)",
        f"{TABLE}, {LINE}",
        x=PICKED,
        y="float[j,k,l] y, float[6,4] z",
    )
    result = check_folds(text, "Gather Exp")
    assert np.array_equal(constant(result.model, "e"), constant(model_of(text), "e"))
    assert constant(result.model, "e_folded").shape == (6, 4)


def test_a_constant_that_is_an_output_stays() -> None:
    text = graph(
        f"c = Gather (e, i)  {MAP}",
        f"{TABLE}, {LINE}",
        x=PICKED,
        y="float[j,k,l] y, float[6,4] e",
    )

    def given_value(model: onnx.ModelProto) -> onnx.ModelProto:
        model.graph.initializer.append(numpy_helper.from_array(np.ones((6, 4)), "e"))
        return model

    result = check_folds(text, "Gather", change=given_value)
    assert np.array_equal(constant(result.model, "e"), np.ones((6, 4)))


def test_a_computed_constant_becomes_a_stored_one() -> None:
    text = graph(f"u = Transpose (e)  c = Gather (u, i)  {MAP}", f"float[4,6] e, {LINE}", x=PICKED)
    result = check_folds(text, "Gather")
    stored = {tensor.name for tensor in result.model.graph.initializer}
    assert "u_folded" in stored
    assert "e" not in stored


@pytest.mark.parametrize(("dtype", "size"), [("float16", 3e4), ("float", 1e38), ("bfloat16", 1e38)])
def test_a_value_beyond_the_dtype(dtype: str, size: float) -> None:
    model = with_values(
        model_of(FOLDS["Gather from a table"][0], dtype=dtype), e=size, s=[4, 1, 1, 1]
    )
    (norm,) = bnfold.fold(model).report.norms
    assert isinstance(norm, bnfold.Kept)
    assert norm.code == "beyond-dtype"
    assert "e, which c reads" in norm.reason


def test_infinite_values_of_a_mask_stay_so() -> None:
    text = FOLDS["Where with a constant"][0].replace("t ()", "")

    def masked(model: onnx.ModelProto) -> onnx.ModelProto:
        return with_values(model, k=-np.inf, s=[1, 2, 3, 4])

    folded = bnfold.fold(masked(model_of(text))).model
    assert np.array_equal(constant(folded, "k"), np.full(4, -np.inf))


def test_small_values_become_zero_and_are_counted() -> None:
    text = FOLDS["Gather from a table"][0]
    for dtype, count in (("float", 12), ("float16", 0)):
        model = with_values(model_of(text, dtype=dtype), e=1e-4, s=[1e-36, 1e-36, 1, 1], t=0)
        if dtype == "float16":
            model = with_values(model, s=[0.1, 0.1, 1, 1])
        result = bnfold.fold(model)
        assert result.report.flushed == count
        assert bool(constant(result.model, "e").all()) == (count == 0)


BODIES = f"""agraph (bool q, {PICKED}) => (float[j,k,l] y) <{TABLE}, {LINE}, float[4] r> {{
    y = If (q) <
        then_branch = one () => (float[j,k,l] a) {{
            c = Gather (e, i)  d = Mul (c, s)  a = Add (d, t)
        }},
        else_branch = two () => (float[j,k,l] f) {{
            c = Gather (e, i)  f = Mul (c, r)
        }}
    >
}}"""


@pytest.mark.parametrize("seed", range(4))
def test_bodies_that_need_a_table_differently(seed: int) -> None:
    """Each gets its own; a condition of both values is fed."""
    result = check_folds(BODIES, "If Gather Gather", seed=seed)
    assert len(result.report.folded) == 2
    one = BODIES.replace("f = Mul (c, r)", "f = Abs (c)")
    check_folds(one, "If Gather Gather Abs", seed=seed)


def test_listed_initializers_of_ir_version_3() -> None:
    """What listed the table as an input goes with it, and a new one is a Constant node."""
    text = graph(f"c = Gather (e, i)  {MAP}", f"{TABLE}, {LINE}", x=PICKED)
    for more, left in (("", ["Gather"]), ("  z = Exp (e)", ["Constant", "Gather", "Exp"])):
        wanted = text.replace(" }", f"{more} }}")
        if more:
            wanted = wanted.replace("float[j,k,l] y", "float[j,k,l] y, float[6,4] z")
        model = list_initializers_as_inputs(model_of(wanted))
        model.ir_version = 3
        folded = bnfold.fold(model).model
        assert sorted(op_types(folded)) == sorted(left)
        assert {value.name for value in folded.graph.input} >= {"e", "i"}
        onnx.checker.check_model(folded)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(0, 2), st.integers(0, 99), st.sampled_from([1, 11, 13, 21]))
def test_any_table(rank: int, picked: int, seed: int, opset: int) -> None:
    """Tables of any rank, indices of any rank and sign, any axis but the last."""
    axes, axis = [*[2, 3, 2][:rank], 4], seed % rank
    shape = ",".join(map(str, axes))
    indices = ",".join(["2", "3"][:picked])
    made = ",".join("jklmnopq"[: rank + picked])
    text = graph(
        f"c = Gather <axis = {axis}> (e, i)  {MAP}",
        f"float[{shape}] e, {LINE}",
        x=f"int64[{indices}] i" if picked else "int64 i",
        y=f"float[{made}] y",
    )
    opset = max(opset, 11)
    check_folds(text, "Gather", opset=opset, seed=seed)

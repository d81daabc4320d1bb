"""Constant in value, however it is spelled: which tensors are, which are not, and their values."""

from __future__ import annotations

import resource

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.onnxgraph.constants import Constants
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.known import Known, Unknown
from bnfold.onnxgraph.load import load
from bnfold.onnxgraph.types import Types
from tests import support_models
from tests.support_graphs import Array, graph_model, parsed, weights_of

F4 = np.float32


def found(model: onnx.ModelProto, name: str = "k") -> Known | Unknown:
    """What is known of a tensor of the main graph; both questions have to agree."""
    index = Index(load(model))
    constants = Constants(index, Types(index))
    tensor = index.main.tensors[name]
    reason, value = constants.why_not(tensor), constants.value(tensor)
    if reason is not None:
        assert value == reason
    return value


def written(body: str, *, ir: int = 8, opset: int = 17) -> onnx.ModelProto:
    return parsed(
        f"""<ir_version: {ir}, opset_import: ["" : {opset}]>
        net (float[2, 3] x, float16[2] half) => (float y)
        <float[3] v = {{1, 2, 3}}, float one = {{1}}, int64[2] dims = {{2, 3}},
         float[2, 3] m = {{1, 2, 3, 4, 5, 6}}, int64[1] zero = {{0}}, int64[1] two = {{2}}>
        {{ {body} y = Identity (k) }}"""
    )


V = np.array([1, 2, 3], F4)
M = np.array([[1, 2, 3], [4, 5, 6]], F4)

# ONNX text that makes k -> its value, worked out by hand.
SPELLINGS: dict[str, tuple[str, Array]] = {
    "value of floats": ("k = Constant <value = float[2] {1.5, 2}> ()", np.array([1.5, 2], F4)),
    "value_float": ("k = Constant <value_float = 1.5> ()", np.array(1.5, F4)),
    "value_floats": ("k = Constant <value_floats = [1.0, 2.5]> ()", np.array([1, 2.5], F4)),
    "value_int": ("k = Constant <value_int = 7> ()", np.array(7, np.int64)),
    "value_ints": ("k = Constant <value_ints = [7, -8]> ()", np.array([7, -8], np.int64)),
    "Identity of Identity": ("a = Identity (v) k = Identity (a)", V),
    "ConstantOfShape": ("k = ConstantOfShape (dims)", np.zeros((2, 3), F4)),
    "ConstantOfShape with a value": (
        "k = ConstantOfShape <value = float[1] {2.5}> (dims)",
        np.full((2, 3), 2.5, F4),
    ),
    "Expand of a scalar": ("k = Expand (one, dims)", np.ones((2, 3), F4)),
    "Expand to a computed shape": (
        "s = Shape (m) k = Expand (one, s)",
        np.ones((2, 3), F4),
    ),
    "Expand of CastLike of an activation": (
        "z = Constant <value = int64[1] {0}> () c = CastLike (z, x) s = Shape (m) "
        "r = Slice (s, zero, two) k = Expand (c, r)",
        np.zeros((2, 3), F4),
    ),
    "CastLike of a float16 activation": ("k = CastLike (v, half)", V.astype(np.float16)),
    "CastLike of a computed activation": (
        "n = Relu (half) k = CastLike (v, n)",
        V.astype(np.float16),
    ),
    "Cast": ("k = Cast <to = 11> (v)", V.astype(np.float64)),
    "Reshape": ("d = Constant <value_ints = [3, 1]> () k = Reshape (v, d)", V.reshape(3, 1)),
    "Unsqueeze": ("k = Unsqueeze (v, zero)", V.reshape(1, 3)),
    "Squeeze": ("a = Unsqueeze (v, zero) k = Squeeze (a, zero)", V),
    "Transpose": ("k = Transpose <perm = [1, 0]> (m)", M.T),
    "Flatten": ("k = Flatten <axis = 2> (m)", M.reshape(6, 1)),
    "arithmetic": ("a = Add (v, one) b = Sqrt (a) c = Mul (b, b) k = Sub (c, v)", np.ones(3, F4)),
    "inverse root": ("a = Sqrt (v) k = Reciprocal (a)", 1 / np.sqrt(V)),
    "Concat": ("k = Concat <axis = 0> (v, v)", np.concatenate([V, V])),
    "Slice": ("k = Slice (v, zero, two)", V[:2]),
    "Gather": ("k = Gather <axis = 1> (m, two)", M[:, 2:]),
    "Split, the second part": ("a, k = Split <axis = 1> (m, parts)", M[:, 2:]),
    "Tile": ("k = Tile (v, two)", np.tile(V, 2)),
    "Range": (
        "a = Constant <value_float = 3.0> () z = Sub (one, one) k = Range (z, a, one)",
        V - 1,
    ),
    "ReduceSum": ("k = ReduceSum <keepdims = 0> (m, zero)", M.sum(axis=0)),
    "Shape of a constant": ("k = Shape (m)", np.array([2, 3])),
    "Where": ("c = Greater (v, one) k = Where (c, v, one)", V),
    "the standard domain by its name": ("k = ai.onnx.Identity (v)", V),
}


@pytest.mark.parametrize("case", SPELLINGS)
def test_constant_in_every_spelling(case: str) -> None:
    body, expected = SPELLINGS[case]
    model = written(body)
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 1]), "parts"))
    if "ai.onnx." in body:
        for node in model.graph.node:
            node.domain = "ai.onnx" if node.domain else ""
    known = found(model)
    assert isinstance(known, Known), known
    assert known.array.dtype == expected.dtype
    assert known.shape == expected.shape
    assert known.data_type == helper.np_dtype_to_tensor_dtype(expected.dtype)
    np.testing.assert_allclose(known.array, expected, rtol=1e-6)


# ONNX text that makes k -> the code, and a word of the sentence.
NOT_CONSTANT: dict[str, tuple[str, str, str]] = {
    "an activation": ("k = Relu (x)", "not-constant", "x is a graph input"),
    "behind constant arithmetic": ("a = Relu (x) k = Add (a, v)", "not-constant", "x"),
    "a random number": ("k = RandomNormal <shape = [3]> ()", "not-constant", "RandomNormal"),
    "another domain": ("k = my.domain.Identity (v)", "not-constant", "Identity"),
    "a dropout": ("k = Dropout (v)", "not-constant", "Dropout"),
    "a text": ('k = Constant <value_string = "a"> ()', "not-constant", "no dense numbers"),
    "shapes that do not broadcast": (
        "k = Add (v, parts)",
        "not-constant",
        "cannot be evaluated",
    ),
    "a type that nothing tells": (
        "n = my.domain.Unknown (x) k = CastLike (v, n)",
        "not-constant",
        "element type",
    ),
    "a huge shape": (
        "d = Constant <value_ints = [1000000, 1000000]> () k = ConstantOfShape (d)",
        "expression-too-large",
        "64 MiB",
    ),
    "a shape beyond 64 bits": (
        "d = Constant <value_ints = [4611686018427387904, 4611686018427387904, 8]> () "
        "k = ConstantOfShape (d)",
        "expression-too-large",
        "64 MiB",
    ),
    "a huge Expand": (
        "d = Constant <value_ints = [1000000, 1000000]> () k = Expand (one, d)",
        "expression-too-large",
        "Expand",
    ),
    "a huge Tile": (
        "d = Constant <value_ints = [1000000000]> () k = Tile (v, d)",
        "expression-too-large",
        "Tile",
    ),
    "a huge Range": (
        "a = Constant <value_float = 1e30> () z = Sub (one, one) k = Range (z, a, one)",
        "expression-too-large",
        "Range",
    ),
    "behind a huge shape": (
        "d = Constant <value_ints = [99999, 99999]> () a = ConstantOfShape (d) k = ReduceSum (a)",
        "expression-too-large",
        "ConstantOfShape",
    ),
    "a huge outer sum": (
        "p = Constant <value_ints = [100000, 1]> () q = Constant <value_ints = [1, 100000]> () "
        "a = Expand (one, p) b = Expand (one, q) k = Add (a, b)",
        "expression-too-large",
        "Add",
    ),
    "a negative shape": (
        "d = Constant <value_ints = [-5]> () k = ConstantOfShape (d)",
        "not-constant",
        "cannot be evaluated",
    ),
    "a Range that never ends": (
        "z = Sub (one, one) k = Range (z, one, z)",
        "not-constant",
        "cannot be evaluated",
    ),
}


@pytest.mark.parametrize("case", NOT_CONSTANT)
def test_not_constant_has_a_reason_and_takes_no_memory(case: str) -> None:
    body, code, word = NOT_CONSTANT[case]
    model = written(body)
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 1], F4), "parts"))
    model.opset_import.append(helper.make_opsetid("my.domain", 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unknown = found(model)
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert isinstance(unknown, Unknown), unknown
    assert unknown.code == code
    assert word in unknown.detail
    assert "\n" not in unknown.detail
    assert taken < 400_000, "kilobytes"


def test_a_huge_shape_refuses_the_norm() -> None:
    model = graph_model(
        """net (float[1, 3, 6, 6] x) => (float[1, 8, 4, 4] y) {
            c = Conv (x, w)
            d = Constant <value_ints = [1000000, 1000000]> ()
            b = ConstantOfShape (d)
            [norm] y = BatchNormalization (c, gamma, b, mean, var)
        }""",
        **weights_of(0),
    )
    kept = bnfold.explain(model).kept
    assert [(norm.norm, norm.code) for norm in kept] == [("norm", "expression-too-large")]


@pytest.mark.parametrize(("ir", "code"), [(3, ""), (4, "overridable-initializer")])
def test_an_initializer_that_is_an_input(ir: int, code: str) -> None:
    model = written("k = Identity (v)", ir=ir, opset=8)
    model.graph.input.append(helper.make_tensor_value_info("v", TensorProto.FLOAT, [3]))
    value = found(model)
    if code:
        assert isinstance(value, Unknown)
        assert (value.code, value.detail.split()[0]) == (code, "v")
    else:
        assert isinstance(value, Known)
        np.testing.assert_array_equal(value.array, V)


def test_a_sparse_initializer_is_not_constant() -> None:
    model = written("k = Identity (s)")
    sparse = model.graph.sparse_initializer.add(dims=[5])
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, F4), "s"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([2]), "s_at"))
    value = found(model)
    assert isinstance(value, Unknown)
    assert value.code == "not-constant"
    assert "sparse" in value.detail


def test_a_subgraph_sees_outer_constants_and_not_its_inputs() -> None:
    model = parsed(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[4, 3] x) => (float[4, 3] y) <float[3] v = {1, 2, 3}> {
            y = Scan <num_scan_inputs = 1, body = step (float[3] row) => (float[3] out) {
                a = Identity (v)
                b = Identity (row)
                c = Add (a, b)
                out = Relu (c)
            }> (x)
        }"""
    )
    index = Index(load(model))
    constants = Constants(index, Types(index))
    body = next(scope for scope in index.scopes if scope.parent is not None)
    outer = constants.value(body.tensors["a"])
    assert isinstance(outer, Known)
    np.testing.assert_array_equal(outer.array, V)
    for name in ("row", "b", "c"):
        inner = constants.value(body.tensors[name])
        assert isinstance(inner, Unknown)
        assert "row is an input of a subgraph" in inner.detail


def test_values_cannot_be_written_to() -> None:
    for body in ("k = Identity (v)", "k = Add (v, one)", "k = Transpose (m)"):
        known = found(written(body))
        assert isinstance(known, Known)
        assert not known.array.flags.writeable


def test_reading_a_constant_does_not_change_the_model() -> None:
    model = written("a = Add (v, one) k = Exp (a)")
    before = model.SerializeToString()
    found(model)
    assert model.SerializeToString() == before


def test_the_shape_of_a_large_weight_is_small() -> None:
    model = written("k = Shape (huge)")
    huge = np.zeros((4097, 4097), np.int8)
    model.graph.initializer.append(numpy_helper.from_array(huge, "huge"))
    known = found(model)
    assert isinstance(known, Known), known
    np.testing.assert_array_equal(known.array, [4097, 4097])


@pytest.mark.parametrize(("axes", "shape"), [("1, 0", [1, 1, 4]), ("2, 0", [1, 4, 1])])
def test_axes_of_an_unsqueeze_in_any_order(axes: str, shape: list[int]) -> None:
    """The evaluator of onnx puts them in one after the other, so that [1, 0] made [1, 4, 1]."""
    text = (
        "agraph (float[2,3,6] x) => (float[a,b,c] y) <float[4,3,3] w, float[4] v> "
        f"{{ k = Unsqueeze <axes = [{axes}]> (v)  c = Conv (x, w)  y = Mul (c, k) }}"
    )
    model = support_models.filled(support_models.parsed(text, opset=10))
    session = pytest.importorskip("onnxruntime").InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    x = np.random.default_rng(0).normal(size=(2, 3, 6)).astype(np.float32)
    (expected,) = session.run(None, {"x": x})
    result = bnfold.fold(model)
    assert bool(result.report.folded) == (shape == [1, 4, 1])
    for proto in (model, result.model):
        (found,) = bnfold.reference.evaluate(proto, {"x": x})
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)

"""What the evaluator runs: given and wanted tensors, constants, inner graphs, functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bnfold.errors import ModelError
from bnfold.reference import Evaluator, evaluate
from tests.support_reference import text_model as model

Array = npt.NDArray[Any]


CHAIN = """
g (float[N, 2] x) => (float[N, 2] y, float[N, 2] z)
<float[2] c = {1, 2}>
{
    a = Add(x, c)
    b = Mul(a, c)
    y = Relu(b)
    z = Neg(a)
}
"""
X = np.array([[1.0, -3.0]])


def test_names() -> None:
    evaluator = Evaluator(model(CHAIN))
    assert evaluator.input_names == ("x",)
    assert evaluator.output_names == ("y", "z")
    assert evaluator.unknown == ()
    assert [node.op_type for node in evaluator.nodes] == ["Add", "Mul", "Relu", "Neg"]


def test_outputs() -> None:
    found = Evaluator(model(CHAIN)).run({"x": X})
    assert {name: value.tolist() for name, value in found.items()} == {
        "y": [[2.0, 0.0]],
        "z": [[-2.0, 1.0]],
    }
    assert [v.tolist() for v in evaluate(model(CHAIN), {"x": X})] == [[[2.0, 0.0]], [[-2.0, 1.0]]]


def test_inputs_are_not_written_to() -> None:
    x = X.copy()
    Evaluator(model("g (double[1, 2] x) => (double[1, 2] y) { a = Relu(x) y = Exp(a) }")).run(
        {"x": x}
    )
    assert (x == X).all()


def test_any_tensor_can_be_given_and_wanted() -> None:
    evaluator = Evaluator(model(CHAIN))
    assert evaluator.run({"a": X}, ["b"])["b"].tolist() == [[1.0, -6.0]]
    assert evaluator.run({"x": X, "c": np.zeros(2)}, ["a", "c"])["a"].tolist() == X.tolist()
    assert evaluator.run({"y": X}, ["y"])["y"].tolist() == X.tolist()
    assert evaluator.run({}, ["c"])["c"].tolist() == [1.0, 2.0]
    assert list(evaluator.run({"x": X}, ["z", "a", "y"])) == ["z", "a", "y"]


def test_a_given_output_stays_when_its_node_runs_for_another() -> None:
    text = "g (float[4] x) => (float[2] s, float[2] n) { a, b = Split(x) n = Neg(a) s = Add(a, b) }"
    found = Evaluator(model(text, opset=13)).run({"x": np.arange(4.0), "a": np.array([10.0, 20.0])})
    assert found["s"].tolist() == [12.0, 23.0]
    assert found["n"].tolist() == [-10.0, -20.0]


def test_only_what_is_needed_runs() -> None:
    text = "g (float[2] x) => (float[2] y, float[2] z) { y = Neg(x) z = my.own.Op(x) }"
    evaluator = Evaluator(model(text, imports=', "my.own": 1'))
    assert evaluator.unknown == ("my.own::Op",)
    assert evaluator.run({"x": np.ones(2)}, ["y"])["y"].tolist() == [-1.0, -1.0]
    with pytest.raises(ModelError, match=r"my\.own::Op"):
        evaluator.run({"x": np.ones(2)})
    assert evaluator.run({"x": np.ones(2), "z": np.ones(2)})["z"].tolist() == [1.0, 1.0]


def test_errors_name_what_is_missing() -> None:
    evaluator = Evaluator(model(CHAIN))
    with pytest.raises(ModelError, match="input 'x' is needed"):
        evaluator.run({})
    with pytest.raises(ModelError, match="'q' is wanted"):
        evaluator.run({"x": X}, ["q"])
    with pytest.raises(ModelError, match="'q' is given"):
        evaluator.run({"q": X})


def test_errors_name_the_node_and_its_shapes() -> None:
    with pytest.raises(ModelError, match=r"a \(Add\) on shapes \[\(1, 3\), \(2,\)\]: .*broadcast"):
        Evaluator(model(CHAIN)).run({"x": np.zeros((1, 3))})
    text = "g (float[2] x) => (float[2] y) { y = Add(x, q) }"
    with pytest.raises(ModelError, match="y reads 'q', which nothing makes"):
        Evaluator(model(text)).run({"x": np.zeros(2)})


def test_a_cycle_is_refused() -> None:
    with pytest.raises(ModelError, match="cycle"):
        Evaluator(model("g (float[2] x) => (float[2] y) { a = Add(x, y) y = Neg(a) }"))


def test_nodes_may_have_any_order() -> None:
    shuffled = model(CHAIN)
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in shuffled.graph.node]
    del shuffled.graph.node[:]
    shuffled.graph.node.extend(reversed(nodes))
    evaluator = Evaluator(shuffled)
    made = set(evaluator.input_names) | {"c"}
    for node in evaluator.nodes:
        assert set(node.input) <= made
        made |= set(node.output)
    assert evaluator.run({"x": X})["y"].tolist() == [[2.0, 0.0]]


def test_an_initializer_can_be_overridden() -> None:
    text = """g (float[1] x, float[1] c) => (float[1] y) <float[1] c = {2}> { y = Mul(x, c) }"""
    evaluator = Evaluator(model(text))
    assert evaluator.input_names == ("x",)
    assert evaluator.run({"x": np.ones(1)})["y"].tolist() == [2.0]
    assert evaluator.run({"x": np.ones(1), "c": np.full(1, 5.0)})["y"].tolist() == [5.0]


def test_values_are_not_rounded() -> None:
    text = """g (float16[1] x) => (float16[1] y) {
        a = Cast <to = 1> (x)  b = CastLike(a, x)  y = Cast <to = 10> (b)
    }"""
    third = np.array([1 / 3])
    assert Evaluator(model(text)).run({"x": third})["y"].tolist() == [1 / 3]
    narrow = Evaluator(model(text)).run({"x": third.astype(np.float16)})["y"]
    assert narrow.dtype == np.float64
    assert narrow.tolist() == [0.333251953125]


def test_integers_cut_and_float8_rounds() -> None:
    text = """g (float[2] x) => (int32[2] i, float[2] y) {
        i = Cast <to = 6> (x)  f = Cast <to = 17> (x)  y = Cast <to = 1> (f)
    }"""
    found = Evaluator(model(text, opset=19)).run({"x": np.array([2.9, -1.07])})
    assert found["i"].tolist() == [2, -1]
    assert found["y"].tolist() == [3.0, -1.125]


def test_constants_are_read_once_and_only_when_needed() -> None:
    read: list[str] = []

    def reader(proto: onnx.TensorProto) -> Array:
        read.append(proto.name)
        return numpy_helper.to_array(proto)

    evaluator = Evaluator(model(CHAIN), read=reader)
    assert read == []
    evaluator.run({"a": X}, ["z"])
    assert read == []
    evaluator.run({"x": X})
    evaluator.run({"x": X})
    assert read == ["c"]


def test_sparse_initializers_are_dense() -> None:
    made = model("g (float[2, 2] x) => (float[2, 2] y) { y = Add(x, s) }")
    values = numpy_helper.from_array(np.array([5.0], dtype=np.float32), "s")
    places = numpy_helper.from_array(np.array([2], dtype=np.int64), "i")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [2, 2]))
    found = Evaluator(made).run({"x": np.zeros((2, 2))})
    assert found["y"].tolist() == [[0.0, 0.0], [5.0, 0.0]]


def test_the_standard_domain_has_two_names() -> None:
    made = model(CHAIN)
    made.opset_import[0].domain = "ai.onnx"
    made.graph.node[0].domain = "ai.onnx"
    assert Evaluator(made).unknown == ()
    assert Evaluator(made).run({"x": X})["y"].tolist() == [[2.0, 0.0]]


def test_random_operators_are_functions_of_seed_and_name() -> None:
    text = """g () => (float[4] a, float[4] b, float[4] c, bool[4] m)
    <bool yes = {1}, float r = {0.5}> {
        a = RandomNormal <shape = [4]> ()
        b = RandomNormal <shape = [4]> ()
        c, m = Dropout(a, r, yes)
    }"""
    evaluator = Evaluator(model(text))
    one, same, other = evaluator.run({}), evaluator.run({}), evaluator.run({}, seed=1)
    for name, value in one.items():
        assert (value == same[name]).all()
    assert (one["a"] != one["b"]).all()
    assert (one["a"] != other["a"]).all()
    assert (evaluator.run({}, ["a"])["a"] == one["a"]).all()
    assert (one["c"] == np.where(one["m"], one["a"] * 2, 0.0)).all()


def test_overwriting_dead_tensors_changes_nothing() -> None:
    """With every tensor wanted none may be overwritten; with one wanted most may be."""
    text = """g (float[2, 3, 4] x) => (float[2, 3, 4] y)
    <float[3] s = {1, 2, 3}, float[3] v = {3, 2, 1}, float[1] half = {0.5}>
    {
        a = Add(x, half)
        b = BatchNormalization(a, s, v, s, v)
        c = Relu(b)
        d = Mul(half, c)
        e = Sub(a, d)
        f = Reshape(e, shape)
        shape = Constant <value_ints = [2, 3, 4]> ()
        h = Sigmoid(e)
        i = Tanh(f)
        j = Div(h, i)
        k = HardSwish(j)
        l = Clip(k)
        m = Add(l, l)
        n = Exp(m)
        o = Erf(n)
        y = Sub(x, o)
    }"""
    evaluator = Evaluator(model(text))
    names = [name for node in evaluator.nodes for name in node.output]
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    every = evaluator.run({"x": x}, names)
    assert (evaluator.run({"x": x})["y"] == every["y"]).all()
    for name in names:
        assert (evaluator.run({"x": x}, [name])[name] == every[name]).all()


def test_parameters_are_not_overwritten() -> None:
    """A computed gamma or bound that dies has another shape than what is made of it."""
    text = """g (float[1, 4] x) => (float[1, 4] y)
    <float[4] s = {1, 2, 3, 4}, float one = {1.5}>
    {
        g = Add(s, s)
        b = BatchNormalization(x, g, s, s, s)
        low = Mul(one, one)
        y = Clip(b, low)
    }"""
    x = np.full((1, 4), 3.0)
    s = np.arange(1.0, 5.0)
    b = 2 * s * (x - s) / np.sqrt(s + np.float64(np.float32(1e-5))) + s
    np.testing.assert_allclose(Evaluator(model(text)).run({"x": x})["y"], np.maximum(b, 2.25))


def test_no_numpy_warning_escapes() -> None:
    text = "g (float[2] x) => (float[2] y, float[2] z) { y = Log(x) z = Div(y, x) }"
    found = Evaluator(model(text)).run({"x": np.array([0.0, -1.0])})
    assert found["y"][0] == -np.inf
    assert np.isnan(found["y"][1])


def test_a_deep_chain() -> None:
    depth = 20_000
    nodes = [helper.make_node("Neg", [f"t{i}"], [f"t{i + 1}"]) for i in range(depth)]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("t0", TensorProto.FLOAT, [1])],
        [value(f"t{depth}", TensorProto.FLOAT, [1])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    assert Evaluator(made).run({"t0": np.ones(1)})[f"t{depth}"].tolist() == [1.0]

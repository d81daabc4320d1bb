"""The evaluator in loops, branches and functions: what they read, and their constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from bnfold.errors import ModelError
from bnfold.reference import Evaluator
from tests.support_reference import text_model as model

Array = npt.NDArray[Any]

EVERYWHERE = """
g (float[1] x, bool b) => (float[1] y)
<float[1] c = {0.5}, int64[1] n = {3}, float16[1] h = {15872}>
{
    d = Constant <value_float = 2.0> ()
    i = Cast <to = 1> (n)
    k = If (b) <
        then_branch = t () => (float[1] p) { e = Constant <value_floats = [4.0]> () p = Add(c, e) },
        else_branch = f () => (float[1] q) { q = Identity(c) }
    >
    w = Cast <to = 1> (h)
    s = Sum(x, d, i, k, w)
    y = own.add(s)
}
"""
ADD = """
<domain: "own", opset_import: ["": 17]>
add (x) => (y) { o = Constant <value = float[1] {8}> () y = Add(x, o) }
"""


def test_widen_sees_every_float_constant_and_always_the_same_proto() -> None:
    seen: list[tuple[int, list[float]]] = []

    def widen(proto: onnx.TensorProto, stored: Array) -> Array:
        seen.append((id(proto), stored.ravel().astype(float).tolist()))
        return np.asarray(stored, dtype=np.float64) * 2

    evaluator = Evaluator(model(EVERYWHERE, imports=', "own": 1', more=ADD))
    given: dict[str, Array] = {"x": np.zeros(1), "b": np.asarray(True)}
    assert evaluator.run(given)["y"].tolist() == [0.5 + 2 + 4 + 8 + 1.5 + 3]
    found = evaluator.run(given, widen=widen)
    assert found["y"].tolist() == [2 * (0.5 + 2 + 4 + 8 + 1.5) + 3]
    assert sorted(value for _, value in seen) == [[0.5], [1.5], [2.0], [4.0], [8.0]]
    before = sorted(seen)
    seen.clear()
    evaluator.run(given, widen=widen)
    assert sorted(seen) == before
    assert evaluator.run(given)["y"].tolist() == [0.5 + 2 + 4 + 8 + 1.5 + 3]


def test_a_loop_reads_what_is_around_it() -> None:
    text = """
    g (float[1] x, int64 n) => (float[1] y, float[K, 1] all)
    <bool yes = {1}, float[1] step = {2}>
    {
        y, all = Loop (n, yes, x) <
            body = b (int64 i, bool go, float[1] v) => (bool on, float[1] w, float[1] s) {
            on = Identity(go)
            w = Add(v, step)
            s = Identity(w)
        }>
    }
    """
    evaluator = Evaluator(model(text))
    found = evaluator.run({"x": np.zeros(1), "n": np.asarray(3)})
    assert found["y"].tolist() == [6.0]
    assert found["all"].tolist() == [[2.0], [4.0], [6.0]]
    none = evaluator.run({"x": np.zeros(1), "n": np.asarray(0)})
    assert none["y"].tolist() == [0.0]
    assert none["all"].shape == (0, 1)


def test_a_scan_runs_backwards_and_along_an_axis() -> None:
    text = """
    g (float[1] x, float[1, 3] v) => (float[1] y, float[1, 3] all)
    {
        y, all = Scan <num_scan_inputs = 1, scan_input_axes = [1], scan_input_directions = [1],
                       scan_output_axes = [1], scan_output_directions = [1],
                       body = b (float[1] s, float[1] e) => (float[1] t, float[1] o) {
            t = Add(s, e)
            o = Identity(t)
        }> (x, v)
    }
    """
    found = Evaluator(model(text)).run({"x": np.zeros(1), "v": np.array([[1.0, 2.0, 3.0]])})
    assert found["y"].tolist() == [6.0]
    assert found["all"].tolist() == [[6.0, 5.0, 3.0]]


FUNCTIONS = """
<domain: "own", opset_import: ["": 17]>
outer <slope: float = 0.5> (x) => (y) { a = own.inner <alpha: float = @slope> (x) y = Neg(a) }
<domain: "own", opset_import: ["": 17]>
inner <alpha> (x) => (y) { y = LeakyRelu <alpha: float = @alpha> (x) }
"""


@pytest.mark.parametrize(("given", "expected"), [("", 1.0), ("<slope = 0.25>", 0.5)])
def test_attribute_references_go_through_functions(given: str, expected: float) -> None:
    text = f"g (float[1] x) => (float[1] y) {{ y = own.outer {given} (x) }}"
    made = model(text, imports=', "own": 1', more=FUNCTIONS)
    evaluator = Evaluator(made)
    assert evaluator.unknown == ()
    assert evaluator.run({"x": np.array([-2.0])})["y"].tolist() == [expected]


def test_an_unknown_operator_in_a_function_is_found() -> None:
    more = '<domain: "own", opset_import: ["": 17, "x": 1]> f (x) => (y) { y = x.what(x) }'
    made = model("g (float[1] x) => (float[1] y) { y = own.f(x) }", imports=', "own": 1', more=more)
    assert Evaluator(made).unknown == ("x::what",)
    with pytest.raises(ModelError, match="in y: y is a x::what"):
        Evaluator(made).run({"x": np.zeros(1)})

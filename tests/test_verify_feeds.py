"""The data that models are compared on: drawn in range, given by the caller, or refused in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bnfold.checking.feeds import feeds_of, given_feed
from bnfold.checking.options import Options
from bnfold.checking.side import Side
from bnfold.errors import UsageError
from bnfold.onnxgraph.load import load
from tests.support_models import Array, constant, filled, parsed, with_values
from tests.support_verify import chain, copied, folded_of, judged, own_fold, scaled

KINDS = ("normal", "normal x100", "uniform", "sparse", "ramp")


def drawn(model: onnx.ModelProto, **options: Any) -> dict[str, dict[str, Array]]:
    """What the engine would feed a model, by the name of the feed."""
    side = Side(load(model))
    feeds = feeds_of(side, Options(**options), lambda a: side.run(a, side.output_names))
    return {feed.name: feed.arrays for feed in feeds}


def model_of(inputs: str, body: str, *, more: str = "", output: str = "float y") -> onnx.ModelProto:
    model = filled(parsed(f"agraph ({inputs}) => ({output}) <{more}> {{ {body} }}"))
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def test_the_kinds_of_data() -> None:
    feeds = drawn(model_of("float[N,3,8,8] x", "y = Relu (x)"))
    assert tuple(feeds) == KINDS
    data = {name: arrays["x"] for name, arrays in feeds.items()}
    assert all(values.dtype == np.float32 for values in data.values())
    assert all(values.shape == (2, 3, 8, 8) for values in data.values())
    assert 0.8 < data["normal"].std() < 1.2
    assert 80 < data["normal x100"].std() < 120
    assert 0 <= data["uniform"].min() < 0.1 < 0.9 < data["uniform"].max() < 1
    assert 0.8 < (data["sparse"] == 0).mean() < 0.97
    steps = np.diff(data["ramp"], axis=3)
    np.testing.assert_allclose(steps, 2 / 7, rtol=1e-5)


def test_indices_stay_in_range() -> None:
    model = model_of(
        "int64[N,50] x", "z = Cast <to=6> (x)  r = Reshape (z, all)  y = Gather (w, r)",
        more="float[7,4] w, int64[1] all = {-1}",
    )
    (arrays,) = drawn(model).values()
    assert set(np.unique(arrays["x"])) == set(range(7))
    assert judged(model, model).is_same
    wrong = scaled(model, "w", 1.01, at=(6, 1))
    assert not judged(model, wrong).is_same


def test_the_smallest_table_bounds_an_index() -> None:
    model = model_of(
        "int32[64] x",
        "a = Gather (w, x)  b = Gather (z, x)  y = Add (a, b)",
        more="float[9,4] w, float[5,4] z",
    )
    (arrays,) = drawn(model).values()
    assert arrays["x"].dtype == np.int32
    assert arrays["x"].max() == 4


def test_truth_values_and_bytes() -> None:
    model = model_of(
        "bool[N,40] x, uint8[N,40] z, float16[N,40] w",
        "a = Cast <to=1> (x)  b = Cast <to=1> (z)  c = Cast <to=1> (w)  y = Sum (a, b, c)",
    )
    for arrays in drawn(model).values():
        assert arrays["x"].dtype == bool
        assert 0.2 < arrays["x"].mean() < 0.8
        assert arrays["z"].dtype == np.uint8
        assert arrays["z"].max() > 200
        assert arrays["w"].dtype == np.float16


def test_both_branches_are_taken() -> None:
    model = model_of(
        "bool when, float[N,3] x",
        """y = If (when) <
            then_branch = t () => (float[N,3] a) { a = Mul (x, w) },
            else_branch = e () => (float[N,3] b) { b = Mul (x, z) }>""",
        more="float[3] w, float[3] z",
    )
    assert {bool(arrays["when"]) for arrays in drawn(model).values()} == {False, True}
    for name in "wz":
        assert not judged(model, scaled(model, name, 1.01, at=1)).is_same


def test_one_symbol_has_one_size() -> None:
    body = "p = MatMul (x, z)  y = Add (p, w)"
    model = model_of("float[N,K] x, float[K,M] z, float[N,M] w", body)
    for arrays in drawn(model).values():
        (rows, inner), columns = arrays["x"].shape, arrays["z"].shape[1]
        assert arrays["z"].shape == (inner, columns)
        assert arrays["w"].shape == (rows, columns)


def test_sizes_with_which_the_model_runs_are_found() -> None:
    # 16 is too small for the kernel and 32 for the weight of the Gemm.
    body = "c = Conv (x, w)  f = Flatten (c)  y = Gemm (f, v)"
    model = model_of("float[N,1,H,H] x", body, more="float[1,1,17,17] w, float[2304,2] v")
    assert {arrays["x"].shape for arrays in drawn(model).values()} == {(2, 1, 64, 64)}


def test_given_sizes() -> None:
    model = model_of("float[N,3,H,W] x", "y = Relu (x)")
    feeds = drawn(model, dims={"H": 5, "N": 3})
    (shape,) = {arrays["x"].shape for arrays in feeds.values()}
    assert shape[:3] == (3, 3, 5)
    report = judged(model, model, dims={"H": 5, "N": 3, "W": 1})
    assert report.is_same


def test_given_inputs_are_in_every_feed() -> None:
    model = model_of("float[N,3] x, float[N,3] z", "y = Add (x, z)")
    given = np.arange(12, dtype=np.float32).reshape(4, 3)
    feeds = drawn(model, inputs={"z": given})
    assert tuple(feeds) == KINDS
    for arrays in feeds.values():
        np.testing.assert_array_equal(arrays["z"], given)
        assert arrays["x"].shape == (4, 3)  # N is what it is in z


def test_given_feeds_come_first() -> None:
    model = model_of("float[N,3] x, float[N,3] z", "y = Add (x, z)")
    data = [{"x": np.full((5, 3), size, np.float32)} for size in (1, 2)]
    feeds = drawn(model, feeds=data, inputs={"z": np.ones((5, 3), np.float32)})
    assert tuple(feeds) == ("data 1", "data 2", *KINDS)
    assert feeds["data 2"]["x"][0, 0] == 2
    assert feeds["normal"]["x"].shape == (5, 3)
    assert tuple(drawn(model, feeds=[{**data[0], "z": data[0]["x"]}], trials=0)) == ("data",)


def test_given_data_shows_what_drawn_data_does_not() -> None:
    model = model_of(
        "float[N,3] x", "f = Min (x, top)  y = Mul (f, w)", more="float top, float[3] w"
    )
    model = with_values(model, top=1e6)
    folded = with_values(model, top=1e7)
    assert judged(model, folded).is_same
    report = judged(model, folded, feeds={"x": np.full((2, 3), 2e6, np.float32)})
    assert not report.is_same
    assert report.difference is not None
    assert report.difference.feed == "data"
    assert (report.difference.original, report.difference.folded) == (1e6, 2e6)


@pytest.mark.parametrize(
    ("dtype", "kept"), [(np.float64, True), (np.float16, True), (np.int64, False)]
)
def test_floats_are_taken_in_any_size(dtype: Any, kept: bool) -> None:
    model = model_of("float[N,3] x", "y = Relu (x)")
    data = {"x": np.ones((2, 3), dtype)}
    if kept:
        assert given_feed("data", data, Side(load(model)))["x"].dtype == np.float32
    else:
        with pytest.raises(UsageError, match="data: input 'x' is float, not int64"):
            judged(model, model, feeds=data)


def test_whole_numbers_are_taken_where_they_fit() -> None:
    side = Side(load(model_of("int32[N] x", "y = Cast <to=1> (x)")))
    assert given_feed("data", {"x": np.arange(3)}, side)["x"].dtype == np.int32
    with pytest.raises(UsageError, match="data: input 'x' is int32, not int64"):
        given_feed("data", {"x": np.array([1 << 40])}, side)


PLAIN = "float[N,3,H,W] x, float[N,3] z"
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "unknown name": (
        PLAIN,
        {"feeds": {"u": np.ones(3)}},
        r"data: the model has no input 'u' \(it has: x, z\)",
    ),
    "unknown name of an input": (
        PLAIN,
        {"inputs": {"u": np.ones(3)}},
        r"inputs: the model has no input 'u' \(it has: x, z\)",
    ),
    "missing": (
        PLAIN,
        {"feeds": [{}, {"z": np.ones((2, 3))}]},
        "data 1 has no values for input 'x'",
    ),
    "rank": (
        PLAIN,
        {"inputs": {"x": np.ones((2, 3, 4))}},
        r"inputs: input 'x' has shape \[N, 3, H, W\], not \[2, 3, 4\]",
    ),
    "size": (
        PLAIN,
        {"inputs": {"z": np.ones((2, 4))}},
        r"inputs: input 'z' has shape \[N, 3\], not \[2, 4\]",
    ),
    "text for numbers": (
        PLAIN,
        {"inputs": {"z": np.array([["a"] * 3])}},
        "inputs: input 'z' is float, not <U1",
    ),
    "unknown dimension": (
        PLAIN,
        {"dims": {"K": 3}},
        r"no input has a dimension 'K' \(symbolic dimensions: H, N, W\)",
    ),
    "no dimensions": (
        "float[2,3,4,4] x, float[2,3] z",
        {"dims": {"K": 3}},
        r"no input has a dimension 'K' \(symbolic dimensions: none\)",
    ),
    "a size that does not run": (
        PLAIN,
        {"dims": {"H": 2, "W": 2}},
        r"does not run on random inputs.*--dim N=SIZE",
    ),
    "nothing to do": (PLAIN, {"trials": 0}, "no data: at least one trial, or real data"),
    "too large": (
        PLAIN,
        {"dims": {"N": 100_000, "H": 1000}},
        "input 'x' of shape .* is too large to draw",
    ),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_refused_data(name: str) -> None:
    inputs, options, words = REFUSED[name]
    model = model_of(inputs, "y = Conv (x, w)  u = Relu (z)", more="float[1,3,3,3] w")
    with pytest.raises(UsageError, match=words):
        judged(model, model, **options)


def test_what_cannot_be_drawn() -> None:
    model = model_of("string[N] x", "y = Identity (x)", output="string y")
    with pytest.raises(UsageError, match="input 'x' is string, which cannot be drawn"):
        judged(model, model)
    model = model_of("float[N,3] x", "y = Relu (x)")
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(UsageError, match="input 'x' has no shape: give it with --input"):
        judged(model, model)
    sequence = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None)
    model.graph.input[0].CopyFrom(sequence)
    model.graph.node[0].CopyFrom(helper.make_node("ConcatFromSequence", ["x"], ["y"], axis=0))
    with pytest.raises(UsageError, match="input 'x' is no tensor: verify cannot feed it"):
        judged(model, model)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_no_number_in_any_output(value: float) -> None:
    model = model_of("float[N,3] x", "z = Mul (x, zero)  y = Add (z, w)", more="float zero, float w")
    model = with_values(model, zero=0.0, w=value)
    with pytest.raises(UsageError, match="output 'y' of .* is NaN or infinite on every feed"):
        judged(model, model)


def test_one_number_is_enough() -> None:
    model = model_of("float[N,3] x", "y = Sqrt (x)")
    assert judged(model, model).is_same


def numbers(**options: Any) -> tuple[Any, ...]:
    model = chain(2)
    report = judged(model, folded_of(model), **options)
    assert report.is_same
    return report.outputs + report.norms


def test_one_seed_gives_one_report() -> None:
    model = chain(2)
    assert judged(model, folded_of(model)) == judged(copied(model), folded_of(model))
    assert numbers(seed=0) == numbers()
    assert numbers(seed=1) != numbers(seed=0)
    assert judged(model, model, seed=3).seed == 3


def test_more_trials_are_more_feeds() -> None:
    model = chain(2)
    report = judged(model, own_fold(model, 0), trials=2)
    assert report.feeds == tuple(f"{kind}, trial {n}" for n in (1, 2) for kind in KINDS)
    feeds = drawn(model, trials=2)
    assert (feeds["normal, trial 1"]["x"] != feeds["normal, trial 2"]["x"]).all()


def test_values_that_a_caller_may_replace_are_replaced_once() -> None:
    model = model_of("float[N,3] x, float[3] w", "y = Mul (x, w)")
    assert "w" in next(iter(drawn(model).values()))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(3, np.float32), "w"))
    feeds = drawn(model)
    assert tuple(feeds) == (*KINDS, "normal, with overridable initializers replaced")
    assert all("w" not in feeds[kind] for kind in KINDS)
    replaced = feeds["normal, with overridable initializers replaced"]["w"]
    assert (replaced > constant(model, "w")).all()
    given = {"x": np.ones((1, 3), np.float32), "w": np.full(3, 2, np.float32)}
    assert tuple(drawn(model, feeds=[given], trials=0)) == ("data",)
    wrong = scaled(model, "w", 1.5)
    assert judged(model, wrong, feeds=given, trials=0).is_same
    assert not judged(model, wrong, feeds={"x": given["x"]}, trials=0).is_same

"""The data that models are compared on: drawn in range, or given by the caller."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from bnfold.checking.feeds import feeds_of, given_feed
from bnfold.checking.options import Options
from bnfold.checking.side import Side
from bnfold.errors import UsageError
from bnfold.onnxgraph.load import load
from tests.support_models import Array, constant, with_values
from tests.support_verify import (
    chain,
    copied,
    folded_of,
    judged,
    model_of,
    own_fold,
    scaled,
)

KINDS = ("normal", "normal x100", "uniform", "sparse", "ramp")
OTHER = "normal, other sizes"
REPLACED = "normal, with overridable initializers replaced"


def drawn(model: onnx.ModelProto, **options: Any) -> dict[str, dict[str, Array]]:
    """What the engine would feed a model, by the name of the feed."""
    side = Side(load(model))
    feeds = feeds_of(side, Options(**options), lambda a: side.run(a, side.output_names))
    return {feed.name: feed.arrays for feed in feeds}


def test_the_kinds_of_data() -> None:
    feeds = drawn(model_of("float[N,3,8,8] x", "y = Relu (x)"))
    assert tuple(feeds) == (*KINDS, OTHER)
    data = {name: arrays["x"] for name, arrays in feeds.items()}
    assert all(values.dtype == np.float32 for values in data.values())
    assert all(data[kind].shape == (2, 3, 8, 8) for kind in KINDS)
    assert data[OTHER].shape == (3, 3, 8, 8)
    assert 0.8 < data["normal"].std() < 1.2
    assert 80 < data["normal x100"].std() < 120
    assert 0 <= data["uniform"].min() < 0.1 < 0.9 < data["uniform"].max() < 1
    assert 0.8 < (data["sparse"] == 0).mean() < 0.97
    steps = np.diff(data["ramp"], axis=3)
    np.testing.assert_allclose(steps, 2 / 7, rtol=1e-5)


def test_indices_stay_in_range() -> None:
    model = model_of(
        "int64[N,50] x",
        "z = Cast <to=6> (x)  r = Reshape (z, all)  y = Gather (w, r)",
        more="float[7,4] w, int64[1] all = {-1}",
    )
    for arrays in drawn(model).values():
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
    for arrays in drawn(model).values():
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
    feeds = drawn(model)
    assert {feeds[kind]["x"].shape for kind in KINDS} == {(2, 1, 64, 64)}
    assert OTHER not in feeds  # no size but 64 runs


def test_given_sizes() -> None:
    model = model_of("float[N,3,H,W] x", "y = Relu (x)")
    feeds = drawn(model, dims={"H": 5, "N": 3})
    shapes = {arrays["x"].shape for arrays in feeds.values()}
    assert {shape[:3] for shape in shapes} == {(3, 3, 5)}
    assert len({shape[3] for shape in shapes}) == 2
    assert tuple(drawn(model, dims={"H": 5, "N": 3, "W": 4})) == KINDS
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
    trials = [f"{kind}, trial {number}" for number in (1, 2) for kind in KINDS]
    assert report.feeds == (*trials, OTHER)
    feeds = drawn(model, trials=2)
    assert (feeds["normal, trial 1"]["x"] != feeds["normal, trial 2"]["x"]).all()


def test_values_that_a_caller_may_replace_are_replaced_once() -> None:
    model = model_of("float[N,3] x, float[3] w", "y = Mul (x, w)")
    assert "w" in next(iter(drawn(model).values()))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(3, np.float32), "w"))
    feeds = drawn(model)
    assert tuple(feeds) == (*KINDS, OTHER, REPLACED)
    assert all("w" not in feeds[kind] for kind in (*KINDS, OTHER))
    replaced = feeds[REPLACED]["w"]
    assert (replaced > constant(model, "w")).all()
    given = {"x": np.ones((1, 3), np.float32), "w": np.full(3, 2, np.float32)}
    assert tuple(drawn(model, feeds=[given], trials=0)) == ("data",)
    wrong = scaled(model, "w", 1.5)
    assert judged(model, wrong, feeds=given, trials=0).is_same
    assert not judged(model, wrong, feeds={"x": given["x"]}, trials=0).is_same

"""Which inputs a benchmark times, and which it refuses; nothing runs here."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import bnfold
from bnfold.checking.side import Side
from bnfold.errors import UsageError
from bnfold.measuring.feeding import Feeding
from bnfold.measuring.options import read_options
from bnfold.onnxgraph.load import load
from tests.support_models import filled, parsed

IMAGE = "float[N,3,H,W] x"


def model(inputs: str, body: str = "y = Identity (x)") -> onnx.ModelProto:
    found = filled(parsed(f"agraph ({inputs}) => (float y) {{ {body} }}"))
    found.graph.output[0].type.tensor_type.ClearField("shape")
    return found


def feeding(declared: str, **options: Any) -> Feeding:
    return Feeding(Side(load(model(declared))), read_options(**options))


def shapes(found: Feeding, batch: int | None) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in found.arrays(batch).items()}


def test_one_is_the_default() -> None:
    found = feeding("float[N,4] x")
    assert found.batches == (1,)
    assert found.data == "drawn"
    assert shapes(found, 1) == {"x": (1, 4)}
    assert found.settle(lambda arrays: "never asked") == []


@pytest.mark.parametrize("first", ["N", "?"])
def test_batches(first: str) -> None:
    read = model("float[N,4] x, float[N] s")
    if first == "?":
        for value in read.graph.input:
            value.type.tensor_type.shape.dim[0].ClearField("dim_param")
    found = Feeding(Side(load(read)), read_options(batch=[8, 2, 8]))
    assert found.batches == (8, 2)
    assert shapes(found, 8) == {"x": (8, 4), "s": (8,)}
    assert shapes(found, 2) == {"x": (2, 4), "s": (2,)}


def test_other_inputs_keep_their_fixed_first_dimension() -> None:
    found = feeding("float[N,4] x, float[7,2] table", batch=[3])
    assert shapes(found, 3) == {"x": (3, 4), "table": (7, 2)}


def test_a_fixed_batch_is_taken() -> None:
    assert feeding("float[5,4] x").batches == (5,)
    assert feeding("float[5,4] x", batch=[5]).batches == (5,)
    assert shapes(feeding("float[5,4] x"), 5) == {"x": (5, 4)}


def test_no_batch_dimension() -> None:
    found = feeding("float x")
    assert found.batches == (None,)
    assert shapes(found, None) == {"x": ()}


def test_the_same_seed_is_the_same_data() -> None:
    first, second = (feeding("float[N,4] x", seed=3).arrays(2)["x"] for _ in range(2))
    other = feeding("float[N,4] x", seed=4).arrays(2)["x"]
    assert (first == second).all()
    assert (first != other).any()


def test_dims() -> None:
    found = feeding(IMAGE, dims={"H": 6, "W": 7, "N": 2})
    assert found.batches == (2,)
    assert shapes(found, 2) == {"x": (2, 3, 6, 7)}


def test_images_are_as_large_as_images() -> None:
    found = feeding(IMAGE)
    assert found.settle(lambda arrays: "") == [
        "the model leaves 'H', 'W' open: 224 was taken; dims (--dim) gives other sizes"
    ]
    assert shapes(found, 1) == {"x": (1, 3, 224, 224)}


def test_tokens_are_a_sentence() -> None:
    read = model("int64[N,T] x")
    found = Feeding(Side(load(read)), read_options())
    found.settle(lambda arrays: "")
    assert shapes(found, 1) == {"x": (1, 128)}


def test_the_first_size_that_runs_is_taken() -> None:
    found = feeding(IMAGE, dims={"W": 9})
    (note,) = found.settle(lambda a: "" if a["x"].shape == (1, 3, 32, 9) else "too large")
    assert note.startswith("the model leaves 'H' open: 32 was taken")
    assert shapes(found, 1) == {"x": (1, 3, 32, 9)}


def test_no_size_runs() -> None:
    with pytest.raises(UsageError, match=r"any of the sizes .* 'H', 'W'.*: too small; give dims"):
        feeding(IMAGE).settle(lambda arrays: "too small")


def test_real_data() -> None:
    values = np.ones((6, 4), np.float32)
    found = feeding("float[N,4] x", feeds={"x": values})
    assert found.batches == (6,)
    assert found.data == "given"
    assert (found.arrays(6)["x"] == values).all()


def test_one_input_is_given() -> None:
    found = feeding("float[N,4] x, float[N,T] s", inputs={"s": np.zeros((3, 2), np.float32)})
    assert found.batches == (3,)
    assert shapes(found, 3) == {"x": (3, 4), "s": (3, 2)}


ROWS = np.ones((6, 4), np.float32)

REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "another batch than the fixed one": (
        "float[5,4] x",
        {"batch": [5, 2]},
        "batch 5, 2 cannot be timed: input 'x' has a fixed first dimension of 5",
    ),
    "no batch dimension": (
        "float x",
        {"batch": [2]},
        "batch 2 cannot be timed: no input has a batch dimension",
    ),
    "data and batch": (
        "float[N,4] x",
        {"feeds": {"x": ROWS}, "batch": [6]},
        "feeds has a batch size of its own: leave batch out",
    ),
    "dims and batch": (
        "float[N,4] x",
        {"dims": {"N": 3}, "batch": [6]},
        "batch 6 contradicts 'N', which dims or inputs set to 3",
    ),
    "one input and batch": (
        "float[N,4] x, float[N] s",
        {"inputs": {"x": ROWS}, "batch": [2]},
        "batch 2 contradicts 'N', which dims or inputs set to 6",
    ),
    "dims and data": (
        "float[N,4] x",
        {"feeds": {"x": ROWS}, "dims": {"N": 3}},
        "input 'x' has 6 for 'N', which is 3 by dims or another input",
    ),
    "no such dimension": (
        "float[N,4] x",
        {"dims": {"M": 3}},
        "no input has a dimension 'M' (symbolic dimensions: N)",
    ),
    "no such input": (
        "float[N,4] x",
        {"feeds": {"z": ROWS}},
        "feeds: the model has no input 'z' (it has: x)",
    ),
    "data of another shape": (
        "float[N,5] x",
        {"feeds": {"x": ROWS}},
        "feeds: input 'x' has shape [N, 5], not [6, 4]",
    ),
    "an input without data": (
        "float[N,4] x, float[N] s",
        {"feeds": {"x": ROWS}},
        "feeds has no values for input 's'",
    ),
    "an input that cannot be drawn": (
        "float[N,4] x, float s",
        {},
        "input 's' has no shape: give its values",
    ),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_refused(case: str) -> None:
    inputs, options, message = REFUSED[case]
    read = model(inputs)
    if "cannot be drawn" in case:
        read.graph.input[1].type.tensor_type.ClearField("shape")
    with pytest.raises(UsageError) as caught:
        Feeding(Side(load(read)), read_options(**options))
    assert str(caught.value) == message


BAD_OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "a level that is none": (
        {"levels": ["basic", "best"]},
        "there is no level 'best' (levels: disable, basic, extended, all)",
    ),
    "no level": (
        {"levels": []},
        "levels is empty: one of disable, basic, extended, all at least is needed",
    ),
    "one level as a string": (
        {"levels": "basic"},
        "levels is a list of levels, not one string",
    ),
    "no thread": ({"threads": 0}, "threads is 0: it has to be at least 1"),
    "a broken thread": ({"threads": 1.5}, "threads is 1.5: it has to be a whole number"),
    "batch 0": ({"batch": [0]}, "batch is 0: it has to be at least 1"),
    "batch as a number": ({"batch": 4}, "batch is a list of sizes, not 4"),
    "no batch": ({"batch": []}, "batch is an empty list of sizes"),
    "a dimension of 0": ({"dims": {"N": 0}}, "dimension 'N' is 0: it has to be at least 1"),
    "no time": (
        {"duration": 0.0},
        "duration is 0.0: it has to be a number of seconds above 0",
    ),
    "no end": (
        {"duration": float("nan")},
        "duration is nan: it has to be a number of seconds above 0",
    ),
    "a negative seed": ({"seed": -1}, "seed is -1: it has to be at least 0"),
    "two feeds": (
        {"feeds": [{}, {}]},
        "feeds is one dict of arrays, by the names of the inputs",
    ),
}


@pytest.mark.parametrize("case", list(BAD_OPTIONS))
def test_bad_options_are_refused_at_once(case: str) -> None:
    options, message = BAD_OPTIONS[case]
    with pytest.raises(UsageError) as caught:
        bnfold.benchmark("no such file", **options)
    assert str(caught.value) == message


def test_levels_come_in_their_own_order() -> None:
    assert read_options(levels=["all", "disable", "all"]).levels == ("disable", "all")

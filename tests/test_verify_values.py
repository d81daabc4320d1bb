"""Outputs that are more than one tensor, and a model run in other sizes and on both branches."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import bnfold
from bnfold.checking.unlike import joined, why_unlike

SEQUENCE = """<ir_version: 8, opset_import: ["" : 17]>
g (float[2,2,4,4] x) => (seq(float[2,3,4,4]) y, string[2] s)
<float[3,2,1,1] w = {1,2,3,4,5,6}, float[3] sc = {1,2,3}, float[3] b = {0,1,2},
 float[3] me = {1,1,1}, float[3] v = {4,4,4.5}> {
  c = Conv(x, w)
  [bn] z = BatchNormalization(c, sc, b, me, v)
  y = SequenceConstruct(z, z)
  s = Constant<value_strings=["a","b"]>()
}"""


def changed(model: onnx.ModelProto, name: str, factor: float) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        if tensor.name == name:
            values = numpy_helper.to_array(tensor) * np.float32(factor)
            tensor.CopyFrom(numpy_helper.from_array(values, name))
    return copy


def test_sequences_and_strings_are_compared() -> None:
    model = parser.parse_model(SEQUENCE)
    folded = bnfold.fold(model).model
    report = bnfold.verify(model, folded)
    assert report.is_same
    assert [output.name for output in report.outputs] == ["y", "s"]
    weight = next(t.name for t in folded.graph.initializer if len(t.dims) == 4)
    wrong = bnfold.verify(model, changed(folded, weight, 1.0001), runtime=False)
    assert not wrong.is_same
    assert not wrong.outputs[0].is_same
    assert wrong.outputs[1].is_same
    assert wrong.difference is not None
    assert wrong.difference.norm == "bn"


UNLIKE: list[tuple[Any, Any, str]] = [
    (np.zeros(2), np.zeros(3), "shape [3] instead of [2]"),
    (np.zeros(2), np.zeros(2, np.int64), "int64 in one model"),
    ([np.zeros(2)], [np.zeros(2), np.zeros(2)], "2 elements instead of 1"),
    ([np.zeros(2)], [np.zeros(1)], "shape [1] instead of [2]"),
    ({"a": np.zeros(2)}, {"b": np.zeros(2)}, "other keys"),
    (None, np.zeros(2), "ndarray instead of a NoneType"),
    ([np.zeros(2)], [np.ones(2)], ""),
    (None, None, ""),
]


@pytest.mark.parametrize(("original", "folded", "words"), UNLIKE)
def test_what_cannot_be_compared(original: Any, folded: Any, words: str) -> None:
    found = why_unlike(original, folded)
    assert words in found
    assert bool(words) == bool(found)


def test_all_numbers_of_a_value() -> None:
    value = [{2: np.array([3.0]), 1: np.array([1.0, 2.0])}, None, np.array([[4.0]])]
    assert joined(value).tolist() == [1, 2, 3, 4]
    assert joined([]).size == 0


RESHAPED = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N,4] x) => (float[N,4] y) <int64[2] shape = {ROWS, 4}> { y = Reshape(x, shape) }"""


def test_a_batch_that_is_built_in_is_found() -> None:
    """Two rows are what the first feeds have: only other sizes tell the models apart."""
    model = parser.parse_model(RESHAPED.replace("ROWS", "-1"))
    baked = parser.parse_model(RESHAPED.replace("ROWS", "2"))
    report = bnfold.verify(model, baked, runtime=False)
    assert not report.is_same
    assert "normal, other sizes" in report.feeds
    assert bnfold.verify(model, baked, runtime=False, dims={"N": 2}).is_same


BRANCHES = """<ir_version: 8, opset_import: ["" : 17]>
g (float[2,4] x) => (float[2,4] y) <float[4] w = {1,2,3,4}, float[4] big = {9999,0,0,0}> {
  top = ReduceMax<keepdims=0>(x)
  limit = ReduceSum<keepdims=0>(big)
  cond = Greater(top, limit)
  y = If(cond) <
    then_branch = yes () => (float[2,4] a) { a = Mul(x, THEN) },
    else_branch = no () => (float[2,4] b) { b = Add(x, w) }
  >
}"""


def test_the_branch_that_no_data_takes_is_compared() -> None:
    model = parser.parse_model(BRANCHES.replace("THEN", "w"))
    other = parser.parse_model(BRANCHES.replace("THEN", "big"))
    report = bnfold.verify(model, other, runtime=False)
    assert not report.is_same
    assert report.difference is not None
    assert "reversed" in report.difference.feed


def test_a_newer_ir_version_of_the_same_inputs_is_only_noted() -> None:
    """Up to IR version 3 initializers are listed as inputs, which nobody could replace."""
    text = """<ir_version: 3, opset_import: ["" : 9]>
    g (float[2,4] x, float[4] w) => (float[2,4] y) <float[4] w = {1,2,3,4}> { y = Mul(x, w) }"""
    model = parser.parse_model(text)
    newer = parser.parse_model(text.replace("ir_version: 3", "ir_version: 4"))
    report = bnfold.verify(model, newer, runtime=False)
    assert report.is_same
    assert "initializer 'w' can be overridden only in FOLDED" in report.notes
    assert not bnfold.verify(newer, model, runtime=False).is_same


@pytest.mark.parametrize("shape", ["float", "float[3]", "float[2,3]", "float[2,3,1,4]"])
def test_inputs_of_every_rank_are_drawn(shape: str) -> None:
    head = '<ir_version: 8, opset_import: ["" : 17]>'
    model = parser.parse_model(f"{head} g ({shape} x) => ({shape} y) {{ y = Abs(x) }}")
    report = bnfold.verify(model, model)
    assert report.is_same
    assert len(report.feeds) == 5

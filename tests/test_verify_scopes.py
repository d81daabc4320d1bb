"""Norms inside of If, Loop and Scan bodies and of functions: folds of the table, and wrong ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.support_cases import Case
from tests.support_models import graphs
from tests.support_verify import copied, folded_of, judged
from tests.test_cases_fold_scopes import FUNCTIONS, IF, LOOPS

CASES = {
    f"{kind}: {name}": case
    for kind, table in (("if", IF), ("loop", LOOPS), ("function", FUNCTIONS))
    for name, case in table.items()
}
by_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@by_case
def test_a_right_fold(case: Case) -> None:
    model = case.model()
    report = judged(model, folded_of(model))
    assert report.is_same, report.verdict
    # Norms of functions are counted nowhere: they are in no node of the model itself.
    assert report.norms or model.functions
    assert all(norm.is_same for norm in report.norms)


def floats(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """The float tensors of a model, those in functions and nodes among them."""
    for graph in graphs(model.graph):
        yield from (t for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
        for node in graph.node:
            yield from (a.t for a in node.attribute if a.name == "value" and a.t.data_type == 1)
    for function in model.functions:
        for node in function.node:
            yield from (a.t for a in node.attribute if a.name == "value" and a.t.data_type == 1)


@by_case
def test_a_fold_with_an_error_in_any_of_its_parameters(case: Case) -> None:
    model = case.model()
    before = {numpy_helper.to_array(tensor).tobytes() for tensor in floats(model)}
    right = folded_of(model)
    count = len(list(floats(right)))
    tried = 0
    for at in range(count):
        folded = copied(right)
        tensor = list(floats(folded))[at]
        values = numpy_helper.to_array(tensor).copy()
        if values.tobytes() in before or not values.ndim or not values.any():
            continue
        values[values.shape[0] // 2] *= np.float32(1.001)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        report = judged(model, folded)
        assert not report.is_same, tensor.name
        tried += 1
    assert tried >= 1

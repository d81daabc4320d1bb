"""Operators that only onnxruntime knows: it compares the outputs, in a child process."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from bnfold import verify as deployed
from bnfold.errors import UsageError
from tests.support_models import filled, parsed
from tests.support_verify import chain, copied, custom, folded_of, own_fold, scaled


def fused(*, wrong: float = 1.0, domain: str = "com.microsoft") -> onnx.ModelProto:
    """A Conv and an activation in one node that only onnxruntime knows."""
    text = "agraph (float[N,4,5,5] x) => (float[N,4,5,5] y) <float[4,4,3,3] w> { z = Relu (x) }"
    model = custom(filled(parsed(text)), domain)
    node = helper.make_node(
        "FusedConv", ["z", "w"], ["y"], domain=domain, activation="Relu", pads=[1, 1, 1, 1]
    )
    model.graph.node.append(node)
    return scaled(model, "w", wrong, at=1)


def with_norm(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` behind ``chain(1)``: its first layer has a norm."""
    whole = chain(1)
    whole.opset_import.extend(o for o in model.opset_import if o.domain)
    for node in model.graph.node:
        copy = whole.graph.node.add()
        copy.CopyFrom(node)
        copy.input[0] = {"x": "y", "z": "z"}[copy.input[0]]
        copy.output[0] = {"z": "z", "y": "out"}[copy.output[0]]
    whole.graph.initializer.extend(model.graph.initializer)
    whole.graph.output[0].name = "out"
    return whole


def test_operators_that_only_the_runtime_knows() -> None:
    model = with_norm(fused())
    report = deployed(model, folded_of(model))
    assert report.is_same, report.verdict
    assert report.method == "onnxruntime"
    (note,) = report.notes
    assert "the float64 evaluator does not know com.microsoft::FusedConv" in note
    assert (report.norms, report.runtime) == ((), None)
    (output,) = report.outputs
    assert (output.name, output.dtype, output.is_same) == ("out", "float32", True)
    assert output.max_abs > 0


def test_a_right_fold_is_also_accepted_with_the_fused_operator_left_alone() -> None:
    model = fused()
    assert deployed(model, copied(model)).verdict == "same function: no difference at all"


@pytest.mark.parametrize("wrong", [1.001, np.array([1, 1.01, 1, 1]).reshape(4, 1, 1), -1.0])
def test_a_wrong_weight_of_such_an_operator(wrong: Any) -> None:
    report = deployed(fused(), fused(wrong=wrong))
    assert not report.is_same
    assert report.method == "onnxruntime"
    assert report.difference is not None
    assert (report.difference.tensor, report.difference.channel) == ("y", 1)


def test_a_wrong_fold_before_such_an_operator() -> None:
    model = with_norm(fused())
    wrong = own_fold(model, 0, wrong=np.array([1, 1, 1.01, 1]))
    assert not deployed(model, wrong).is_same


def test_such_an_operator_with_the_runtime_left_out() -> None:
    with pytest.raises(
        UsageError, match=r"only onnxruntime could evaluate com\.microsoft::FusedConv"
    ):
        deployed(fused(), fused(), runtime=False)


def test_an_operator_that_nobody_knows() -> None:
    model = fused(domain="com.nobody")
    with pytest.raises(UsageError, match=r"onnxruntime cannot load it.*com\.nobody"):
        deployed(model, model)


def test_an_operator_that_nobody_knows_in_folded_only() -> None:
    text = "agraph (float[N,4,5,5] x) => (float[N,4,5,5] y) <float[4,4,3,3] w>"
    text += " { z = Relu (x)  c = Conv <pads=[1,1,1,1]> (z, w)  y = Relu (c) }"
    model = filled(parsed(text))
    assert deployed(model, fused()).is_same
    report = deployed(model, fused(domain="com.nobody"))
    assert not report.is_same
    assert "ORIGINAL runs, but of FOLDED onnxruntime cannot load it" in report.verdict

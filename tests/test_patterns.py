"""Every pattern that can be folded exactly is, and stays the same function."""

from __future__ import annotations

import onnx
import pytest

import bnfold
from tests.support_models import op_types
from tests.support_patterns_models import ALL_PATTERNS

SIZES = {"N": 2, "M": 14, "H": 8, "W": 6}


@pytest.mark.parametrize("name", ALL_PATTERNS)
def test_every_norm_goes(name: str) -> None:
    pattern = ALL_PATTERNS[name]
    model = pattern.model()
    onnx.checker.check_model(model)
    result = bnfold.fold(model)
    assert op_types(result.model) == pattern.left.split(), result.report.kept
    assert not result.report.kept
    onnx.checker.check_model(result.model)
    again = bnfold.fold(result.model)
    assert not again.report.folded
    assert again.model.SerializeToString() == result.model.SerializeToString()
    used = {d.dim_param for value in model.graph.input for d in value.type.tensor_type.shape.dim}
    dims = {name: size for name, size in SIZES.items() if name in used}
    assert result.verify(runtime=False, dims=dims).is_same


@pytest.mark.parametrize("name", ALL_PATTERNS)
def test_the_order_of_the_file_does_not_count(name: str) -> None:
    model = ALL_PATTERNS[name].model()
    reversed_model = onnx.ModelProto()
    reversed_model.CopyFrom(model)
    del reversed_model.graph.node[:]
    reversed_model.graph.node.extend(reversed(model.graph.node))
    one, other = (bnfold.fold(m).report for m in (model, reversed_model))
    assert {(n.norm, n.into) for n in one.folded} == {(n.norm, n.into) for n in other.folded}
    assert not other.kept

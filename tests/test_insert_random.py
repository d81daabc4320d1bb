"""Random graphs of all operators get norms, and stay valid and the same function."""

from __future__ import annotations

from collections import Counter

import onnx
import pytest

import bnfold
from bnfold.statistics.inserted import Where
from tests.fuzz.generate import drawn
from tests.fuzz.outputs import differences
from tests.support_insert import with_norms

RUNS: tuple[tuple[Where, bool], ...] = (
    ("before-activation", False),
    ("before-activation", True),
    ("after-activation", False),
)


def is_valid(model: onnx.ModelProto) -> bool:
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        return False
    return True


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_random_graphs_stay_the_same_function(first: int) -> None:
    norms = 0
    for seed in range(first, first + 50):
        graph = drawn(seed)
        for where, remove_bias in RUNS:
            if graph.model.opset_import[0].version < 7:
                with pytest.raises(bnfold.ModelError, match="inserted from opset 7 on"):
                    with_norms(graph.model, where)
                continue
            result = with_norms(graph.model, where, remove_bias=remove_bias, seed=seed)
            norms += len(result.report.norms)
            made, told = result.model, f"seed {seed}, {where}, {remove_bias}"
            assert is_valid(made) or not is_valid(graph.model), told
            assert list(made.graph.output) == list(graph.model.graph.output), told
            counts: Counter[str] = Counter()
            found = list(differences(graph, made, counts, flushes=False, in_onnx=False))
            assert not found, told
    assert norms > 10

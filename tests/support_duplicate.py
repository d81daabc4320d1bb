"""Fold a model with --duplicate, and check all that has to be true of it."""

from __future__ import annotations

from typing import Any

import onnx

import bnfold
from tests.support_branches import norm, require_close
from tests.support_models import feeds_for, filled, op_types, parsed

BN = "BatchNormalization"
N, N1, N2 = norm(""), norm("1"), norm("2")
EQUAL = "(c, g, b, m, v)"
DIFFERENT = "(c, g1, b1, m1, v1)"
DEPTHWISE = "c = Conv <pads=[1,1,1,1], group=4> (x, w)"
W = "float[4,1,3,3] w"


def shared(body: str, declared: str, outputs: str = "y, z", x: str = "float[2,4,6,5] x") -> str:
    """A graph that makes some outputs of x."""
    dims = ",".join("abcde"[: x.count(",") + 1])
    listed = ", ".join(f"float[{dims}] {name.strip()}" for name in outputs.split(","))
    return f"agraph ({x}) => ({listed}) <{declared}> {{ {body} }}"


def fold(model: onnx.ModelProto, **options: Any) -> bnfold.FoldResult:
    """The result of --duplicate; ``model`` is not changed, and a second fold changes nothing."""
    before = model.SerializeToString()
    result = bnfold.fold(model, duplicate=True, **options)
    assert model.SerializeToString() == before
    folded = result.model
    assert list(folded.graph.output) == list(model.graph.output)
    report = result.report
    assert report.nodes_before == len(op_types(model))
    assert report.nodes_after == len(op_types(folded))
    assert report.batch_norms_after == op_types(folded).count(BN)
    assert report.bytes_after == len(folded.SerializeToString())
    again = bnfold.fold(folded, duplicate=True, **options)
    assert again.model.SerializeToString() == folded.SerializeToString()
    assert not again.report.copied
    return result


def check_copies(
    text: str, left: str, copied: dict[str, str], *, seed: int = 0, **options: Any
) -> bnfold.FoldResult:
    """Fold the model of a text: the operators that are left, the copies, and what it computes.

    Args:
        copied: copy -> operator.
    """
    model = filled(parsed(text, **options), seed)
    onnx.checker.check_model(model, full_check=True)
    result = fold(model)
    onnx.checker.check_model(result.model, full_check=True)
    assert " ".join(op_types(result.model)) == left, result.report.kept
    assert {c.copy: c.operator for c in result.report.copied} == copied
    into = {norm.into for norm in result.report.folded}
    assert set(copied) <= into
    for norm_folded in result.report.folded:
        operator = copied.get(norm_folded.into)
        note = f"{operator} is copied: {norm_folded.into}"
        assert (note in norm_folded.notes) == (operator is not None)
    require_close(model, result.model, feeds_for(model, seed), options.get("dtype", "float"))
    assert result.verify(runtime=False).is_same
    return result

"""Merge the branches of a model, and check all that has to be true of it."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx

from bnfold import reference
from bnfold.checking.merged import check_merged
from bnfold.folding.branches.merge import Merged, merge_branches
from bnfold.folding.find import Selection
from bnfold.onnxgraph import deliver
from bnfold.onnxgraph.load import load
from bnfold.onnxgraph.rewrite import Rewrite
from tests import support_float64
from tests.support_models import DTYPES, Feeds, feeds_for, filled, op_types, parsed


def norm(suffix: str, channels: int = 4) -> str:
    """Declarations of the parameters of a norm."""
    return ", ".join(f"float[{channels}] {name}{suffix}" for name in "gbmv")


def bn(made: str, data: str, suffix: str) -> str:
    """A BatchNormalization of the parameters that ``norm`` declares."""
    return f"{made} = BatchNormalization ({data}, g{suffix}, b{suffix}, m{suffix}, v{suffix})"


def branches(body: str, declared: str, x: str = "float[2,4,7,6] x") -> str:
    """A graph in which ``body`` makes s of x, and a Relu reads it."""
    rank = x.count(",") + 1
    dims = ",".join("abcde"[:rank])
    return f"agraph ({x}) => (float[{dims}] y) <{declared}> {{ {body}  y = Relu (s) }}"


def merged_of(model: onnx.ModelProto, **options: Any) -> tuple[Merged, onnx.ModelProto]:
    """The model with its branches merged, checked by itself; ``model`` is not changed."""
    before = model.SerializeToString()
    selection = options.pop("selection", Selection())
    merged = merge_branches(load(model), selection, **options)
    assert model.SerializeToString() == before
    checked = check_merged(merged)
    assert checked.regions == len(merged.merges)
    assert checked.max_ulp <= 0.5 * (1 + 1e-6)
    return merged, deliver.parsed(merged.document, Rewrite())


def check_merge(
    text: str, left: str, *, seed: int = 0, full_check: bool = True, **options: Any
) -> Merged:
    """Merge the model of a text; the operators that are left, and the values before and after."""
    model = filled(parsed(text, **options), seed)
    merged, after = merged_of(model)
    if full_check:
        onnx.checker.check_model(model, full_check=True)
        onnx.checker.check_model(after, full_check=True)
    assert " ".join(op_types(after)) == left, merged.unmerged
    again, _ = merged_of(after)
    assert not again.merges
    assert again.document.source.view == load(after).source.view
    require_close(model, after, feeds_for(model, seed), options.get("dtype", "float"))
    return merged


def require_close(
    before: onnx.ModelProto, after: onnx.ModelProto, feeds: Feeds, dtype: str = "float"
) -> None:
    """Require equal values but for one rounding, by the project's evaluator and by onnx's."""
    bound = 8 * float(ml_dtypes.finfo(DTYPES[dtype]).eps)  # type: ignore[no-untyped-call]
    for evaluate in (reference.evaluate, support_float64.evaluate):
        pairs = zip(evaluate(before, feeds), evaluate(after, feeds), strict=True)
        for old, new in pairs:
            assert old.shape == new.shape
            assert np.isfinite(old).all()
            off = float(np.abs(old - new).max(initial=0.0))
            assert off <= bound * float(np.abs(old).max(initial=1.0)), (evaluate, off)

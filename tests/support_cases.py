"""A row of a table of models that fold, and everything that has to be true of its fold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import ml_dtypes
import onnx

import bnfold
from tests.support_float64 import differences
from tests.support_models import DTYPES, feeds_for, filled, op_types, parsed


@dataclass(frozen=True)
class Case:
    """A model whose norms all fold.

    Attributes:
        text: the graph, in ONNX text; tensors that it declares and nothing makes get random values.
        left: the operators afterwards, graph by graph.
        folds: how many norms the report lists as folded.
        dtype: what ``float`` means in the text.
        stored: the dtype in which the folded layer is stored; as ``dtype`` if left out.
        roundings: folded layers that an output goes through.
        check: what onnx's checker can do with the original: ``full`` (with shape inference),
            ``plain`` or ``none``.
        kept: the codes of chains of arithmetic that stay.
        imports: further operator sets.
        inlined: the functions that are inlined.
        change: what is done to the model that the text describes.
    """

    text: str
    left: str
    folds: int = 1
    opset: int = 17
    ir: int = 8
    dtype: str = "float"
    stored: str = ""
    roundings: int = 1
    check: str = "full"
    kept: tuple[str, ...] = ()
    imports: str = ""
    inlined: tuple[str, ...] = ()
    change: Callable[[onnx.ModelProto], onnx.ModelProto] | None = None

    def model(self, seed: int = 0) -> onnx.ModelProto:
        """The model, with random parameters."""
        text = parsed(
            self.text, opset=self.opset, ir=self.ir, dtype=self.dtype, imports=self.imports
        )
        model = filled(text, seed)
        return self.change(model) if self.change else model


def check_fold(case: Case, draws: int = 2) -> None:
    """Fold the models of a row, and check all that the table promises."""
    for seed in range(draws):
        model = case.model(seed)
        _check_model(case, model)
        before = model.SerializeToString()
        result = bnfold.fold(model)
        folded = result.model
        assert model.SerializeToString() == before
        check_outcome(case, result)
        check_frame(model, folded)
        _check_model(case, folded)
        data = folded.SerializeToString()
        assert bnfold.fold(before).model.SerializeToString() == data
        assert bnfold.fold(folded).model.SerializeToString() == data
        epsilon = float(ml_dtypes.finfo(DTYPES[case.stored or case.dtype]).eps)  # type: ignore[no-untyped-call]
        feeds = feeds_for(model, seed)
        for ratio, bound in differences(
            model, folded, feeds, epsilon=epsilon, roundings=case.roundings
        ):
            assert ratio <= 1, f"{ratio} times the bound {bound}"


def check_outcome(case: Case, result: bnfold.FoldResult) -> None:
    """Check the operators that are left, and what the report says."""
    report = result.report
    assert " ".join(op_types(result.model)) == case.left
    assert tuple(norm.code for norm in report.kept) == case.kept
    assert len(report.folded) == case.folds
    assert report.batch_norms_after == 0
    assert report.nodes_after == len(case.left.split())
    assert report.flushed == 0
    assert report.inlined == case.inlined
    assert report.bytes_after == len(result.model.SerializeToString())


def check_frame(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """Check that inputs, outputs and imports of a model are what they were."""
    assert list(after.graph.output) == list(before.graph.output)
    constant = {tensor.name for tensor in before.graph.initializer}
    assert [v for v in after.graph.input if v.name not in constant] == [
        v for v in before.graph.input if v.name not in constant
    ]
    assert [v for v in after.graph.input if v.name in constant] == [
        v for v in before.graph.input if v.name in constant and _is_left(after, v.name)
    ]
    assert after.ir_version == before.ir_version
    standard = [o.version for o in after.opset_import if o.domain == ""]
    assert standard == [o.version for o in before.opset_import if o.domain == ""]


def _is_left(model: onnx.ModelProto, name: str) -> bool:
    return any(tensor.name == name for tensor in model.graph.initializer)


def _check_model(case: Case, model: onnx.ModelProto) -> None:
    if case.check != "none":
        onnx.checker.check_model(model, full_check=case.check == "full")

"""A fold into a quantised weight that is wrong on purpose does not pass its own check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper

import bnfold
from bnfold.algebra.affine import Float64Array
from bnfold.folding import rescale
from bnfold.folding.rules.quantised import Dequantised, Rescaled, rescaled
from tests.support_quantised import Quantised
from tests.test_quantised import AHEAD, GEMM_ROWS, INT4, INT32, UINT4

ROWS = {
    "one scale": Quantised(),
    "by channel": Quantised(axis=0),
    "blocks": replace(GEMM_ROWS, axis=1, block=4, code=UINT4, opset=21),
    "int4": Quantised(code=INT4, w=(5, 3, 3, 3), channels=5, opset=21),
    "bias": Quantised(bias=INT32, has_shift=False),
    "ahead": AHEAD["conv of one scale"],
    "rounded in the graph": Quantised(rounds=True),
}
SQUARE = Quantised(w=(3, 3, 3, 3), channels=3)
Sabotage = Callable[[Rescaled], Rescaled]


def one_off(found: Rescaled) -> Rescaled:
    """One scale off by four units in the last place of float32."""
    scale = np.array(found.scale)
    scale.reshape(-1)[-1] *= 1 + 2.0**-21
    return replace(found, scale=scale)


def forgotten(found: Rescaled) -> Rescaled:
    return replace(found, scale=found.before)


def turned(found: Rescaled) -> Rescaled:
    return replace(found, scale=found.scale[::-1])


def other_axis(found: Rescaled) -> Rescaled:
    return replace(found, axis=1)


def break_it(monkeypatch: pytest.MonkeyPatch, sabotage: Sabotage) -> None:
    def broken(constant: Dequantised, factor: Float64Array) -> Rescaled | str:
        found = rescaled(constant, factor)
        return found if isinstance(found, str) else sabotage(found)

    monkeypatch.setattr(rescale, "rescaled", broken)


@pytest.mark.parametrize("sabotage", [one_off, forgotten, turned])
@pytest.mark.parametrize("name", ROWS)
def test_a_wrong_scale_is_found(
    name: str, sabotage: Sabotage, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ROWS[name].model()
    assert bnfold.fold(model).report.checked is not None
    break_it(monkeypatch, sabotage)
    with pytest.raises(bnfold.VerificationError, match="op failed its check"):
        bnfold.fold(model)


def test_a_wrong_axis_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    break_it(monkeypatch, other_axis)
    with pytest.raises(bnfold.VerificationError, match="op failed its check"):
        bnfold.fold(SQUARE.model())


@pytest.mark.parametrize("row", [Quantised(), ROWS["int4"]], ids=["int8", "int4"])
def test_a_wrong_zero_point_is_found(row: Quantised, monkeypatch: pytest.MonkeyPatch) -> None:
    store = rescale._Rescaling._store

    def broken(self: object, *given: object, **options: object) -> str:
        constant, old, values = given[:3]
        assert isinstance(constant, Dequantised)
        if old is constant.zero:
            assert isinstance(values, np.ndarray)
            values = (values.astype(np.int8) + 1).astype(values.dtype)
        return store(self, constant, old, values, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(rescale._Rescaling, "_store", broken)
    with pytest.raises(bnfold.VerificationError, match="op failed its check"):
        bnfold.fold(row.model())


def test_an_axis_that_is_not_written_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    written = rescale._Rescaling._written

    def broken(self: object, *given: object, **options: object) -> onnx.NodeProto:
        proto = written(self, *given, **options)  # type: ignore[arg-type]
        del proto.attribute[:]
        proto.attribute.append(helper.make_attribute("axis", 1))
        return proto

    monkeypatch.setattr(rescale._Rescaling, "_written", broken)
    with pytest.raises(bnfold.VerificationError, match="op failed its check"):
        bnfold.fold(SQUARE.model())

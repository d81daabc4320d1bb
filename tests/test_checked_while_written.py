"""``fold(..., verify="when-saved")``: large weights are compared while they are written."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bnfold
from benchmarks.fold_speed_files import Chain
from bnfold.checking import large as large_weights
from bnfold.folding.store import StoredWeight
from bnfold.onnxgraph.rewrite import NewTensor
from tests.support_models import Array
from tests.support_regions import run

LAYERS = 3
SIZES = {"one written after the other": 640, "two written side by side": 1024}


@pytest.fixture(scope="module", params=SIZES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conv, BatchNormalization and Relu three times; weights below and of 4 MiB."""
    path = tmp_path_factory.mktemp("large") / "in.onnx"
    Chain(LAYERS, SIZES[request.param], 1).write(path)
    return path


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """For each large weight that is compared, what writes it."""
    found: list[Any] = []
    right: Any = large_weights.largest_difference  # type: ignore[attr-defined]

    def noted(region: Any, put: Any = None) -> float:
        found.append(put)
        return float(right(region, put))

    monkeypatch.setattr(large_weights, "largest_difference", noted)
    return found


@pytest.mark.parametrize("form", ["keep", "external"])
def test_each_weight_is_compared_once_while_it_is_written(
    form: Any, model: Path, compared: list[Any], tmp_path: Path
) -> None:
    before = bnfold.fold(model)
    before.save(tmp_path / "before.onnx", form=form)
    assert compared == [None] * LAYERS
    compared.clear()
    result = bnfold.fold(model, verify="when-saved")
    assert compared == []
    result.save(tmp_path / "while.onnx", form=form)
    assert len(compared) == LAYERS
    assert None not in compared
    assert result.report.checked == before.report.checked
    one, other = (onnx.load(tmp_path / f"{name}.onnx") for name in ("before", "while"))
    assert one == other
    result.save(tmp_path / "again.onnx", form=form)
    assert len(compared) == LAYERS
    assert onnx.load(tmp_path / "again.onnx") == one


ASKED: dict[str, Callable[[bnfold.FoldResult], object]] = {
    "model": lambda result: result.model,
    "report": lambda result: result.report,
    "write": lambda result: result.write(io.BytesIO()),
    "verify": lambda result: result.verify(runtime=False),
}


@pytest.mark.parametrize("name", sorted(ASKED.keys() - {"verify"}))
def test_whatever_else_is_asked_they_are_compared_first(
    name: str, model: Path, compared: list[Any]
) -> None:
    result = bnfold.fold(model, verify="when-saved")
    ASKED[name](result)
    assert compared == [None] * LAYERS
    assert result.report.checked == bnfold.fold(model).report.checked


def make_wrong(patch: pytest.MonkeyPatch, change: Callable[[Array], Array]) -> None:
    """Change the last chunk of the second weight."""
    right = StoredWeight.chunks

    def wrong(self: StoredWeight) -> Iterator[memoryview]:
        *chunks, last = right(self)
        yield from chunks
        values = np.frombuffer(last, np.float32).copy()
        if self._linear.node.label == "conv1":
            values = change(values)
        yield values.view(np.uint8).data

    patch.setattr(StoredWeight, "chunks", wrong)


def off_by_one(values: Array) -> Array:
    values[-1] = np.nextafter(values[-1], np.float32(np.inf))
    return values


WRONG: dict[str, Callable[[Array], Array]] = {
    "one number": off_by_one,
    "too little": lambda values: values[:-1],
    "too much": lambda values: np.append(values, values[:1]),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("form", ["keep", "external"])
def test_a_wrong_weight_gets_no_name(
    form: Any, what: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wrong(monkeypatch, WRONG[what])
    target = tmp_path / "out.onnx"
    target.write_bytes(b"as it was")
    result = bnfold.fold(model, verify="when-saved")
    for _ in range(2):
        with pytest.raises(bnfold.VerificationError, match="the fold of bn1 into conv1 failed"):
            result.save(target, form=form)
        assert target.read_bytes() == b"as it was"
        assert list(tmp_path.iterdir()) == [target]
    for name in ASKED:
        with pytest.raises(bnfold.VerificationError, match="the fold of bn1 into conv1 failed"):
            ASKED[name](result)


def test_the_command_compares_while_it_writes(
    model: Path, compared: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.onnx"
    assert run("fold", model, "-o", target, "-q") == 0
    assert len(compared) == LAYERS
    assert None not in compared
    whole = target.read_bytes()
    make_wrong(monkeypatch, off_by_one)
    assert run("fold", model, "-o", target, "-q") == 3
    assert target.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [target]


def test_a_weight_that_no_file_takes_is_compared_before_the_name_is_given(
    model: Path, compared: list[Any], tmp_path: Path
) -> None:
    """Whatever writes a weight without handing it on, the check is whole."""
    result = bnfold.fold(model, verify="when-saved")
    for tensor in result.rewrite.tensors:
        assert isinstance(tensor, NewTensor)
        tensor.data[:] = [
            b"".join(piece.chunks()) if hasattr(piece, "chunks") else piece for piece in tensor.data
        ]
    result.save(tmp_path / "out.onnx")
    assert compared == [None] * LAYERS


def test_other_texts_are_refused(model: Path) -> None:
    with pytest.raises(bnfold.UsageError, match="verify is True, False or 'when-saved', not 'no'"):
        bnfold.fold(model, verify="no")  # type: ignore[arg-type]

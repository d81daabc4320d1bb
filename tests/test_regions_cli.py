"""The check of a fold in the commands: options, batches, status 3."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from bnfold.checking import regions
from bnfold.cli.batch import over_all
from bnfold.cli.inputs import Input, inputs
from bnfold.errors import ModelError, VerificationError
from bnfold.folding import biases
from tests.support_cases import Case
from tests.support_regions import run
from tests.support_sabotage import bias_off
from tests.test_cases_fold import SMALL
from tests.test_cases_fold_gemm import gemm

GEMM = gemm("beta=2.0", "[4]")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two models in one folder; the names say which operator they have."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for name, text in (("conv", SMALL), ("deep/gemm", GEMM)):
        model = Case(text, "").model()
        (tmp_path / "in" / f"{name}.onnx").write_bytes(model.SerializeToString())
    return tmp_path


@pytest.fixture
def broken_gemm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave Gemm's beta as it is, so that it is applied to a bias that has it already."""
    monkeypatch.setattr(biases, "_set_beta_to_one", lambda proto: None)


def norms_in(path: Path) -> int:
    return sum(node.op_type == "BatchNormalization" for node in onnx.load(path).graph.node)


@pytest.mark.usefixtures("broken_gemm")
def test_a_failed_check_stops_no_other_model(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = folder / "in", folder / "out"
    assert run("fold", source, "--output-dir", target, "--json") == 3
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert [model["model"] for model in report["models"]] == [str(source / "conv.onnx")]
    (error,) = report["errors"]
    assert error["model"] == str(source / "deep" / "gemm.onnx")
    assert "failed its check" in error["message"]
    assert error["message"] in err
    assert sorted(path.name for path in target.iterdir()) == ["conv.onnx"]


@pytest.mark.usefixtures("broken_gemm")
def test_in_place_the_model_stays(folder: Path) -> None:
    broken, right = folder / "in" / "deep" / "gemm.onnx", folder / "in" / "conv.onnx"
    before = broken.read_bytes()
    assert run("fold", broken, right, "--in-place", "-q") == 3
    assert broken.read_bytes() == before
    assert norms_in(right) == 0


@pytest.mark.usefixtures("broken_gemm")
def test_nothing_goes_to_a_stream(folder: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run("fold", folder / "in" / "deep" / "gemm.onnx", "-o", "-") == 3
    assert capfdbinary.readouterr().out == b""


@pytest.mark.usefixtures("broken_gemm")
def test_status_3_is_above_status_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "in" / "bad.onnx").write_bytes(b"no model")
    assert run("fold", folder / "in", "--output-dir", folder / "out") == 3
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.usefixtures("broken_gemm")
def test_explain_and_check_write_nothing_and_check_no_numbers(folder: Path) -> None:
    assert run("explain", folder / "in") == 0
    assert run("check", folder / "in") == 1


def fail(entry: Input) -> str:
    """A task for worker processes: one model cannot be read, one is a bug, others are done."""
    if "gemm" in entry.name:
        raise VerificationError("wrong")
    if "bad" in entry.name:
        raise ModelError("bad")
    return entry.name


@pytest.mark.parametrize("jobs", [1, 2])
def test_status_3_comes_out_of_worker_processes(folder: Path, jobs: int) -> None:
    (folder / "in" / "bad.onnx").write_bytes(b"no model")
    results, errors = over_all(inputs([str(folder / "in")]), fail, jobs=jobs)
    assert len(results) == 1
    assert sorted(errors.values()) == ["bad", "wrong"]
    assert errors.status == 3


def test_without_the_check(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bias_off(lambda bias: bias + 1)(monkeypatch)
    report = folder / "report.json"
    source, target = folder / "in" / "conv.onnx", folder / "out.onnx"
    options = ["-o", target, "--no-verify", "-q", "--save-report", report]
    assert run("fold", source, *options) == 0
    assert json.loads(report.read_text())["models"][0]["checked"] is None
    assert norms_in(target) == 0


def test_the_whole_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = folder / "out"
    assert run("fold", folder / "in", "--output-dir", target, "--verify-model") == 0
    assert "checked    1 fold in float64" in capsys.readouterr().out
    assert norms_in(target / "conv.onnx") == 0


def test_the_whole_model_is_wrong(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the check of single folds does not see: it is taken out here."""
    monkeypatch.setattr(regions, "largest_difference", lambda region: 0.0)
    bias_off(lambda bias: bias + 1)(monkeypatch)
    source, target = folder / "in" / "conv.onnx", folder / "out.onnx"
    assert run("fold", source, "-o", target, "--verify-model") == 3
    assert not target.exists()
    assert run("fold", source, "-o", target) == 0


def test_options_that_contradict_each_other(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = folder / "in" / "conv.onnx"
    for other in ("--no-verify", "--assume-inference"):
        assert run("fold", source, "-o", folder / "o.onnx", "--verify-model", other) == 2
        assert other in capsys.readouterr().err
    assert not (folder / "o.onnx").exists()

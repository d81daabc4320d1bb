"""``bnfold.benchmark`` with onnxruntime; times are only asked to be times."""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bnfold
from bnfold.checking import runtime
from bnfold.errors import FileError, ModelError, UsageError
from bnfold.measuring import benchmark as engine
from bnfold.measuring.outcome import BenchReport, Ratio, Spread
from tests.support_bench import benched, children
from tests.support_models import constant, filled, parsed, with_values
from tests.support_verify import chain, copied, folded_of, own_fold


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files: whatever happens, none is left, and no process either."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    before = children()
    yield place
    assert list(place.iterdir()) == []
    assert children() <= before


def check_times(spread: Spread) -> None:
    assert 0 < spread.low <= spread.median <= spread.high < 60
    assert spread.count >= 6


def check_ratio(ratio: Ratio, original: Spread, folded: Spread) -> None:
    assert 0 < ratio.low <= ratio.value <= ratio.high < math.inf
    assert ratio.value == pytest.approx(original.median / folded.median, rel=1e-9)


@pytest.fixture(scope="module")
def full() -> BenchReport:
    return bnfold.benchmark(
        chain(2),
        levels=["basic", "disable"],
        batch=[3, 1],
        duration=0.02,
        profile=True,
        threads=2,
        seed=5,
        name=("before", "after"),
    )


def test_a_fold_in_memory(full: BenchReport) -> None:
    assert (full.original, full.folded) == ("before", "after")
    assert full.is_same
    assert full.verdict.startswith("same function")
    assert (full.norms_before, full.norms_after) == (2, 0)
    assert (full.nodes_before, full.nodes_after) == (6, 4)
    assert full.bytes_before == len(chain(2).SerializeToString())
    assert 0 < full.bytes_after < full.bytes_before
    assert (full.subnormal_before, full.subnormal_after) == (0, 0)


def test_a_row_for_each_level_and_batch(full: BenchReport) -> None:
    rows = [(cell.level, cell.batch) for cell in full.cells]
    assert rows == [("disable", 3), ("disable", 1), ("basic", 3), ("basic", 1)]
    for cell in full.cells:
        check_times(cell.original)
        check_times(cell.folded)
        check_ratio(cell.ratio, cell.original, cell.folded)
        assert cell.flushed is None


def test_a_row_for_each_start(full: BenchReport) -> None:
    assert [(start.level, start.norms_left) for start in full.starts] == [
        ("disable", 2),
        ("basic", 0),
    ]
    for start in full.starts:
        check_times(start.original)
        check_times(start.folded)
        check_ratio(start.ratio, start.original, start.folded)
        for memory in (start.original_memory, start.folded_memory):
            assert memory is None or 0 < memory < 1 << 30


def test_the_profile(full: BenchReport) -> None:
    found = {
        (row.level, row.batch, row.operator): (row.original_nodes, row.folded_nodes)
        for row in full.spent
    }
    assert found == {
        (level, batch, operator): nodes
        for batch in (3, 1)
        for level, operator, nodes in (
            ("disable", "Conv", (2, 2)),
            ("disable", "BatchNormalization", (2, 0)),
            ("disable", "Relu", (2, 2)),
            ("basic", "Conv", (2, 2)),
            ("basic", "Relu", (2, 2)),
        )
    }
    for row in full.spent:
        assert (row.original > 0) == (row.original_nodes > 0)
        assert (row.folded > 0) == (row.folded_nodes > 0)
        assert max(row.original, row.folded) < 1
    for first, second in zip(full.spent, full.spent[1:], strict=False):
        is_same_cell = (first.level, first.batch) == (second.level, second.batch)
        assert not is_same_cell or first.original >= second.original


def test_the_setting(full: BenchReport) -> None:
    setting = full.setting
    assert (setting.provider, setting.threads, setting.seed) == ("CPUExecutionProvider", 2, 5)
    assert (setting.duration, setting.data, setting.device) == (0.02, "drawn", "")
    assert setting.inputs == {"x": (3, 4, 5, 5)}
    assert setting.processor
    assert setting.cores >= 1
    assert setting.versions["onnx"] == onnx.__version__
    assert setting.versions["bnfold"] == bnfold.__version__
    assert set(setting.versions) == {"bnfold", "numpy", "onnx", "onnxruntime", "python"}


def test_the_notes_say_what_onnxruntime_had_folded(full: BenchReport) -> None:
    assert (
        "at level basic onnxruntime had folded 2 of 2 norms itself, so about 1.00x is expected "
        "there" in full.notes
    )
    assert not any("level disable onnxruntime" in note for note in full.notes)


def test_two_files_and_real_data(tmp_path: Path) -> None:
    model, told = chain(1), []
    paths = tmp_path / "model.onnx", tmp_path / "folded.onnx"
    external: dict[str, Any] = {
        "save_as_external_data": True,
        "location": "m.data",
        "size_threshold": 0,
    }
    onnx.save(copied(model), paths[0], **external)
    onnx.save(folded_of(model), paths[1])
    data = {"x": np.ones((2, 4, 5, 5), np.float32)}
    report = benched(
        paths[0], paths[1], feeds=data, progress=lambda done, what: told.append((done, what))
    )
    assert (report.original, report.folded) == (str(paths[0]), str(paths[1]))
    assert [cell.batch for cell in report.cells] == [2]
    assert report.setting.inputs == {"x": (2, 4, 5, 5)}
    assert report.setting.data == "given"
    assert report.bytes_before == sum(
        (tmp_path / n).stat().st_size for n in ("model.onnx", "m.data")
    )
    assert report.bytes_after == paths[1].stat().st_size
    done = [part for part, _ in told]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0.0, 1.0)
    words = list(dict.fromkeys(what for _, what in told))
    assert words == [
        "comparing the models",
        "creating sessions, level disable",
        "memory, level disable",
        "what onnxruntime folds, level disable",
        "timing, level disable, batch 2",
        "done",
    ]


def test_data_in_another_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "model.onnx"
    external: dict[str, Any] = {
        "save_as_external_data": True,
        "location": "m.data",
        "size_threshold": 0,
    }
    onnx.save(chain(1), path, **external)
    path = path.rename(tmp_path / "model.onnx")
    assert benched(path, base_dir=tmp_path / "data").is_same


def test_models_that_differ_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "Measurement", None)
    model = chain(1)
    report = benched(model, own_fold(model, 0, wrong=1.01), profile=True)
    assert not report.is_same
    assert report.verdict.startswith("not the same function")
    assert (report.norms_before, report.norms_after) == (1, 0)
    assert (report.cells, report.starts, report.spent) == ((), (), ())


def test_a_large_fold_is_not_compared_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def whole(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(engine, "verify", whole)
    monkeypatch.setattr(engine, "TRUSTED", 100)
    report = benched(chain(1))
    assert report.is_same
    assert report.verdict.startswith(
        "same function: each of the 1 operators that the fold changed was compared in float64"
    )
    with pytest.raises(AssertionError):
        benched(chain(1), folded_of(chain(1)))


def test_subnormal_weights_are_flushed_for_comparison() -> None:
    text = "agraph (float[N,8] x) => (float[N,8] y) <float[8,8] w> { y = MatMul (x, w) }"
    model = filled(parsed(text))
    weight = np.array(constant(model, "w"))
    weight[0, :5] = 1e-40
    model = with_values(model, w=weight)
    report = benched(model, model)
    assert (report.subnormal_before, report.subnormal_after) == (5, 5)
    (cell,) = report.cells
    assert cell.flushed is not None
    assert 0 < cell.flushed.low <= cell.flushed.value <= cell.flushed.high
    assert "FOLDED has all norms that ORIGINAL has" in report.notes[0]


def not_loadable(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = copied(model)
    copy.ir_version = 1000
    return copy


def test_what_onnxruntime_cannot_load() -> None:
    model = chain(1)
    with pytest.raises(ModelError, match=r"^ORIGINAL \(m\) at level basic: onnxruntime cannot lo"):
        benched(not_loadable(model), model, name=("m", "f"), levels=["basic"])
    with pytest.raises(ModelError, match=r"^FOLDED \(f\) at level disable: onnxruntime cannot lo"):
        benched(model, not_loadable(model), name=("m", "f"))


def test_a_batch_with_which_it_does_not_run() -> None:
    text = """agraph (float[N,4] x) => (float[N,4] y) <float[4] w, int64[2] s = {2, 4}>
        { r = Reshape (x, s)  y = Mul (r, w) }"""
    model = filled(parsed(text))
    place = r"^ORIGINAL \(m\) at level disable, batch 3: onnxruntime cannot run it: .*Reshape"
    with pytest.raises(ModelError, match=place):
        benched(model, model, name=("m", "f"), batch=[3])


def test_providers() -> None:
    model = chain(1)
    with pytest.raises(UsageError, match=r"no provider 'abacus' here \(available: .*cpu.*\)"):
        benched(model, provider="abacus")


def test_onnxruntime_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "is_installed", lambda: False)
    with pytest.raises(UsageError, match=r"onnxruntime is not installed: pip install 'bnfold"):
        benched(chain(1))


def fake(monkeypatch: pytest.MonkeyPatch, folder: Path, action: str, script: str) -> None:
    """Let a child do something else in place of an action."""
    program = folder.parent / "python"
    real = sys.executable
    program.write_text(
        f"""#!{real}
import json, os, signal, subprocess, sys
job = json.load(open(sys.argv[-1] + "/job.json"))
if job["action"] == {action!r}:
    {script}
sys.exit(subprocess.call([{real!r}, *sys.argv[1:]]))
"""
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def test_a_crash_is_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crash = 'open(sys.argv[-1] + "/stage.txt", "w").write("1"); os.abort()'
    fake(monkeypatch, folder, "time", crash)
    with pytest.raises(ModelError) as caught:
        benched(chain(1), name=("m", "f"))
    assert (
        str(caught.value) == "FOLDED (f) at level disable, batch 1: the runtime crashed (SIGABRT)"
    )


def test_a_broken_onnxruntime(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, folder, "installed", "sys.exit('ImportError: no libcudart')")
    with pytest.raises(UsageError, match=r"onnxruntime cannot be imported: .*no libcudart"):
        benched(chain(1))


def test_a_provider_that_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse = "print('onnxruntime uses CPUExecutionProvider instead', file=sys.stderr); sys.exit(12)"
    fake(monkeypatch, folder, "start", refuse)
    with pytest.raises(UsageError) as caught:
        benched(chain(1))
    assert str(caught.value) == (
        "CPUExecutionProvider cannot be used: onnxruntime uses CPUExecutionProvider instead"
    )


def test_what_cannot_be_written_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, folder, "optimise", "os.abort()")
    report = benched(chain(1))
    assert report.starts[0].norms_left is None
    assert "at level disable it is not known which norms onnxruntime folds itself" in report.notes


@pytest.mark.parametrize("step", ["memory", "timing"])
def test_an_interrupt_ends_the_child(step: str) -> None:
    seen = []

    def progress(done: float, what: str) -> None:
        # The second call of a step comes while its child is at work.
        seen.append(what)
        if what.startswith(step) and seen.count(what) == 2:
            assert len(children()) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        benched(chain(1), duration=30.0 if step == "timing" else 0.02, progress=progress)
    assert not children()


def test_a_child_that_is_interrupted_interrupts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill = "signal.signal(signal.SIGINT, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGINT)"
    fake(monkeypatch, folder, "time", kill)
    with pytest.raises(KeyboardInterrupt):
        benched(chain(1))


def test_a_full_temporary_folder_is_a_file_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: Any, **__: Any) -> None:
        raise OSError("4096 requested and 16 written")

    monkeypatch.setattr(np, "save", full_disk)
    with pytest.raises(FileError, match=r"temporary folder .*: no space is left"):
        benched(chain(1))

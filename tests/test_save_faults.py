"""Whatever fails while a model is written: the old files are whole, and no new one stands."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Literal

import onnx
import pytest

import bnfold
from tests.support_faults import Failure, Fault, inject
from tests.support_graphs import (
    conv_bn,
    externalised,
    largest_difference,
    norms_in,
    plain,
    snapshot,
)

Form = Literal["keep", "embed", "external"]

FAILURES: dict[str, Failure] = {
    "full disk": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "no permission": lambda: OSError(errno.EACCES, "Permission denied"),
    "broken disk": lambda: OSError(errno.EIO, "Input/output error"),
    "interrupt": KeyboardInterrupt,
}


class Case:
    """One save: the input, where it goes, and whether something stands there already."""

    def __init__(self, folder: Path, form: Form, *, external: bool, to: str, old: bool) -> None:
        self.form = form
        self.home = folder / "in"
        self.home.mkdir(parents=True)
        self.source = self.home / "in.onnx"
        model = conv_bn(channels=256)
        if external:
            model = externalised(model, self.home, {"w": ("sub/in.data", 0), "var": ("v.data", 0)})
        self.source.write_bytes(model.SerializeToString())
        out = folder / "out"
        out.mkdir()
        self.target = {
            "other": out / "out.onnx",
            "beside": self.home / "out.onnx",
            "in place": self.source,
        }[to]
        self.replaces = old or to == "in place"
        if old and to != "in place":
            bnfold.save(bnfold.fold(conv_bn(9, channels=256)), self.target, form="external")

    def save(self) -> None:
        bnfold.save(bnfold.fold(self.source), self.target, form=self.form)


CASES: dict[str, dict[str, Any]] = {
    "embedded, new": {"form": "keep", "external": False, "to": "other", "old": False},
    "embedded, over an old one": {"form": "keep", "external": False, "to": "other", "old": True},
    "embedded, in place": {"form": "keep", "external": False, "to": "in place", "old": False},
    "external, new": {"form": "keep", "external": True, "to": "other", "old": False},
    "external, over an old one": {"form": "keep", "external": True, "to": "other", "old": True},
    "external, in place": {"form": "keep", "external": True, "to": "in place", "old": False},
    "external, beside": {"form": "keep", "external": True, "to": "beside", "old": True},
    "to external": {"form": "external", "external": False, "to": "other", "old": True},
    "to embedded": {"form": "embed", "external": True, "to": "in place", "old": False},
}


def expect_whole(target: Path) -> None:
    """The new model stands with its data."""
    folded = onnx.load(target)
    assert norms_in(folded) == 0
    assert largest_difference(conv_bn(channels=256), folded) < 1e-6


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("case", CASES)
def test_a_failure_at_every_step(
    case: str, failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(200):
        folder = tmp_path / str(at)
        step = Case(folder, **CASES[case])
        before = snapshot(folder)
        fault = Fault(at, FAILURES[failure])
        error: BaseException | None = None
        with monkeypatch.context() as patch:
            inject(patch, fault)
            try:
                step.save()
            except (bnfold.FileError, KeyboardInterrupt) as caught:
                error = caught
        if error is None:
            expect_whole(step.target)
            if not fault.fired:
                assert at > 3
                assert "open" in fault.calls
                assert "replace" in fault.calls
                assert ("fsync" in fault.calls) == step.replaces
                return
            continue
        assert fault.fired
        assert isinstance(error, KeyboardInterrupt) == (failure == "interrupt")
        if snapshot(folder) != before:
            # Only an interrupt after the last rename may come too late.
            assert failure == "interrupt"
            assert fault.calls.count("replace") >= 1
            expect_whole(step.target)
            assert not list(folder.rglob("*.tmp"))
        if isinstance(error, bnfold.FileError):
            assert "\n" not in str(error)
            assert "cannot write" in str(error) or "cannot read" in str(error)
    pytest.fail("the save never ended")


@pytest.mark.parametrize("name", ["replace", "open", "fsync", "chmod"])
@pytest.mark.parametrize("case", CASES)
def test_an_interrupt_just_after_a_step(
    case: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted = 0
    for at in range(50):
        folder = tmp_path / str(at)
        step = Case(folder, **CASES[case])
        before = snapshot(folder)
        fault = Fault(at, KeyboardInterrupt, after=True)
        with monkeypatch.context() as patch:
            inject(patch, fault, only=name)
            try:
                step.save()
            except KeyboardInterrupt:
                interrupted += 1
        if not fault.fired:
            assert interrupted or (name == "fsync" and not step.replaces)
            return
        if snapshot(folder) != before:
            expect_whole(step.target)
            assert not list(folder.rglob("*.tmp"))
    pytest.fail("the save never ended")


def test_no_folder_is_left_by_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Case(tmp_path, "keep", external=True, to="other", old=False)
    inject(monkeypatch, Fault(0, FAILURES["full disk"]), only="replace")
    with pytest.raises(bnfold.FileError, match="No space left on device"):
        step.save()
    assert list(step.target.parent.iterdir()) == []


def test_a_kernel_that_cannot_copy_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    model = plain()
    large = model.graph.initializer.add(name="unused", data_type=1, dims=[3 << 20])
    large.raw_data = random.Random(0).randbytes(12 << 20)
    (tmp_path / "in.onnx").write_bytes(model.SerializeToString())
    bnfold.fold(tmp_path / "in.onnx").save(tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == model.SerializeToString()


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, bytes(data)[:997]))
    path = tmp_path / "in.onnx"
    path.write_bytes(conv_bn(channels=256).SerializeToString())
    bnfold.fold(path).save(tmp_path / "out.onnx")
    expect_whole(tmp_path / "out.onnx")


CHILD = """
import sys, bnfold
result = bnfold.fold(sys.argv[1])
print("ready", flush=True)
while True:
    bnfold.save(result, sys.argv[2], form=sys.argv[3])
    bnfold.save(bnfold.fold(sys.argv[4]), sys.argv[2], form=sys.argv[3])
"""


@pytest.mark.parametrize("form", ["embed", "external"])
def test_a_killed_process_leaves_no_broken_target(form: str, tmp_path: Path) -> None:
    first, second = conv_bn(1, channels=2048), conv_bn(2, channels=2048)
    (tmp_path / "a.onnx").write_bytes(first.SerializeToString())
    (tmp_path / "b.onnx").write_bytes(second.SerializeToString())
    out = tmp_path / "out"
    out.mkdir()
    target = out / "t.onnx"
    arguments = [tmp_path / "a.onnx", target, form, tmp_path / "b.onnx"]
    whole = [bnfold.fold(model).model for model in (first, second)]
    waits = random.Random(0)
    seen = 0
    for _ in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, *map(str, arguments)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(waits.uniform(0.01, 0.1))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        if target.exists():
            seen += 1
            model = onnx.load(target)
            weight = sorted(t.raw_data for t in model.graph.initializer)
            assert weight in [sorted(t.raw_data for t in m.graph.initializer) for m in whole]
        for path in out.iterdir():
            assert path == target or path.name.startswith((".", "t.onnx."))
    assert seen

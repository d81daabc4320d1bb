"""What the commands do where a standard stream is closed, full, a pipe, or no terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_cli import run, write


def test_the_reader_of_the_report_may_leave(tmp_path: Path) -> None:
    model, out = write(tmp_path / "m.onnx"), tmp_path / "o.onnx"
    command = f"{sys.executable} -m bnfold fold {model} -o {out} --json | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert b"Traceback" not in done.stderr
    assert out.exists()


@pytest.mark.parametrize(
    ("words", "begins"),
    [
        ("explain {m} --dot", b"digraph"),
        ("check {m} --save-report", b"{"),
        ("verify {m} {m} --no-runtime --junit", b"<?xml"),
    ],
)
def test_files_are_written_though_nobody_reads_the_report(
    tmp_path: Path, words: str, begins: bytes
) -> None:
    model, out = write(tmp_path / "m.onnx"), tmp_path / "out"
    command = f"{sys.executable} -m bnfold {words.format(m=model)} {out} >&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert done.returncode == 2
    assert out.read_bytes().startswith(begins)


def test_the_report_is_printed_though_no_file_can_be_written(tmp_path: Path) -> None:
    model = write(tmp_path / "m.onnx")
    wanted = run("check", model)
    done = run("check", model, "--save-report", tmp_path / "no folder" / "r.json")
    assert wanted.stdout
    assert done.stdout == wanted.stdout
    assert done.returncode == 2
    assert b"no folder" in done.stderr


CLOSED = {
    "a report": ("check {m}", ">&-", 2),
    "none": ("check -q {m}", ">&-", 1),
    "a model": ("fold {m} -o -", ">&-", 2),
    "the version": ("--version", ">&-", 2),
    "a full disk": ("--version", ">/dev/full", 2),
    "errors": ("check {m} {m}x", "2>&-", 2),
    "two reports": ("check {m} {m}", "2>&-", 1),
    "all": ("check {m}x", ">&- 2>&-", 2),
    "the input": ("check -", "<&-", 2),
}


@pytest.mark.parametrize("case", CLOSED)
def test_closed_streams(tmp_path: Path, case: str) -> None:
    """A stream that the caller closed is no bug, and no reason for a status of Python's own."""
    words, closed, status = CLOSED[case]
    model = write(tmp_path / "m.onnx")
    command = f"{sys.executable} -m bnfold {words.format(m=model)} {closed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert done.returncode == status
    assert b"Traceback" not in done.stderr
    assert b"ignored" not in done.stderr
    assert done.stderr.count(b"\n") == (status == 2 and "2>&-" not in closed)


def test_no_progress_bar_without_a_terminal(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / f"{name}.onnx")
    done = run("fold", tmp_path, "--output-dir", tmp_path / "out")
    assert done.returncode == 0
    assert done.stderr == b""

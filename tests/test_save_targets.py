"""Where a model is written to: links, folders, devices, permissions, its own inputs."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import onnx
import pytest

import bnfold
from tests.support_faults import Fault, inject
from tests.support_graphs import conv_bn, largest_difference, norms_in, snapshot

Form = Literal["keep", "embed", "external"]


def expect_folded(target: Path) -> None:
    """The folded model stands there."""
    folded = onnx.load(target)
    assert norms_in(folded) == 0
    assert largest_difference(conv_bn(channels=256), folded) < 1e-6


@pytest.mark.parametrize("form", ["keep", "external"])
def test_a_link_is_neither_replaced_nor_followed(form: Form, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real = tmp_path / "real" / "model.onnx"
    real.write_bytes(b"old")
    link = tmp_path / "link.onnx"
    link.symlink_to(real)
    before = snapshot(tmp_path)
    with pytest.raises(bnfold.FileError, match=r"link\.onnx: it is a symbolic link to "):
        bnfold.fold(conv_bn(channels=256)).save(link, form=form)
    assert link.is_symlink()
    assert snapshot(tmp_path) == before


def to_nowhere(folder: Path) -> Path:
    (folder / "link.onnx").symlink_to(folder / "gone" / "model.onnx")
    return folder / "link.onnx"


def to_itself(folder: Path) -> Path:
    (folder / "loop.onnx").symlink_to(folder / "loop.onnx")
    return folder / "loop.onnx"


def a_folder(folder: Path) -> Path:
    (folder / "model.onnx").mkdir()
    return folder / "model.onnx"


def a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def below_a_file(folder: Path) -> Path:
    (folder / "file").write_bytes(b"x")
    return folder / "file" / "model.onnx"


# Where a model cannot be written.
UNWRITABLE: dict[str, Callable[[Path], Path]] = {
    "a link to nowhere": to_nowhere,
    "a link to itself": to_itself,
    "a missing folder": lambda folder: folder / "missing" / "model.onnx",
    "a folder": a_folder,
    "a device": lambda folder: Path(os.devnull),
    "a pipe": a_pipe,
    "below a file": below_a_file,
    "a name that is too long": lambda folder: folder / ("n" * 300),
    "a name with a NUL": lambda folder: folder / "a\0b.onnx",
    "an empty path": lambda folder: Path(),
}


@pytest.mark.parametrize("form", ["keep", "external"])
@pytest.mark.parametrize("case", UNWRITABLE)
def test_where_a_model_cannot_be_written(case: str, form: Form, tmp_path: Path) -> None:
    target = UNWRITABLE[case](tmp_path)
    result = bnfold.fold(conv_bn(channels=256))
    names = sorted(p.name for p in tmp_path.rglob("*"))
    with pytest.raises((bnfold.FileError, bnfold.UsageError)) as caught:
        bnfold.save(result, target, form=form)
    assert "\n" not in str(caught.value)
    assert "\0" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.rglob("*")) == names


def test_a_read_only_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault(0, lambda: OSError(errno.EROFS, "Read-only file system"))
    inject(monkeypatch, fault, only="open")
    with pytest.raises(bnfold.FileError, match=r"out\.onnx: Read-only file system"):
        bnfold.fold(conv_bn()).save(tmp_path / "out.onnx")
    assert fault.fired
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_permissions_of_the_old_file_stay(mode: int, tmp_path: Path) -> None:
    target = tmp_path / "out.onnx"
    target.write_bytes(b"old")
    target.chmod(mode)
    bnfold.fold(conv_bn()).save(target)
    assert target.stat().st_mode & 0o777 == mode


def test_a_new_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    bnfold.fold(conv_bn()).save(tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_stream_that_fails_raises_and_one_that_works_gets_all(tmp_path: Path) -> None:
    class Full:
        def write(self, _: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def flush(self) -> None: ...

    result = bnfold.fold(conv_bn())
    with pytest.raises((bnfold.FileError, OSError), match="No space left"):
        result.write(Full())
    with (tmp_path / "out.onnx").open("wb") as stream:
        result.write(stream)
    assert onnx.load(tmp_path / "out.onnx") == result.model


def bnfold_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bnfold", "fold", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_input_is_replaced_only_in_place(tmp_path: Path) -> None:
    first, second = tmp_path / "a.onnx", tmp_path / "b.onnx"
    for path in (first, second):
        path.write_bytes(conv_bn(channels=256).SerializeToString())
    (tmp_path / "link.onnx").symlink_to(first)
    before = snapshot(tmp_path)
    for arguments in (
        [first, "-o", first],
        [first, "-o", tmp_path / "link.onnx"],
        [tmp_path / "link.onnx", "-o", first],
        [first, second, "--output-dir", tmp_path],
    ):
        done = bnfold_command(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "Traceback" not in done.stderr
        assert snapshot(tmp_path) == before
    assert bnfold_command(first, "--in-place").returncode == 0
    expect_folded(first)
    assert second.read_bytes() == before["b.onnx"]

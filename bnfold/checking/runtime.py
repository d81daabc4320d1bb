"""onnxruntime as its caller sees it: a child process that answers, whatever becomes of it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bnfold.checking.session import CANNOT_LOAD, Array, read_arrays, why_ended, write_arrays
from bnfold.errors import FileError, UsageError
from bnfold.onnxgraph import deliver
from bnfold.onnxgraph.load import Document
from bnfold.onnxgraph.rewrite import Rewrite, has_external_data


@dataclass(frozen=True)
class Run:
    """What became of one model.

    Attributes:
        outputs: for each feed the outputs by name; None where it did not get so far.
        error: why, in one line; ``""`` where it ran.
        is_loaded: whether the runtime took the model at all.
    """

    outputs: list[dict[str, Array]] | None
    error: str = ""
    is_loaded: bool = True


def is_installed() -> bool:
    """Whether there is an onnxruntime; does not import it."""
    return find_spec("onnxruntime") is not None


def require_installed() -> None:
    """Refuse to go on without onnxruntime.

    Raises:
        UsageError: there is none.
    """
    if not is_installed():
        raise UsageError(
            "onnxruntime is not installed: pip install 'bnfold[cpu]', or 'bnfold[gpu]' for CUDA"
        )


@contextmanager
def on_disk(document: Document, rewrite: Rewrite | None = None) -> Iterator[Path]:
    """A path at which the runtime finds the model: its own file, or a temporary one."""
    path = document.source.path
    if path is not None and path.is_file() and _is_whole(document, path) and rewrite is None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="bnfold-") as folder:
        target = Path(folder) / "model.onnx"
        try:
            deliver.save(document, rewrite or Rewrite(), target, "keep")
        except UsageError:  # too large for one file
            deliver.save(document, rewrite or Rewrite(), target, "external")
        yield target


def _is_whole(document: Document, path: Path) -> bool:
    """Whether the file is the model, its data beside it."""
    folder = document.files.folder
    is_at_home = folder is not None and folder.resolve() == path.parent.resolve()
    return not document.is_derived and (is_at_home or not has_external_data(document))


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Write to a temporary folder.

    Raises:
        FileError: something cannot be written.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or "no space is left"
        raise FileError(f"cannot write to the temporary folder {folder}: {reason}") from error


def run(model: Path, feeds: Sequence[dict[str, Array]], wanted: Sequence[str]) -> Run:
    """Run a model in onnxruntime at ``ORT_DISABLE_ALL``, in a process of its own.

    Args:
        model: the file.
        feeds: input -> values in the dtypes of the inputs.
        wanted: the outputs.
    """
    with tempfile.TemporaryDirectory(prefix="bnfold-") as name:
        folder = Path(name)
        job = json.dumps({"feeds": len(feeds), "wanted": list(wanted)})
        with writing_to(folder):
            for number, feed in enumerate(feeds):
                write_arrays(folder / f"in{number}", feed)
            (folder / "job.json").write_text(job)
        child = ["-m", "bnfold.checking.session", str(model.resolve()), name]
        done = subprocess.run(
            [sys.executable, *child], capture_output=True, check=False, stdin=subprocess.DEVNULL
        )
        if done.returncode:
            why = why_ended(done.returncode, done.stderr.decode(errors="replace"))
            return Run(None, why, done.returncode != CANNOT_LOAD)
        return Run([read_arrays(folder / f"out{number}") for number in range(len(feeds))])

"""onnxruntime in a child process: the only module that imports it, and only in the child.

``python -m bnfold.checking.runtime MODEL FOLDER`` runs a model on the feeds of a folder. Nothing
that the runtime does can take the caller down with it: a crash is an answer.
"""

from __future__ import annotations

import ctypes
import json
import math
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfold.errors import FileError
from bnfold.onnxgraph import deliver
from bnfold.onnxgraph.load import Document
from bnfold.onnxgraph.rewrite import Rewrite

Array = npt.NDArray[Any]

_CANNOT_LOAD, _CANNOT_RUN = 10, 11


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


@contextmanager
def on_disk(document: Document, rewrite: Rewrite | None = None) -> Iterator[Path]:
    """A path at which the runtime finds the model: its own file, or a temporary one."""
    path = document.source.path
    if path is not None and path.is_file() and not document.is_derived and rewrite is None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="bnfold-") as folder:
        target = Path(folder) / "model.onnx"
        deliver.save(document, rewrite or Rewrite(), target, "keep")
        yield target


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
        try:
            for number, feed in enumerate(feeds):
                _write(folder / f"in{number}", feed)
            (folder / "job.json").write_text(job)
        except OSError as error:
            reason = error.strerror or "no space is left"
            raise FileError(f"cannot write to the temporary folder {name}: {reason}") from error
        command = [sys.executable, "-m", "bnfold.checking.runtime", str(model.resolve()), name]
        done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            why = _reason(done.returncode, done.stderr.decode(errors="replace"))
            return Run(None, why, done.returncode != _CANNOT_LOAD)
        return Run([_read(folder / f"out{number}") for number in range(len(feeds))])


def _reason(status: int, errors: str) -> str:
    lines = [line for line in errors.splitlines() if line.strip()]
    last = " ".join(lines[-1].split())[:300] if lines else ""
    if status < 0:
        with_name = signal.Signals(-status).name if -status in list(signal.Signals) else -status
        return f"the runtime crashed ({with_name})"
    if status == _CANNOT_LOAD:
        return f"onnxruntime cannot load it: {last}"
    if status == _CANNOT_RUN:
        return f"onnxruntime cannot run it: {last}"
    return f"the runtime ended with status {status}: {last}"


def _write(folder: Path, arrays: dict[str, Array]) -> None:
    """Arrays as files; dtypes that NumPy's format does not know (bfloat16) as their bytes."""
    folder.mkdir()
    names = {}
    for number, (name, array) in enumerate(arrays.items()):
        plain = array.view(np.uint16) if array.dtype.name == "bfloat16" else array
        if plain.dtype == object:
            plain = plain.astype(np.str_)
        np.save(folder / f"{number}.npy", plain, allow_pickle=False)
        names[name] = array.dtype.name
    (folder / "names.json").write_text(json.dumps(names))


def _read(folder: Path) -> dict[str, Array]:
    names = json.loads((folder / "names.json").read_text())
    found = {}
    for number, (name, dtype) in enumerate(names.items()):
        array = np.load(folder / f"{number}.npy", allow_pickle=False)
        if dtype == "bfloat16":
            import ml_dtypes

            array = array.view(ml_dtypes.bfloat16)
        found[name] = array
    return found


def _child(model: str, folder: Path) -> int:
    import onnxruntime

    job = json.loads((folder / "job.json").read_text())
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return _CANNOT_LOAD
    for number in range(job["feeds"]):
        feeds = _read(folder / f"in{number}")
        try:
            values = _run(session, feeds, job["wanted"])
        except Exception as error:
            print(" ".join(str(error).split()), file=sys.stderr)
            return _CANNOT_RUN
        _write(folder / f"out{number}", values)
    return 0


def _run(session: Any, feeds: dict[str, Array], wanted: list[str]) -> dict[str, Array]:
    from onnxruntime import OrtValue

    bfloat16 = 16  # TensorProto.BFLOAT16, which NumPy does not know
    given = {
        name: OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), bfloat16)
        if array.dtype.name == "bfloat16"
        else OrtValue.ortvalue_from_numpy(array)
        for name, array in feeds.items()
    }
    results = session.run_with_ort_values(wanted, given)
    pairs = zip(wanted, results, strict=True)
    # Sequences and maps are left to the float64 comparison.
    return {name: _array(value) for name, value in pairs if value.is_tensor()}


def _array(value: Any) -> Array:
    if value.data_type() != "tensor(bfloat16)":
        array: Array = np.asarray(value.numpy())
        return array
    import ml_dtypes

    # The runtime hands out no bfloat16, but says where it is.
    shape = value.shape()
    memory = (ctypes.c_uint16 * math.prod(shape)).from_address(value.data_ptr())
    narrow: Array = np.array(memory, np.uint16).view(ml_dtypes.bfloat16).reshape(shape)
    return narrow


if __name__ == "__main__":
    sys.exit(_child(sys.argv[1], Path(sys.argv[2])))

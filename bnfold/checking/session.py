"""onnxruntime, and what its child processes read and write: the only module that imports it.

Only child processes call what runs it. ``python -m bnfold.checking.session MODEL FOLDER`` runs a
model on the feeds of a folder. Nothing that the runtime does can take the caller down with it: a
crash is an answer.
"""

from __future__ import annotations

import ctypes
import json
import math
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

CANNOT_LOAD, CANNOT_RUN = 10, 11
"""The exit status of a child that cannot load, or run, a model; stderr ends with the reason."""

CPU: Final = "CPUExecutionProvider"

_BFLOAT16 = 16  # TensorProto.BFLOAT16, which NumPy does not know


def why_ended(status: int, errors: str) -> str:
    """What became of a child, in words.

    Args:
        status: its exit status; minus the signal that ended it.
        errors: what it wrote to stderr.
    """
    lines = [line for line in errors.splitlines() if line.strip()]
    last = " ".join(lines[-1].split())[:300] if lines else ""
    if status < 0:
        with_name = signal.Signals(-status).name if -status in list(signal.Signals) else -status
        return f"the runtime crashed ({with_name})"
    if status == CANNOT_LOAD:
        return f"onnxruntime cannot load it: {last}"
    if status == CANNOT_RUN:
        return f"onnxruntime cannot run it: {last}"
    return f"the runtime ended with status {status}: {last}"


def write_arrays(folder: Path, arrays: Mapping[str, Array]) -> None:
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


def read_arrays(folder: Path) -> dict[str, Array]:
    """The arrays that ``write_arrays`` wrote."""
    names = json.loads((folder / "names.json").read_text())
    found = {}
    for number, (name, dtype) in enumerate(names.items()):
        array = np.load(folder / f"{number}.npy", allow_pickle=False)
        if dtype == "bfloat16":
            import ml_dtypes

            array = array.view(ml_dtypes.bfloat16)
        found[name] = array
    return found


def opened(
    model: str,
    level: str = "DISABLE_ALL",
    *,
    providers: Sequence[str] = (CPU,),
    threads: int | None = 0,
    config: Mapping[str, str] | None = None,
    optimized: str = "",
    profile: str = "",
) -> Any:
    """A session.

    Args:
        model: the file.
        level: of the optimiser, as onnxruntime calls it behind ``ORT_``.
        providers: the first that can is used.
        threads: within an operator; 0 for onnxruntime's own choice, None for the threads that all
            sessions of the process share.
        config: entries of the session's configuration.
        optimized: where to write the model as it is optimised; ``""`` for nowhere.
        profile: how the name of the profile begins; ``""`` for none.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{level}")
    options.log_severity_level = 4
    if threads is None:
        options.use_per_session_threads = False
    else:
        options.intra_op_num_threads = threads
    for key, value in (config or {}).items():
        options.add_session_config_entry(key, value)
    if optimized:
        options.optimized_model_filepath = optimized
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    return onnxruntime.InferenceSession(model, options, providers=list(providers))


def share_threads(threads: int) -> bool:
    """Let sessions of this process share so many threads; whether this onnxruntime can do that.

    It has to be called before the first session.
    """
    import onnxruntime

    if not hasattr(onnxruntime, "set_global_thread_pool_sizes"):
        return False
    onnxruntime.set_global_thread_pool_sizes(threads, 1)
    return True


def installed() -> tuple[str, list[str]]:
    """The version of onnxruntime, and its providers."""
    import onnxruntime

    return onnxruntime.__version__, list(onnxruntime.get_available_providers())


def given(feeds: Mapping[str, Array], device: str = "cpu") -> dict[str, Any]:
    """Arrays as the runtime's own values, on a device."""
    from onnxruntime import OrtValue

    return {
        name: OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), _BFLOAT16)
        if array.dtype.name == "bfloat16"
        else OrtValue.ortvalue_from_numpy(array, device)
        for name, array in feeds.items()
    }


def computed(session: Any, feeds: dict[str, Array], wanted: list[str]) -> dict[str, Array]:
    """Some outputs of a session that are tensors."""
    results = session.run_with_ort_values(wanted, given(feeds))
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


def one_line(error: Exception) -> str:
    """The message of an exception in one line."""
    return " ".join(str(error).split())


def _child(model: str, folder: Path) -> int:
    job = json.loads((folder / "job.json").read_text())
    try:
        session = opened(model)
    except Exception as error:
        print(one_line(error), file=sys.stderr)
        return CANNOT_LOAD
    for number in range(job["feeds"]):
        feeds = read_arrays(folder / f"in{number}")
        try:
            values = computed(session, feeds, job["wanted"])
        except Exception as error:
            print(one_line(error), file=sys.stderr)
            return CANNOT_RUN
        write_arrays(folder / f"out{number}", values)
    return 0


if __name__ == "__main__":
    sys.exit(_child(sys.argv[1], Path(sys.argv[2])))

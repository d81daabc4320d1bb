"""Runs that are interrupted in the middle, as processes of their own, and go on where they were."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bnfold
from bnfold.errors import INTERRUPTED
from bnfold.onnxgraph.load import load
from bnfold.statistics.observe import as_bytes, observing
from tests.support_small_network import Array, network, samples, statistics

BATCH_SIZE, BATCHES = 4, 12
# Gives all batches, and stops at one of them, in one pass, until it is ended.
FEEDS = """
import pathlib, time
import numpy as np

passes = 0

def whole():
    global passes
    passes += 1
    for number, batch in enumerate(np.split(np.load("x.npy"), {batches}), start=1):
        stop = pathlib.Path("stop.txt")
        if stop.exists() and [passes, number] == [int(word) for word in stop.read_text().split()]:
            pathlib.Path("stopped.txt").write_text("")
            while True:
                time.sleep(0.05)
        yield batch
"""
# So that a process that is killed at once has saved something.
OFTEN = """
import bnfold.statistics.passes as passes
from bnfold.__main__ import main

passes.SAVED_EVERY = 0.0
main()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(network(), "net.onnx")
    np.save("x.npy", samples(BATCH_SIZE * BATCHES))
    Path("feeds.py").write_text(FEEDS.replace("{batches}", str(BATCHES)))
    return tmp_path


def start(*arguments: str, program: tuple[str, ...] = ("-m", "bnfold")) -> subprocess.Popen[str]:
    path = os.pathsep.join(["", *sys.path])  # the data is a module in this folder
    return subprocess.Popen(
        [sys.executable, *program, "calibrate", "net.onnx", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def finished(*arguments: str) -> dict[str, Any]:
    """The report of a run that goes to its end."""
    with start(*arguments, "--json") as process:
        out, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    report: dict[str, Any] = json.loads(out)
    return report


def interrupted(
    at: tuple[int, int], number: int, *arguments: str, program: tuple[str, ...] = ("-m", "bnfold")
) -> tuple[int, str]:
    """Exit status and stderr of a run that gets a signal when it reads a batch of a pass."""
    Path("stop.txt").write_text(f"{at[0]} {at[1]}")
    with start(*arguments, program=program) as process:
        end = time.monotonic() + 120
        while not Path("stopped.txt").exists() and process.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert process.poll() is None, process.communicate()
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    Path("stop.txt").unlink()
    return process.returncode, errors


def assert_same_numbers(found: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6, err_msg=name)


def whole_run(**options: Any) -> tuple[dict[str, Any], Mapping[str, Array]]:
    """What a run that nobody interrupts saves, and what it stores."""
    data = np.split(samples(BATCH_SIZE * BATCHES), BATCHES)
    result = bnfold.calibrate("net.onnx", data, save_stats="whole.json", **options)
    saved: dict[str, Any] = json.loads(Path("whole.json").read_text())
    return saved, statistics(result.model)


@pytest.mark.parametrize(
    ("mode", "number"), [("batch", signal.SIGINT), ("sequential", signal.SIGTERM)]
)
def test_an_interrupted_run_goes_on(folder: Path, mode: str, number: int) -> None:
    options = ["--data", "feeds:whole", "--mode", mode, "--save-stats", "stats.json"]
    # In sequential mode in the pass for the second norm, when the first one is done.
    at = (1, 8) if mode == "batch" else (2, 8)
    status, errors = interrupted(at, number, *options, "-o", "out.onnx")
    assert status == (INTERRUPTED if number == signal.SIGINT else 128 + number)
    assert not Path("out.onnx").exists()
    part = json.loads(Path("stats.json").read_text())
    counts = {name: moments["batches"] for name, moments in part["moments"].items()}
    assert 4 <= counts["d"] < 8
    assert counts["a"] == (BATCHES if mode == "sequential" else counts["d"])
    assert list(part["seen"].values()) == [counts["d"]]
    if number == signal.SIGINT:
        assert errors == (
            f"bnfold: interrupted; the statistics of {counts['d']} batches are in stats.json; "
            "a run that merges them goes on from there\n"
        )

    report = finished(*options, "--merge-stats", "stats.json", "-o", "out.onnx")
    saved, expected = whole_run(mode=mode)
    assert_same_numbers(statistics(Path("out.onnx")), expected)
    # The same batches in the same order are the same sums.
    assert json.loads(Path("stats.json").read_text())["moments"] == saved["moments"]
    assert report["models"][0]["batches"] == BATCHES


def test_a_killed_run_goes_on_from_what_it_saved(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--data", "feeds:whole", "--save-stats", "stats.json", "-o", "out.onnx"]
    room = folder / "temporary"
    room.mkdir()
    monkeypatch.setenv("TMPDIR", str(room))
    status, _ = interrupted((1, 8), signal.SIGKILL, *options, program=("-c", OFTEN))
    assert status == -signal.SIGKILL
    part = json.loads(Path("stats.json").read_text())
    assert 4 <= part["moments"]["a"]["batches"] < 8
    assert_is_empty_soon(room)
    finished(*options, "--merge-stats", "stats.json")
    assert_same_numbers(statistics(Path("out.onnx")), whole_run()[1])


def assert_is_empty_soon(room: Path) -> None:
    """What computes the batches outlives a process that is killed, and removes its folders."""
    end = time.monotonic() + 30
    while list(room.iterdir()) and time.monotonic() < end:
        time.sleep(0.01)
    assert list(room.iterdir()) == []


KILLED = """
import os, pathlib, signal
import numpy as np
from bnfold.statistics.worker import Task, run_task

model = pathlib.Path("program.onnx").read_bytes()
assert run_task(Task("k", 1, {"x": np.load("x.npy")}, 1, model)) is not None
print(len(os.listdir(os.environ["TMPDIR"])), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_that_is_killed_leaves_no_folders(folder: Path) -> None:
    room = folder / "temporary"
    room.mkdir()
    Path("program.onnx").write_bytes(as_bytes(observing(load("net.onnx"), ["a"])))
    done = subprocess.run(
        [sys.executable, "-c", KILLED],
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(room), "PYTHONPATH": os.pathsep.join(["", *sys.path])},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b"2\n"  # one for the model, one for what computes
    assert_is_empty_soon(room)


def test_an_interrupted_run_that_saves_nothing_says_so(folder: Path) -> None:
    status, errors = interrupted((1, 5), signal.SIGINT, "--data", "feeds:whole", "-o", "out.onnx")
    assert (status, errors) == (
        INTERRUPTED,
        "bnfold: interrupted, nothing was left half written\n",
    )

"""Parts of a benchmark: the norms that onnxruntime leaves, its profile, memory, progress, notes."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bnfold
from bnfold.checking import session
from bnfold.checking.session import CPU
from bnfold.errors import UsageError
from bnfold.measuring import child, memory, notes, provider
from bnfold.measuring.children import Children, Model, Place
from bnfold.measuring.left import norms_of
from bnfold.measuring.measure import Measurement
from bnfold.measuring.outcome import LEVELS, Cell, Ratio, Spread, Start
from bnfold.measuring.profile import Used, read_profile, spent
from bnfold.measuring.progress import Progress
from bnfold.onnxgraph.load import load
from tests.support_bench import after_relu
from tests.support_models import filled, norm_parameters, parsed, with_values
from tests.support_verify import chain


def left(
    model: onnx.ModelProto, folder: Path, levels: tuple[Any, ...] = LEVELS
) -> list[int | None]:
    """How many norms onnxruntime leaves at each level, of those that bnfold folds."""
    path = folder / "model.onnx"
    onnx.save(model, path)
    folded = bnfold.fold(model).model
    removed = norms_of(load(path)).without(folded)
    idle = Progress(None, 1)
    work = folder / "work"
    work.mkdir()
    measurement = Measurement(
        Children(work, (CPU,), 1, idle),
        idle,
        [Model("ORIGINAL", "m", path)] * 2,
        nodes=(1, 1),
        removed=removed,
        duration=0.01,
        seed=0,
        is_slow=False,
    )
    found = [measurement.left(Place(level)) for level in levels]
    assert list(work.iterdir()) == []
    return found


def test_conv_and_norm_are_folded_by_onnxruntime_too(tmp_path: Path) -> None:
    assert left(chain(2), tmp_path) == [2, 0, 0, 0]


@pytest.mark.parametrize("named", [True, False])
def test_a_norm_behind_a_relu_is_left_at_every_level(named: bool, tmp_path: Path) -> None:
    model = after_relu()
    for node in model.graph.node:
        node.name = node.name if named else ""
    # At the last level it is a blocked Conv, which computes as much.
    assert left(model, tmp_path) == [1, 1, 1, 1]


def test_a_norm_between_casts_is_left(tmp_path: Path) -> None:
    model = after_relu("float16")
    for node in model.graph.node:
        node.name = ""
    assert left(model, tmp_path, ("all",)) == [1]


def test_chains_are_norms(tmp_path: Path) -> None:
    text = """agraph (float[N,16,9,9] x) => (float[N,16,7,7] y)
        <float[16,16,3,3] w, float[16,1,1] s, float[16,1,1] t> {
        c = Conv <pads=[1,1,1,1]> (x, w)  u = Mul (c, s)  a = Add (u, t)  r = Relu (a)
        p = Mul (r, s)  q = Add (p, t)  y = Conv (q, w) }"""
    # onnxruntime folds the first, which is behind a Conv.
    assert left(filled(parsed(text)), tmp_path) == [2, 1, 1, 1]


def test_norms_of_functions_are_counted(tmp_path: Path) -> None:
    text = f"""agraph (float[N,4,5,5] x) => (float[N,4,5,5] y)
        <float[4,4,1,1] w, {norm_parameters(4)}> {{
        c = Conv (x, w)  y = local.norm (c, g, b, m, v) }}
        <domain: "local", opset_import: ["" : 17]> norm (i, g, b, m, v) => (o) {{
        o = BatchNormalization (i, g, b, m, v) }}"""
    model = filled(parsed(text, imports='"local" : 1'))
    assert left(model, tmp_path, ("disable", "basic")) == [1, 0]


def test_norms_that_the_fold_leaves_do_not_count() -> None:
    text = f"""agraph (float[N,4,5,5] x) => (float[N,4,5,5] y)
        <float[4,4,1,1] w, {norm_parameters(4)}> {{
        [bn0] n = BatchNormalization (x, g, b, m, v)  r = Relu (n)
        c = Conv (r, w)  [bn1] y = BatchNormalization (c, g, b, m, v) }}"""
    model = filled(parsed(text))
    norms = norms_of(load(model))
    assert norms.count == 2
    removed = norms.without(bnfold.fold(model).model)
    assert removed.count == 1
    assert removed.left_in(model) == 1
    assert norms.without(model).count == 0


def kernel(name: str, operator: str, start: int, microseconds: int) -> dict[str, Any]:
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "ts": start,
        "dur": microseconds,
        "args": {"op_name": operator},
    }


def test_a_profile_by_hand(tmp_path: Path) -> None:
    runs = [
        {"cat": "Session", "name": "model_run", "ts": at, "dur": 90} for at in (0, 100, 200, 300)
    ]
    events = [
        {"cat": "Session", "name": "session_initialization", "ts": -50, "dur": 40},
        {"cat": "Node", "name": "a_fence_before", "ts": 1, "dur": 0, "args": {"op_name": "Conv"}},
        kernel("a", "Conv", 5, 9000),  # the first run warms up
        *(kernel("a", "Conv", at + 5, taken) for at, taken in ((100, 10), (200, 20), (300, 900))),
        *(kernel("b", "Conv", at + 40, 1) for at in (100, 200, 300)),
        *(kernel("c", "Relu", at, 7) for at in (100, 200, 300)),
        *runs,
    ]
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(events))
    found = read_profile(path)
    assert {operator: used.nodes for operator, used in found.items()} == {"Conv": 2, "Relu": 1}
    seconds = {operator: used.seconds for operator, used in found.items()}
    assert seconds == pytest.approx({"Conv": 21e-6, "Relu": 7e-6})


def test_profiles_side_by_side() -> None:
    before = {"Relu": Used(1.0, 2), "BatchNormalization": Used(3.0, 1)}
    after = {"Relu": Used(2.0, 2), "Pad": Used(0.5, 1), "Add": Used(0.7, 1)}
    rows = spent("all", 4, before, after)
    assert [(r.operator, r.original, r.folded, r.original_nodes, r.folded_nodes) for r in rows] == [
        ("BatchNormalization", 3.0, 0.0, 1, 0),
        ("Relu", 1.0, 2.0, 2, 2),
        ("Add", 0.0, 0.7, 0, 1),
        ("Pad", 0.0, 0.5, 0, 1),
    ]
    assert {(row.level, row.batch) for row in rows} == {("all", 4)}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_anonymous_memory_is_what_no_file_backs(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(64 << 20))
    before = memory.anonymous_memory()
    mapped = np.memmap(path, np.uint8, "r")
    total = int(mapped.sum())
    with_file = memory.anonymous_memory()
    fresh = mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    held = np.frombuffer(fresh, np.uint8)  # no memory that was freed before
    held[:] = 1
    with_array = memory.anonymous_memory(os.getpid())
    assert before is not None
    assert with_file is not None
    assert with_array is not None
    assert total == 0
    assert held[-1] == 1
    assert with_file - before < 32 << 20
    assert with_array - with_file > 48 << 20


def test_memory_of_a_process_that_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert memory.anonymous_memory(process.pid) is None


def test_progress_goes_on_within_a_step() -> None:
    told: list[tuple[float, str]] = []
    progress = Progress(lambda done, what: told.append((done, what)), 10.0)
    progress.begin("first", 4.0)
    progress.tick()  # too soon to say anything new
    progress.begin("second", 1e-3)
    time.sleep(0.11)
    progress.tick()  # longer than it should: it is not further than its end
    progress.begin("third", 5.999)
    progress.end()
    assert [what for _, what in told] == ["first", "second", "second", "third", "done"]
    assert [done for done, _ in told] == pytest.approx([0, 0.4, 0.4001, 0.4001, 1])


def test_inputs_and_outputs_on_a_device(tmp_path: Path) -> None:
    # There is no other device than the processor everywhere.
    model = chain(1)
    onnx.save(model, tmp_path / "model.onnx")
    opened = session.opened(str(tmp_path / "model.onnx"))
    feeds = {"x": np.ones((2, 4, 5, 5), np.float32)}
    run = child.bound(opened, feeds, "cpu")
    (expected,) = opened.run(None, feeds)
    for _ in range(2):
        (found,) = run()
        assert found.device_name() == "cpu"
        assert (found.numpy() == expected).all()


FLUSHES = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from bnfold.checking import session
first, second = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
config = {"session.set_denormal_as_zero": "1"}
flushing = second.submit(session.opened, sys.argv[1], threads=1, config=config).result()
plain = first.submit(session.opened, sys.argv[1], threads=1).result()
feeds = {"x": np.full((1, 4), 1e-20, np.float32)}
for thread, opened in ((first, plain), (second, flushing), (first, plain)):
    print((thread.submit(opened.run, None, feeds).result()[0] != 0).any())
"""


def test_what_flushes_is_the_thread_of_the_first_session(tmp_path: Path) -> None:
    # The order in which the child creates sessions, and its threads, rest on this.
    model = filled(
        parsed("agraph (float[N,4] x) => (float[N,4] y) <float[4] w> { y = Mul (x, w) }")
    )
    onnx.save(with_values(model, w=np.full(4, 1e-20, np.float32)), tmp_path / "model.onnx")
    command = [sys.executable, "-c", FLUSHES, str(tmp_path / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "True"]


AVAILABLE = ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.mark.parametrize("name", ["cuda", "CUDA", "CUDAExecutionProvider"])
def test_names_of_providers(name: str) -> None:
    assert provider.full_name(name, AVAILABLE) == "CUDAExecutionProvider"
    assert provider.in_order("CUDAExecutionProvider") == tuple(AVAILABLE)
    assert provider.in_order(CPU) == (CPU,)


def test_a_provider_that_is_not_installed() -> None:
    with pytest.raises(UsageError) as caught:
        provider.full_name("cuda", [CPU])
    assert str(caught.value) == "onnxruntime has no provider 'cuda' here (available: cpu)"


def start(norms_left: int | None) -> Start:
    one = Spread(1.0, 1.0, 1.0, 6)
    return Start("extended", norms_left, one, one, Ratio(1, 1, 1), None, None)


NOTES = {
    0: "had folded 5 of 5 norms itself, so about 1.00x is expected there",
    3: "had folded 2 of 5 norms itself",
}


def test_notes_on_norms() -> None:
    for count, words in NOTES.items():
        assert notes.notes_on_norms([start(count)], 5) == [f"at level extended onnxruntime {words}"]
    assert notes.notes_on_norms([start(5)], 5) == []
    assert "not known" in notes.notes_on_norms([start(None)], 5)[0]
    assert "about 1.00x is expected everywhere" in notes.notes_on_norms([start(0)], 0)[0]


def test_notes_on_time() -> None:
    one = Spread(1.0, 1.0, 1.0, 6)

    def noted(*ratio: float, flushed: Ratio | None = None) -> list[str]:
        return notes.notes_on_time([Cell("all", 8, one, one, Ratio(*ratio), flushed)])

    assert noted(1.5, 1.4, 1.6) == []
    assert noted(0.99, 0.97, 1.01) == []
    assert noted(0.8, 0.7, 0.9) == ["at level all, batch 8 FOLDED is slower: 0.80x (0.70 to 0.90)"]
    assert noted(1.1, 0.5, 2.0) == [
        "at level all, batch 8 the ratio can be anything from 0.50x to 2.00x: the machine was "
        "busy, or duration (--duration) is short"
    ]
    assert noted(1, 1, 1, flushed=Ratio(1.01, 1.005, 1.02)) == []
    assert noted(1, 1, 1, flushed=Ratio(20, 19, 21)) == [
        "at level all, batch 8 FOLDED runs 20.00x as fast with subnormal numbers flushed to zero "
        "(session.set_denormal_as_zero)"
    ]


def test_notes_on_the_rest() -> None:
    assert notes.notes_on_subnormals("FOLDED", {"float32": 3}) == []
    assert notes.notes_on_subnormals("FOLDED", {"float32": 3, "float16": 2}) == [
        "subnormal weights in FOLDED: 2 of float16, 3 of float32"
    ]
    assert notes.notes_on_setting(2, 2, CPU) == []
    assert notes.notes_on_setting(4, 2, "CUDAExecutionProvider") == [
        "4 threads share 2 cores",
        "memory is that of the host, not of the device",
    ]

"""Batches in threads, in processes and on a dask cluster give the numbers of one process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper, parser

import bnfold
from bnfold.cli.app import application
from bnfold.errors import ModelError, UsageError
from bnfold.onnxgraph.load import Document, load
from bnfold.report.calibrate_plot import calibrate_plot
from bnfold.statistics import worker
from bnfold.statistics.cluster import connected
from bnfold.statistics.inputs import Feed
from bnfold.statistics.moments import Moments
from bnfold.statistics.observe import as_bytes, moments_of, observing
from bnfold.statistics.worker import Task, moments_on, run_task
from tests.support_small_network import network, samples

distributed: Any = import_module("distributed")  # it has types for a part of itself

TEXT = """<ir_version: 8, opset_import: ["": 17]>
g (float[N, 3, H, W] x) => (float[N, M, I, J] y) {
  a = Conv(x, w)
  b = Relu(a)
  y = Conv(b, v)
}"""
BATCHES = 12


def small_model() -> onnx.ModelProto:
    model = parser.parse_model(TEXT)
    random = np.random.default_rng(5)
    for name, shape in (("w", (8, 3, 3, 3)), ("v", (5, 8, 3, 3))):
        value = random.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    return model


def feeds(number: int = BATCHES) -> Iterator[Feed]:
    random = np.random.default_rng(6)
    for at in range(number):
        yield {"x": random.standard_normal((4 + at % 3, 3, 9, 8)).astype(np.float32) + at}


@pytest.fixture(scope="module")
def program() -> Document:
    return observing(load(small_model()), ["a", "b", "y"])


@pytest.fixture(scope="module")
def expected(program: Document) -> list[dict[str, Moments]]:
    return list(moments_of(program, feeds(), threads=1))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",
        silence_logs=50,
    ) as started:
        yield started


def numbers(moments: Moments) -> list[npt.NDArray[Any]]:
    counts = np.array([moments.count, moments.batches])
    parts = [moments.mean, moments.m2, moments.mean_of_means, moments.mean_of_vars]
    return [counts, *parts]


def assert_equal(found: list[dict[str, Moments]], expected: list[dict[str, Moments]]) -> None:
    """Bit by bit."""
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert list(mine) == list(theirs)
        for name in mine:
            for one, other in zip(numbers(mine[name]), numbers(theirs[name]), strict=True):
                np.testing.assert_array_equal(one, other)


def test_threads_give_the_numbers_of_one_process(
    program: Document, expected: list[dict[str, Moments]]
) -> None:
    with ThreadPoolExecutor(3) as pool:
        assert_equal(list(moments_on(pool, program, feeds())), expected)
    assert worker._models == {}


def test_processes_give_the_numbers_of_one_process(
    program: Document, expected: list[dict[str, Moments]]
) -> None:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, spawn) as pool:
        assert_equal(list(moments_on(pool, program, feeds())), expected)


def test_a_cluster_gives_the_numbers_of_one_process(
    cluster: Any, program: Document, expected: list[dict[str, Moments]]
) -> None:
    with connected(cluster.scheduler_address) as (executor, in_flight):
        assert in_flight == 4
        found = list(moments_on(executor, program, feeds(), in_flight=in_flight))
        with distributed.Client(cluster.scheduler_address, set_as_default=False) as client:
            assert set(client.run(models_held).values()) == {1}  # both have worked
    assert_equal(found, expected)


def models_held() -> int:
    return len(worker._models)


def test_the_batches_of_a_killed_worker_are_done_again(
    cluster: Any, program: Document, expected: list[dict[str, Moments]]
) -> None:
    with (
        connected(cluster.scheduler_address) as (executor, in_flight),
        distributed.Client(cluster.scheduler_address, set_as_default=False) as client,
    ):
        victim, process = next(iter(client.run(os.getpid).items()))

        def killing() -> Iterator[Feed]:
            for number, feed in enumerate(feeds()):
                if number == 0:
                    os.kill(process, signal.SIGSTOP)  # so that what it gets, it has when it dies
                if number == 3:
                    end = time.monotonic() + 30
                    while not client.processing()[victim] and time.monotonic() < end:
                        time.sleep(0.01)
                    assert client.processing()[victim]
                    os.kill(process, signal.SIGKILL)
                yield feed

        found = list(moments_on(executor, program, killing(), in_flight=in_flight))
        assert process not in client.run(os.getpid).values()
    assert_equal(found, expected)


@pytest.mark.parametrize("mode", ["batch", "sequential"])
def test_calibrate_gives_the_same_model_with_any_executor(mode: str) -> None:
    data = samples(22)
    options: dict[str, Any] = {"batch_size": 4, "mode": mode}
    expected = bnfold.calibrate(network(), data, threads=1, **options)
    with ThreadPoolExecutor(2) as pool:
        found = bnfold.calibrate(network(), data, executor=pool, in_flight=3, **options)
    assert found.model == expected.model
    assert found.report == expected.report
    assert found.report.batches == 6


def test_what_onnxruntime_does_not_take_is_evaluated_on_workers_too() -> None:
    model = network("double")
    expected = bnfold.calibrate(model, samples().astype(np.float64), batch_size=8)
    with ThreadPoolExecutor(2) as pool:
        found = bnfold.calibrate(model, samples().astype(np.float64), batch_size=8, executor=pool)
    assert found.model == expected.model


def test_calibrate_stops_at_the_same_batch_with_any_executor() -> None:
    options: dict[str, Any] = {"batch_size": 2, "tolerance": 0.5}
    expected = bnfold.calibrate(network(), samples(), **options)
    with ThreadPoolExecutor(3) as pool:
        found = bnfold.calibrate(network(), samples(), executor=pool, **options)
    assert found.report == expected.report
    assert found.report.is_settled
    assert found.report.batches < 24
    assert worker._models == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": "tcp://host:8786"}, "executor is of type str"),
        ({"executor": ThreadPoolExecutor(1), "in_flight": 0}, "in_flight 0: it has to be"),
    ],
)
def test_what_cannot_run_batches_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        bnfold.calibrate(network(), samples(), **options)


def test_the_command_runs_on_a_cluster(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(network(), "net.onnx")
    np.save("x.npy", samples())
    expected = bnfold.calibrate("net.onnx", "x.npy", batch_size=4, threads=1)
    command = ["calibrate", "net.onnx", "--data", "x.npy", "--batch-size", "4", "-o", "out.onnx"]
    command += ["--dask", cluster.scheduler_address, "--plot", "drift.svg"]
    with pytest.raises(SystemExit) as ended:
        application()(command)
    assert not ended.value.code
    assert capsys.readouterr().err == ""
    assert onnx.load("out.onnx") == expected.model
    assert Path("drift.svg").read_bytes() == calibrate_plot(expected.report, ".svg")


def test_a_bad_batch_is_named_wherever_it_runs(program: Document) -> None:
    def bad() -> Iterator[Feed]:
        for number, feed in enumerate(feeds(5), start=1):
            yield {"x": feed["x"][:, :2]} if number == 4 else feed

    with ThreadPoolExecutor(2) as pool:
        results = moments_on(pool, program, bad())
        assert len([next(results) for _ in range(3)]) == 3
        with pytest.raises(ModelError, match=r"^batch 4: .*onnxruntime cannot run it: .*\bx\b"):
            next(results)
    assert worker._models == {}


def test_a_worker_asks_for_a_model_that_it_does_not_have() -> None:
    assert run_task(Task("no such key", 1, next(feeds()), 1)) is None


def test_a_worker_gives_up_a_model_that_nobody_uses(
    program: Document, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(worker, "IDLE", 0.05)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = as_bytes(program)
    assert run_task(Task("k", 1, next(feeds()), 1, data)) is not None
    end = time.monotonic() + 30
    while (worker._models or list(tmp_path.iterdir())) and time.monotonic() < end:
        time.sleep(0.01)
    assert worker._models == {}
    assert list(tmp_path.iterdir()) == []


def test_a_worker_holds_few_models(program: Document) -> None:
    data = as_bytes(program)
    for key in "abcabd":
        assert run_task(Task(key, 1, next(feeds()), 1, data)) is not None
        assert len(worker._models) <= worker.MODELS
    assert [key for _, key in worker._models] == ["b", "d"]
    for key in "bd":
        worker._close(key)
    assert worker._models == {}


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("tcp://127.0.0.1:1", "no scheduler answers: timed out after 0.2 s"),
        ("host", "no scheduler answers: missing port number"),
        ("x://host:1", "no scheduler answers: unknown address scheme 'x'"),
        ("none.json", "cannot read it: No such file"),
        ("bad.json", "it is no scheduler file of dask"),
    ],
)
def test_an_address_without_a_scheduler_is_an_error(
    address: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("bnfold.statistics.cluster._PATIENCE", 0.2)
    monkeypatch.chdir(tmp_path)
    Path("bad.json").write_text("[1]")
    with pytest.raises(UsageError) as caught, connected(address):
        pass
    assert str(caught.value).startswith(f"--dask {address}: {message}")


def test_a_worker_is_no_scheduler(cluster: Any) -> None:
    address = next(iter(cluster.scheduler.workers))
    with pytest.raises(UsageError, match="no scheduler answers: a Worker is there"):
        connected(address).__enter__()


def test_a_scheduler_without_workers_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnfold.statistics.cluster._PATIENCE", 0.5)
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0", silence_logs=50) as empty,
        pytest.raises(UsageError, match="the scheduler has no workers"),
    ):
        connected(empty.scheduler_address).__enter__()


def test_a_scheduler_file_stands_for_its_address(cluster: Any, tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    path.write_text(f'{{"type": "Scheduler", "address": "{cluster.scheduler_address}"}}')
    with connected(str(path)) as (executor, _):
        assert executor.submit(len, "abc").result() == 3


def test_without_dask_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"^--dask needs .*: pip install 'bnfold\[dask\]'$"):
        connected("tcp://127.0.0.1:1").__enter__()

"""What an executor runs: one batch, in a child process that stays for the next one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import threading
from collections.abc import Generator, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Final

import onnx

from bnfold.checking.runtime import writing_to
from bnfold.onnxgraph.load import Document, load
from bnfold.statistics.dispatch import batches_in_flight, in_order
from bnfold.statistics.evaluating import evaluated_moments, has_rare_floats
from bnfold.statistics.inputs import Feed
from bnfold.statistics.moments import Moments
from bnfold.statistics.observe import as_bytes
from bnfold.statistics.program import observed_in, read_moments
from bnfold.statistics.running import CannotLoad, Runner

IDLE: Final = 30.0
"""Seconds after which a worker without a batch gives the model up."""
MODELS: Final = 2
"""So many models does a worker hold, if several calibrations share it."""

_FILE: Final = "model.onnx"


@dataclass(frozen=True)
class Task:
    """One batch for whatever process gets it.

    Attributes:
        key: of the model.
        number: of the batch, for messages.
        feed: input -> values.
        threads: within an operator.
        model: of ``as_bytes``, only for a process that has asked for it.
        in_float64: whether the model is evaluated in float64, without onnxruntime.
    """

    key: str
    number: int
    feed: Feed
    threads: int
    model: bytes | None = None
    in_float64: bool = False


def moments_on(
    executor: Executor,
    program: Document,
    feeds: Iterable[Feed],
    *,
    threads: int = 0,
    first: int = 1,
    in_flight: int | None = None,
    in_float64: bool = False,
) -> Generator[dict[str, Moments], None, None]:
    """The moments of each batch, in order, computed by the workers of an executor.

    They are those that ``moments_of`` computes, or ``evaluated_moments``. The model goes to each
    process once.

    Args:
        executor: of threads, processes or machines that have bnfold and onnxruntime.
        program: of ``observing``, or of ``training_form``.
        feeds: the batches; only those in flight are in memory.
        threads: within an operator; 0 for 1, since there are as many batches as workers.
        first: the number of the first batch, for messages.
        in_flight: how many batches are; by default two for each worker.
        in_float64: whether they are those of ``evaluated_moments``.

    Raises:
        BnfoldError: a batch failed; the message names it.
    """
    model = as_bytes(program)
    key = hashlib.sha256(model).hexdigest() + (" in float64" if in_float64 else "")
    tasks = (
        Task(key, number, feed, threads or 1, in_float64=in_float64)
        for number, feed in enumerate(feeds, first)
    )
    try:
        yield from in_order(
            executor,
            run_task,
            tasks,
            in_flight=in_flight or batches_in_flight(executor),
            first=first,
            again=lambda task: replace(task, model=model),
        )
    finally:
        _close(key)  # where the workers are threads of this process


def run_task(task: Task) -> dict[str, Moments] | None:
    """The moments of one batch, by tensor; None where this process has to be sent the model.

    Raises:
        ModelError: onnxruntime cannot run the model on it, or a statistic is not finite.
    """
    held = _begun(task)
    return None if held is None else held.run(task.number, task.feed)


class _Held:
    """A model that this process runs, in as many child processes as it has threads for it."""

    def __init__(self, task: Task, model: bytes) -> None:
        # Processes of a pool end without what ``atexit`` has, but not without this.
        self._finalizer = Finalize(None, _close, (task.key,), exitpriority=100)
        self.key = task.key
        self._threads = task.threads
        self._observed = observed_in(onnx.ModelProto.FromString(model))
        self._room: tempfile.TemporaryDirectory[str] | None = None
        self._evaluated = load(model) if task.in_float64 else None
        if self._evaluated is None:
            self._room = tempfile.TemporaryDirectory(prefix="bnfold-")
            with writing_to(Path(self._room.name)):
                (Path(self._room.name) / _FILE).write_bytes(model)
        self._lock = threading.Lock()
        self._resting: list[tuple[Runner, int]] = []
        self._at_work = 0
        self._timer: threading.Timer | None = None
        self._is_closed = False

    def begin(self) -> None:
        """A batch is about to run: until it has, nothing is cleaned up."""
        with self._lock:
            self._at_work += 1

    def run(self, number: int, feed: Feed) -> dict[str, Moments]:
        """The moments of one batch, after ``begin``."""
        with self._lock:
            runner, done = self._resting.pop() if self._resting else (None, 0)
        try:
            runner = runner or self._started()
            found = self._computed(runner, done, number, feed)
        except BaseException:
            self._rest(None, 0)
            raise
        self._rest(runner, done + 1)
        return found

    def _started(self) -> Runner | None:
        """A child process; None where the model is evaluated in float64 instead."""
        if self._evaluated is not None:
            return None
        assert self._room is not None
        wanted = [output for outputs in self._observed.values() for output in outputs]
        room = Path(self._room.name)
        runner = Runner(room / _FILE, wanted, threads=self._threads, name="the model", room=room)
        runner.__enter__()
        try:
            runner.load()
        except BaseException as error:
            runner.__exit__()
            document = load(room / _FILE)
            if not isinstance(error, CannotLoad) or not has_rare_floats(document):
                raise
            self._evaluated = document
            return None
        return runner

    def _computed(
        self, runner: Runner | None, done: int, number: int, feed: Feed
    ) -> dict[str, Moments]:
        """The moments of one batch; where it fails the child process is ended.

        Args:
            done: how many batches the child process has run.
        """
        if runner is None:
            assert self._evaluated is not None
            (found,) = evaluated_moments(self._evaluated, [feed], first=number)
            return found
        try:
            (values,) = runner.over([feed], number - done)
            return read_moments(values, self._observed, f"batch {number}")
        except BaseException:
            runner.__exit__()
            raise

    def close(self) -> None:
        """End the child processes that have nothing to do; the others end after their batch."""
        with self._lock:
            self._is_closed = True
            if self._timer is not None:
                self._timer.cancel()
            resting, self._resting = self._resting, []
            is_last = not self._at_work
        self._finalizer.cancel()
        for runner, _ in resting:
            runner.__exit__()
        if is_last and self._room is not None:
            self._room.cleanup()

    def _rest(self, runner: Runner | None, done: int) -> None:
        """Keep a child process for the next batch; give all up where none comes."""
        with self._lock:
            self._at_work -= 1
            if runner is not None:
                self._resting.append((runner, done))
            if self._timer is not None:
                self._timer.cancel()
            is_over = self._is_closed
            if not is_over and not self._at_work:
                self._timer = threading.Timer(IDLE, _close, (self.key,))
                self._timer.daemon = True
                self._timer.start()
        if is_over:
            self.close()


_models: dict[tuple[int, str], _Held] = {}
"""By process and key: a process that was forked has none of its parent's child processes."""
_access = threading.Lock()


def _begun(task: Task) -> _Held | None:
    """The model of a task, which is about to run; the one used longest ago may be given up."""
    mine = (os.getpid(), task.key)
    with _access:
        found = _models.pop(mine, None)
        if found is None and task.model is not None:
            found = _Held(task, task.model)
        if found is not None:
            found.begin()
            _models[mine] = found  # at the end
        ours = [at for at in _models if at[0] == mine[0]]
        old = [_models.pop(at) for at in ours[:-MODELS]]
    for held in old:
        held.close()
    return found


def _close(key: str) -> None:
    """Give up a model of this process."""
    with _access:
        held = _models.pop((os.getpid(), key), None)
    if held is not None:
        with contextlib.suppress(OSError):
            held.close()

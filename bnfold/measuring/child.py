"""What a child process measures: ``python -m bnfold.measuring.child FOLDER``.

``job.json`` in the folder says what to do, ``result.json`` what came out, and ``stage.txt`` which
model was at work when something went wrong.
"""

from __future__ import annotations

import contextlib
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from bnfold.checking import session
from bnfold.measuring.memory import anonymous_memory, most_memory
from bnfold.measuring.turns import Clock, in_turn, warmed_up

NOT_USED: Final = 12
"""The exit status where a session does not use the provider that was asked for."""

LEAST_STARTS, MOST_STARTS = 3, 12
"""Blocks of sessions that are created..."""

SLOW_START, LEAST_SLOW_STARTS = 3.0, 2
"""... and where one takes more than so many seconds."""

Job = dict[str, Any]


class _Ended(Exception):  # noqa: N818
    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Model:
    """One of the models of a job.

    Args:
        number: its place among them.
        more: further arguments of ``session.opened``.
    """

    def __init__(self, job: Job, folder: Path, number: int, **more: Any) -> None:
        self._job, self._folder, self._number, self._more = job, folder, number, more
        self._run: Callable[[], Any] | None = None
        self.session: Any = None

    def open(self) -> float:
        """Create the session; gives the seconds of that."""
        self._stage()
        job = self._job
        config = {**job.get("config", {}), **job["configs"][self._number]}
        with self._failures(session.CANNOT_LOAD):
            start = time.perf_counter()
            self.session = session.opened(
                job["models"][self._number],
                job["level"],
                providers=job["providers"],
                threads=job["threads"],
                config=config,
                **self._more,
            )
            taken = time.perf_counter() - start
        used = self.session.get_providers()
        if job["providers"][0] not in used:
            raise _Ended(NOT_USED, f"onnxruntime uses {', '.join(used)} instead")
        return taken

    def close(self) -> None:
        """Let the session go."""
        self.session = self._run = None

    def load(self) -> None:
        """Put the inputs where a run finds them, and run once."""
        feeds = session.read_arrays(Path(self._job["feeds"]))
        self._stage()
        with self._failures(session.CANNOT_RUN):
            if self._job["providers"][0] == "CUDAExecutionProvider":
                self._run = bound(self.session, feeds, "cuda")
            else:
                wanted = [output.name for output in self.session.get_outputs()]
                values = session.given(feeds)
                self._run = lambda: self.session.run_with_ort_values(wanted, values)
            self._run()

    def turn(self, runs: int) -> float:
        """Run so many times; gives the seconds of all."""
        run = self._run
        assert run is not None
        clock = _clock_of(self._job)
        with self._failures(session.CANNOT_RUN):
            start = clock()
            for _ in range(runs):
                run()
            return clock() - start

    def start(self, runs: int) -> float:
        """Create so many sessions; gives the seconds of all, without those of letting them go."""
        taken = 0.0
        for _ in range(runs):
            taken += self.open()
            self.close()
        return taken

    def _stage(self) -> None:
        (self._folder / "stage.txt").write_text(str(self._number))

    @contextlib.contextmanager
    def _failures(self, status: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._stage()
            raise _Ended(status, session.one_line(error)) from error


def bound(opened: Any, feeds: dict[str, session.Array], device: str) -> Callable[[], Any]:
    """A run whose inputs and outputs stay on the device, and which waits for its end."""
    binding = opened.io_binding()
    for name, value in session.given(feeds, device).items():
        binding.bind_ortvalue_input(name, value)
    for output in opened.get_outputs():
        binding.bind_output(output.name, device)

    def run() -> Any:
        opened.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return binding.get_outputs()

    return run


def _time(job: Job, folder: Path) -> Any:
    is_apart = job["configs"][0] != job["configs"][1]
    if job["threads"] > 1:
        # Threads of one model that wait for work would take the cores of the other, and where the
        # system puts threads would be a difference between them.
        if not is_apart and session.share_threads(job["threads"]):
            job["threads"] = None
        else:
            job["config"] = {"session.force_spinning_stop": "1"}
    models = [_Model(job, folder, number) for number in range(2)]
    with contextlib.ExitStack() as stack:
        # Of all sessions of a process the first decides whether the thread that creates it
        # flushes subnormal numbers, so each model has a thread of its own if they differ in that.
        threads = [stack.enter_context(ThreadPoolExecutor(1)) for _ in models]

        def on(number: int, work: Callable[..., Any], *arguments: Any) -> Any:
            if is_apart:
                return threads[number].submit(work, *arguments).result()
            return work(*arguments)

        for number in (1, 0) if is_apart else (0, 1):
            on(number, models[number].open)
        for number in (0, 1):
            on(number, models[number].load)
        gc.disable()
        turns = [lambda runs, n=n: on(n, models[n].turn, runs) for n in (0, 1)]
        clock = _clock_of(job)
        runs = warmed_up(turns[0], turns[1], job["duration"], clock)
        return in_turn(turns[0], turns[1], job["duration"], runs=runs, clock=clock)


def _clock_of(job: Job) -> Clock:
    """What is measured: time on the clock, or of the processor.

    That of models on one thread is the same, but for what a busy machine gives to others.
    """
    return time.process_time if job.get("clock") == "processor" else time.perf_counter


def _start(job: Job, folder: Path) -> Any:
    models = [_Model(job, folder, number) for number in range(2)]
    is_slow = max([model.start(1) for model in models]) > SLOW_START
    least = LEAST_SLOW_STARTS if is_slow else LEAST_STARTS
    gc.disable()
    return in_turn(models[0].start, models[1].start, job["duration"], least=least, most=MOST_STARTS)


def _memory(job: Job, folder: Path) -> Any:
    session.installed()
    session.read_arrays(Path(job["feeds"]))
    before, most_before = anonymous_memory(), most_memory()
    if before is not None:
        (folder / "before").write_text(str(before))
    model = _Model(job, folder, 0)
    model.open()
    model.load()
    after, most_after = anonymous_memory(), most_memory()
    if before is not None and after is not None:
        return after - before
    if most_before is not None and most_after is not None:
        return most_after - most_before
    return None


def _profile(job: Job, folder: Path) -> Any:
    model = _Model(job, folder, 0, profile=str(folder / "profile"))
    model.open()
    model.load()
    end = time.perf_counter() + job["duration"]
    for number in range(job["most"]):
        model.turn(1)
        if number + 1 >= job["least"] and time.perf_counter() > end:
            break
    return model.session.end_profiling()


def _optimise(job: Job, folder: Path) -> Any:
    _Model(job, folder, 0, optimized=str(folder / "optimized.onnx")).open()
    return None


def _installed(job: Job, folder: Path) -> Any:
    return session.installed()


_ACTIONS: Final[dict[str, Callable[[Job, Path], Any]]] = {
    "time": _time,
    "start": _start,
    "memory": _memory,
    "profile": _profile,
    "optimise": _optimise,
    "installed": _installed,
}


def main(folder: Path) -> int:
    """Do the job of a folder."""
    job = json.loads((folder / "job.json").read_text())
    try:
        result = _ACTIONS[job["action"]](job, folder)
    except _Ended as ended:
        print(ended, file=sys.stderr)
        return ended.status
    (folder / "result.json").write_text(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

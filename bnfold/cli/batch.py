"""Many models in one command: one after the other or side by side, and one report at the end."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from bnfold.cli.inputs import Input
from bnfold.errors import COULD_NOT, BnfoldError
from bnfold.folding.find import unmatched
from bnfold.folding.outcome import Report
from bnfold.onnxgraph.save import stage, staging

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")


class Errors(dict[str, str]):
    """Model -> message, for the models that failed.

    Attributes:
        status: with which the command ends: 2, or 3 if one of them is a bug of bnfold's.
    """

    status = COULD_NOT

    def add(self, model: str, error: BnfoldError) -> None:
        """Note why a model failed."""
        self[model] = str(error)
        self.status = max(self.status, error.exit_status)


def over_all(
    entries: Sequence[Input], work: Callable[[Input], T], *, jobs: int = 1, quiet: bool = False
) -> tuple[list[T], Errors]:
    """Do the same to every model; what fails for one does not stop the others.

    Args:
        work: called with each model; has to be picklable for more than one job.
        jobs: number of processes.
        quiet: show no progress.

    Returns:
        The results in the order of ``entries``, and model -> message for those that failed.
    """
    _keep_freed_memory()
    results: dict[int, T] = {}
    errors = Errors()
    with _progress(len(entries), quiet) as advance:
        for at, outcome in _outcomes(entries, work, jobs):
            try:
                results[at] = outcome()
            except BnfoldError as error:
                errors.add(entries[at].name, error)
            advance()
            if len(entries) > 1:
                gc.collect()  # it is off, see bnfold.__main__; a model is many objects in cycles
    return [results[at] for at in sorted(results)], errors


def _keep_freed_memory() -> None:
    """Let glibc reuse the memory of blocks of weights: once a larger block was freed, it no longer
    gives each one back and asks for it again, page by page. Elsewhere this does nothing.
    """
    np.empty(_LARGE, np.uint8)  # never touched, so it takes no memory


_LARGE = (1 << 25) - (1 << 13)
"""Just below the most that glibc learns from (``mallopt``, ``M_MMAP_THRESHOLD``): 32 MiB, with the
header of the block, rounded up to pages, and two flags that it counts as part of the size."""


def _outcomes(
    entries: Sequence[Input], work: Callable[[Input], T], jobs: int
) -> Iterator[tuple[int, Callable[[], T]]]:
    if jobs == 1 or len(entries) == 1:
        for at, entry in enumerate(entries):
            yield at, lambda entry=entry: work(entry)  # type: ignore[misc]
        return
    # They take a while to import, and most commands are about one model.
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    pool = ProcessPoolExecutor(min(jobs, len(entries)), get_context("spawn"), _ignore_interrupt)
    try:
        with _interrupts_held():
            futures: dict[Future[T], int] = {
                pool.submit(_interruptible, work, entry): at for at, entry in enumerate(entries)
            }
        for future in as_completed(futures):
            yield futures[future], future.result
    except BaseException:
        for process in list(pool._processes.values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while workers start: they inherit that, the parent gets it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_interrupt() -> None:
    """Ctrl-C reaches the whole process group; the parent ends its workers, with SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Stopped(BaseException):
    """SIGTERM, on its way out of a task."""


def _interruptible(work: Callable[[Input], T], entry: Input) -> T:
    """Run one task so that SIGTERM unwinds it, nothing is left half written, and the worker ends.

    The pool hands on whatever else a task raises, and goes on with the next one.
    """
    try:
        return _unwinding(work, entry)
    except _Stopped:
        os._exit(128 + signal.SIGTERM)


def _unwinding(work: Callable[[Input], T], entry: Input) -> T:
    def stop(number: int, frame: FrameType | None) -> None:
        if _is_in_destructor(frame) and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0.01)  # what is raised there is lost
            return
        for each in _STOPS:
            signal.signal(each, signal.SIG_IGN)  # a second one would stop the cleaning up
        raise _Stopped

    for number in _STOPS:
        signal.signal(number, stop)
    try:
        return work(entry)
    finally:
        for number in _STOPS:
            signal.signal(number, signal.SIG_DFL)


_STOPS = [getattr(signal, name) for name in ("SIGTERM", "SIGALRM") if hasattr(signal, name)]


def _is_in_destructor(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Callable[[], None]]:
    if total < 2 or quiet or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    columns = ("models", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("models", total=total)
        yield lambda: progress.advance(task)


@contextmanager
def waiting(what: str, quiet: bool) -> Iterator[None]:
    """Show on a terminal that something long is going on."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{what} ..."):
        yield


def warn_of_unmatched(patterns: Iterable[str], labels: Iterable[str], what: str) -> None:
    """Say on stderr which patterns matched nothing: a misspelt one would pass unnoticed.

    Args:
        labels: names of what they choose from.
        what: one of these is, for the sentence.
    """
    for pattern in unmatched(patterns, labels):
        print(f"bnfold: note: the pattern {pattern!r} matches no {what}", file=sys.stderr)


def nodes_in(reports: Iterable[Report]) -> list[str]:
    """The names of the nodes of all norms."""
    return [name for report in reports for norm in report.norms for name in norm.nodes]


def finish(
    command: str,
    models: Sequence[dict[str, Any]],
    texts: Sequence[str],
    errors: Errors,
    *,
    as_json: bool,
    quiet: bool = False,
    save_report: Path | None = None,
    to_stderr: bool = False,
    files: Mapping[Path, bytes] | None = None,
) -> None:
    """Write the files, print the report, and end with status 2 or 3 if a model failed.

    Neither a reader who has left nor a file that cannot be written takes away the other.

    Args:
        files: what else to write, all of it or nothing.
    """
    saved, whole = dict(files or {}), ""
    if as_json or save_report is not None:
        from bnfold.report.as_json import document, dumps

        whole = dumps(document(command, models, errors))
    stream = sys.stderr if to_stderr else sys.stdout
    text = whole if as_json else "" if quiet else "\n\n".join(texts)
    if save_report is not None:
        saved[save_report] = f"{whole}\n".encode(errors="backslashreplace")
    try:
        if saved:
            with staging() as staged:
                for path, data in saved.items():
                    stage(staged, path, [data])
    finally:
        if text:
            print(text, file=stream, flush=True)
    for message in errors.values():
        print(f"bnfold: {message}", file=sys.stderr)
    if errors:
        raise SystemExit(errors.status)

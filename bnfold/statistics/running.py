"""Batches run one after the other in one child process, which alone has onnxruntime."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bnfold.checking.runtime import writing_to
from bnfold.checking.session import CANNOT_LOAD, Array, read_arrays, why_ended, write_arrays
from bnfold.errors import FileError, ModelError
from bnfold.statistics.child import READY
from bnfold.statistics.inputs import Feed

AHEAD = 2
"""So many batches are in flight: one is read while another is computed."""


class CannotLoad(ModelError):  # noqa: N818
    """onnxruntime does not take a model."""


class Runner:
    """A child process with one session. Use it as a context.

    Args:
        model: the file.
        wanted: the outputs.
        threads: within an operator; 0 for onnxruntime's own choice.
        name: what messages call the model.
        room: a temporary folder of the caller's, which the child removes, like its own, if this
            process is killed and cannot.
    """

    def __init__(
        self,
        model: Path,
        wanted: Sequence[str],
        *,
        threads: int = 0,
        name: str,
        room: Path | None = None,
    ) -> None:
        self._model, self._wanted, self._threads, self._name = model, wanted, threads, name
        self._room = room
        self._stack = contextlib.ExitStack()
        self._waiting: collections.deque[int] = collections.deque()
        self._sent = 0
        self._is_loaded = False

    def __enter__(self) -> Runner:
        with self._stack:
            room = tempfile.TemporaryDirectory(prefix="bnfold-")
            self._folder = Path(self._stack.enter_context(room))
            job = {
                "model": str(self._model.resolve()),
                "wanted": list(self._wanted),
                "threads": self._threads,
                "rooms": [str(path) for path in (self._folder, self._room) if path is not None],
            }
            with writing_to(self._folder):
                (self._folder / "job.json").write_text(json.dumps(job))
                errors = self._stack.enter_context((self._folder / "stderr").open("wb"))
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bnfold.statistics.child", str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                # onnxruntime leaves a file of its own in the temporary folder.
                env={**os.environ, "TMPDIR": str(self._folder)},
            )
            self._stack.callback(self._end)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *ended: object) -> None:
        self._stack.close()

    def load(self) -> None:
        """Wait until the child has loaded the model.

        Raises:
            CannotLoad: onnxruntime does not take it.
            ModelError: it crashed.
        """
        assert self._process.stdout is not None
        if not self._is_loaded and self._process.stdout.readline().strip() != READY:
            raise self._why(1)
        self._is_loaded = True

    def over(self, feeds: Iterable[Feed], first: int = 1) -> Iterator[dict[str, Array]]:
        """The outputs for each batch, in order.

        Where the feeds end with an exception, the batches before it are given first.

        Args:
            first: the number of the first batch, for messages.

        Raises:
            ModelError: onnxruntime cannot load or run the model, or crashed.
            FileError: a temporary file cannot be written.
        """
        self.load()
        source = iter(feeds)
        failure: Exception | None = None
        while failure is None:
            try:
                feed = next(source)
            except StopIteration:
                break
            except Exception as error:
                failure = error
                break
            self._send(feed, first)
            if len(self._waiting) >= AHEAD:
                yield self._receive(first)
        while self._waiting:
            yield self._receive(first)
        if failure is not None:
            raise failure

    def _send(self, feed: Feed, first: int) -> None:
        number = self._sent
        self._sent += 1
        with writing_to(self._folder):
            write_arrays(self._folder / f"in{number}", feed)
        self._waiting.append(number)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{number}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._why(first) from None

    def _receive(self, first: int) -> dict[str, Array]:
        assert self._process.stdout is not None
        number = self._waiting[0]
        if self._process.stdout.readline().strip() != str(number):
            raise self._why(first)
        self._waiting.popleft()
        values = read_arrays(self._folder / f"out{number}")
        shutil.rmtree(self._folder / f"out{number}")
        return values

    def _why(self, first: int) -> ModelError | FileError:
        status = self._process.wait()
        if status == -signal.SIGINT:
            raise KeyboardInterrupt
        errors = (self._folder / "stderr").read_text(errors="replace")
        if status == CANNOT_LOAD:
            return CannotLoad(f"{self._name}: {why_ended(status, errors)}")
        at = f" at batch {first + self._waiting[0]}" if self._waiting else ""
        return ModelError(f"{self._name}{at}: {why_ended(status, errors)}")

    def _end(self) -> None:
        process = self._process
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        process.wait()

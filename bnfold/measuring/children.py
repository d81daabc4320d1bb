"""Child processes that measure, one after the other, as their caller sees them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bnfold.checking.runtime import writing_to
from bnfold.checking.session import Array, why_ended, write_arrays
from bnfold.errors import ModelError, UsageError
from bnfold.measuring.child import NOT_USED
from bnfold.measuring.memory import anonymous_memory
from bnfold.measuring.outcome import Level
from bnfold.measuring.progress import Progress

LEVEL_NAMES: Final[dict[Level, str]] = {
    "disable": "DISABLE_ALL",
    "basic": "ENABLE_BASIC",
    "extended": "ENABLE_EXTENDED",
    "all": "ENABLE_ALL",
}
"""What onnxruntime calls the levels of its optimiser, behind ``ORT_``."""

Look = Callable[[Path, int], None]
"""Takes the folder and the number of a process that is at work."""


@dataclass(frozen=True)
class Model:
    """A model that child processes read.

    Attributes:
        role: ``ORIGINAL`` or ``FOLDED``.
        name: what it is called.
        path: the file.
    """

    role: str
    name: str
    path: Path


@dataclass(frozen=True)
class Place:
    """Where in the measurement a child is at work.

    Attributes:
        level: of the optimiser.
        batch: size of the batch dimension; None where it does not matter or there is none.
    """

    level: Level
    batch: int | None = None

    def __str__(self) -> str:
        batch = f", batch {self.batch}" if self.batch is not None else ""
        return f"level {self.level}{batch}"


class Children:
    """Starts one child after the other.

    Args:
        folder: an empty folder for what they read and write.
        providers: of onnxruntime, in this order.
        threads: within an operator.
        progress: told of what goes on.
    """

    def __init__(
        self, folder: Path, providers: Sequence[str], threads: int, progress: Progress
    ) -> None:
        self._folder, self._progress = folder, progress
        self._common: dict[str, Any] = {"providers": list(providers), "threads": threads}
        self._numbers = itertools.count()

    def keep(self, feeds: Mapping[str, Array]) -> str:
        """Write inputs for later children; gives where they are."""
        folder = self._folder / f"feeds-{next(self._numbers)}"
        with writing_to(self._folder):
            write_arrays(folder, feeds)
        return str(folder)

    def ask(
        self,
        action: str,
        models: Sequence[Model],
        place: Place,
        *,
        configs: Sequence[Mapping[str, str]] | None = None,
        look: Look | None = None,
        read: Callable[[Path], Any] | None = None,
        **more: Any,
    ) -> Any:
        """Let a child do something with models; gives its result.

        Args:
            action: what ``child`` calls it.
            configs: entries of the configuration of each session.
            look: is called again and again while the child works.
            read: reads the result from what the child wrote.
            more: what else the child has to know.

        Raises:
            ModelError: onnxruntime cannot load or run one of them, or crashed.
            UsageError: it does not use the provider that it should.
        """
        job = {
            **self._common,
            "models": [str(model.path.resolve()) for model in models],
            "level": LEVEL_NAMES[place.level],
            "configs": list(configs or [{} for _ in models]),
            **more,
        }
        ended = self.start(action, job, look, read)
        if ended.status == 0:
            return ended.result
        if ended.status == NOT_USED:
            provider = self._common["providers"][0]
            raise UsageError(f"{provider} cannot be used: {ended.why.split(': ', 1)[1]}")
        model = models[ended.stage]
        raise ModelError(f"{model.role} ({model.name}) at {place}: {ended.why}")

    def memory(self, model: Model, place: Place, feeds: str) -> int | None:
        """How much memory a child takes to create a session and run once, in bytes."""
        most = 0

        def look(folder: Path, process: int) -> None:
            nonlocal most
            before = folder / "before"
            if before.exists():
                text = before.read_text()
                held = anonymous_memory(process)
                if text and held is not None:
                    most = max(most, held - int(text))

        found = self.ask("memory", [model], place, feeds=feeds, look=look)
        return None if found is None else max(0, most, int(found))

    def start(
        self,
        action: str,
        job: Mapping[str, Any],
        look: Look | None = None,
        read: Callable[[Path], Any] | None = None,
    ) -> Ended:
        """Let a child do a job, to its end; ``look`` and ``read`` as in ``ask``."""
        with tempfile.TemporaryDirectory(prefix="job-", dir=self._folder) as name:
            folder = Path(name)
            with writing_to(folder):
                (folder / "job.json").write_text(json.dumps({**job, "action": action}))
            status, errors = self._wait(folder, look)
            if status:
                stage = folder / "stage.txt"
                number = int((stage.read_text() if stage.exists() else "") or 0)
                return Ended(status, number, why_ended(status, errors))
            if read is not None:
                return Ended(0, result=read(folder))
            return Ended(0, result=json.loads((folder / "result.json").read_text()))

    def _wait(self, folder: Path, look: Look | None) -> tuple[int, str]:
        """Wait for a child, and end it at once where the caller is interrupted."""
        process = subprocess.Popen(
            [sys.executable, "-m", "bnfold.measuring.child", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # onnxruntime leaves a file of its own in the temporary folder.
            env={**os.environ, "TMPDIR": str(folder)},
        )
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    _, errors = process.communicate(timeout=0.1 if look is None else 0.002)
                    break
                if look is not None:
                    look(folder, process.pid)
                self._progress.tick()
        except BaseException:
            process.kill()
            process.communicate()
            raise
        if process.returncode == -signal.SIGINT:
            raise KeyboardInterrupt
        return process.returncode, errors.decode(errors="replace")


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        status: 0 where it did its job.
        stage: which of its models was at work last.
        why: why it did not do it, in one line.
        result: what it found.
    """

    status: int
    stage: int = 0
    why: str = ""
    result: Any = None

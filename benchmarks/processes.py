"""A program as a whole process: how long it took, and how much memory it held."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bnfold.measuring.memory import anonymous_memory

PAUSE: Final = 0.003


@dataclass(frozen=True)
class Ended:
    """One run of a program.

    Attributes:
        wall, processor: seconds on the clock, and of the processor in user and system mode, those
            of its children included.
        memory: the largest ``RssAnon`` that was seen, in MB: memory that no file backs. 0 where
            the system does not tell, or hardly anything where nobody looked.
        failure: why it did not do its work, in a few words; ``""`` where it ended with status 0.
    """

    wall: float
    processor: float
    memory: float
    failure: str = ""


def run(command: Sequence[str], timeout: float, *, watch: bool = True) -> Ended:
    """Run a command to its end, or stop it and its children after ``timeout`` seconds.

    Args:
        watch: look at its memory again and again, which takes time from it on a small machine.
    """
    with tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        memory, is_over = 0.0, False
        if not watch:
            _wait(process.pid, timeout)
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            memory = max(memory, (anonymous_memory(process.pid) or 0) / 1e6)
            if not is_over and time.perf_counter() - started > timeout:
                is_over = True
                os.killpg(process.pid, signal.SIGKILL)
            time.sleep(PAUSE)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        failure = ""
        if is_over:
            failure = f"over {timeout:g} s"
        elif process.returncode:
            errors.seek(0)
            failure = failed(process.returncode, errors.read().decode(errors="replace"))
    return Ended(wall, usage.ru_utime + usage.ru_stime, memory, failure)


def _wait(pid: int, timeout: float) -> None:
    """Wait for the end of a process without a look at it, where the system can."""
    if sys.platform == "linux":
        handle = os.pidfd_open(pid)
        try:
            select.select([handle], [], [], timeout)
        finally:
            os.close(handle)


def failed(status: int, errors: str) -> str:
    """A few words for a status that is not 0: the signal, or the last line of stderr."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    lines = [" ".join(line.split()) for line in errors.splitlines() if line.strip()]
    last = lines[-1].replace("|", "/") if lines else ""
    return f"status {status}: {last}"[:80].removesuffix(": ")

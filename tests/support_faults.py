"""Make the n-th call of an operating-system function fail."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Failure = Callable[[], BaseException]


class Fault:
    """Counts the calls of some functions; one of them fails, before or after it did its work.

    Attributes:
        fired: whether it has failed yet.
        calls: names of the functions, in the order of their calls.
    """

    def __init__(self, at: int, failure: Failure, *, after: bool = False) -> None:
        self.at = at
        self.failure = failure
        self.after = after
        self.fired = False
        self.calls: list[str] = []

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, as it behaves with the fault."""

        def faulty(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            fails = len(self.calls) == self.at + 1
            if fails and not self.after:
                self.fired = True
                raise self.failure()
            result = function(*args, **kwargs)
            if fails:
                self.fired = True
                raise self.failure()
            return result

        return faulty


def written_steps() -> list[tuple[Any, str]]:
    """Every function of the operating system by which a file is made, filled, named or removed."""
    names = "open write pwrite copy_file_range sendfile pread lseek ftruncate fstat fsync"
    names += " replace rename"
    steps: list[tuple[Any, str]] = [(os, name) for name in names.split() if hasattr(os, name)]
    steps += [(Path, name) for name in ("chmod", "mkdir", "replace", "rename")]
    return steps


def inject(monkeypatch: pytest.MonkeyPatch, fault: Fault, only: str = "") -> None:
    """Let the functions of ``written_steps`` (or the one named) go through a fault."""
    for owner, name in written_steps():
        if not only or name == only:
            monkeypatch.setattr(owner, name, fault.wrap(name, getattr(owner, name)))

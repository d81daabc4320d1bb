"""How far a measurement is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

Callback = Callable[[float, str], None]
"""Takes the part that is done, from 0 to 1, and what goes on now."""


class Progress:
    """Tells a callback how far a measurement is, by the seconds that its steps should take.

    Args:
        callback: or None.
        total: seconds of all steps.
    """

    def __init__(self, callback: Callback | None, total: float) -> None:
        self._callback, self._total = callback, max(total, 1e-9)
        self._done = self._expected = 0.0
        self._what, self._since = "", time.monotonic()
        self._told = -math.inf

    def begin(self, what: str, expected: float) -> None:
        """Begin a step, which ends the one before.

        Args:
            what: it is, in words.
            expected: seconds.
        """
        self._done += self._expected
        self._what, self._expected, self._since = what, expected, time.monotonic()
        self._told = -math.inf
        self._tell(0.0)

    def tick(self) -> None:
        """Tell the callback again while a step goes on, ten times a second at most."""
        self._tell(min(self._expected, time.monotonic() - self._since))

    def end(self) -> None:
        """All is done."""
        if self._callback is not None:
            self._callback(1.0, "done")

    def _tell(self, more: float) -> None:
        if self._callback is not None and time.monotonic() - self._told >= 0.1:
            self._told = time.monotonic()
            self._callback(min(1.0, (self._done + more) / self._total), self._what)

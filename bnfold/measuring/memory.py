"""How much memory a process holds, as far as the system tells."""

from __future__ import annotations

import sys
from pathlib import Path


def anonymous_memory(process: int | None = None) -> int | None:
    """Bytes that a process holds now and that no file backs; None where the system does not tell.

    Files that are mapped do not count: their pages are in memory anyway, and can go at any time.

    Args:
        process: its number; this process by default.
    """
    place = Path("/proc") / ("self" if process is None else str(process)) / "status"
    try:
        status = place.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    for line in status.splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    return None


def most_memory() -> int | None:
    """The most bytes that this process ever held, mapped files included; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most

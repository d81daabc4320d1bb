"""The progress bar of a command that takes a while."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def bar(quiet: bool) -> Iterator[Callable[[float, str], None] | None]:
    """A bar on a terminal, which is drawn only when it is told: nothing runs beside a timing."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task("loading", total=1.0)

        def advance(done: float, what: str) -> None:
            progress.update(task, completed=done, description=what, refresh=True)

        yield advance

"""Run a command in this process, so that what a test has changed in bnfold counts."""

from __future__ import annotations

import signal

from bnfold.cli.app import application


def run(*arguments: object) -> int:
    """The exit status of a command."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        application()([str(argument) for argument in arguments], standalone_mode=False)
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0

"""Every way in which a command can end, as an exit status."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from bnfold.errors import BUG, COULD_NOT, INTERRUPTED, BnfoldError


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Turn whatever is raised inside into a message on stderr and an exit status.

    A traceback never ends with Python's own status 1, which would read as a "no".
    """
    _reopen_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal cannot show is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, _terminated)
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # here, where it may fail
    except BnfoldError as error:
        _leave(f"bnfold: {error}", error.exit_status)
    except KeyboardInterrupt as error:
        left = f"; {error}" if error.args else ", nothing was left half written"
        _leave(f"bnfold: interrupted{left}", INTERRUPTED)
    except BrokenPipeError:  # whoever read the report has gone
        _discard_output()
        sys.exit(COULD_NOT)
    except MemoryError:
        _leave("bnfold: not enough memory", COULD_NOT)
    except OSError as error:
        _discard_output()
        _leave(f"bnfold: {error.strerror or error}: {error.filename or 'output'}", COULD_NOT)
    except Exception:
        traceback.print_exc()
        _leave("bnfold: this is a bug in bnfold: please report it with the lines above", BUG)


def _reopen_closed() -> None:
    """Put something in place of a standard stream that the caller closed, which Python has as None.

    Writing to stdout then fails, as it has to; and no model is opened under the number of either.
    """
    if not sys.stdin:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    if not sys.stdout:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    if not sys.stderr:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def _discard_output() -> None:
    """Let what is left of the output go nowhere, so that Python does not complain at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _terminated(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


def _leave(message: str, status: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(status)

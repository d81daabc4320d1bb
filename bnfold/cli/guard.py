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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal cannot show is no reason to fail.
            stream.reconfigure(errors="backslashreplace")
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    except BnfoldError as error:
        _leave(f"bnfold: {error}", error.exit_status)
    except KeyboardInterrupt:
        _leave("bnfold: interrupted, nothing was left half written", INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the report has gone; the devnull keeps Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(COULD_NOT)
    except MemoryError:
        _leave("bnfold: not enough memory", COULD_NOT)
    except OSError as error:
        _leave(f"bnfold: {error.strerror or error}: {error.filename or 'output'}", COULD_NOT)
    except Exception:
        traceback.print_exc()
        _leave("bnfold: this is a bug in bnfold: please report it with the lines above", BUG)


def _terminated(number: int, frame: Any) -> None:
    raise SystemExit(128 + number)


def _leave(message: str, status: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(status)

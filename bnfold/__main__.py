"""``python -m bnfold`` and the ``bnfold`` command."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line; the exit status is the answer (see ``bnfold.errors``)."""
    from bnfold.cli.guard import guarded

    # A command lives shortly, and a model is many small objects that live as long as it does:
    # they are not collected while it runs, nor when it ends.
    gc.disable()
    try:
        with guarded():
            from bnfold.cli.app import application

            application(sys.argv[1:])(prog_name="bnfold")
    finally:
        gc.freeze()
    sys.exit(0)


def run() -> None:
    """``main``, and leave at once: taking a large model apart would take as long as reading it."""
    try:
        main()
    except SystemExit as end:
        import atexit
        import os
        import threading

        if not isinstance(end.code, int) or threading.active_count() > 1:
            raise
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(end.code)


if __name__ == "__main__":
    run()

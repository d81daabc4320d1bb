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


if __name__ == "__main__":
    main()

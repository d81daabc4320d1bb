"""The child process that runs batches: ``python -m bnfold.statistics.child FOLDER``.

``job.json`` in the folder says which model. The child says that it is ready. For each line with a
number on stdin it reads the inputs in ``in<number>``, writes the outputs to ``out<number>``, and
says the number. A caller that lives ends it; one that was killed leaves it to remove the folders.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Final, TextIO

from bnfold.checking import session

READY: Final = "ready"


def main(folder: Path) -> int:
    """Run batches until the caller is gone, then remove its temporary folders."""
    # What the runtime, or an operator of somebody else's, prints is no answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = json.loads((folder / "job.json").read_text())
    try:
        status = _answer(folder, job, answers)
    except BrokenPipeError:  # nobody reads the answers
        status = 0
    if status == 0:
        for left in job["rooms"]:
            shutil.rmtree(left, ignore_errors=True)
    return status


def _answer(folder: Path, job: dict[str, Any], answers: TextIO) -> int:
    """Run batches until stdin ends."""
    try:
        opened = session.opened(job["model"], threads=job["threads"])
    except Exception as error:
        print(session.one_line(error), file=sys.stderr)
        return session.CANNOT_LOAD
    print(READY, file=answers, flush=True)
    for line in sys.stdin:
        number = line.strip()
        feeds = session.read_arrays(folder / f"in{number}")
        shutil.rmtree(folder / f"in{number}")
        try:
            values = session.computed(opened, feeds, job["wanted"])
        except Exception as error:
            print(session.one_line(error), file=sys.stderr)
            return session.CANNOT_RUN
        session.write_arrays(folder / f"out{number}", values)
        print(number, file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

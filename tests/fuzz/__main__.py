"""``python -m tests.fuzz --seeds FIRST:LAST``: judge the models of these seeds, and add up.

The exit status is 1 where a fold was wrong or crashed. ``--show`` prints the model of one seed.
"""

from __future__ import annotations

import argparse
import sys

import onnx

from tests.fuzz.generate import drawn
from tests.fuzz.judge import judged
from tests.fuzz.tally import Tally
from tests.support_models import DTYPES


def seeds(text: str) -> range:
    """Seeds from ``FIRST:LAST``, both included, or one seed."""
    first, _, last = text.partition(":")
    return range(int(first), int(last or first) + 1)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seeds", type=seeds, required=True, metavar="FIRST:LAST")
    parser.add_argument("--dtype", choices=[*DTYPES], help="else it follows from the seed")
    parser.add_argument("--show", action="store_true", help="print each model")
    given = parser.parse_args()
    tally = Tally()
    for seed in given.seeds:
        found = drawn(seed, given.dtype)
        if given.show:
            print(onnx.printer.to_text(found.model))
        tally.add(found, judged(found))
    print("\n".join(tally.lines()))
    return 1 if tally.wrong or tally.crashes else 0


if __name__ == "__main__":
    sys.exit(main())

"""How many patterns of norms that can be folded exactly each tool folds, and whether rightly.

The patterns are those of tests/support_patterns.py and support_patterns_models.py. Run it as a
module from the root of the repository: ``python -m benchmarks.patterns``. Other tools take part if
they can be imported (extra ``bench-peers``); each runs in a process of its own, so that one that
crashes says so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from typing import Any, Final

import onnx

import bnfold
from benchmarks import machine
from tests.support_models import op_types
from tests.support_mutants_tools import PEERS, Folder, by_bnfold
from tests.support_patterns import Pattern
from tests.support_patterns_models import ALL_PATTERNS

TOOLS: Final[dict[str, Folder]] = {"bnfold": by_bnfold, **PEERS}
NORMS: Final = frozenset({"BatchNormalization", "Add", "Sub", "Mul", "Div"})
SIZES: Final = {"N": 2, "M": 14, "H": 8, "W": 6}
TIMEOUT: Final = 300


def main() -> None:
    """Print a table: a row for each tool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", nargs="+", default=list(TOOLS), choices=list(TOOLS))
    parser.add_argument("--run", metavar="TOOL", help=argparse.SUPPRESS)
    parser.add_argument("--verbose", action="store_true", help="say which patterns stay")
    given = parser.parse_args()
    if given.run:
        for name, pattern in ALL_PATTERNS.items():
            print(json.dumps([name, outcome(TOOLS[given.run], pattern)]), flush=True)
        return
    print(machine.described())
    print(f"{len(ALL_PATTERNS)} patterns")
    print(f"{'tool':<15} {'folded':>7} {'stays':>7} {'wrong':>7} {'fails':>7}")
    for tool in given.tools:
        found = _run(tool)
        counts = Counter(found.values())
        row = " ".join(f"{counts[key]:>7}" for key in ("folded", "stays", "wrong", "fails"))
        print(f"{tool:<15} {row}", flush=True)
        if given.verbose:
            for name, what in found.items():
                if what != "folded":
                    print(f"    {what}: {name}")


def outcome(tool: Folder, pattern: Pattern) -> str:
    """``folded`` (every norm is gone), ``stays``, ``wrong`` (another function), ``fails``."""
    model = pattern.model()
    before = model.SerializeToString()
    try:
        folded = tool(onnx.ModelProto.FromString(before))
    except Exception:
        return "fails"
    used = {d.dim_param for value in model.graph.input for d in value.type.tensor_type.shape.dim}
    dims = {name: size for name, size in SIZES.items() if name in used}
    try:
        if not bnfold.verify(model, folded, runtime=False, dims=dims).is_same:
            return "wrong"
    except bnfold.BnfoldError:
        return "wrong"
    left = sum(kind in NORMS for kind in op_types(folded))
    return "folded" if left <= sum(kind in NORMS for kind in pattern.left.split()) else "stays"


def _run(tool: str) -> dict[str, str]:
    found: dict[str, str] = dict.fromkeys(ALL_PATTERNS, "fails")
    command = [sys.executable, "-m", "benchmarks.patterns", "--run", tool]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return found
    for line in done.stdout.splitlines():
        if line.startswith("["):
            entry: list[Any] = json.loads(line)
            found[entry[0]] = entry[1]
    return found


if __name__ == "__main__":
    main()

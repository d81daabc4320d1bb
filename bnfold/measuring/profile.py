"""onnxruntime's profile of some runs: the time of each operator type."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bnfold.measuring.outcome import Level, Spent

_KERNEL = "_kernel_time"


@dataclass(frozen=True)
class Used:
    """What the nodes of one type take in one run.

    Attributes:
        seconds: the median over the runs.
        nodes: how many nodes there are.
    """

    seconds: float
    nodes: int


def read_profile(path: Path) -> dict[str, Used]:
    """Operator type -> what its nodes take; the first run, which warms up, does not count.

    An If, Loop or Scan takes the time of the nodes inside of it, which are listed too.
    """
    events = json.loads(path.read_text())
    starts = sorted(e["ts"] for e in events if e.get("name") == "model_run")
    # Events of a run have times of their own from its start on, until the next one starts.
    starts = starts[1:] or starts
    seconds: dict[str, list[float]] = {}
    names: dict[str, set[str]] = {}
    for event in _kernels(events):
        run = int(np.searchsorted(starts, event["ts"], side="right")) - 1
        operator = str(event["args"]["op_name"])
        if run >= 0:
            seconds.setdefault(operator, [0.0] * len(starts))[run] += event["dur"] / 1e6
            names.setdefault(operator, set()).add(event["name"])
    return {
        operator: Used(float(np.median(taken)), len(names[operator]))
        for operator, taken in seconds.items()
    }


def spent(
    level: Level, batch: int | None, original: dict[str, Used], folded: dict[str, Used]
) -> list[Spent]:
    """Both profiles side by side, most time of the original first."""
    none = Used(0.0, 0)
    rows = [
        Spent(
            level,
            batch,
            operator,
            original.get(operator, none).seconds,
            folded.get(operator, none).seconds,
            original.get(operator, none).nodes,
            folded.get(operator, none).nodes,
        )
        for operator in {**original, **folded}
    ]
    return sorted(rows, key=lambda row: (-row.original, -row.folded, row.operator))


def _kernels(events: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for event in events:
        if event.get("cat") == "Node" and str(event.get("name")).endswith(_KERNEL):
            yield event

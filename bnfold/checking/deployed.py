"""Both models in onnxruntime: FOLDED must not be further from the truth than ORIGINAL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfold.algebra.rounding import epsilon
from bnfold.checking import runtime
from bnfold.checking.drawn import Feed
from bnfold.checking.measure import root_mean_square
from bnfold.checking.outcome import RuntimeCheck, RuntimeOutput
from bnfold.checking.side import Side
from bnfold.checking.unlike import is_float

Array = npt.NDArray[Any]

FACTOR = 4.0
"""FOLDED may be so many times as far from the truth as ORIGINAL."""

ROUNDINGS = 8.0
"""Beside that, so many roundings of the output itself in its own dtype are no difference."""


@dataclass(frozen=True)
class Truth:
    """One feed, what ORIGINAL computes from it in float64, and how rounding moves that.

    Attributes:
        outputs: output -> values.
        noise: output -> root mean square of what rounding FOLDED's weights once moves.
    """

    feed: Feed
    outputs: dict[str, Array]
    noise: dict[str, float]


def check_deployed(
    original: Side, folded: Side, truths: Sequence[Truth], multiple: float
) -> RuntimeCheck:
    """Run both models in onnxruntime at ``ORT_DISABLE_ALL`` and compare them with the truth."""
    feeds = [truth.feed.arrays for truth in truths]
    names = original.output_names
    with runtime.on_disk(original.document) as path:
        ours = runtime.run(path, feeds, names)
    with runtime.on_disk(folded.document) as path:
        theirs = runtime.run(path, feeds, names)
    if theirs.outputs is None:
        if ours.outputs is None:
            return RuntimeCheck(
                True, f"not compared: {ours.error} (ORIGINAL), {theirs.error} (FOLDED)"
            )
        return RuntimeCheck(False, f"ORIGINAL runs, but of FOLDED {theirs.error}")
    if ours.outputs is None:
        return RuntimeCheck(True, f"FOLDED loads and runs; of ORIGINAL {ours.error}")
    outputs = [
        _judged(name, truths, ours.outputs, theirs.outputs, multiple)
        for name in names
        if all(name in run and is_float(run[name]) for run in (*ours.outputs, *theirs.outputs))
    ]
    good = all(output.is_close for output in outputs)
    if not outputs:
        summary = "both models load and run"
    elif good:
        ratio = max(
            (o.folded_error / o.original_error for o in outputs if o.original_error), default=0
        )
        summary = f"FOLDED is {ratio:.2g} times as far from the float64 values as ORIGINAL"
    else:
        bad = max((o for o in outputs if not o.is_close), key=_excess)
        summary = (
            f"output {bad.name!r} of FOLDED is {bad.folded_error:.3g} from the float64 values, "
            f"ORIGINAL {bad.original_error:.3g} (allowed: {bad.allowed:.3g})"
        )
    return RuntimeCheck(good, summary, tuple(outputs))


def _judged(
    name: str,
    truths: Sequence[Truth],
    ours: Sequence[dict[str, Array]],
    theirs: Sequence[dict[str, Array]],
    multiple: float,
) -> RuntimeOutput:
    worst: RuntimeOutput | None = None
    for truth, mine, other in zip(truths, ours, theirs, strict=True):
        exact = np.asarray(truth.outputs[name], dtype=np.float64)
        dtype = mine[name].dtype
        one, two = mine[name].astype(np.float64), other[name].astype(np.float64)
        if one.shape != exact.shape:
            continue  # the evaluator and the runtime do not agree on the original itself
        if two.shape != one.shape:
            return RuntimeOutput(name, 0.0, float("inf"), 0.0, False)
        with np.errstate(all="ignore"):
            # Where ORIGINAL itself overflows there is nothing to hold FOLDED to.
            sound = np.isfinite(one) & np.isfinite(exact)
            error = root_mean_square((one - exact)[sound])
            found = (two - exact)[sound]
            distance = root_mean_square(found) if np.isfinite(found).all() else float("inf")
            size = root_mean_square(exact[sound])
        unit = epsilon(dtype) / 2
        allowed = FACTOR * error + multiple * truth.noise.get(name, 0.0) + ROUNDINGS * unit * size
        checked = RuntimeOutput(name, error, distance, allowed, distance <= allowed)
        if worst is None or _excess(checked) > _excess(worst):
            worst = checked
    return worst or RuntimeOutput(name, 0.0, 0.0, 0.0, True)


def _excess(output: RuntimeOutput) -> float:
    return output.folded_error / (output.allowed or 1e-300)

"""What calibrate is asked to do, checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from bnfold.errors import UsageError
from bnfold.folding.find import Selection
from bnfold.statistics.moments import ESTIMATORS, Estimator

Mode = Literal["batch", "sequential"]
MODES: Final[tuple[Mode, ...]] = ("batch", "sequential")

Precision = Literal["model", "float64"]
PRECISIONS: Final[tuple[Precision, ...]] = ("model", "float64")

Progress = Callable[[float, str], None]
"""Takes the part that is done, from 0 to 1, and what goes on, in words."""


@dataclass(frozen=True)
class Options:
    """How statistics are estimated.

    Attributes:
        estimator: ``paper`` or ``population``; see ``Moments.estimate``.
        mode: ``batch``: all norms in training form at once; ``sequential``: each with those before
            it in inference form, with what was estimated for them.
        selection: which norms.
        tolerance: stop when the statistics move less than so many standard deviations; None for
            never.
        merge: files of statistics to begin with.
        keep: the file to which statistics are saved, or None.
        precision: ``model``: onnxruntime computes the layers, in the dtypes of the model;
            ``float64``: bnfold evaluates everything in float64.
        threads: within an operator; 0 for onnxruntime's own choice.
        progress: is told how far it is, or None.
    """

    estimator: Estimator = "paper"
    mode: Mode = "batch"
    selection: Selection = field(default_factory=Selection)
    tolerance: float | None = None
    merge: tuple[Path, ...] = ()
    keep: Path | None = None
    precision: Precision = "model"
    threads: int = 0
    progress: Progress | None = None


def read_options(
    *,
    estimator: str,
    mode: str,
    only: Iterable[str],
    skip: Iterable[str],
    tolerance: float | None,
    merge: Iterable[Path],
    keep: Path | None,
    precision: str,
    threads: int,
    progress: Progress | None,
) -> Options:
    """Check the options; see ``bnfold.calibrate``.

    Raises:
        UsageError: one is out of range.
    """
    if estimator not in ESTIMATORS:
        raise UsageError(f"estimator {estimator!r}: it has to be one of {', '.join(ESTIMATORS)}")
    if mode not in MODES:
        raise UsageError(f"mode {mode!r}: it has to be one of {', '.join(MODES)}")
    if isinstance(only, str) or isinstance(skip, str):
        raise UsageError("only and skip are lists of patterns, not one string")
    if tolerance is not None and not (math.isfinite(tolerance) and tolerance > 0):
        raise UsageError(f"tolerance {tolerance:g}: it has to be a finite number above 0")
    if threads < 0:
        raise UsageError(f"threads {threads}: it has to be at least 0")
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r}: it has to be one of {', '.join(PRECISIONS)}")
    if precision == "float64" and threads:
        raise UsageError(
            f"threads {threads}: they are those of onnxruntime, which precision float64 does "
            "without"
        )
    return Options(
        estimator,
        mode,
        Selection(tuple(only), tuple(skip)),
        tolerance,
        tuple(merge),
        keep,
        precision,
        threads,
        progress,
    )

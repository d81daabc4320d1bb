"""What calibrate found, as frozen values that reports render."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Estimated:
    """A norm whose statistics were estimated.

    Attributes:
        norm: what it is called.
        data: the tensor that it normalises.
        channels: C.
        batches: from so many batches.
        values: of each channel in all of them.
        mean_before, mean_after: in units of the data; C numbers, as they are stored.
        var_before, var_after: in squared units; C numbers, as they are stored.
        mean_drift: how far the mean moved, in standard deviations of what was estimated, on the
            channel where it moved most.
        std_drift: how far the standard deviation moved, in the same unit, likewise.
        worst: the channel where either of them moved most.
        was_training: whether it normalised by its own batch and no longer does.
    """

    norm: str
    data: str
    channels: int
    batches: int
    values: int
    mean_before: Sequence[float]
    mean_after: Sequence[float]
    var_before: Sequence[float]
    var_after: Sequence[float]
    mean_drift: float
    std_drift: float
    worst: int = 0
    was_training: bool = False


@dataclass(frozen=True)
class Skipped:
    """A norm that was left alone.

    Attributes:
        norm: what it is called.
        code: why, for programs.
        reason: why, in a sentence.
    """

    norm: str
    code: str
    reason: str


@dataclass(frozen=True)
class CalibrateReport:
    """What became of the statistics of a model.

    Attributes:
        model: what it is called.
        estimator, mode, precision: as asked for.
        data: what the data is called; ``""`` where there was none but saved statistics.
        batches: how many batches are in the estimates, merged ones included; of the norm with
            the most.
        merged_batches: how many of them come from saved statistics.
        passes: how often the data was read.
        is_settled: whether the statistics moved less than the tolerance, so that it stopped.
        last_move: how far they moved with the last batch, in standard deviations; None where no
            batch was run.
        norms: those that were estimated, in topological order.
        skipped: those that were left alone.
        dropouts: Dropouts that dropped values and no longer do.
        notes: further facts, in sentences.
    """

    model: str
    estimator: str
    mode: str
    precision: str
    data: str
    batches: int
    merged_batches: int
    passes: int
    is_settled: bool
    last_move: float | None
    norms: Sequence[Estimated]
    skipped: Sequence[Skipped] = ()
    dropouts: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def drift(self) -> float:
        """The largest drift of any channel of any norm, in standard deviations."""
        return max((max(norm.mean_drift, norm.std_drift) for norm in self.norms), default=0.0)

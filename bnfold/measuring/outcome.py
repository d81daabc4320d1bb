"""What a benchmark finds out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bnfold.measuring.levels import LEVELS as LEVELS
from bnfold.measuring.levels import Level as Level


@dataclass(frozen=True)
class Spread:
    """Samples of one quantity.

    A sample of a fast model is the mean of several runs in a row, at least a millisecond in all.

    Attributes:
        median, low, high: the median, the 10th and the 90th percentile, in seconds.
        count: how many samples.
    """

    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Ratio:
    """How many times as fast the folded model is: time of the original / time of the folded.

    Attributes:
        value: the ratio of the medians; above 1 the folded model is faster.
        low, high: a 95 % bootstrap interval of it.
    """

    value: float
    low: float
    high: float

    @property
    def is_faster(self) -> bool:
        """Whether the whole interval is above 1."""
        return self.low > 1.0

    @property
    def is_slower(self) -> bool:
        """Whether the whole interval is below 1."""
        return self.high < 1.0


@dataclass(frozen=True)
class Cell:
    """Both models at one optimisation level, with one batch size.

    Attributes:
        level: of onnxruntime's optimiser.
        batch: size of the batch dimension; None where the model has none.
        original, folded: of one run, in seconds.
        ratio: of the two.
        flushed: how many times as fast the folded model is with subnormal numbers flushed to zero,
            as (folded) / (folded, flushed), where it has subnormal float32 weights; None elsewhere.
    """

    level: Level
    batch: int | None
    original: Spread
    folded: Spread
    ratio: Ratio
    flushed: Ratio | None = None


@dataclass(frozen=True)
class Start:
    """Both models at one optimisation level, before the first run.

    Attributes:
        level: of onnxruntime's optimiser.
        norms_left: how many of the norms that the fold removed onnxruntime's optimiser leaves in
            the original at this level; None where that cannot be told.
        original, folded: creation of a session, in seconds.
        ratio: of the two.
        original_memory, folded_memory: the most memory that a process of its own took to create
            the session and run once beyond what it took before, in bytes: on Linux what no file
            backs (RssAnon, looked at every 2 ms), so that weights which are mapped from a file do
            not count; on macOS the growth of the peak; None where the system does not tell.
    """

    level: Level
    norms_left: int | None
    original: Spread
    folded: Spread
    ratio: Ratio
    original_memory: int | None
    folded_memory: int | None


@dataclass(frozen=True)
class Spent:
    """Time by operator type, from onnxruntime's profile.

    Attributes:
        level, batch: as in ``Cell``.
        operator: the operator type as onnxruntime ran it, such as ``Conv`` or ``FusedConv``.
        original, folded: seconds of one run in all nodes of the type; 0 where there are none.
        original_nodes, folded_nodes: how many nodes ran.
    """

    level: Level
    batch: int | None
    operator: str
    original: float
    folded: float
    original_nodes: int
    folded_nodes: int


@dataclass(frozen=True)
class Setting:
    """What was run on what.

    Attributes:
        provider: of onnxruntime, such as ``CPUExecutionProvider``.
        threads: within an operator.
        duration: seconds of each cell that were asked for.
        seed: of the drawn inputs and of the bootstrap.
        inputs: input -> shape with the batch dimension as it was drawn for the first cell.
        data: where the inputs come from: ``drawn``, ``given``, or the name of a file.
        processor: the name of the processor.
        cores: how many of them this process may use.
        system: operating system and architecture.
        versions: package -> version, Python included.
        device: name of the accelerator, or ``""``.
    """

    provider: str
    threads: int
    duration: float
    seed: int
    inputs: dict[str, tuple[int, ...]]
    data: str
    processor: str
    cores: int
    system: str
    versions: dict[str, str]
    device: str = ""


@dataclass(frozen=True)
class BenchReport:
    """How much faster a folded model is, and where.

    Attributes:
        original, folded: what the models are called.
        is_same: whether both are the same function; if not, nothing was timed.
        verdict: why, in one sentence.
        norms_before, norms_after: norms that bnfold finds in either (BatchNormalization and its
            spellings).
        nodes_before, nodes_after, bytes_before, bytes_after: of either model.
        subnormal_before, subnormal_after: how many stored float weights are subnormal numbers.
        cells: a row for each level and batch.
        starts: a row for each level.
        spent: the profile by operator type, in the order of ``cells``, in each of them most time of
            the original first; empty if it was not asked for.
        setting: machine, versions and settings.
        notes: further facts, in sentences.
    """

    original: str
    folded: str
    is_same: bool
    verdict: str
    norms_before: int
    norms_after: int
    nodes_before: int
    nodes_after: int
    bytes_before: int
    bytes_after: int
    subnormal_before: int
    subnormal_after: int
    setting: Setting
    cells: Sequence[Cell] = ()
    starts: Sequence[Start] = ()
    spent: Sequence[Spent] = ()
    notes: Sequence[str] = field(default_factory=tuple)

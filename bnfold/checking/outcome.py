"""What a verification found, as values that the reports render."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bnfold.checking.multiple import MULTIPLE as MULTIPLE

Method = Literal["float64", "onnxruntime", "none"]


@dataclass(frozen=True)
class OutputCheck:
    """How one output of FOLDED differs from that of ORIGINAL, over all feeds.

    Attributes:
        name: the output.
        dtype: its element type, such as ``float32``.
        is_same: whether rounding the weights once explains the difference.
        max_abs: the largest difference, in the units of the output; ``inf`` where one side is NaN.
        max_relative: the largest difference of a feed by the largest magnitude of that feed.
        units: the difference of the worst channel, as a multiple of what rounding the weights once
            moves; compared with the report's ``multiple``.
        snr_db: signal to difference, 20 log10(rms(original) / rms(difference)), of the worst feed;
            ``inf`` where nothing differs.
        argmax_agreement: the share of positions at which both have the same largest channel; None
            for outputs without a channel axis.
        why: what is wrong, in words; ``""`` where nothing is.
    """

    name: str
    dtype: str
    is_same: bool
    max_abs: float
    max_relative: float
    units: float
    snr_db: float
    argmax_agreement: float | None
    why: str = ""


@dataclass(frozen=True)
class NormCheck:
    """What became of one norm of ORIGINAL.

    Attributes:
        norm: its name, as ``explain`` calls it.
        is_same: whether the part of the model that holds it computes the same in FOLDED.
        tensor: the tensor at which that was judged, the first after the norm that both share; None
            where it was not judged on its own (it reaches no output, or a tolerance was given).
        units: as in ``OutputCheck``.
    """

    norm: str
    is_same: bool
    tensor: str | None
    units: float


@dataclass(frozen=True)
class Difference:
    """Where two models differ first, in the order of the data.

    Attributes:
        tensor: the first tensor of both that differs, computed from equal values before it.
        norm: the norm of ORIGINAL that it belongs to, or None.
        channel: the worst channel, or None where the tensor has no channels.
        axis: the axis of the channels.
        feed: the data that shows it.
        original, folded: the values where they differ most.
        units: as in ``OutputCheck``.
    """

    tensor: str
    norm: str | None
    channel: int | None
    axis: int | None
    feed: str
    original: float
    folded: float
    units: float


@dataclass(frozen=True)
class RuntimeOutput:
    """One output in onnxruntime: the distance of both models from the float64 truth.

    Attributes:
        original_error, folded_error: root mean square over the feed that speaks most against
            FOLDED, in the units of the output.
        allowed: what ``folded_error`` may be.
        is_close: whether it is within that on every feed.
    """

    name: str
    original_error: float
    folded_error: float
    allowed: float
    is_close: bool


@dataclass(frozen=True)
class RuntimeCheck:
    """Both models in the arithmetic in which they are deployed.

    Attributes:
        is_good: whether FOLDED loads, runs, and is no further from the truth than allowed.
        summary: one sentence.
        outputs: one entry for each output; empty where a model did not run.
    """

    is_good: bool
    summary: str
    outputs: tuple[RuntimeOutput, ...] = ()


@dataclass(frozen=True)
class VerifyReport:
    """Whether two models are the same function, and how that was found out.

    Attributes:
        original, folded: what the models are called: their paths where they have them.
        is_same: the answer.
        verdict: the answer in one line.
        interface: differences of inputs, outputs and overridable initializers, in words.
        outputs: one entry for each output.
        norms: one entry for each norm of ORIGINAL.
        difference: where the models differ first, or None.
        runtime: the check in onnxruntime, or None where it was not asked for.
        notes: what else a reader should know.
        method: what computed the values: ``float64``; ``onnxruntime`` where the models have
            operators that the evaluator does not know; ``none`` where the interface decided.
        multiple: how many units of rounding are still the same function.
        rtol, atol: the tolerance by which the outputs were judged instead, or None.
        feeds: what each feed was.
        seed: of all random draws.
        tensors_checked: how many tensors were judged from equal values before them.
    """

    original: str
    folded: str
    is_same: bool
    verdict: str
    interface: tuple[str, ...] = ()
    outputs: tuple[OutputCheck, ...] = ()
    norms: tuple[NormCheck, ...] = ()
    difference: Difference | None = None
    runtime: RuntimeCheck | None = None
    notes: tuple[str, ...] = ()
    method: Method = "float64"
    multiple: float = MULTIPLE
    rtol: float | None = None
    atol: float | None = None
    feeds: tuple[str, ...] = field(default=())
    seed: int = 0
    tensors_checked: int = 0

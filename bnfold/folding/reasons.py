"""Why a norm stays: stable codes, what each means, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Reason:
    """One cause for which a norm stays.

    Attributes:
        meaning: one sentence, for any model.
        remedy: what the owner of the model can do.
    """

    meaning: str
    remedy: str


REASONS: Final[dict[str, Reason]] = {
    "shared-tensor": Reason(
        "A tensor that the fold would change is also needed as it is.",
        "Let every reader use the norm's output; if one needs the values before it, pass "
        "--duplicate, which copies a cheap operator.",
    ),
    "subgraph-reader": Reason(
        "A tensor that the fold would change is read inside an If, Loop or Scan body.",
        "Move the norm and the operators beside it into the same graph.",
    ),
    "graph-output": Reason(
        "A tensor that the fold would change is an output of the graph.",
        "Remove that output from the model if nobody reads it, or pass --duplicate, which copies a "
        "cheap operator.",
    ),
    "producer-not-linear": Reason(
        "No linear operator makes what the norm reads, and not all that reads the norm is one.",
        "Put the norm right behind or right before a Conv, ConvTranspose, Gemm or MatMul, if the "
        "model allows it.",
    ),
    "weight-not-constant": Reason(
        "The weight or bias of the operator that would take up the norm is not constant.",
        "Export the model with its weights as initializers, or fold constants first.",
    ),
    "statistics-not-constant": Reason(
        "The scale, bias, mean or variance of the norm is not constant.",
        "Export the model with its statistics as initializers.",
    ),
    "overridable-initializer": Reason(
        "A parameter is also a graph input (IR version 4 or newer), so a caller may replace it.",
        "Export without keep_initializers_as_inputs, or remove it from the graph inputs.",
    ),
    "training-mode": Reason(
        "The norm uses the statistics of the batch it sees, not fixed ones.",
        "Export the model in inference mode (model.eval()), pass --assume-inference, or estimate "
        "its statistics with 'bnfold calibrate'.",
    ),
    "spatial-zero": Reason(
        "The norm has spatial=0: statistics for each activation, not for each channel.",
        "Export with spatial=1 (opset 9 and newer know nothing else).",
    ),
    "non-finite-statistics": Reason(
        "A parameter of the norm is NaN or infinite.",
        "Train, or re-estimate the statistics with 'bnfold calibrate'; the model is broken on that "
        "channel.",
    ),
    "non-positive-variance": Reason(
        "var + epsilon is not positive, so it has no square root to divide by.",
        "Re-estimate the statistics with 'bnfold calibrate'; the model is broken on that channel.",
    ),
    "beyond-dtype": Reason(
        "A folded weight or bias is not finite in the dtype that the model stores, or its factor "
        "is too small for float64.",
        "Store the layer in a wider dtype (float32 for float16), or fold before converting.",
    ),
    "unknown-attribute": Reason(
        "A node has an attribute that the operator does not define at this opset.",
        "Export again with a current exporter; remove the attribute if it means nothing.",
    ),
    "unknown-opset": Reason(
        "The model imports an operator set that this version of bnfold does not know.",
        "Update bnfold and onnx.",
    ),
    "unknown-domain": Reason(
        "The operator belongs to a domain other than ONNX's own.",
        "Fold before converting to that domain.",
    ),
    "channel-mismatch": Reason(
        "The norm's channel count is not that of the operator that would take it up.",
        "Check the model: a runtime would refuse it or broadcast it.",
    ),
    "axis-mismatch": Reason(
        "The norm acts on another axis than the channels of the operator that would take it up.",
        "Nothing: scaling that axis is no change of the weight.",
    ),
    "unknown-rank": Reason(
        "The rank of a tensor on the way is not known, so neither is the axis of the norm.",
        "Give the graph inputs their shapes, or run ONNX shape inference first.",
    ),
    "unsupported-dtype": Reason(
        "The weight or bias is not float16, bfloat16, float32 or float64.",
        "Fold before quantising.",
    ),
    "quantised-weight": Reason(
        "The weight is quantised in a way that leaves the norm's factors no place in its scale.",
        "Fold before quantising, or quantise the weight by output channel (opset 13 and newer).",
    ),
    "quantised-bias": Reason(
        "The bias is quantised, and its scale is tied to those of the input and the weight.",
        "Fold before quantising, or keep the bias in floating point.",
    ),
    "quantised-activation": Reason(
        "A QuantizeLinear or DequantizeLinear stands between the norm and a linear operator.",
        "Fold before quantising.",
    ),
    "expression-too-large": Reason(
        "A parameter is computed in the graph by an expression that is too large to evaluate.",
        "Fold constants first, or export the parameter as an initializer.",
    ),
    "malformed-node": Reason(
        "A node contradicts the ONNX specification, so what it computes is not certain.",
        "Check the model with onnx.checker and export it again.",
    ),
    "function-body": Reason(
        "The norm is inside a model-local function that cannot be inlined.",
        "Export without functions, or inline them with onnx.inliner.",
    ),
    "not-through": Reason(
        "An operator between the norm and a linear one does not let its scale and shift through.",
        "Nothing: the operator and the norm cannot change places without another result.",
    ),
    "zero-padding": Reason(
        "The norm could only go forward into a convolution that pads with zeros, and it has a "
        "shift.",
        "Pad before the norm, or give the convolution no padding.",
    ),
    "uneven-border": Reason(
        "The operator behind the norm does not bring the norm's shift to every output alike.",
        "Nothing: the shift is no bias of that operator.",
    ),
    "written-out-norm": Reason(
        "The arithmetic belongs to a LayerNormalization or the like that is written out node by "
        "node, which runtimes fuse as a whole.",
        "Export with opset 17 or newer, which has LayerNormalization.",
    ),
    "different-norms": Reason(
        "The tensor before the norm is read by several norms that differ.",
        "One operator cannot give several results; pass --duplicate, which copies a cheap one.",
    ),
    "adds-work": Reason(
        "The fold would put at least as many nodes into the model as it takes out.",
        "Nothing: the model is cheaper as it is.",
    ),
    "excluded": Reason(
        "The norm was excluded by --only or --skip.",
        "Change the patterns.",
    ),
}


@dataclass(frozen=True)
class Refused:
    """A step that cannot be folded: a code of ``REASONS`` and one sentence about this model."""

    code: str
    sentence: str

    def __post_init__(self) -> None:
        if self.code not in REASONS:
            raise KeyError(self.code)


SPECIFIC = frozenset(
    (
        "adds-work beyond-dtype quantised-activation quantised-bias quantised-weight "
        "uneven-border written-out-norm zero-padding"
    ).split()
)
"""Reasons against a way forward that say more than that the way back is blocked."""

STRUCTURAL = frozenset({"graph-output", "producer-not-linear", "subgraph-reader"})
"""Reasons against a way forward that say that it leads to no linear operator at all."""


def combined(backward: Refused | None, forward: Refused | None) -> Refused:
    """One reason of two: that against the way back, unless the way forward was the better hope.

    It was where nothing linear is before the norm, and everything behind it leads there.
    """
    if backward is None or forward is None or backward == forward:
        found = backward or forward
        assert found is not None
        return found
    is_blocked = backward.code in ("producer-not-linear", "not-through")
    is_hopeless = backward.code == "producer-not-linear"
    if (is_blocked and forward.code in SPECIFIC) or (
        is_hopeless and forward.code not in STRUCTURAL
    ):
        sentence = f"{forward.sentence}; nor can it go back: {backward.sentence}"
        return Refused(forward.code, sentence)
    sentence = f"{backward.sentence}; nor can it go forward: {forward.sentence}"
    return Refused(backward.code, sentence)

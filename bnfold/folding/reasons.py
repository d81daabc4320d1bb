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
        "The tensor before the norm is also read by another node.",
        "Nothing to do if both readers need it; otherwise let every reader use the norm's output.",
    ),
    "subgraph-reader": Reason(
        "The tensor before the norm is read inside an If, Loop or Scan body.",
        "Move the norm and the operator before it into the same graph.",
    ),
    "graph-output": Reason(
        "The tensor before the norm is an output of the graph.",
        "Remove that output from the model if nobody reads it.",
    ),
    "producer-not-linear": Reason(
        "What makes the tensor before the norm is no linear operator with a constant weight.",
        "Put the norm right behind a Conv, ConvTranspose, Gemm or MatMul, if the model allows it.",
    ),
    "weight-not-constant": Reason(
        "The weight or bias of the operator before the norm is not constant.",
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
        "Export the model in inference mode (model.eval()), or pass --assume-inference.",
    ),
    "spatial-zero": Reason(
        "The norm has spatial=0: statistics for each activation, not for each channel.",
        "Export with spatial=1 (opset 9 and newer know nothing else).",
    ),
    "non-finite-statistics": Reason(
        "A parameter of the norm is NaN or infinite.",
        "Train or re-estimate the statistics; the model is broken on that channel.",
    ),
    "non-positive-variance": Reason(
        "var + epsilon is not positive, so it has no square root to divide by.",
        "Re-estimate the statistics; the model is broken on that channel.",
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
        "The norm's channel count is not the number of output channels of the operator before it.",
        "Check the model: a runtime would refuse it or broadcast it.",
    ),
    "axis-mismatch": Reason(
        "The norm acts on another axis than the output channels of the operator before it.",
        "Nothing: scaling that axis is no change of the weight.",
    ),
    "unknown-rank": Reason(
        "The rank of the tensor before the norm is not known, so neither is the norm's axis.",
        "Give the graph inputs their shapes, or run ONNX shape inference first.",
    ),
    "unsupported-dtype": Reason(
        "The weight or bias is not float16, bfloat16, float32 or float64.",
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

"""BatchNormalization in every form of every opset, read as an affine map."""

from __future__ import annotations

import numpy as np

from bnfold.algebra.affine import Affine, Float64Array
from bnfold.algebra.rounding import TINY
from bnfold.errors import ModelError
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.placed import Placed
from bnfold.folding.rules.reading import (
    Context,
    as_float64,
    malformed,
    read_constant,
    read_version,
)
from bnfold.onnxgraph.graph import Node, Tensor

CHANNEL_AXIS = 1
DEFAULT_EPSILON = float(np.float32(1e-5))
_PARAMETERS = ("scale", "bias", "mean", "variance")


def is_training(node: Node, version: int) -> str | None:
    """Why a BatchNormalization normalises by its own batch, or None where it does not.

    Opset 1 and 6 say it by ``is_test``, 14 and newer by ``training_mode``. In between the number
    of outputs is the mode: one in inference, five in training, whether or not anything reads
    them; onnxruntime goes by it too. An output named ``""`` is left out.
    """
    if version < 7 and node.integer("is_test", 0) == 0:
        return f"{node.label} has no is_test=1, so at its opset it normalises by its own batch"
    if version >= 14 and node.integer("training_mode", 0) != 0:
        return f"{node.label} has training_mode=1"
    declared = [t for t in node.outputs[1:] if t is not None]
    if 7 <= version < 14 and declared:
        return (
            f"{node.label} gives {1 + len(declared)} outputs, which at its opset means that it "
            "normalises by its own batch"
        )
    return None


def used_statistics(node: Node) -> list[Tensor]:
    """The outputs beside the first that something reads."""
    return [t for t in node.outputs[1:] if t is not None and (t.readers or t.is_output)]


def read_batch_norm(node: Node, data: Tensor, context: Context) -> Placed | Refused:
    """``scale * x + shift`` on axis 1, by Algorithm 2, step 11.

    Args:
        data: the tensor that is normalised (the first input).
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    if version < 9 and node.integer("spatial", 1) != 1:
        return Refused("spatial-zero", f"{node.label} has spatial={node.integer('spatial', 1)}")
    training, used = is_training(node, version), used_statistics(node)
    if used:
        mode = training or f"{node.label} is in inference mode"
        return Refused(
            "training-mode", f"{mode}, and {used[0].name}, a statistic of its batch, is used"
        )
    if training and not context.assume_inference:
        return Refused("training-mode", training)
    values: list[Float64Array] = []
    for position, what in enumerate(_PARAMETERS, start=1):
        known = read_constant(node.input(position), node, what, context, "statistics-not-constant")
        if isinstance(known, Refused):
            return known
        if len(known.shape) != 1 or (values and known.shape != values[0].shape):
            first = f" and its scale {list(values[0].shape)}" if values else ""
            return malformed(node, f"its {what} has shape {list(known.shape)}{first}")
        values.append(as_float64(known))
    epsilon = node.real("epsilon", DEFAULT_EPSILON)
    try:
        affine = Affine.from_batch_norm(*values, eps=epsilon)
    except ModelError as error:
        return _why_no_affine(node, values, epsilon, error)
    is_small = np.abs(affine.scale) < TINY
    lost = np.flatnonzero(is_small & (values[0] != 0)).tolist() if is_small.any() else []
    if lost:
        gamma, spread = values[0][lost[0]], values[3][lost[0]] + epsilon
        return Refused(
            "beyond-dtype",
            f"channel {lost[0]} of {node.label} has scale {gamma:.6g} and var + epsilon = "
            f"{spread:.6g}: their factor is below the smallest normal float64 ({TINY:.6g})",
        )
    return Placed(
        affine,
        axis=CHANNEL_AXIS,
        least_rank=2,
        is_per_channel=True,
        assumed_inference=bool(training),
    )


def _why_no_affine(
    node: Node, values: list[Float64Array], epsilon: float, error: ModelError
) -> Refused:
    """The refusal for parameters that make no affine map, with the channel and the number."""
    for what, vector in zip(_PARAMETERS, values, strict=True):
        bad = np.flatnonzero(~np.isfinite(vector))
        if bad.size:
            return Refused(
                "non-finite-statistics",
                f"channel {bad[0]} of {node.label} has {what} = {vector[bad[0]]}",
            )
    var = values[3]
    bad = np.flatnonzero(~(var + epsilon > 0))
    if bad.size:
        return Refused(
            "non-positive-variance",
            f"channel {bad[0]} of {node.label} has var + epsilon = {var[bad[0]] + epsilon:g}, "
            "which has no positive square root",
        )
    return Refused("non-finite-statistics", f"{node.label}: {error}")

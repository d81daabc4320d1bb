"""LSTM, GRU and RNN: gates of ``x W' + Wb + h R' + Rb`` at each step; a map of x goes into W."""

from __future__ import annotations

import numpy as np

from bnfold.algebra.affine import Float64Array
from bnfold.algebra.layer import Layer
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.quantised import read_weight
from bnfold.folding.rules.reading import (
    Context,
    Inward,
    Linear,
    as_float64,
    malformed,
    read_constant,
    read_version,
)
from bnfold.onnxgraph.graph import Node
from bnfold.onnxgraph.known import Known

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent_factor(scale: Float64Array, directions: int) -> Float64Array:
    """The factors of the values of B that the rows of W add to, in a shape that fits W.

    Args:
        scale: shape ``(D * 2 G H,)``: for each direction first those of Wb, then those of Rb.
        directions: D.

    Returns:
        Shape ``(D, G H, 1)``, where W has ``(D, G H, I)``.
    """
    return scale.reshape(directions, 2, -1)[:, 0, :, np.newaxis]


def read_recurrent(node: Node, context: Context) -> Linear | Refused:
    """LSTM, GRU or RNN of any direction, layout and activations, with a constant W.

    Only in front of them is there a map that they can take up: ``(s x + t) W' + Wb`` is
    ``x (W s)' + (Wb + W t)`` at each step, whichever steps there are. What an output channel of
    others is, is a value of B here; the states, R and the other half of B stay what they are.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    weight = read_weight(node.input(1), node, "weight", context)
    if isinstance(weight, Refused):
        return weight
    shape = weight.shape
    if len(shape) != 3 or shape[0] not in (1, 2) or shape[1] % _GATES[node.op_type]:
        return malformed(node, f"its W has shape {list(shape)}")
    directions, rows, features = shape
    kept = (directions, 2 * rows)
    bias = _read_bias(node, weight, kept, context)
    why = bias if isinstance(bias, Refused) and bias.code != "malformed-node" else None
    if isinstance(bias, Refused) and why is None:
        return bias
    known = bias if isinstance(bias, Known) else None
    values = as_float64(known).reshape(-1) if known is not None else np.zeros(1)
    return Linear(
        node=node,
        weight=weight,
        weight_factor=lambda scale: recurrent_factor(scale, directions),
        layer=Layer.plain(values, directions * 2 * rows),
        axis=2,
        rank=lambda: 3,
        bias=known,
        shift="computed" if why is not None else "input",
        bias_at=3,
        bias_shape=kept,
        outward=Refused(
            "not-through",
            f"{node.label} ({node.op_type}) ends in the activations of its gates, which stand "
            "between",
        ),
        inward=Inward(
            at=0,
            axis=2,
            rank=lambda: 3,
            channels=features,
            factor=lambda scale: scale.reshape(1, 1, -1),
            uneven=why,
        ),
    )


def _read_bias(
    node: Node, weight: Known, shape: tuple[int, int], context: Context
) -> Known | Refused | None:
    """B, or None where there is none, or why no shift can go into it."""
    tensor = node.input(3)
    if tensor is None:
        return None
    known = read_constant(tensor, node, "bias", context, "weight-not-constant")
    if isinstance(known, Refused):
        return known
    if known.shape != shape:
        return malformed(node, f"its B has shape {list(known.shape)} for a W of {weight.shape[1]}")
    if known.data_type != weight.data_type:
        return malformed(node, "its B has another dtype than its W")
    return known

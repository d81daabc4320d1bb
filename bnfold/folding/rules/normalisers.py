"""InstanceNormalization, LayerNormalization and the like: ``y = scale * n(x) + bias``.

They normalise by what they see, so they are no map themselves; but they end in one, which takes
up a map behind it. A map before them is another matter: epsilon stands between.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from bnfold.algebra.affine import Float64Array
from bnfold.algebra.layer import Layer
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.reading import (
    Context,
    Linear,
    as_float64,
    bias_map,
    malformed,
    read_constant,
    read_version,
)
from bnfold.onnxgraph.graph import Node
from bnfold.onnxgraph.known import Known


def normaliser_factor(scale: Float64Array) -> Float64Array:
    """``a * (scale * n(x) + bias) + t == (a scale) * n(x) + (a bias + t)`` for each channel.

    Args:
        scale: a, shape ``(C,)``.
    """
    return scale


def read_instance_normalization(node: Node, context: Context) -> Linear | Refused:
    """InstanceNormalization: channels on axis 1, scale and bias of shape ``(C,)``."""
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    return _read(node, context, axis=1)


def read_group_normalization(node: Node, context: Context) -> Linear | Refused:
    """GroupNormalization: channels on axis 1; before opset 21 a scale and a bias for each group."""
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    return _read(node, context, axis=1, per_group=version < 21)


def read_layer_normalization(node: Node, context: Context) -> Linear | Refused:
    """LayerNormalization with a scale along the last axis alone, whichever axes it normalises.

    Its other outputs, of mean and deviation, are made before the scale.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    return _read(node, context, axis=-1, needs_bias=False)


def read_rms_normalization(node: Node, context: Context) -> Linear | Refused:
    """RMSNormalization with a scale along the last axis alone. It has no bias of its own."""
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    if len(node.inputs) != 2:
        return malformed(node, f"it has {len(node.inputs)} inputs")
    found = _read(node, context, axis=-1, needs_bias=False)
    return found if isinstance(found, Refused) else replace(found, shift="add")


def _read(
    node: Node, context: Context, *, axis: int, per_group: bool = False, needs_bias: bool = True
) -> Linear | Refused:
    weight = read_constant(node.input(1), node, "scale", context, "weight-not-constant")
    if isinstance(weight, Refused):
        return weight
    channels = _vector(node, "scale", weight, is_exact=axis >= 0)
    if isinstance(channels, Refused):
        return channels
    if per_group and channels != node.integer("num_groups", 0):
        return malformed(node, f"its scale has {channels} values for its groups")
    tensor, bias, values = node.input(2), None, np.zeros(1)
    if tensor is None and needs_bias:
        return malformed(node, "it has no bias")
    asks = {}
    if tensor is not None and context.constants.why_not(tensor) is None:
        known = read_constant(tensor, node, "bias", context, "weight-not-constant")
        if isinstance(known, Refused):
            return known
        found = _vector(node, "bias", known, is_exact=axis >= 0)
        if isinstance(found, Refused):
            return found
        if known.data_type != weight.data_type:
            return malformed(node, "its bias has another dtype than its scale")
        if found != channels:
            return Refused(
                "channel-mismatch",
                f"the scale of {node.label} has {channels} channels and its bias has {found}",
            )
        bias, values = known, as_float64(known).reshape(-1)
    elif tensor is not None:
        if axis < 0 or per_group:
            return Refused("weight-not-constant", f"the bias of {node.label} is not constant")
        asks = {2: bias_map}
    return Linear(
        node=node,
        weight=weight,
        weight_factor=normaliser_factor,
        layer=Layer.plain(values, channels),
        axis=axis,
        rank=lambda: _rank(node, context),
        bias=bias,
        shift="computed" if asks else "input",
        asks=asks,
        per_group=per_group,
    )


def _vector(node: Node, what: str, known: Known, *, is_exact: bool) -> int | Refused:
    """The size of a parameter that varies along its last axis alone."""
    shape = known.shape
    if len(shape) == 1 or (not is_exact and shape and math.prod(shape[:-1]) == 1):
        return shape[-1]
    if is_exact:
        return malformed(node, f"its {what} has shape {list(shape)}")
    return Refused(
        "axis-mismatch",
        f"the {what} of {node.label} has shape {list(shape)}: it varies along more than the last "
        "axis",
    )


def _rank(node: Node, context: Context) -> int | None:
    data = node.input(0)
    return context.types.rank(data) if data is not None else None

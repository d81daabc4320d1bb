"""Two maps as one, and a map on the channels of a linear operator, or why it is none."""

from __future__ import annotations

import numpy as np

from bnfold.algebra.affine import Affine
from bnfold.algebra.rounding import TINY, largest
from bnfold.algebra.spread import Spread
from bnfold.errors import ModelError
from bnfold.folding.find import Step
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.reading import Linear
from bnfold.folding.rules.sizes import LARGEST
from bnfold.onnxgraph.graph import Tensor


def composed(first: Spread, second: Spread, step: Step) -> Spread | Refused:
    """``second(first(x))`` as one map, unless float64 cannot hold it."""
    identity = Spread.identity()
    if first is identity or second is identity:
        return second if first is identity else first
    try:
        shape = np.broadcast_shapes(first.shape, second.shape)
    except ValueError:
        return Refused(
            "channel-mismatch",
            f"{step.node.label} has shape {list(first.shape)}, and what follows it "
            f"{list(second.shape)}",
        )
    if np.prod(shape, dtype=np.float64) > LARGEST:
        return Refused("expression-too-large", f"the map of {step.node.label} has {shape} values")
    spread = first.then(second)
    lost = (np.abs(spread.scale) < TINY) & (first.scale != 0) & (second.scale != 0)
    if lost.any() or not spread.is_finite:
        at = int(np.argmax((lost | ~np.isfinite(spread.scale + spread.shift)).ravel()))
        one, other = (np.broadcast_to(s.scale, shape).ravel()[at] for s in (first, second))
        return Refused(
            "beyond-dtype",
            f"channel {at} of {step.node.label} would be multiplied by {one:.6g} times "
            f"{other:.6g}, {'below the smallest normal' if lost.any() else 'beyond'} float64 "
            f"({TINY if lost.any() else largest(np.float64):.6g})",
        )
    return spread


def fitted(
    spread: Spread,
    linear: Linear,
    axis: int,
    rank: int | None,
    channels: int,
    name: str,
    tensor: Tensor,
    where: str,
) -> Affine | Refused:
    """A map on the channels of a linear operator, or why it is none.

    Args:
        axis: of those channels in ``tensor``.
        rank: of the tensor, or None where nothing tells.
        channels: how many there are.
        name: of the norm.
        where: what the channels are, for the sentence.
    """
    if rank is None and (axis >= 0 or len(spread.shape) > -axis):
        return Refused(
            "unknown-rank",
            f"the rank of {tensor.name} is not known, so neither is the axis of {name}",
        )
    affine = spread.along(axis, rank) or spread.compressed().along(axis, rank)
    if affine is None or (rank is not None and len(spread.shape) > rank):
        return Refused(
            "axis-mismatch",
            f"{name} acts on another axis of {tensor.name} than {where} {linear.node.label}",
        )
    if linear.per_group and affine.channels > channels:
        affine = affine.by_group(channels) or affine
    try:
        return affine.expanded(channels)
    except ModelError:
        return Refused(
            "channel-mismatch",
            f"{name} has {affine.channels} channels and {linear.node.label} "
            f"{'reads' if 'input' in where else 'makes'} {channels}",
        )

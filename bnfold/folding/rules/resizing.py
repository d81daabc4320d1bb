"""Resize and Upsample: every output is a mean of inputs with weights that sum to one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnfold.folding.reasons import Refused
from bnfold.folding.rules.conditions import find_rank, why_too_wide, why_uneven, wide_axes
from bnfold.folding.rules.reading import Context, malformed, read_version
from bnfold.folding.rules.sizes import shape_of
from bnfold.folding.rules.through import Spreads, Through, blocked
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.known import Known
from bnfold.onnxgraph.types import Dim

_MODES = frozenset({"nearest", "linear", "bilinear", "cubic"})
_COORDINATES = frozenset(
    (
        "half_pixel half_pixel_symmetric pytorch_half_pixel align_corners asymmetric "
        "tf_half_pixel_for_nn"
    ).split()
)
"""The ways to find a place in the data from which nothing outside of it is taken."""


def cross_resize(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s resize(x) + t == resize(s x + t)`` if s and t are even along each axis that is resized.

    The weights of nearest, linear and cubic sum to one, also with ``exclude_outside`` and with
    ``antialias``, which make them sum to one again. Not with ``tf_crop_and_resize``, which fills
    in a value of its own.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    spread = spreads[0]
    mode = _text(node, "mode", "nearest")
    if mode not in _MODES:
        return malformed(node, f"its mode is {mode}")
    coordinates = _text(node, "coordinate_transformation_mode", "half_pixel")
    if coordinates not in _COORDINATES:
        return blocked(node, f"finds its coordinates by {coordinates}, which may leave the data")
    if not wide_axes(spread):
        return spreads
    rank = find_rank(node, node.input(0), context)
    if isinstance(rank, Refused):
        return rank
    kept = _kept_axes(node, version, rank, context)
    if isinstance(kept, Refused):
        return kept
    resized = [axis - rank for axis in range(rank) if axis not in kept]
    why = why_uneven(node, spread, resized, "resizes") or why_too_wide(node, spread, rank)
    return why or spreads


def _kept_axes(node: Node, version: int, rank: int, context: Context) -> set[int] | Refused:
    """The axes, from the front, along which output i is input i."""
    if node.op_type == "Upsample" and version == 1:
        factors = [node.real("height_scale", 0.0), node.real("width_scale", 0.0)]
        return _of_scales(node, [*[1.0] * (rank - 2), *factors], range(rank))
    if node.op_type == "Upsample" and version < 9:
        found = node.attribute("scales")
        return _of_scales(node, list(found.floats) if found is not None else [], range(rank))
    if version < 11:
        scales = _scales(node.input(1), context)
        if scales is None:
            return blocked(node, "has scales that are not constant")
        return _of_scales(node, scales, range(rank))
    listed = node.attribute("axes")
    axes = range(rank) if listed is None else [int(axis) for axis in listed.ints]
    if any(not -rank <= axis < rank for axis in axes):
        return malformed(node, f"its axes are {list(axes)}, and its data has {rank}")
    axes = [axis % rank for axis in axes]
    others = set(range(rank)) - set(axes)
    if _text(node, "coordinate_transformation_mode", "half_pixel") == "tf_half_pixel_for_nn":
        # Its places lie half an element further, so it may move what it does not resize.
        return others
    sizes, scales = node.input(3), _scales(node.input(2), context)
    if sizes is not None and (node.input(2) is None or scales == []):
        if _text(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
            return others
        return others | _of_sizes(node, axes, rank, context)
    if sizes is not None and node.input(2) is not None and scales is not None:
        return malformed(node, "it has both scales and sizes")
    if scales is None:
        return blocked(node, "has scales that are not constant")
    kept = _of_scales(node, scales, axes)
    return kept if isinstance(kept, Refused) else others | kept


def _of_scales(node: Node, scales: Sequence[float], axes: Sequence[int]) -> set[int] | Refused:
    if len(scales) != len(axes):
        return malformed(node, f"it has {len(scales)} scales for {len(axes)} axes")
    return {axis for axis, scale in zip(axes, scales, strict=True) if scale == 1.0}


def _of_sizes(node: Node, axes: Sequence[int], rank: int, context: Context) -> set[int]:
    """Axes that are as long in the output as in the data: there the scale is exactly one."""
    before, after = (shape_of(t, context) for t in (node.input(0), node.outputs[0]))
    if before is None or len(before) != rank:
        return set()
    sizes: dict[int, Dim] = dict(enumerate(after or ()))
    wanted = context.whole_numbers(node.input(3))
    if wanted is not None and len(wanted) == len(axes):
        sizes.update(zip(axes, wanted, strict=True))
    return {axis for axis in axes if before[axis] is not None and sizes.get(axis) == before[axis]}


def _scales(tensor: Tensor | None, context: Context) -> list[float] | None:
    """The values of a constant of floats, or None."""
    found = context.constants.value(tensor) if tensor is not None else None
    if not isinstance(found, Known):
        return None
    return [float(value) for value in np.ravel(np.asarray(found.array))]


def _text(node: Node, name: str, default: str) -> str:
    found = node.attribute(name)
    return default if found is None else found.s.decode()


RESIZE = Through(cross_resize, cross_resize)

"""CumSum, Trilu and CenterCropPad: sums along an axis, and zeros in the place of elements."""

from __future__ import annotations

from bnfold.folding.reasons import Refused
from bnfold.folding.rules.conditions import (
    find_rank,
    why_shifted,
    why_too_wide,
    why_uneven,
    wide_axes,
)
from bnfold.folding.rules.reading import Context, malformed, read_version
from bnfold.folding.rules.sizes import Shape, axes_of, rank_refused, shape_of
from bnfold.folding.rules.through import Spreads, Through, blocked
from bnfold.onnxgraph.graph import Node


def cross_cum_sum(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s cumsum(x) == cumsum(s x)`` if s is even along the axis that is added up; no shift.

    A shift would grow from element to element.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    spread = spreads[0]
    why = why_shifted(node, spread)
    if why is not None or not wide_axes(spread):
        return why or spreads
    rank = find_rank(node, node.input(0), context)
    if isinstance(rank, Refused):
        return rank
    found = context.whole_numbers(node.input(1))
    if found is None or len(found) != 1:
        return blocked(node, "adds up along an axis that is not constant")
    axes = axes_of(node, found, rank)
    if isinstance(axes, Refused):
        return axes
    why = why_uneven(node, spread, [axes[0] - rank], "adds up along")
    return why or why_too_wide(node, spread, rank) or spreads


def cross_trilu(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s trilu(x) == trilu(s x)`` for any s: it multiplies each element by 0 or 1; no shift."""
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    lets = "no shift, as it puts zeros into the place of elements,"
    return why_shifted(node, spreads[0], lets) or spreads


def cross_center_crop_pad(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s crop(x) + t == crop(s x + t)`` if s and t are even along the axes that it cuts or pads.

    Where it may pad with zeros, only for t = 0.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    spread, shape = spreads[0], shape_of(node.input(0), context)
    if shape is None:
        return rank_refused(node)
    listed = node.attribute("axes")
    axes = axes_of(node, range(len(shape)) if listed is None else listed.ints, len(shape))
    if isinstance(axes, Refused):
        return axes
    wanted = context.whole_numbers(node.input(1))
    if wanted is not None and len(wanted) != len(axes):
        return malformed(node, f"it has {len(wanted)} sizes for {len(axes)} axes")
    sizes: dict[int, int | None] = dict.fromkeys(axes)
    sizes.update(zip(axes, wanted or (), strict=False))
    if not all(_is_cut(shape, axis, size) for axis, size in sizes.items()):
        why = why_shifted(node, spread, "no shift, as it may pad with zeros,")
        if why is not None:
            return why
    moved = [at - len(shape) for at, size in sizes.items() if size is None or size != shape[at]]
    why = why_uneven(node, spread, moved, "cuts or pads")
    return why or why_too_wide(node, spread, len(shape)) or spreads


def _is_cut(shape: Shape, axis: int, size: int | None) -> bool:
    """Whether an axis is known to become no longer."""
    known = shape[axis]
    return isinstance(known, int) and size is not None and size <= known


CUM_SUM = Through(cross_cum_sum, cross_cum_sum)
TRILU = Through(cross_trilu, cross_trilu)
CENTER_CROP_PAD = Through(cross_center_crop_pad, cross_center_crop_pad)

"""GridSample and RoiAlign: every output is made of neighbouring inputs at places between them."""

from __future__ import annotations

from bnfold.folding.reasons import Refused
from bnfold.folding.rules.conditions import (
    find_rank,
    why_negative,
    why_shifted,
    why_too_wide,
    why_uneven,
    wide_axes,
)
from bnfold.folding.rules.reading import Context, malformed, read_version
from bnfold.folding.rules.through import Spreads, Through
from bnfold.onnxgraph.graph import Node

_MODES = frozenset({"bilinear", "linear", "nearest", "bicubic", "cubic"})
_PADDINGS = frozenset({"zeros", "border", "reflection"})


def cross_grid_sample(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s sample(x) + t == sample(s x + t)`` if s and t are even along the axes of the image.

    The weights of nearest, linear and cubic sum to one, unless some of them meet the zeros beyond
    the image: with these only for t = 0.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    spread = spreads[0]
    mode, padding = _text(node, "mode", "linear"), _text(node, "padding_mode", "zeros")
    if mode not in _MODES or padding not in _PADDINGS:
        return malformed(node, f"its mode is {mode} and its padding_mode {padding}")
    if padding == "zeros":
        why = why_shifted(node, spread, "no shift, as it finds zeros beyond the image,")
        if why is not None:
            return why
    if not wide_axes(spread):
        return spreads
    rank = find_rank(node, node.input(0), context)
    if isinstance(rank, Refused):
        return rank
    why = why_uneven(node, spread, range(2 - rank, 0), "samples along")
    return why or why_too_wide(node, spread, rank) or spreads


def cross_roi_align(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s align(x) == align(s x)`` if s differs along the channels alone; no shift.

    The regions choose images, and reach beyond them, where zeros are. A maximum needs ``s >= 0``.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    spread, mode = spreads[0], _text(node, "mode", "avg")
    if mode not in ("avg", "max"):
        return malformed(node, f"its mode is {mode}")
    why = why_shifted(node, spread, "no shift, as it finds zeros beyond the image,")
    if mode == "max":
        why = why or why_negative(node, spread)
    why = why or why_uneven(node, spread, (-4, -2, -1), "takes regions along")
    return why or why_too_wide(node, spread, 4) or spreads


def _text(node: Node, name: str, default: str) -> str:
    found = node.attribute(name)
    return default if found is None else found.s.decode(errors="replace")


GRID_SAMPLE = Through(cross_grid_sample, cross_grid_sample)
ROI_ALIGN = Through(cross_roi_align, cross_roi_align)

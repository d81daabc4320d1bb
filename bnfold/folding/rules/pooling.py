"""Pooling over windows and over whole feature maps: means, maxima and p-norms."""

from __future__ import annotations

import numpy as np

from bnfold.algebra.spread import Spread
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
from bnfold.folding.rules.reducing import LENGTHS
from bnfold.folding.rules.through import Spreads, Through, blocked
from bnfold.folding.rules.windows import Windows, read_windows
from bnfold.onnxgraph.graph import Node

_POOLS = "pools along"


def _read(node: Node, spread: Spread, context: Context) -> Windows | Refused:
    """The windows of a pool, if the map is even along the axes over which they slide."""
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    windows = read_windows(node, context)
    if isinstance(windows, str):
        return malformed(node, windows)
    axes = range(-len(windows.kernel), 0)
    why = why_uneven(node, spread, axes, _POOLS) or why_too_wide(node, spread, 2 + len(axes))
    return why or windows


def cross_average(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s mean(x) + t == mean(s x + t)`` for each window of which only data is counted.

    Where pads are counted as zeros, only for t = 0: then the sum over each window is multiplied
    by s, whatever it is divided by.
    """
    windows = _read(node, spreads[0], context)
    if isinstance(windows, Refused):
        return windows
    if spreads[0].has_no_shift:
        return spreads
    counts = node.integer("count_include_pad", 0) != 0
    if counts and windows.may_pad:
        return why_shifted(node, spreads[0], "no shift, as it counts its padding,") or spreads
    if windows.may_miss:
        return blocked(node, "may have a window with nothing but padding, which takes no shift up")
    return spreads


def cross_maximum(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s max(x) + t == max(s x + t)`` for ``s >= 0``, if each window meets data.

    Pads are smaller than every value, so they are never the maximum.
    """
    windows = _read(node, spreads[0], context)
    if isinstance(windows, Refused):
        return windows
    why = why_negative(node, spreads[0])
    if why is not None:
        return why
    places = node.outputs[1] if len(node.outputs) > 1 else None
    if places is not None and (places.readers or places.is_output):
        return blocked(node, f"gives the places of its maxima, {places.name}, which are read")
    if windows.may_miss:
        return blocked(node, "may have a window with nothing but padding, which has no maximum")
    return spreads


def cross_global_average(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s mean(x) + t == mean(s x + t)`` over all axes behind the channels, along which s and t
    are even.
    """
    return _cross_global(node, spreads[0], context) or spreads


def cross_global_maximum(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s max(x) + t == max(s x + t)`` over all axes behind the channels, for ``s >= 0``."""
    why = _cross_global(node, spreads[0], context)
    return why or why_negative(node, spreads[0]) or spreads


def lp_backward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s |x|_p == |s x|_p`` for ``s >= 0``, over windows or all of a feature map; no shift.

    Pads are zeros, which every scale leaves.
    """
    spread = spreads[0]
    why = why_negative(node, spread, LENGTHS) or why_shifted(node, spread, LENGTHS)
    return why or _why_not_pooled(node, spread, context) or spreads


def lp_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``|s x|_p == |s| |x|_p`` for any s, over windows or all of a feature map; no shift."""
    spread = spreads[0]
    why = why_shifted(node, spread) or _why_not_pooled(node, spread, context)
    return why or {0: Spread(np.abs(spread.scale), spread.shift)}


def _why_not_pooled(node: Node, spread: Spread, context: Context) -> Refused | None:
    if node.op_type.startswith("Global"):
        return _cross_global(node, spread, context)
    windows = _read(node, spread, context)
    return windows if isinstance(windows, Refused) else None


def _cross_global(node: Node, spread: Spread, context: Context) -> Refused | None:
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    if not wide_axes(spread):
        return None
    rank = find_rank(node, node.input(0), context)
    if isinstance(rank, Refused):
        return rank
    why = why_uneven(node, spread, range(2 - rank, 0), _POOLS)
    return why or why_too_wide(node, spread, rank)


AVERAGE = Through(cross_average, cross_average)
MAXIMUM = Through(cross_maximum, cross_maximum)
GLOBAL_AVERAGE = Through(cross_global_average, cross_global_average)
GLOBAL_MAXIMUM = Through(cross_global_maximum, cross_global_maximum)
LP = Through(lp_backward, lp_forward)

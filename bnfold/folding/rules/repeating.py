"""Expand and Tile: operators that repeat elements."""

from __future__ import annotations

import numpy as np

from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.reading import Context, malformed, read_version
from bnfold.folding.rules.sizes import (
    fitted,
    is_too_large,
    rank_refused,
    shape_of,
    why_not_sized,
)
from bnfold.folding.rules.through import Spreads, Through, blocked
from bnfold.onnxgraph.graph import Node


def expand_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``expand(affine(x)) == affine(expand(x))``: both are broadcast from the last axis."""
    version = read_version(node, context)
    return version if isinstance(version, Refused) else spreads


def expand_backward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``affine(expand(x)) == expand(affine(x))`` if the map does not differ where x is repeated."""
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    shape, spread = shape_of(node.input(0), context), spreads[0]
    if shape is None:
        return rank_refused(node)
    more = len(spread.shape) - len(shape)
    if more > 0:
        if any(size != 1 for size in spread.shape[:more]):
            return blocked(node, "repeats its data along an axis on which the norm differs")
        spread = spread.moved(lambda values: values.reshape(values.shape[more:]))
    spread = spread.of_rank(len(shape))
    why = why_not_sized(node, spread, shape, range(len(shape)))
    return {0: spread} if why is None else why


def _repeats(node: Node, context: Context) -> tuple[int, list[int] | None] | Refused:
    """The rank of what a Tile reads, and how often it repeats each axis, or None if not constant.

    Opset 1 has an axis and a number of tiles as inputs; newer ones have a number for each axis.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    shapes = [shape_of(t, context) for t in (node.input(0), node.outputs[0])]
    shape = next((found for found in shapes if found is not None), None)
    found = context.whole_numbers(node.input(1))
    if version < 6:
        axis = context.whole_numbers(node.input(2))
        if shape is None:
            return rank_refused(node)
        if found is None or axis is None:
            return len(shape), None
        if len(found) != 1 or len(axis) != 1 or not 0 <= axis[0] < len(shape):
            return malformed(node, f"its tiles are {found} and its axis is {axis}")
        repeats = [1] * len(shape)
        repeats[axis[0]] = found[0]
        return len(shape), repeats
    if found is None:
        return rank_refused(node) if shape is None else (len(shape), None)
    if (shape is not None and len(found) != len(shape)) or any(count < 0 for count in found):
        return malformed(node, f"its repeats are {found}")
    return len(found), found


def tile_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``tile(affine(x)) == affine'(tile(x))``: the map is tiled too where it differs."""
    read = _repeats(node, context)
    if isinstance(read, Refused):
        return read
    rank, repeats = read
    spread = fitted(node, spreads[0], rank)
    if isinstance(spread, Refused):
        return spread
    if all(size == 1 for size in spread.shape):
        return {0: spread}
    if repeats is None:
        return blocked(node, "repeats its data as often as is computed")
    shape = shape_of(node.input(0), context) or (None,) * rank
    tiled = [axis for axis, count in enumerate(repeats) if count != 1]
    why = why_not_sized(node, spread, shape, tiled)
    if why is not None:
        return why
    times = [n if size != 1 else 1 for n, size in zip(repeats, spread.shape, strict=True)]
    large = is_too_large(node, (n * s for n, s in zip(times, spread.shape, strict=True)))
    if large is not None:
        return large
    return {0: spread.moved(lambda values: np.tile(values, times))}


def tile_backward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``affine(tile(x)) == tile(affine'(x))`` if the map is the same for each repetition."""
    read = _repeats(node, context)
    if isinstance(read, Refused):
        return read
    rank, repeats = read
    spread = fitted(node, spreads[0], rank)
    if isinstance(spread, Refused):
        return spread
    if all(size == 1 for size in spread.shape):
        return {0: spread}
    if repeats is None:
        return blocked(node, "repeats its data as often as is computed")
    shape = shape_of(node.input(0), context) or (None,) * rank
    for axis, count in enumerate(repeats):
        size, known = spread.shape[axis], shape[axis]
        if size == 1 or count == 1:
            continue
        if not isinstance(known, int) or size != known * count:
            return blocked(node, f"makes axis {axis} of another or an unknown size than the norm's")
        one = _one_of(spread, axis, known)
        if one is None:
            return blocked(node, f"repeats axis {axis}, and the norm differs between repetitions")
        spread = one
    return {0: spread}


def _one_of(spread: Spread, axis: int, size: int) -> Spread | None:
    """The first ``size`` values along an axis, if the others repeat them."""
    count = spread.shape[axis] // max(size, 1)
    first = tuple(slice(0, size) if at == axis else slice(None) for at in range(len(spread.shape)))
    one = spread.moved(lambda values: values[first])
    times = [count if at == axis else 1 for at in range(len(spread.shape))]
    return one if one.moved(lambda values: np.tile(values, times)).equals(spread) else None


EXPAND = Through(expand_backward, expand_forward)
TILE = Through(tile_backward, tile_forward)

"""GatherND, GatherElements, Compress and ReverseSequence: elements picked at places of data.

The places are mostly computed, so a map has to be even along the axes from which they pick.
"""

from __future__ import annotations

from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.conditions import why_uneven
from bnfold.folding.rules.reading import Context, malformed, read_version
from bnfold.folding.rules.sizes import axis_of, fitted, rank_refused, shape_of, why_not_sized
from bnfold.folding.rules.through import Spreads, Through, blocked
from bnfold.onnxgraph.graph import Node

_PICKS = "picks from"


def gather_nd_backward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``affine(x[indices]) == affine'(x)[indices]``: even along the axes that indices stand for."""
    places = _read_gather_nd(node, context)
    if isinstance(places, Refused):
        return places
    first, added, picked, rank = places
    spread = _even(node, spreads[0], rank - picked + added, range(first, first + added))
    if isinstance(spread, Refused):
        return spread
    before, behind = spread.shape[:first], spread.shape[first + added :]
    shape = [*before, *[1] * picked, *behind]
    return {0: spread.moved(lambda values: values.reshape(shape))}


def gather_nd_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``affine(x)[indices] == affine'(x[indices])``: even along the axes that are picked from."""
    places = _read_gather_nd(node, context)
    if isinstance(places, Refused):
        return places
    first, added, picked, rank = places
    spread = _even(node, spreads[0], rank, range(first, first + picked))
    if isinstance(spread, Refused):
        return spread
    before, behind = spread.shape[:first], spread.shape[first + picked :]
    shape = [*before, *[1] * added, *behind]
    return {0: spread.moved(lambda values: values.reshape(shape))}


def _read_gather_nd(node: Node, context: Context) -> tuple[int, int, int, int] | Refused:
    """The first axis that is picked from, how many of the output stand for how many of the data,
    and the rank of the data.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    shape, indices = (shape_of(node.input(at), context) for at in (0, 1))
    if shape is None or indices is None:
        return rank_refused(node)
    first = node.integer("batch_dims", 0)
    picked = indices[-1] if indices else None
    if not isinstance(picked, int):
        return blocked(node, "picks by indices of a length that is not known")
    if not (0 <= first < len(indices) and 1 <= picked <= len(shape) - first):
        return malformed(node, f"its indices pick {picked} axes of {len(shape)} from {first} on")
    return first, len(indices) - 1 - first, picked, len(shape)


def cross_gather_elements(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``affine(x[places]) == affine(x)[places]`` if the map is even along the axis of the places.

    Along others places may be fewer than elements, so there sizes have to be those of the map.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    shape, places = (shape_of(node.input(at), context) for at in (0, 1))
    if shape is None or places is None or len(shape) != len(places):
        return rank_refused(node)
    axis = axis_of(node, node.integer("axis", 0), len(shape))
    if isinstance(axis, Refused):
        return axis
    spread = _even(node, spreads[0], len(shape), [axis])
    if isinstance(spread, Refused):
        return spread
    others = [at for at in range(len(shape)) if at != axis]
    why = why_not_sized(node, spread, shape, others) or why_not_sized(node, spread, places, others)
    return why or {0: spread}


def cross_compress(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``affine(x[chosen]) == affine(x)[chosen]`` if the map is even along the axis of the choice.

    Without an axis it chooses from all elements in a row.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    if node.attribute("axis") is None:
        one = spreads[0].compressed()
        if one.scale.size > 1:
            return blocked(node, "chooses from all elements, which the norm treats differently")
        return {0: Spread(one.scale.reshape(()), one.shift.reshape(()))}
    return _along(node, spreads[0], node.integer("axis", 0), context)


def cross_reverse_sequence(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``affine(reverse(x)) == reverse(affine(x))`` if the map is even along the axis of time."""
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    return _along(node, spreads[0], node.integer("time_axis", 0), context)


def _along(node: Node, spread: Spread, along: int, context: Context) -> Spreads | Refused:
    """The same map before and behind, if it is even along one axis of the data."""
    shape = shape_of(node.input(0), context)
    if shape is None:
        return rank_refused(node)
    axis = axis_of(node, along, len(shape))
    if isinstance(axis, Refused):
        return axis
    even = _even(node, spread, len(shape), [axis])
    return even if isinstance(even, Refused) else {0: even}


def _even(node: Node, spread: Spread, rank: int, axes: range | list[int]) -> Spread | Refused:
    """The map with as many axes as the tensor, if it does not differ along some of them."""
    full = fitted(node, spread, rank)
    if isinstance(full, Refused):
        return full
    full = full.compressed()
    return why_uneven(node, full, [axis - rank for axis in axes], _PICKS) or full


GATHER_ND = Through(gather_nd_backward, gather_nd_forward)
GATHER_ELEMENTS = Through(cross_gather_elements, cross_gather_elements)
COMPRESS = Through(cross_compress, cross_compress)
REVERSE_SEQUENCE = Through(cross_reverse_sequence, cross_reverse_sequence)

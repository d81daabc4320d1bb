"""Reductions over axes: ReduceMean, ReduceSum, ReduceMax, ReduceMin, ReduceL1, ReduceL2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.conditions import (
    find_rank,
    why_negative,
    why_shifted,
    why_too_wide,
    why_uneven,
)
from bnfold.folding.rules.reading import Context, malformed, read_version
from bnfold.folding.rules.sizes import shape_of
from bnfold.folding.rules.through import Spreads, Through, blocked
from bnfold.onnxgraph.graph import Node

LENGTHS = "only positive scales without a shift"
"""What the sum of powers of magnitudes lets through on the way back."""

_AXES_ARE_INPUT = {"ReduceSum": 13}
"""From this version on the axes are an input; from 18 on where the operator is not listed."""


@dataclass(frozen=True)
class _Reduction:
    """What a node reduces.

    Attributes:
        axes: from the front, in order.
        rank: of the data.
        keeps: whether the reduced axes stay, with size 1.
    """

    axes: tuple[int, ...]
    rank: int
    keeps: bool

    @property
    def rank_after(self) -> int:
        """Of the output."""
        return self.rank if self.keeps else self.rank - len(self.axes)


def _read(node: Node, context: Context) -> _Reduction | Refused:
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    rank = find_rank(node, node.input(0), context)
    if isinstance(rank, Refused):
        return rank
    axes: list[int] | None
    if version < _AXES_ARE_INPUT.get(node.op_type, 18):
        found = node.attribute("axes")
        axes = None if found is None else [int(axis) for axis in found.ints]
        if axes == []:
            return malformed(node, "its axes are an empty list")
    elif node.input(1) is None:
        axes = []
    else:
        axes = context.whole_numbers(node.input(1))
        if axes is None:
            return blocked(node, "has axes that are not constant")
    if not axes:
        noop = axes is not None and node.integer("noop_with_empty_axes", 0) != 0
        axes = [] if noop else list(range(rank))
    front = sorted(axis % rank if -rank <= axis < rank else -1 for axis in axes)
    if len(set(front)) != len(front) or -1 in front:
        return malformed(node, f"its axes are {axes}, and its data has {rank}")
    return _Reduction(tuple(front), rank, node.integer("keepdims", 1) != 0)


def _backward(node: Node, spread: Spread, reduction: _Reduction) -> Spread | Refused:
    """The map of the output on the data: with an axis of size 1 for each that is reduced."""
    why = why_too_wide(node, spread, reduction.rank_after)
    if why is not None:
        return why
    full = spread.of_rank(reduction.rank_after)
    if not reduction.keeps:
        full = full.moved(lambda values: np.expand_dims(values, reduction.axes))
    return _why_uneven(node, full, reduction) or full


def _forward(node: Node, spread: Spread, reduction: _Reduction) -> Spread | Refused:
    """The map of the data on the output: without the reduced axes, along which it is even."""
    why = why_too_wide(node, spread, reduction.rank)
    if why is not None:
        return why
    full = spread.of_rank(reduction.rank)
    why = _why_uneven(node, full, reduction)
    if why is not None:
        return why
    if reduction.keeps:
        return full
    return full.moved(lambda values: values.squeeze(reduction.axes))


def _why_uneven(node: Node, spread: Spread, reduction: _Reduction) -> Refused | None:
    back = [axis - reduction.rank for axis in reduction.axes]
    return why_uneven(node, spread, back, "reduces")


_Move = Callable[[Node, Spread, _Reduction], Spread | Refused]


def _cross_mean(node: Node, spread: Spread, context: Context, move: _Move) -> Spreads | Refused:
    reduction = _read(node, context)
    moved = reduction if isinstance(reduction, Refused) else move(node, spread, reduction)
    return moved if isinstance(moved, Refused) else {0: moved}


def mean_backward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s mean(x) + t == mean(s x + t)`` over axes along which s and t are even."""
    return _cross_mean(node, spreads[0], context, _backward)


def mean_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``mean(s x + t) == s mean(x) + t`` over axes along which s and t are even."""
    return _cross_mean(node, spreads[0], context, _forward)


def extreme_backward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s max(x) + t == max(s x + t)`` for ``s >= 0``, over axes along which s and t are even."""
    return why_negative(node, spreads[0]) or mean_backward(node, spreads, context)


def extreme_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``max(s x + t) == s max(x) + t`` for ``s >= 0``, over axes along which s and t are even."""
    return why_negative(node, spreads[0]) or mean_forward(node, spreads, context)


def length_backward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s |x|_p == |s x|_p`` for ``s >= 0``, over axes along which s is even; no shift."""
    why = why_negative(node, spreads[0], LENGTHS) or why_shifted(node, spreads[0], LENGTHS)
    return why or mean_backward(node, spreads, context)


def length_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``|s x|_p == |s| |x|_p`` for any s, over axes along which it is even; no shift."""
    spread = spreads[0]
    why = why_shifted(node, spread)
    return why or mean_forward(node, {0: Spread(np.abs(spread.scale), spread.shift)}, context)


def sum_backward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s sum(x) + t == sum(s x + t / n)`` over n elements; n has to be known if t is not 0."""
    return _cross_sum(node, spreads[0], context, _backward, lambda n: 1.0 / n)


def sum_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``sum(s x + t) == s sum(x) + n t`` over n elements; n has to be known if t is not 0."""
    return _cross_sum(node, spreads[0], context, _forward, float)


def _cross_sum(
    node: Node, spread: Spread, context: Context, move: _Move, times: Callable[[int], float]
) -> Spreads | Refused:
    reduction = _read(node, context)
    if isinstance(reduction, Refused):
        return reduction
    moved = move(node, spread, reduction)
    if isinstance(moved, Refused):
        return moved
    if spread.has_no_shift:
        return {0: moved}
    shape = shape_of(node.input(0), context)
    count = 1
    for axis in reduction.axes:
        size = shape[axis] if shape is not None else None
        if not isinstance(size, int) or size == 0:
            lets = "no shift, as it adds up a number of elements that is not known,"
            return why_shifted(node, spread, lets) or {0: moved}
        count *= size
    return {0: Spread(moved.scale, moved.shift * times(count))}


MEAN = Through(mean_backward, mean_forward)
SUM = Through(sum_backward, sum_forward)
EXTREME = Through(extreme_backward, extreme_forward)
LENGTH = Through(length_backward, length_forward)

"""SplitToSequence and SequenceAt: a map of a sequence of parts is the map of what was split."""

from __future__ import annotations

from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.parting import joined, parted
from bnfold.folding.rules.reading import Context, malformed, read_version
from bnfold.folding.rules.sizes import axis_of, fitted, rank_refused, shape_of
from bnfold.folding.rules.through import Spreads, Through, blocked
from bnfold.onnxgraph.graph import Node
from bnfold.onnxgraph.known import Unknown
from bnfold.onnxgraph.types import Dim

_Parts = tuple[int, int, list[Dim] | None]
"""The rank of what is split, the axis, and the size of each part; None where they are not known."""


def _read_split(node: Node, context: Context) -> _Parts | Refused:
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    if node.input(1) is None and node.integer("keepdims", 1) == 0:
        return blocked(node, "takes the axis away that it splits")
    shape = shape_of(node.input(0), context)
    if shape is None:
        return rank_refused(node)
    axis = axis_of(node, node.integer("axis", 0), len(shape))
    if isinstance(axis, Refused):
        return axis
    whole, split = shape[axis], node.input(1)
    chunk = 1
    if split is not None:
        found = context.constants.value(split)
        if isinstance(found, Unknown):
            return len(shape), axis, None
        sizes = [int(size) for size in found.array.reshape(-1)]
        if found.array.ndim == 1:
            return len(shape), axis, list(sizes)
        if found.array.ndim > 1 or sizes[0] < 1:
            return malformed(node, "its split is neither a positive number nor a list")
        chunk = sizes[0]
    if not isinstance(whole, int):
        return len(shape), axis, None
    return len(shape), axis, [min(chunk, whole - at) for at in range(0, whole, chunk)]


def cross_split(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``parts(affine(x)) == affine(parts(x))``: the map of the sequence is that of the whole."""
    read = _read_split(node, context)
    return read if isinstance(read, Refused) else spreads


def _read_at(node: Node, context: Context) -> tuple[_Parts, int | None] | Refused:
    """How the sequence was split, and which part of it a SequenceAt takes."""
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    sequence, position = node.input(0), node.input(1)
    split = None if sequence is None else sequence.producer
    if split is None or split.op_type != "SplitToSequence" or split.domain != "":
        return blocked(node, "reads a sequence that no SplitToSequence makes")
    parts = _read_split(split, context)
    if isinstance(parts, Refused):
        return parts
    if position is None:
        return malformed(node, "it has no position")
    numbers, sizes = context.whole_numbers(position), parts[2]
    if numbers is None or sizes is None:
        return parts, None
    if len(numbers) != 1 or not -len(sizes) <= numbers[0] < len(sizes):
        return malformed(node, f"its position is {numbers} and there are {len(sizes)} parts")
    return parts, numbers[0] % len(sizes)


def at_backward(
    node: Node, spreads: Spreads, context: Context
) -> Spreads | list[Spreads] | Refused:
    """``affine(parts(x)[i]) == affine'(parts(x))[i]``: the other parts keep their values.

    Where the map is one value along the axis, it may also serve the other parts.
    """
    read = _read_at(node, context)
    if isinstance(read, Refused):
        return read
    (rank, axis, sizes), position = read
    spread = fitted(node, spreads[0], rank)
    if isinstance(spread, Refused):
        return spread
    ways: list[Spreads] = [{0: spread}] if spread.shape[axis] == 1 else []
    if position is not None and sizes is not None and (not ways or spread.scale.size == 1):
        rest = Spread.identity().of_rank(rank)
        maps = [spread if at == position else rest for at in range(len(sizes))]
        whole = joined(node, maps, axis, sizes)
        if isinstance(whole, Refused) and not ways:
            return whole
        if not isinstance(whole, Refused) and (not ways or len(sizes) > 1):
            ways.append({0: whole})
    return ways or blocked(node, "takes a part that is not known, and the norm differs along it")


def at_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``affine(parts(x))[i] == affine'(parts(x)[i])``: the part has its part of the map."""
    read = _read_at(node, context)
    if isinstance(read, Refused):
        return read
    (rank, axis, sizes), position = read
    spread = fitted(node, spreads[0], rank)
    if isinstance(spread, Refused):
        return spread
    if spread.shape[axis] == 1:
        return {0: spread}
    if position is None or sizes is None:
        return blocked(node, "takes a part that is not known, and the norm differs between parts")
    maps = parted(node, spread, axis, sizes)
    return maps if isinstance(maps, Refused) else {0: maps[position]}


SPLIT_TO_SEQUENCE = Through(cross_split, cross_split)
SEQUENCE_AT = Through(at_backward, at_forward)

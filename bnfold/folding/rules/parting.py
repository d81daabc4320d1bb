"""Split and Concat: a map is cut along their axis, or joined from those of the parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnfold.algebra.affine import Float64Array
from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.reading import Context, malformed, read_version
from bnfold.folding.rules.sizes import (
    Shape,
    axis_of,
    fitted,
    is_too_large,
    rank_refused,
    shape_of,
    taken,
)
from bnfold.folding.rules.through import Spreads, Through, blocked
from bnfold.onnxgraph.graph import Node
from bnfold.onnxgraph.types import Dim


def parted(node: Node, spread: Spread, axis: int, sizes: Sequence[Dim]) -> list[Spread] | Refused:
    """``parts(affine(x)) == affine_i(part_i(x))``: each part has its part of the map.

    Args:
        spread: of the rank of the whole.
        axis: from the front.
        sizes: of the parts along that axis; needed only where the map differs along it.
    """
    if spread.shape[axis] == 1:
        return [spread] * len(sizes)
    numbers = [size for size in sizes if isinstance(size, int)]
    if len(numbers) < len(sizes) or sum(numbers) != spread.shape[axis]:
        return blocked(
            node,
            f"has parts of {_listed(sizes)} along axis {axis}, where the norm has "
            f"{spread.shape[axis]} values",
        )
    ends = np.cumsum(numbers)
    return [
        taken(spread, axis, range(end - size, end)).compressed()
        for end, size in zip(ends.tolist(), numbers, strict=True)
    ]


def joined(
    node: Node, spreads: Sequence[Spread], axis: int, sizes: Sequence[Dim]
) -> Spread | Refused:
    """``whole(affine_i(x_i)) == affine(whole(x_i))``: the maps of the parts, one behind the other.

    Args:
        spreads: one for each part, of the rank of the whole.
        sizes: of the parts along the axis; needed only where the map differs along it.
    """
    first = spreads[0]
    if first.shape[axis] == 1 and all(
        other.shape[axis] == 1 and other.equals(first) for other in spreads[1:]
    ):
        return first
    numbers = [size for size in sizes if isinstance(size, int)]
    shapes = [[*s.shape[:axis], 1, *s.shape[axis + 1 :]] for s in spreads]
    try:
        shape = list(np.broadcast_shapes(*map(tuple, shapes)))
    except ValueError:
        return blocked(node, f"has parts whose norms differ in size on another axis than {axis}")
    if len(numbers) < len(sizes) or any(
        spread.shape[axis] not in (1, size) for spread, size in zip(spreads, numbers, strict=True)
    ):
        return blocked(
            node, f"has parts of {_listed(sizes)} along axis {axis}, which the norm does not fit"
        )
    shape[axis] = sum(numbers)
    large = is_too_large(node, shape)
    if large is not None:
        return large

    def join(values: Sequence[Float64Array]) -> Float64Array:
        parts = []
        for value, size in zip(values, numbers, strict=True):
            shape[axis] = size
            parts.append(np.broadcast_to(value, shape))
        return np.concatenate(parts, axis=axis)

    return Spread(join([s.scale for s in spreads]), join([s.shift for s in spreads])).compressed()


def _listed(sizes: Sequence[Dim]) -> str:
    return ", ".join("an unknown size" if size is None else str(size) for size in sizes)


def _read_split(node: Node, context: Context) -> tuple[int, int, list[Dim]] | Refused:
    """The rank of what a Split reads, its axis, and the size of each part along it.

    The sizes are an attribute (opset 1 to 12), an input (1, 13 and newer), or equal; with
    ``num_outputs`` the last part may be smaller.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    shape = shape_of(node.input(0), context)
    parts = [shape_of(tensor, context) for tensor in node.outputs]
    known = next((found for found in (shape, *parts) if found is not None), None)
    if known is None:
        return rank_refused(node)
    rank, count = len(known), len(node.outputs)
    axis = axis_of(node, node.integer("axis", 0), rank)
    if isinstance(axis, Refused):
        return axis
    found = node.attribute("split")
    sizes: Sequence[Dim] | None = None if found is None else [int(size) for size in found.ints]
    given = node.input(1) if version < 2 or version >= 13 else None
    if given is not None:
        if sizes is not None or node.attribute("num_outputs") is not None:
            return malformed(node, "it has its sizes twice")
        sizes = context.whole_numbers(given) or [None] * count
    elif sizes is None:
        wanted = node.integer("num_outputs", count)
        if wanted != count or (version >= 18 and node.attribute("num_outputs") is None):
            return malformed(node, f"it has {count} outputs, and num_outputs is not that")
        whole = None if shape is None else shape[axis]
        sizes = _equal_parts(whole, count, is_even=version < 18)
    if len(sizes) != count:
        return malformed(node, f"it has {count} outputs and {len(sizes)} sizes")
    return rank, axis, [_told(size, part, axis) for size, part in zip(sizes, parts, strict=True)]


def _equal_parts(whole: Dim, count: int, *, is_even: bool) -> list[Dim]:
    if not isinstance(whole, int) or (is_even and whole % count):
        return [None] * count
    size = -(-whole // count)
    return [max(0, min(size, whole - size * at)) for at in range(count)]


def _told(size: Dim, shape: Shape | None, axis: int) -> Dim:
    """A size, or what the shape of the part tells of it."""
    if isinstance(size, int) or shape is None or axis >= len(shape):
        return size
    return shape[axis]


def split_backward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``affine_i(part_i(x)) == part_i(affine(x))``: the maps of the parts are joined.

    A part without a map keeps its values; one that nothing reads may have any.
    """
    read = _read_split(node, context)
    if isinstance(read, Refused):
        return read
    rank, axis, sizes = read
    maps: list[Spread] = []
    for at, tensor in enumerate(node.outputs):
        is_free = tensor is None or not (tensor.readers or tensor.is_output or at in spreads)
        default = next(iter(spreads.values())) if is_free else Spread.identity()
        # The map of another part serves a free one only where it has one value along the axis.
        spread = fitted(node, spreads.get(at, default), rank)
        if isinstance(spread, Refused):
            return spread
        if is_free and spread.shape[axis] != 1:
            spread = Spread.identity().of_rank(rank)
        maps.append(spread)
    whole = joined(node, maps, axis, sizes)
    return whole if isinstance(whole, Refused) else {0: whole}


def split_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``part_i(affine(x)) == affine_i(part_i(x))``: each part has its part of the map."""
    read = _read_split(node, context)
    if isinstance(read, Refused):
        return read
    rank, axis, sizes = read
    spread = fitted(node, spreads[0], rank)
    if isinstance(spread, Refused):
        return spread
    maps = parted(node, spread, axis, sizes)
    if isinstance(maps, Refused):
        return maps
    return {at: part for at, part in enumerate(maps) if node.outputs[at] is not None}


def _read_concat(node: Node, context: Context) -> tuple[int, int, list[Dim]] | Refused:
    """The rank of what a Concat makes, its axis, and the size of each input along it."""
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    if None in node.inputs or not node.inputs:
        return malformed(node, "an input is missing")
    if version >= 4 and node.attribute("axis") is None:
        return malformed(node, "it has no axis")
    shapes = [shape_of(tensor, context) for tensor in node.inputs]
    whole = shape_of(node.outputs[0], context)
    ranks = {len(shape) for shape in (whole, *shapes) if shape is not None}
    if not ranks:
        return rank_refused(node)
    if len(ranks) > 1:
        return malformed(node, "its inputs differ in rank")
    rank = ranks.pop()
    axis = axis_of(node, node.integer("axis", 1), rank)
    if isinstance(axis, Refused):
        return axis
    sizes: list[Dim] = [None if shape is None else shape[axis] for shape in shapes]
    missing = [at for at, size in enumerate(sizes) if not isinstance(size, int)]
    total = None if whole is None else whole[axis]
    if len(missing) == 1 and isinstance(total, int):
        rest = total - sum(size for size in sizes if isinstance(size, int))
        sizes[missing[0]] = rest if rest >= 0 else None
    return rank, axis, sizes


def concat_backward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``affine(concat(x_i)) == concat(affine_i(x_i))``: each input has its part of the map."""
    read = _read_concat(node, context)
    if isinstance(read, Refused):
        return read
    rank, axis, sizes = read
    spread = fitted(node, spreads[0], rank)
    if isinstance(spread, Refused):
        return spread
    maps = parted(node, spread, axis, sizes)
    return maps if isinstance(maps, Refused) else dict(enumerate(maps))


def concat_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``concat(affine_i(x_i)) == affine(concat(x_i))``: the maps of the inputs are joined.

    An input without a map has the identity.
    """
    read = _read_concat(node, context)
    if isinstance(read, Refused):
        return read
    rank, axis, sizes = read
    maps: list[Spread] = []
    for at in range(len(node.inputs)):
        spread = fitted(node, spreads.get(at, Spread.identity()), rank)
        if isinstance(spread, Refused):
            return spread
        maps.append(spread)
    whole = joined(node, maps, axis, sizes)
    return whole if isinstance(whole, Refused) else {0: whole}


SPLIT = Through(split_backward, split_forward)
CONCAT = Through(concat_backward, concat_forward, data=None)

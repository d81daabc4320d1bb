"""Gather: the elements of a map are taken as those of the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnfold.folding.reasons import Refused
from bnfold.folding.rules.reading import Context, malformed, read_version
from bnfold.folding.rules.sizes import (
    Indices,
    axis_of,
    fitted,
    is_too_large,
    put_back,
    rank_refused,
    shape_of,
    taken,
    widened,
)
from bnfold.folding.rules.through import Spreads, Through, blocked
from bnfold.onnxgraph.graph import Node
from bnfold.onnxgraph.known import Unknown
from bnfold.onnxgraph.types import Dim


@dataclass(frozen=True, eq=False)
class _Gathered:
    """What a Gather reads.

    Attributes:
        axis: of its data, from the front.
        rank: of its data.
        size: of that axis.
        added: number of axes of its indices, which stand in the place of that axis.
        indices: their values from the front, or None where they are not constant.
    """

    axis: int
    rank: int
    size: Dim
    added: int
    indices: Indices | None


def _read_gather(node: Node, context: Context) -> _Gathered | Refused:
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    tensor = node.input(1)
    if tensor is None:
        return malformed(node, "it has no indices")
    shape, made = shape_of(node.input(0), context), shape_of(node.outputs[0], context)
    found = context.constants.value(tensor)
    values = None if isinstance(found, Unknown) else np.asarray(found.array)
    counted = values.shape if values is not None else shape_of(tensor, context)
    if counted is None and shape is not None and made is not None:
        counted = (None,) * (len(made) - len(shape) + 1)
    if shape is None and made is not None and counted is not None:
        shape = (None,) * (len(made) - len(counted) + 1)
    if shape is None or counted is None:
        return rank_refused(node)
    axis = axis_of(node, node.integer("axis", 0), len(shape))
    if isinstance(axis, Refused):
        return axis
    size, indices = shape[axis], None
    if values is not None and isinstance(size, int):
        indices = values.astype(np.int64)
        if not np.issubdtype(values.dtype, np.integer) or (version < 11 and (indices < 0).any()):
            return malformed(node, "its indices are negative, or no whole numbers")
        if ((indices < -size) | (indices >= size)).any():
            return malformed(node, f"an index is beyond the {size} elements of axis {axis}")
        indices = indices % size
    return _Gathered(axis, len(shape), size, len(counted), indices)


def _open(node: Node, read: _Gathered) -> Refused:
    return blocked(
        node, f"takes elements of axis {read.axis}, on which the norm differs, that are not known"
    )


def gather_backward(
    node: Node, spreads: Spreads, context: Context
) -> Spreads | list[Spreads] | Refused:
    """``affine(x[indices]) == affine'(x)[indices]`` if no element needs two different values.

    What is not gathered keeps its values; a map that is one value along the axis may serve it too.
    """
    read = _read_gather(node, context)
    if isinstance(read, Refused):
        return read
    spread = fitted(node, spreads[0], read.rank - 1 + read.added)
    if isinstance(spread, Refused):
        return spread
    axis = read.axis
    at = tuple(range(axis, axis + read.added))
    if all(spread.shape[i] == 1 for i in at):
        rest = [*spread.shape[:axis], 1, *spread.shape[axis + read.added :]]
        whole = spread.moved(lambda values: values.reshape(rest))
        ways: list[Spreads] = [{0: whole}]
        if spread.scale.size == 1 and read.indices is not None and not spread.is_identity:
            assert isinstance(read.size, int)
            places = np.unique(read.indices).tolist()
            part = put_back(node, whole, axis, places, read.size)
            if len(places) < read.size and not isinstance(part, Refused):
                ways.append({0: part})
        return ways
    if read.indices is None:
        return _open(node, read)
    assert isinstance(read.size, int)
    if any(spread.shape[i] not in (1, read.indices.shape[i - axis]) for i in at):
        return blocked(node, f"takes {read.indices.shape} elements, and the norm has others")
    wide = widened(node, spread, dict(zip(at, read.indices.shape, strict=True)))
    if isinstance(wide, Refused):
        return wide
    places, first = np.unique(read.indices, return_index=True)
    line = [*wide.shape[:axis], read.indices.size, *wide.shape[axis + read.added :]]
    flat = wide.moved(lambda values: values.reshape(line))
    found = put_back(node, taken(flat, axis, first), axis, places.tolist(), read.size)
    if isinstance(found, Refused):
        return found
    if not taken(found, axis, read.indices.reshape(-1)).equals(flat):
        return blocked(node, "takes an element twice, and the norm makes it two different ones")
    return {0: found.compressed()}


def gather_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``affine(x)[indices] == affine'(x[indices])``: the map's elements are gathered too.

    Indices that are not constant are fine where the map is one value along their axis.
    """
    read = _read_gather(node, context)
    if isinstance(read, Refused):
        return read
    spread = fitted(node, spreads[0], read.rank)
    if isinstance(spread, Refused):
        return spread
    axis = read.axis
    if spread.shape[axis] == 1:
        shape = [*spread.shape[:axis], *[1] * read.added, *spread.shape[axis + 1 :]]
        return {0: spread.moved(lambda values: values.reshape(shape))}
    if read.indices is None:
        return _open(node, read)
    if spread.shape[axis] != read.size:
        return blocked(node, f"reads {read.size} elements, and the norm has {spread.shape[axis]}")
    shape = [*spread.shape[:axis], *read.indices.shape, *spread.shape[axis + 1 :]]
    large = is_too_large(node, shape)
    if large is not None:
        return large
    return {0: taken(spread, axis, read.indices).compressed()}


GATHER = Through(gather_backward, gather_forward)

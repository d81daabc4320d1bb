"""What rules for operators that move elements ask about the shapes of tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.reading import Context, malformed
from bnfold.folding.rules.through import blocked
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.types import Dim

LARGEST = 1 << 22
"""No rule builds a map of more values than this."""

Indices = npt.NDArray[np.int64]
Shape = tuple[Dim, ...]
"""A shape of known rank: each size a number, a symbol, or None."""


def shape_of(tensor: Tensor | None, context: Context) -> Shape | None:
    """All that is known of a shape, or None if not even the rank is.

    A BatchNormalization beside the tensor tells its channels.
    """
    shape = None if tensor is None else context.types.shape(tensor)
    if tensor is None or shape is None or len(shape) < 2 or isinstance(shape[1], int):
        return shape
    beside = [node for node in tensor.readers[:4] if node.input(0) is tensor]
    if tensor.producer is not None and tensor.producer.outputs[0] is tensor:
        beside.append(tensor.producer)
    for node in beside:
        scale = node.input(1) if node.op_type == "BatchNormalization" else None
        known = None if scale is None or node.domain != "" else context.types.shape(scale)
        if known is not None and len(known) == 1 and isinstance(known[0], int):
            return (shape[0], known[0], *shape[2:])
    return shape


def rank_refused(node: Node) -> Refused:
    """The number of axes of what a node moves is not known."""
    return Refused(
        "unknown-rank", f"the rank of what {node.label} ({node.op_type}) moves is not known"
    )


def fitted(node: Node, spread: Spread, rank: int) -> Spread | Refused:
    """The map with as many axes as the tensor, unless it has more."""
    if len(spread.shape) > rank:
        return blocked(node, f"moves {rank} axes, and the norm acts on {len(spread.shape)}")
    return spread.of_rank(rank)


def axis_of(node: Node, axis: int, rank: int) -> int | Refused:
    """An axis from the front."""
    if not -rank <= axis < rank:
        return malformed(node, f"its axis is {axis} and its data has {rank} axes")
    return axis % rank


def axes_of(node: Node, axes: Iterable[int], rank: int) -> list[int] | Refused:
    """Some axes from the front, each of them once."""
    found: list[int] = []
    for axis in axes:
        front = axis_of(node, axis, rank)
        if isinstance(front, Refused):
            return front
        found.append(front)
    if len(set(found)) < len(found):
        return malformed(node, "it names an axis twice")
    return found


def why_not_sized(
    node: Node, spread: Spread, shape: Sequence[Dim], axes: Iterable[int]
) -> Refused | None:
    """Why a map that differs along some axes may not be that of the tensor, or None.

    Args:
        spread: of the tensor's rank.
    """
    for axis in axes:
        size, known = spread.shape[axis], shape[axis]
        if size not in (1, known):
            has = f"size {known}" if isinstance(known, int) else "a size that is not known"
            return blocked(node, f"moves axis {axis} of {has}, where the norm has {size} values")
    return None


def is_too_large(node: Node, shape: Iterable[int]) -> Refused | None:
    """Why a map of that shape is not built, or None."""
    sizes = list(shape)
    if math.prod(sizes) <= LARGEST:
        return None
    return Refused(
        "expression-too-large", f"the map across {node.label} has {sizes} values, above {LARGEST}"
    )


def widened(node: Node, spread: Spread, sizes: dict[int, int]) -> Spread | Refused:
    """The same map, with as many values along some axes as the tensor has.

    Args:
        spread: of the tensor's rank.
        sizes: axis -> its size; the map has that many values there, or one.
    """
    shape = list(spread.shape)
    for axis, size in sizes.items():
        shape[axis] = size
    large = is_too_large(node, shape)
    if large is not None:
        return large
    return spread.moved(lambda values: np.broadcast_to(values, shape))


def taken(spread: Spread, axis: int, indices: Indices | Sequence[int]) -> Spread:
    """The elements of a map at some places of an axis."""
    at = np.asarray(indices, dtype=np.int64)
    return spread.moved(lambda values: values.take(at, axis=axis))


def put_back(
    node: Node, spread: Spread, axis: int, indices: Sequence[int], size: Dim
) -> Spread | Refused:
    """The map that has the values of ``spread`` at some places of an axis, else the identity.

    Args:
        spread: of the tensor's rank, with a value for each place along that axis, or one for all.
        size: of the axis afterwards.
    """
    if not isinstance(size, int) or spread.shape[axis] not in (1, len(indices)):
        return blocked(
            node,
            f"takes {len(indices)} elements of axis {axis}, where the norm has "
            f"{spread.shape[axis]} values",
        )
    shape = [*spread.shape[:axis], size, *spread.shape[axis + 1 :]]
    large = is_too_large(node, shape)
    if large is not None:
        return large
    at: list[slice | list[int]] = [slice(None)] * len(shape)
    at[axis] = list(indices)
    scale, shift = np.ones(shape), np.zeros(shape)
    scale[tuple(at)], shift[tuple(at)] = spread.scale, spread.shift
    return Spread(scale, shift)

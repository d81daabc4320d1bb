"""What a map of a joined tensor is on each branch, which may have been broadcast."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bnfold.algebra.affine import Float64Array
from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.conditions import wide_axes
from bnfold.folding.rules.reading import Context, malformed, read_version
from bnfold.folding.rules.sizes import shape_of
from bnfold.folding.rules.through import blocked
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.types import Dim

MOST_WAYS = 8
"""At most so many ways to give a map to one branch of several."""

_SUMS = frozenset({"Add", "Sub", "Sum", "Mean"})
_ALIKE_BEFORE = {"Add": 7, "Sub": 7, "Mul": 7, "Div": 7, "Sum": 8, "Mean": 8, "Max": 8, "Min": 8}
"""Before this version the operands have equal shapes, or ``broadcast=1`` says otherwise."""


def join_version(node: Node, context: Context) -> int | Refused:
    """The version of an operator that joins branches, if all its inputs are there."""
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    if None in node.inputs or not node.inputs:
        return malformed(node, "an input is missing")
    wanted = {"Where": 3, "Add": 2, "Sub": 2, "Mul": 2, "Div": 2}.get(node.op_type)
    if wanted is not None and len(node.inputs) != wanted:
        return malformed(node, f"it has {len(node.inputs)} inputs")
    if node.integer("broadcast", 0):
        return blocked(node, "broadcasts its second input by the attribute of old opsets")
    return version


def on_branches(
    node: Node, slots: Iterable[int], spread: Spread, context: Context
) -> dict[int, Spread] | Refused:
    """A map of the joined tensor on several of the branches, each as ``on_branch`` says."""
    found: dict[int, Spread] = {}
    for at in slots:
        own = on_branch(node, at, spread, context)
        if isinstance(own, Refused):
            return own
        found[at] = own
    return found


def on_branch(node: Node, at: int, spread: Spread, context: Context) -> Spread | Refused:
    """A map of the joined tensor on one branch: without the axes along which it is broadcast.

    ``broadcast(s x + t) == s broadcast(x) + t`` where s and t are even along those axes. Along
    any other axis on which they may differ, the branch has to have as many elements.
    """
    tensor = node.inputs[at]
    assert tensor is not None
    if spread.is_identity:
        return Spread.identity()
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    if version < _ALIKE_BEFORE.get(node.op_type, 0):
        return spread
    wide = wide_axes(spread)
    if not spread.shape:
        return spread
    shape = shape_of(tensor, context)
    if shape is None:
        if not wide:
            return spread
        return blocked(node, f"may broadcast {tensor.name}, whose shape is not known")
    for axis in wide:
        own, size = _size(shape, axis), spread.shape[axis]
        if own == size:
            continue
        if own != 1:
            return blocked(
                node, f"may broadcast {tensor.name}, whose size on axis {axis} is not known"
            )
        if not _has_size(node, axis, size, context) or not _is_even(spread, axis):
            return blocked(
                node,
                f"broadcasts {tensor.name} along axis {axis}, along which the scale and shift "
                f"have {size} values",
            )
        spread = _first_along(spread, axis)
    return _of_rank(node, spread, len(shape), context)


def _size(shape: tuple[Dim, ...], axis: int) -> Dim:
    """The size of an axis from the back; one that is not there is broadcast too."""
    return shape[axis] if -axis <= len(shape) else 1


def _has_size(node: Node, axis: int, size: int, context: Context) -> bool:
    """Whether an input makes the joined tensor as large as a map says that it is."""
    shapes = [shape_of(t, context) for t in node.inputs]
    return any(shape is not None and _size(shape, axis) == size for shape in shapes)


def _is_even(spread: Spread, axis: int) -> bool:
    return spread.equals(_first_along(spread, axis))


def _first_along(spread: Spread, axis: int) -> Spread:
    def take(values: Float64Array) -> Float64Array:
        return np.take(values, [0], axis=axis)

    return spread.moved(take)


def _of_rank(node: Node, spread: Spread, rank: int, context: Context) -> Spread:
    """Without leading axes that the branch has not, if the joined tensor has them."""
    excess = len(spread.shape) - rank
    ranks = [context.types.rank(t) for t in node.inputs if t is not None]
    if excess <= 0 or not any(r is not None and r >= len(spread.shape) for r in ranks):
        return spread
    return spread.moved(lambda values: values.reshape(values.shape[excess:]))


def with_preference(node: Node, slots: Iterable[int]) -> list[int]:
    """The branches, those first that a map can most likely go into alone.

    That is one that nothing else reads, that is constant, or at least no sum itself.
    """

    def worse(at: int) -> tuple[bool, bool, bool]:
        tensor = node.inputs[at]
        is_shared = tensor is None or set(tensor.readers) != {node}
        return is_shared, tensor is None or tensor.initializer is None, _is_sum(tensor)

    return sorted(slots, key=worse)


def _is_sum(tensor: Tensor | None) -> bool:
    producer = tensor.producer if tensor is not None else None
    return producer is not None and producer.op_type in _SUMS

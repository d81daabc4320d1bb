"""Reshape and Flatten: a map is reshaped too, where the sizes of the axes it differs along show."""

from __future__ import annotations

from collections.abc import Sequence

from bnfold.folding.reasons import Refused
from bnfold.folding.rules.grouping import Size, product, regrouped
from bnfold.folding.rules.reading import Context, malformed, read_version
from bnfold.folding.rules.sizes import Shape, fitted, rank_refused, shape_of
from bnfold.folding.rules.through import Spreads, Through, blocked
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.types import Dim

_Sides = tuple[list[Size], list[Size]]
"""The sizes before and after."""


def _size(dim: Dim, name: str) -> Size:
    """A size; one that is unknown gets a name of its own, which no symbol of a model has."""
    if isinstance(dim, int):
        return Size(dim)
    return Size(1, (f"={dim}" if dim is not None else f"?{name}",))


def _read_reshape(node: Node, context: Context) -> _Sides | Refused:
    """The sizes of both sides of a Reshape.

    The wanted shape is an attribute before opset 5 and an input since then. In it 0 is the size
    of the same axis before (with ``allowzero`` it is zero itself), and -1 is what is left.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    shape, made = shape_of(node.input(0), context), shape_of(node.outputs[0], context)
    wanted: Sequence[Dim] | None
    if version < 5:
        found = node.attribute("shape")
        wanted = None if found is None else [int(size) for size in found.ints]
    else:
        target = node.input(1)
        wanted = context.whole_numbers(target)
        length = None if target is None else shape_of(target, context)
        if wanted is None and target is not None:
            if made is None and length is not None and len(length) == 1:
                made = (None,) * length[0] if isinstance(length[0], int) else None
            listed = _listed(target, context)
            if made is None or (listed is not None and len(listed) == len(made)):
                wanted = listed
            if made is None and wanted is None:
                return rank_refused(node)
            if made is not None:
                told = zip(wanted or made, made, strict=True)
                wanted = [one if one is not None else other for one, other in told]
    if wanted is None:
        return malformed(node, "it has no shape")
    if shape is None:
        return rank_refused(node)
    return _resolved(node, shape, wanted, made)


def _listed(target: Tensor, context: Context) -> list[Dim] | None:
    """The sizes that a Concat puts together, None where a part is not constant."""
    node = target.producer
    if node is None or node.op_type != "Concat" or node.domain:
        return None
    sizes: list[Dim] = []
    for part in node.inputs:
        numbers, length = context.whole_numbers(part), shape_of(part, context)
        if numbers is not None:
            sizes += numbers
        elif length is not None and len(length) == 1 and isinstance(length[0], int):
            sizes += [None] * length[0]
        else:
            return None
    return sizes


def _resolved(
    node: Node, shape: Shape, wanted: Sequence[Dim], made: Shape | None
) -> _Sides | Refused:
    before = [_size(dim, f"before {at}") for at, dim in enumerate(shape)]
    after: list[Size | None] = []
    for at, dim in enumerate(wanted):
        if dim == 0:
            if node.integer("allowzero", 0) or at >= len(before):
                return blocked(node, "makes an axis of size 0, or copies one that is not there")
            after.append(before[at])
        elif isinstance(dim, int) and dim < 0:
            after.append(None)
        else:
            after.append(_size(dim, f"after {at}"))
    if after.count(None) > 1:
        return malformed(node, "its shape has -1 twice")
    if None in after:
        at = after.index(None)
        rest = product(size for size in after if size is not None)
        after[at] = product(before).over(rest) or _size(None, f"after {at}")
    done = [size for size in after if size is not None]
    if made is not None and len(made) == len(done):
        told = zip(done, made, strict=True)
        done = [Size(dim) if isinstance(dim, int) else size for size, dim in told]
    if any(size.number == 0 for size in (*before, *done)):
        return blocked(node, "moves a tensor without elements")
    return before, done


def _read_flatten(node: Node, context: Context) -> _Sides | Refused:
    """The sizes of both sides of a Flatten: two axes, of all sizes ahead of ``axis`` and the rest.

    Before opset 11 the axis is not negative.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    shape = shape_of(node.input(0), context)
    if shape is None:
        return rank_refused(node)
    axis, rank = node.integer("axis", 1), len(shape)
    if not (-rank if version >= 11 else 0) <= axis <= rank:
        return malformed(node, f"its axis is {axis} and its data has {rank} axes")
    axis = axis + rank if axis < 0 else axis
    before = [_size(dim, f"before {at}") for at, dim in enumerate(shape)]
    after = [product(before[:axis]), product(before[axis:])]
    made = shape_of(node.outputs[0], context)
    if made is not None and len(made) == 2:
        told = zip(after, made, strict=True)
        after = [Size(dim) if isinstance(dim, int) else size for size, dim in told]
    if any(size.number == 0 for size in (*before, *after)):
        return blocked(node, "moves a tensor without elements")
    return before, after


def _cross(node: Node, spreads: Spreads, context: Context, *, back: bool) -> Spreads | Refused:
    read = (_read_flatten if node.op_type == "Flatten" else _read_reshape)(node, context)
    if isinstance(read, Refused):
        return read
    before, after = reversed(read) if back else read
    spread = fitted(node, spreads[0], len(before))
    if isinstance(spread, Refused):
        return spread
    found = regrouped(node, spread, before, after)
    return found if isinstance(found, Refused) else {0: found}


def reshape_backward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``affine(reshape(x)) == reshape(affine'(x))``: the map is reshaped back."""
    return _cross(node, spreads, context, back=True)


def reshape_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``reshape(affine(x)) == affine'(reshape(x))``: the map is reshaped too."""
    return _cross(node, spreads, context, back=False)


RESHAPE = Through(reshape_backward, reshape_forward)

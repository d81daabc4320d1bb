"""Operators that keep every element and its order among others of its axis: a map moves along."""

from __future__ import annotations

import numpy as np

from bnfold.folding.reasons import Refused
from bnfold.folding.rules.reading import Context, malformed, read_version
from bnfold.folding.rules.sizes import axes_of, fitted, rank_refused, shape_of
from bnfold.folding.rules.through import Spreads, Through, blocked
from bnfold.onnxgraph.graph import Node


def _permutation(node: Node, context: Context) -> list[int] | Refused:
    """The perm of a Transpose: output axis i is input axis ``perm[i]``."""
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    shapes = [shape_of(t, context) for t in (node.input(0), node.outputs[0])]
    ranks = {len(shape) for shape in shapes if shape is not None}
    found = node.attribute("perm")
    if found is None:
        return list(reversed(range(ranks.pop()))) if ranks else rank_refused(node)
    perm = [int(axis) for axis in found.ints]
    if sorted(perm) != list(range(len(perm))) or not ranks <= {len(perm)}:
        return malformed(node, f"its perm is {perm}")
    return perm


def transpose_backward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``affine(transpose(x)) == transpose(affine'(x))``: the map is transposed back."""
    perm = _permutation(node, context)
    if isinstance(perm, Refused):
        return perm
    spread = fitted(node, spreads[0], len(perm))
    if isinstance(spread, Refused):
        return spread
    inverse = [int(axis) for axis in np.argsort(perm)]
    return {0: spread.moved(lambda values: values.transpose(inverse))}


def transpose_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``transpose(affine(x)) == affine'(transpose(x))``: the map is transposed too."""
    perm = _permutation(node, context)
    if isinstance(perm, Refused):
        return perm
    spread = fitted(node, spreads[0], len(perm))
    if isinstance(spread, Refused):
        return spread
    return {0: spread.moved(lambda values: values.transpose(perm))}


def _ones(node: Node, context: Context) -> tuple[list[int], int] | Refused:
    """Axes of size 1 that a Squeeze takes away or an Unsqueeze puts in, and the rank with them.

    ``axes`` is an attribute before opset 13 and an input since then; a Squeeze without it takes
    away every axis of size 1.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    short, long = node.outputs[0], node.input(0)
    if node.op_type == "Unsqueeze":
        short, long = long, short
    shape, rest = shape_of(long, context), shape_of(short, context)
    found = node.attribute("axes")
    axes = None if found is None else [int(axis) for axis in found.ints]
    if version >= 13 and node.input(1) is not None:
        axes = context.whole_numbers(node.input(1))
        if axes is None:
            return blocked(node, "has axes that are not constant")
    elif axes is None and node.op_type == "Unsqueeze":
        return malformed(node, "it has no axes")
    elif axes is None:
        if shape is None or not all(isinstance(size, int) for size in shape):
            return blocked(node, "takes away all axes of size 1, and not all sizes are known")
        return [at for at, size in enumerate(shape) if size == 1], len(shape)
    assert axes is not None
    if shape is None and rest is None:
        return rank_refused(node)
    rank = len(shape) if shape is not None else len(rest or ()) + len(axes)
    front = axes_of(node, axes, rank)
    return front if isinstance(front, Refused) else (front, rank)


def _put_in(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    found = _ones(node, context)
    if isinstance(found, Refused):
        return found
    axes, rank = found
    spread = fitted(node, spreads[0], rank - len(axes))
    if isinstance(spread, Refused):
        return spread
    return {0: spread.moved(lambda values: np.expand_dims(values, tuple(axes)))}


def _take_away(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    found = _ones(node, context)
    if isinstance(found, Refused):
        return found
    axes, rank = found
    spread = fitted(node, spreads[0], rank)
    if isinstance(spread, Refused):
        return spread
    if any(spread.shape[axis] != 1 for axis in axes):
        return blocked(node, "has an axis of size 1 on which the norm has several values")
    return {0: spread.moved(lambda values: values.squeeze(tuple(axes)))}


def squeeze_backward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``affine(squeeze(x)) == squeeze(affine'(x))``: the map gets the axes of size 1 back."""
    return _put_in(node, spreads, context)


def squeeze_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``squeeze(affine(x)) == affine'(squeeze(x))``: the map loses the axes of size 1."""
    return _take_away(node, spreads, context)


def unsqueeze_backward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``affine(unsqueeze(x)) == unsqueeze(affine'(x))``: the map loses the axes of size 1."""
    return _take_away(node, spreads, context)


def unsqueeze_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``unsqueeze(affine(x)) == affine'(unsqueeze(x))``: the map gets axes of size 1."""
    return _put_in(node, spreads, context)


TRANSPOSE = Through(transpose_backward, transpose_forward)
SQUEEZE = Through(squeeze_backward, squeeze_forward)
UNSQUEEZE = Through(unsqueeze_backward, unsqueeze_forward)

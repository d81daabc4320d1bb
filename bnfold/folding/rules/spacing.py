"""DepthToSpace and SpaceToDepth: channels become blocks of pixels, or the other way round."""

from __future__ import annotations

from typing import Any

from bnfold.algebra.affine import Float64Array
from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.reading import Context, malformed, read_version
from bnfold.folding.rules.sizes import Shape, fitted, shape_of, why_not_sized, widened
from bnfold.folding.rules.through import Spreads, Through, blocked
from bnfold.onnxgraph.graph import Node, Tensor


def to_space(values: Float64Array, block: int, mode: str) -> Float64Array:
    """``(N, C b b, H, W) -> (N, C, H b, W b)`` as DepthToSpace does it.

    Args:
        mode: ``DCR``, channels in the order row, column, depth, or ``CRD``, depth first.
    """
    n, depth, height, width = values.shape
    channels = depth // (block * block)
    if mode == "DCR":
        parts = values.reshape(n, block, block, channels, height, width)
        order = (0, 3, 4, 1, 5, 2)
    else:
        parts = values.reshape(n, channels, block, block, height, width)
        order = (0, 1, 4, 2, 5, 3)
    moved: Float64Array = parts.transpose(order)
    return moved.reshape(n, channels, height * block, width * block)


def to_depth(values: Float64Array, block: int, mode: str) -> Float64Array:
    """``(N, C, H b, W b) -> (N, C b b, H, W)``: the inverse of ``to_space``."""
    n, channels, height, width = values.shape
    height, width = height // block, width // block
    parts = values.reshape(n, channels, height, block, width, block)
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    moved: Float64Array = parts.transpose(order)
    return moved.reshape(n, channels * block * block, height, width)


def _read(node: Node, context: Context) -> tuple[int, str] | Refused:
    """The blocksize and the mode."""
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    block, found = node.integer("blocksize", 0), node.attribute("mode")
    mode: Any = "DCR" if found is None else found.s.decode("utf-8", "replace")
    if block < 1 or mode not in ("DCR", "CRD"):
        return malformed(node, f"its blocksize is {block} and its mode is {mode}")
    return block, mode


def _shapes(node: Node, block: int, context: Context) -> tuple[Shape, Shape]:
    """The shapes on the side of the depth and on the side of the space, each told by the other."""
    deep, flat = node.input(0), node.outputs[0]
    if node.op_type == "SpaceToDepth":
        deep, flat = flat, deep
    depth = list(_four(deep, context))
    space = list(_four(flat, context))
    for at, times in ((1, block * block), (2, 1), (3, 1)):
        over = 1 if at == 1 else block
        one, other = depth[at], space[at]
        if one is None and isinstance(other, int) and other * times % over == 0:
            depth[at] = other * times // over
        if other is None and isinstance(one, int) and one * over % times == 0:
            space[at] = one * over // times
    return tuple(depth), tuple(space)


def _four(tensor: Tensor | None, context: Context) -> Shape:
    shape = shape_of(tensor, context)
    return shape if shape is not None and len(shape) == 4 else (None,) * 4


def _moved_to_space(node: Node, spread: Spread, context: Context) -> Spread | Refused:
    """The map on the side of the depth, moved to the side of the space."""
    read = _read(node, context)
    if isinstance(read, Refused):
        return read
    block, mode = read
    shape, _ = _shapes(node, block, context)
    four = fitted(node, spread, 4)
    if isinstance(four, Refused):
        return four
    why = why_not_sized(node, four, shape, (1, 2, 3))
    if why is not None:
        return why
    squared = block * block
    depth = four.shape[1] if four.shape[1] != 1 else squared
    if depth % squared:
        return malformed(node, f"its {depth} channels are no blocks of {squared}")
    wide = widened(node, four, {1: depth})
    if isinstance(wide, Refused):
        return wide
    found = wide.moved(lambda values: to_space(values, block, mode)).compressed()
    # One block stands for all of them, unless its pixels differ: then each is needed.
    needed = [axis for axis in (2, 3) if four.shape[axis] == 1 != found.shape[axis]]
    sizes = {axis: size for axis in needed if isinstance(size := shape[axis], int)}
    if not needed:
        return found
    if len(sizes) < len(needed):
        return blocked(node, "makes pixels that the norm maps differently, of an unknown number")
    wide = widened(node, wide, sizes)
    if isinstance(wide, Refused):
        return wide
    return wide.moved(lambda values: to_space(values, block, mode)).compressed()


def _moved_to_depth(node: Node, spread: Spread, context: Context) -> Spread | Refused:
    """The map on the side of the space, moved to the side of the depth."""
    read = _read(node, context)
    if isinstance(read, Refused):
        return read
    block, mode = read
    _, shape = _shapes(node, block, context)
    four = fitted(node, spread, 4)
    if isinstance(four, Refused):
        return four
    why = why_not_sized(node, four, shape, (1, 2, 3))
    if why is not None:
        return why
    # One block stands for all of them along an axis on which the map does not differ.
    sizes = {axis: block for axis in (2, 3) if four.shape[axis] == 1}
    if any(four.shape[axis] % block for axis in (2, 3) if axis not in sizes):
        return malformed(node, f"its pixels are no blocks of {block}")
    if four.shape[1] == 1 and len(sizes) < 2:
        channels = shape[1]
        if not isinstance(channels, int):
            return blocked(node, "has a number of channels that is not known")
        sizes[1] = channels
    wide = widened(node, four, sizes)
    if isinstance(wide, Refused):
        return wide
    return wide.moved(lambda values: to_depth(values, block, mode)).compressed()


def depth_to_space_backward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``affine(depth_to_space(x)) == depth_to_space(affine'(x))``: the map moves back to depth."""
    found = _moved_to_depth(node, spreads[0], context)
    return found if isinstance(found, Refused) else {0: found}


def depth_to_space_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``depth_to_space(affine(x)) == affine'(depth_to_space(x))``: the map moves to space too."""
    found = _moved_to_space(node, spreads[0], context)
    return found if isinstance(found, Refused) else {0: found}


def space_to_depth_backward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``affine(space_to_depth(x)) == space_to_depth(affine'(x))``: the map moves back to space."""
    found = _moved_to_space(node, spreads[0], context)
    return found if isinstance(found, Refused) else {0: found}


def space_to_depth_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``space_to_depth(affine(x)) == affine'(space_to_depth(x))``: the map moves to depth too."""
    found = _moved_to_depth(node, spreads[0], context)
    return found if isinstance(found, Refused) else {0: found}


DEPTH_TO_SPACE = Through(depth_to_space_backward, depth_to_space_forward)
SPACE_TO_DEPTH = Through(space_to_depth_backward, space_to_depth_forward)

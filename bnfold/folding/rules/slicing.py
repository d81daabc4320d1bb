"""Slice: the elements of a map are cut as those of the data; what is cut off keeps its values."""

from __future__ import annotations

from dataclasses import dataclass

from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.reading import Context, malformed, read_version
from bnfold.folding.rules.sizes import (
    axes_of,
    fitted,
    put_back,
    rank_refused,
    shape_of,
    taken,
    why_not_sized,
)
from bnfold.folding.rules.through import Spreads, Through, blocked
from bnfold.onnxgraph.graph import Node
from bnfold.onnxgraph.types import Dim

Cut = tuple[int, int, int]
"""Start, end and step of a Slice on one axis, as the node has them."""


def cut_indices(cut: Cut, size: int) -> range:
    """Which elements of an axis a Slice takes, as ONNX clamps start and end.

    Args:
        size: of the axis.
    """
    start, end, step = cut
    start, end = (at + size if at < 0 else at for at in (start, end))
    low, high = (0, size) if step > 0 else (-1, size - 1)
    start = min(max(start, 0), high)
    end = min(max(end, low), high)
    return range(start, end, step)


@dataclass(frozen=True)
class _Sliced:
    """What a Slice reads.

    Attributes:
        shape: of its data.
        cuts: axis -> its cut, or None where that is not constant.
    """

    shape: tuple[Dim, ...]
    cuts: dict[int, Cut | None]

    def sizes(self) -> dict[int, range] | None:
        """Axis -> the elements taken, or None where they are not all known."""
        found: dict[int, range] = {}
        for axis, cut in self.cuts.items():
            size = self.shape[axis]
            if cut is None or not isinstance(size, int):
                return None
            found[axis] = cut_indices(cut, size)
        return found


def _read_slice(node: Node, context: Context) -> _Sliced | Refused:
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    shape = shape_of(node.input(0), context)
    if shape is None:
        made = shape_of(node.outputs[0], context)
        if made is None:
            return rank_refused(node)
        shape = (None,) * len(made)
    rank = len(shape)
    axes: list[int] | None
    if version < 10:
        found = {a.name: [int(value) for value in a.ints] for a in node.proto.attribute}
        starts, ends, steps = found.get("starts"), found.get("ends"), None
        if starts is None or ends is None:
            return malformed(node, "it has no starts or no ends")
        axes = found.get("axes", list(range(len(starts))))
    else:
        starts, ends, axes, steps = (context.whole_numbers(node.input(at)) for at in range(1, 5))
        if node.input(1) is None or node.input(2) is None:
            return malformed(node, "it has no starts or no ends")
        if axes is None and node.input(3) is None and starts is not None:
            axes = list(range(len(starts)))
        if axes is None:
            return _Sliced(shape, dict.fromkeys(range(rank)))
        if steps is None and node.input(4) is not None:
            starts = None
    front = axes_of(node, axes, rank)
    if isinstance(front, Refused):
        return front
    if starts is None or ends is None:
        return _Sliced(shape, dict.fromkeys(front))
    steps = steps if steps is not None else [1] * len(axes)
    if not len(starts) == len(ends) == len(steps) == len(axes) or 0 in steps:
        return malformed(node, "starts, ends, axes and steps differ in number, or a step is 0")
    return _Sliced(shape, dict(zip(front, zip(starts, ends, steps, strict=True), strict=True)))


def _indices(node: Node, read: _Sliced, axis: int) -> range | Refused:
    cut, size = read.cuts[axis], read.shape[axis]
    if cut is None:
        return blocked(node, f"cuts axis {axis}, on which the norm differs, at no constant place")
    if not isinstance(size, int):
        return blocked(node, f"cuts axis {axis}, on which the norm differs and whose size is open")
    return cut_indices(cut, size)


def slice_backward(
    node: Node, spreads: Spreads, context: Context
) -> Spreads | list[Spreads] | Refused:
    """``affine(x[cut]) == affine'(x)[cut]``: what is cut off keeps its values.

    Where the map is one value along a cut axis, it may also serve what is cut off.
    """
    read = _read_slice(node, context)
    if isinstance(read, Refused):
        return read
    spread = fitted(node, spreads[0], len(read.shape))
    if isinstance(spread, Refused):
        return spread
    whole = spread
    for axis in read.cuts:
        if whole.shape[axis] == 1:
            continue
        indices = _indices(node, read, axis)
        if isinstance(indices, Refused):
            return indices
        one = put_back(node, whole, axis, indices, read.shape[axis])
        if isinstance(one, Refused):
            return one
        whole = one
    ways: list[Spreads] = [{0: whole}]
    taken_at = read.sizes()
    if spread.scale.size == 1 and not spread.is_identity and taken_at is not None:
        part: Spread | Refused = spread
        for axis, indices in taken_at.items():
            if not isinstance(part, Refused) and len(indices) != read.shape[axis]:
                part = put_back(node, part, axis, indices, read.shape[axis])
        if not isinstance(part, Refused) and part is not spread:
            ways.append({0: part})
    return ways


def slice_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``affine(x)[cut] == affine'(x[cut])``: the map is cut too."""
    read = _read_slice(node, context)
    if isinstance(read, Refused):
        return read
    spread = fitted(node, spreads[0], len(read.shape))
    if isinstance(spread, Refused):
        return spread
    why = why_not_sized(node, spread, read.shape, read.cuts)
    if why is not None:
        return why
    for axis in read.cuts:
        if spread.shape[axis] != 1:
            indices = _indices(node, read, axis)
            if isinstance(indices, Refused):
                return indices
            spread = taken(spread, axis, indices)
    return {0: spread.compressed()}


SLICE = Through(slice_backward, slice_forward)

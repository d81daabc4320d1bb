"""Pad: the border is made of the data, or of one value, which a map can act on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper

from bnfold.algebra.affine import Float64Array
from bnfold.algebra.rounding import largest
from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.conditions import find_rank, first_wrong, why_too_wide
from bnfold.folding.rules.reading import FLOATS, Context, malformed, read_version
from bnfold.folding.rules.through import Fill, Spreads, Through, blocked
from bnfold.onnxgraph.graph import Node
from bnfold.onnxgraph.known import Known

_COPIES = frozenset({"reflect", "edge", "wrap"})


@dataclass(frozen=True)
class _Border:
    """What a Pad adds; negative numbers are taken away.

    Attributes:
        begins, ends: for each axis.
        value: of the elements that are added, or None where they are copies of the data.
    """

    begins: tuple[int, ...]
    ends: tuple[int, ...]
    value: float | None

    @property
    def rank(self) -> int:
        """Of the data."""
        return len(self.begins)

    def grows(self, axis: int) -> bool:
        """Whether elements are added along an axis."""
        return self.begins[axis] > 0 or self.ends[axis] > 0

    def leaves(self, axis: int, size: int) -> int:
        """How many of the data's elements along an axis are in the output."""
        return size + min(self.begins[axis], 0) + min(self.ends[axis], 0)


def _read(node: Node, context: Context) -> _Border | Refused:
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    found = node.attribute("mode")
    mode = found.s.decode() if found is not None else "constant"
    if mode not in _COPIES | {"constant"}:
        return malformed(node, f"its mode is {mode}")
    numbers = _numbers(node, version, context)
    if isinstance(numbers, Refused):
        return numbers
    rank = len(numbers) // 2
    begins, ends = numbers[:rank], numbers[rank:]
    if node.input(3) is not None:
        axes = context.whole_numbers(node.input(3))
        if axes is None:
            return blocked(node, "has axes that are not constant")
        full = find_rank(node, node.input(0), context)
        if isinstance(full, Refused):
            return full
        front = [axis % full if -full <= axis < full else -1 for axis in axes]
        if len(front) != rank or -1 in front or len(set(front)) != rank:
            return malformed(node, f"its axes are {axes}, and its data has {full}")
        begins = [dict(zip(front, begins, strict=True)).get(axis, 0) for axis in range(full)]
        ends = [dict(zip(front, ends, strict=True)).get(axis, 0) for axis in range(full)]
    border = _Border(tuple(begins), tuple(ends), None)
    if mode != "constant" or not any(border.grows(axis) for axis in range(border.rank)):
        return border
    value = _value(node, version, context)
    return value if isinstance(value, Refused) else _Border(border.begins, border.ends, value)


def _numbers(node: Node, version: int, context: Context) -> list[int] | Refused:
    numbers: list[int] | None
    if version < 11:
        found = node.attribute("paddings" if version < 2 else "pads")
        numbers = [int(n) for n in found.ints] if found is not None else []
    else:
        numbers = context.whole_numbers(node.input(1))
        if numbers is None:
            return blocked(node, "has pads that are not constant")
    if not numbers and node.input(3) is None:
        return malformed(node, "it has no pads")
    return malformed(node, f"its pads are {numbers}") if len(numbers) % 2 else numbers


def _value(node: Node, version: int, context: Context) -> float | Refused:
    if version < 11:
        return node.real("value", 0.0)
    given = node.input(2)
    if given is None:
        return 0.0
    found = context.constants.value(given)
    if not isinstance(found, Known):
        return blocked(node, "fills its border with a value that is not constant")
    values = np.ravel(np.asarray(found.array)).astype(np.float64)
    if values.size != 1:
        return malformed(node, f"it has {values.size} values for its border")
    return float(values[0])


def pad_backward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s pad(x) + t == pad(s x + t)`` if each element of the border stays what it is.

    A border of one value v stays where ``s v + t == v``, so for v = 0 where t is 0. One of copies
    stays if s and t are even along the axes that grow. Along an axis that is only cut, what is cut
    off may be anything.
    """
    border = _read(node, context)
    if isinstance(border, Refused):
        return border
    spread = spreads[0]
    why = why_too_wide(node, spread, border.rank) or _why_changed(
        node, spread, border, of_output=True
    )
    if why is not None:
        return why
    full = spread.of_rank(border.rank)
    for axis, size in enumerate(full.shape):
        begin, end = border.begins[axis], border.ends[axis]
        if size == 1 or not (begin or end):
            continue
        if border.leaves(axis, size - begin - end) < 1:
            return blocked(node, f"leaves no element of axis {axis}")
        full = _cut_and_extended(full, axis, -begin, -end)
    return {0: full}


def pad_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``pad(s x + t) == s' pad(x) + t'`` if each element of the border stays what it is.

    s' and t' are those of the elements that x has; where elements of one value are added along an
    axis on which s and t differ, they are 1 and 0.
    """
    border = _read(node, context)
    if isinstance(border, Refused):
        return border
    spread = spreads[0]
    why = why_too_wide(node, spread, border.rank) or _why_changed(
        node, spread, border, of_output=False
    )
    if why is not None:
        return why
    full = spread.of_rank(border.rank)
    for axis, size in enumerate(full.shape):
        begin, end = border.begins[axis], border.ends[axis]
        if size == 1 or not (begin or end):
            continue
        if border.leaves(axis, size) < 1:
            return blocked(node, f"leaves no element of axis {axis}")
        full = _cut_and_extended(full, axis, begin, end)
    return {0: full}


def pad_refilled(node: Node, spread: Spread, context: Context) -> Fill | None:
    """``s pad(x, v) + t == pad(s x + t, s v + t)`` where s and t are one value each.

    None where they are not, and where the value cannot be stored: it is not finite, or an attribute
    (before opset 11) of float64 data.
    """
    border, data = _read(node, context), node.input(0)
    if isinstance(border, Refused) or border.value is None or spread.scale.size != 1:
        return None
    if len(spread.shape) > border.rank:
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        value = float(spread.scale.item() * border.value + spread.shift.item())
    kinds = [context.types.element_type(t) for t in (node.input(2), data) if t is not None]
    kind = next((kind for kind in kinds if kind), 0)
    if kind not in FLOATS:
        return None
    if context.opset < 11 and kind == TensorProto.DOUBLE:
        return None
    is_stored = abs(value) <= largest(helper.tensor_dtype_to_np_dtype(kind))
    return Fill(value, kind) if is_stored else None


def _why_changed(node: Node, spread: Spread, border: _Border, *, of_output: bool) -> Refused | None:
    """Why some element of the border would not stay what it is.

    Args:
        of_output: whether the map is one of the output, with values for the border too.
    """
    full = spread.of_rank(border.rank)
    growing = [axis for axis in range(border.rank) if border.grows(axis)]
    wide = [axis for axis in growing if full.shape[axis] != 1]
    if border.value is None:
        if wide:
            size = full.shape[wide[0]]
            return blocked(
                node,
                f"pads axis {wide[0]} with copies, and the scale and shift have {size} values "
                "along it",
            )
        return None
    with np.errstate(invalid="ignore", over="ignore"):
        changed = full.scale * border.value + full.shift != border.value
    if len(wide) == len(growing):
        # Only elements beyond the data are added, so only their maps matter.
        inside = [slice(None)] * border.rank
        for axis in wide if of_output else ():
            size = full.shape[axis]
            inside[axis] = slice(max(border.begins[axis], 0), size - max(border.ends[axis], 0))
        changed = changed.copy()
        changed[tuple(inside)] = False
    if not changed.any():
        return None
    where, scale = first_wrong(full.scale, changed)
    _, shift = first_wrong(full.shift, changed)
    return blocked(
        node,
        f"pads with {border.value:.6g}, and {where} has scale {scale:.6g} and shift {shift:.6g}, "
        "which change that value",
    )


def _cut_and_extended(spread: Spread, axis: int, begin: int, end: int) -> Spread:
    """With so many elements more along an axis, which are 1 and 0, or fewer where negative."""

    def extend(values: Float64Array, by: float) -> Float64Array:
        size = values.shape[axis]
        kept = values.take(range(max(-begin, 0), size - max(-end, 0)), axis=axis)
        widths = [(0, 0)] * values.ndim
        widths[axis] = (max(begin, 0), max(end, 0))
        return np.pad(kept, widths, constant_values=by)

    return Spread(extend(spread.scale, 1.0), extend(spread.shift, 0.0))


PAD = Through(pad_backward, pad_forward, refilled=pad_refilled)

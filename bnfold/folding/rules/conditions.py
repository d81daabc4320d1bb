"""What an operator asks of a map that would cross it: its signs, its shift, where it is even."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from bnfold.algebra.affine import Float64Array
from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.reading import FLOATS, Context
from bnfold.folding.rules.through import blocked
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.known import Unknown


def wide_axes(spread: Spread) -> list[int]:
    """The axes along which a map may differ, counted from the back: -1 is the last one."""
    return [at - len(spread.shape) for at, size in enumerate(spread.shape) if size != 1]


def without_shift(spread: Spread) -> Spread:
    """The same scale, and no shift."""
    return Spread(spread.scale, np.zeros(spread.shape))


def why_negative(node: Node, spread: Spread, lets: str = "only positive scales") -> Refused | None:
    """The refusal of a map with a negative scale; a scale of zero is none.

    Args:
        lets: what the operator lets through, for the sentence.
    """
    wrong = spread.scale < 0
    if not wrong.any():
        return None
    channel, value = first_wrong(spread.scale, wrong)
    return blocked(node, f"lets {lets} through, and {channel} has scale {value:.6g}")


def why_shifted(node: Node, spread: Spread, lets: str = "no shift") -> Refused | None:
    """The refusal of a map with a shift."""
    wrong = spread.shift != 0
    if not wrong.any():
        return None
    channel, value = first_wrong(spread.shift, wrong)
    return blocked(node, f"lets {lets} through, and {channel} has shift {value:.6g}")


def why_uneven(node: Node, spread: Spread, even: Iterable[int], does: str) -> Refused | None:
    """The refusal of a map that may differ along one of some axes.

    Args:
        even: the axes along which it must not differ, from the back.
        does: what the operator does along them, for the sentence.
    """
    wide = sorted(set(wide_axes(spread)) & set(even))
    if not wide:
        return None
    size = spread.shape[wide[0]]
    return blocked(
        node, f"{does} axis {wide[0]}, along which the scale and shift have {size} values"
    )


def is_fixed(tensor: Tensor | None, spread: Spread, context: Context) -> bool:
    """``s c + t == c`` for a constant c of one value, such as a mask's zeros where t = 0."""
    if tensor is None or context.constants.why_not(tensor) is not None:
        return False
    known = context.constants.value(tensor)
    if isinstance(known, Unknown) or known.data_type not in FLOATS or 0 in known.shape:
        return False
    value = known.array.flat[0]
    if not np.isfinite(value) or not (known.array == value).all():
        return False
    return bool((spread.scale * float(value) + spread.shift == float(value)).all())


def find_rank(node: Node, tensor: Tensor | None, context: Context) -> int | Refused:
    """The number of axes of an input or output of a node."""
    rank = context.types.rank(tensor) if tensor is not None else None
    if rank is None:
        name = tensor.name if tensor is not None else f"the data of {node.label}"
        return Refused(
            "unknown-rank", f"the rank of {name} is not known, and {node.label} needs it"
        )
    return rank


def why_too_wide(node: Node, spread: Spread, rank: int) -> Refused | None:
    """The refusal of a map with more axes than the tensor that it should act on."""
    if len(spread.shape) <= rank:
        return None
    return Refused(
        "axis-mismatch",
        f"a map with {len(spread.shape)} axes cannot act on the {rank} axes of the data of "
        f"{node.label}",
    )


def first_wrong(values: Float64Array, wrong: npt.NDArray[np.bool_]) -> tuple[str, float]:
    """The first value that is wrong, and what to call its place."""
    flat = int(np.flatnonzero(wrong)[0])
    value = float(values.ravel()[flat])
    wide = [at for at, size in enumerate(values.shape) if size != 1]
    if not wide:
        return "the map", value
    where = np.unravel_index(flat, values.shape)
    if len(wide) == 1:
        return f"channel {where[wide[0]]}", value
    return f"element {[int(at) for at in where]}", value

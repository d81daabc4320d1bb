"""Operators that join branches by a sum, a mean, a choice, a maximum or a minimum."""

from __future__ import annotations

from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.broadcasting import (
    MOST_WAYS,
    join_version,
    on_branch,
    on_branches,
    with_preference,
)
from bnfold.folding.rules.conditions import is_fixed, why_negative, without_shift
from bnfold.folding.rules.reading import Context
from bnfold.folding.rules.through import Spreads, Through, blocked
from bnfold.onnxgraph.graph import Node


def sum_backward(
    node: Node, spreads: Spreads, context: Context
) -> Spreads | list[Spreads] | Refused:
    """``s (x + y) + t == (s x) + (s y + t)``: the scale into all branches, the shift into one.

    Into the second branch of a Sub goes -t. A branch that is added n times takes t / n each time.
    The last way gives each of n branches t / n, for branches that are made of one tensor.
    """
    version = join_version(node, context)
    if isinstance(version, Refused):
        return version
    spread, slots = spreads[0], range(len(node.inputs))
    scaled = on_branches(node, slots, without_shift(spread), context)
    if isinstance(scaled, Refused) or spread.has_no_shift:
        return scaled
    ways: list[Spreads] = []
    first: Refused | None = None
    for one in with_preference(node, slots):
        same = [at for at in slots if node.inputs[at] is node.inputs[one]]
        times = sum(_sign(node, at) for at in same)
        if same[0] != one or times == 0:
            continue
        shifted = on_branch(node, one, Spread(spread.scale, spread.shift / times), context)
        if isinstance(shifted, Refused):
            first = first or shifted
            continue
        way = {at: s for at, s in scaled.items() if at not in same}
        ways.append(way | dict.fromkeys(same, shifted))
    even = on_branches(node, slots, Spread(spread.scale, spread.shift / len(slots)), context)
    if node.op_type != "Sub" and len(ways) > 1 and not isinstance(even, Refused):
        ways = [*ways[: MOST_WAYS - 1], even]
    return ways[:MOST_WAYS] or first or blocked(node, "is always zero, and has no shift to give")


def sum_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``(s x + t) + (s y + u) == s (x + y) + (t + u)``: the scales of all branches are equal.

    A branch without a map has scale 1, so then only shifts can cross. Sub subtracts u.
    """
    version = join_version(node, context)
    if isinstance(version, Refused):
        return version
    maps = _all_maps(node, spreads)
    scale = without_shift(maps[0])
    if not all(scale.equals(without_shift(other)) for other in maps):
        return blocked(node, _not_alike(node, spreads, "scaled"))
    total = maps[0]
    for at, other in enumerate(maps[1:], start=1):
        shift = Spread(other.scale * 0.0 + 1.0, _sign(node, at) * other.shift)
        total = total.then(shift)
    return {0: total}


def mean_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``mean(s x + t, s y + u) == s mean(x, y) + mean(t, u)``: equal scales."""
    found = sum_forward(node, spreads, context)
    if isinstance(found, Refused):
        return found
    return {0: Spread(found[0].scale, found[0].shift / len(node.inputs))}


def all_backward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s f(x, y) + t == f(s x + t, s y + t)``, f = Mean or Where."""
    version = join_version(node, context)
    if isinstance(version, Refused):
        return version
    slots = [at for at in _data(node) if not is_fixed(node.inputs[at], spreads[0], context)]
    return on_branches(node, slots, spreads[0], context)


def all_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``f(s x + t, s y + t) == s f(x, y) + t``, f = Where, Max or Min: equal maps."""
    version = join_version(node, context)
    if isinstance(version, Refused):
        return version
    own = next(iter(spreads.values()))
    maps = [
        spreads.get(at, Spread.identity())
        for at in _data(node)
        if at in spreads or not is_fixed(node.inputs[at], own, context)
    ]
    if not all(maps[0].equals(other) for other in maps):
        return blocked(node, _not_alike(node, spreads, "scaled or shifted"))
    # The one with the most values shows the most axes.
    return {0: max(maps, key=lambda spread: (spread.scale.size, len(spread.shape)))}


def extreme_backward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s max(x, y) + t == max(s x + t, s y + t)`` for ``s >= 0``; Min likewise."""
    return why_negative(node, spreads[0]) or all_backward(node, spreads, context)


def extreme_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``max(s x + t, s y + t) == s max(x, y) + t`` for ``s >= 0``, equal maps; Min likewise."""
    found = all_forward(node, spreads, context)
    if isinstance(found, Refused):
        return found
    return why_negative(node, found[0]) or found


def _sign(node: Node, at: int) -> float:
    return -1.0 if node.op_type == "Sub" and at == 1 else 1.0


def _data(node: Node) -> range:
    """The inputs that are branches: all but the condition of a Where."""
    return range(1 if node.op_type == "Where" else 0, len(node.inputs))


def _all_maps(node: Node, spreads: Spreads) -> list[Spread]:
    return [spreads.get(at, Spread.identity()) for at in range(len(node.inputs))]


def _not_alike(node: Node, spreads: Spreads, how: str) -> str:
    """The words for branches with different maps."""
    without = [t.name for at in _data(node) if at not in spreads and (t := node.inputs[at])]
    if without:
        return f"also reads {without[0]}, which is not {how}"
    return f"reads branches that are {how} differently"


SUM = Through(sum_backward, sum_forward, data=None)
MEAN = Through(all_backward, mean_forward, data=None)
EXTREME = Through(extreme_backward, extreme_forward, data=None)
WHERE = Through(all_backward, all_forward, data=(1, 2))

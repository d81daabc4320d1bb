"""Which axes a reshape merges and splits, and what becomes of a map on them.

A size may be known, a symbol, or nothing but the size of an axis; products of them are compared.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.sizes import is_too_large
from bnfold.folding.rules.through import blocked
from bnfold.onnxgraph.graph import Node


@dataclass(frozen=True)
class Size:
    """The size of an axis: ``number`` times the product of ``symbols``, in alphabetical order."""

    number: int = 1
    symbols: tuple[str, ...] = ()

    @property
    def known(self) -> int | None:
        """The number, or None where there are symbols."""
        return None if self.symbols else self.number

    def times(self, other: Size) -> Size:
        """The product of two sizes."""
        return Size(self.number * other.number, tuple(sorted(self.symbols + other.symbols)))

    def over(self, other: Size) -> Size | None:
        """The quotient, or None where it is no product itself."""
        rest = list(self.symbols)
        for symbol in other.symbols:
            if symbol not in rest:
                return None
            rest.remove(symbol)
        if other.number == 0 or self.number % other.number:
            return None
        return Size(self.number // other.number, tuple(rest))


def product(sizes: Iterable[Size]) -> Size:
    """The product of all sizes."""
    whole = Size()
    for size in sizes:
        whole = whole.times(size)
    return whole


def boundaries(before: Sequence[Size], after: Sequence[Size]) -> list[tuple[int, int]]:
    """Places between axes that lie between the same elements on both sides, ends included.

    A place does so if as many elements are in front of it, or behind it, in every model.
    """
    ahead = [[product(s[:at]) for at in range(len(s) + 1)] for s in (before, after)]
    behind = [[product(s[at:]) for at in range(len(s) + 1)] for s in (before, after)]
    found = [(0, 0)]
    for i in range(len(before) + 1):
        for j in range(found[-1][1], len(after) + 1):
            if ahead[0][i] == ahead[1][j] or behind[0][i] == behind[1][j]:
                if (i, j) > found[-1]:
                    found.append((i, j))
                if i < len(before):
                    break
    end = (len(before), len(after))
    return found if found[-1] == end else [*found, end]


@dataclass
class _Group:
    """Some axes before and the axes that hold the same elements after.

    Attributes:
        before: the sizes before, runs of axes along which the map does not differ as one.
        wide: whether the map differs along each of those.
        after: the sizes after, runs of unknown ones as one.
        runs: how many axes each of those stands for.
    """

    before: list[int]
    wide: list[bool]
    after: list[int]
    runs: list[int]


def _grouped(before: Sequence[Size], counts: Sequence[int], after: Sequence[Size]) -> _Group | str:
    """One group, with every size found out; or why that cannot be done.

    Args:
        counts: how many values the map has along each axis before.
    """
    inner: list[Size] = []
    differs: list[bool] = []
    for size, count in zip(before, counts, strict=True):
        if count != 1 and size.known != count:
            return f"has an axis of another or an unknown size where the norm has {count} values"
        if count == 1 and differs and not differs[-1]:
            inner[-1] = inner[-1].times(size)
        else:
            inner.append(size)
            differs.append(count != 1)
    outer: list[Size] = []
    runs: list[int] = []
    for size in after:
        if size.known is None and outer and outer[-1].known is None:
            outer[-1] = outer[-1].times(size)
            runs[-1] += 1
        else:
            outer.append(size)
            runs.append(1)
    numbers = [_solved(inner, outer), _solved(outer, inner)]
    if numbers[0] is None or numbers[1] is None:
        return "merges or splits axes whose sizes are not known"
    if math.prod(numbers[0]) != math.prod(numbers[1]):
        return "has other numbers of elements before and after"
    return _Group(numbers[0], differs, numbers[1], runs)


def _solved(sizes: Sequence[Size], others: Sequence[Size]) -> list[int] | None:
    """The numbers of some sizes; one that is unknown follows from the product of the others."""
    unknown = [at for at, size in enumerate(sizes) if size.known is None]
    numbers = [size.number for size in sizes]
    if not unknown:
        return numbers
    whole = product(others).known
    rest = math.prod(size.number for size in sizes if size.known is not None)
    if len(unknown) > 1 or whole is None or rest == 0 or whole % rest:
        return None
    numbers[unknown[0]] = whole // rest
    return numbers


def regrouped(
    node: Node, spread: Spread, before: Sequence[Size], after: Sequence[Size]
) -> Spread | Refused:
    """``reshape(affine(x)) == affine'(reshape(x))``: the map is reshaped too.

    Only groups of axes along which the map differs need known sizes.

    Args:
        spread: of as many axes as ``before``.
        before, after: the sizes on both sides.
    """
    full: list[int] = []
    merged: list[int] = []
    wide: list[int] = []
    runs: list[int] = []
    ends = boundaries(before, after)
    for (i, j), (k, m) in pairwise(ends):
        if all(count == 1 for count in spread.shape[i:k]):
            merged += [1] * (m - j)
            runs += [1] * (m - j)
            continue
        found = _grouped(before[i:k], spread.shape[i:k], after[j:m])
        if isinstance(found, str):
            return blocked(node, found)
        full += found.before
        wide += [n if w else 1 for n, w in zip(found.before, found.wide, strict=True)]
        merged += found.after
        runs += found.runs
    large = is_too_large(node, full)
    if large is not None:
        return large
    done = spread.moved(
        lambda values: np.broadcast_to(values.reshape(wide), full).reshape(merged)
    ).compressed()
    shape: list[int] = []
    for size, run in zip(done.shape, runs, strict=True):
        if run > 1 and size > 1:
            return blocked(node, "parts an axis of the norm into axes whose sizes are not known")
        shape += [1] * run if run > 1 else [size]
    return done.moved(lambda values: values.reshape(shape))

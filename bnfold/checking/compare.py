"""Compare both sides of a region: weight by weight, the bias, and sums of many weights.

The yardstick is exact, so that a right fold never fails. Each stored number is the float64 value
rounded once, so it is off by half a unit in its last place at most. What that does to an output is
what the operator makes of those halves. Beyond it only the rounding of float64 itself is allowed,
which is a part of the sum of the magnitudes of all terms, whatever they cancel to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfold.checking import steps as following
from bnfold.checking.pairs import Joined
from bnfold.checking.probes import Part, Probe
from bnfold.checking.region import Bias, Region
from bnfold.checking.steps import TINY
from bnfold.checking.written import RegionError, Stream
from bnfold.checking.yardstick import HALF, MOST, format_of, off_by, quanta, require_little_lost
from bnfold.onnxgraph.ranges import Chunk
from bnfold.onnxgraph.rewrite import NewTensor

Array = npt.NDArray[Any]

_EPS = 2.0**-52
_EVERY = 32
"""Of so many blocks of a weight one is run and measured; in the others each weight is compared."""
_TOGETHER = 4
"""So many of those others are compared at once."""


def largest_difference(
    region: Region | Joined, put: Callable[[Chunk], None] | None = None
) -> float:
    """Compare a region; the largest difference in units in the last place of what is stored.

    Args:
        put: takes the raw bytes of the written weight, in their order, as they are read.

    Raises:
        RegionError: it is more than half a unit.
    """
    probe = region.probe
    channels = probe.spread(np.ones(probe.channels))
    weights = _Weights(
        region,
        following.slope(region.before, channels).reshape(-1),
        following.slope(region.after, channels).reshape(-1),
    )
    sums = weights.swept(put)
    bias = region.bias()
    before = following.value(region.before, bias.before)
    after = following.value(region.after, bias.after)
    terms = following.size(region.before, np.abs(bias.before))
    terms = terms + following.size(region.after, np.abs(bias.after))
    rounding = _EPS * (8 + 6 * len(region.before))
    units = bias.unit
    for step, own in zip(region.after, region.units, strict=True):
        units = np.abs(step.slope(units)) + own
    # All terms are numbers, but float64 cannot hold what the model makes of them on its way.
    is_number = np.isfinite(bias.before) & _has_numbers(region)
    overflows = is_number & ~np.isfinite(before)
    found = _judged(probe, before, after, units, rounding * terms, overflows, "bias")
    if probe.op_type == "Gemm":
        # The rows differ by their C at most.
        bias, before, after = Bias(*(side[:1] for side in bias)), before[:1], after[:1]
        terms, is_number = terms[:1], is_number[:1]
    units = np.abs(following.slope(region.after, sums[2]))
    # Each weight is below its unit times two to the number of its digits.
    terms = 2.0 ** (format_of(region.weight.dtype).digits + 1) * units + 2 * terms
    first = following.value(region.before, sums[0] + bias.before) - before
    second = following.value(region.after, sums[1] + bias.after) - after
    rounding += _EPS * probe.terms
    allowed = rounding * terms
    if (is_vague := weights.is_vague).any():
        allowed = np.where(probe.spread(is_vague), np.inf, allowed)
    # Weights that are no numbers were compared one by one.
    overflows = is_number & ~np.isfinite(first)
    rest = _judged(probe, first, second, units, allowed, overflows, "sum")
    return min(max(weights.worst, found, rest), HALF)


def _spans(parts: Iterable[Part]) -> Iterator[tuple[bool, Part]]:
    """The blocks of a weight that are run, and between them the others, together."""
    others: Part | None = None
    for number, part in enumerate(parts):
        is_run = number % _EVERY == 0
        is_full = others is not None and others.stop - others.start >= _TOGETHER * (
            part.stop - part.start
        )
        if others is not None and (is_run or is_full or others.lead != part.lead):
            yield False, others
            others = None
        if is_run:
            yield True, part
        else:
            others = part if others is None else Part(part.lead, others.start, part.stop)
    if others is not None:
        yield False, others


def _has_numbers(region: Region | Joined) -> bool:
    """Whether no constant of the model's own steps is NaN or infinite."""
    return all(np.isfinite(c).all() for step in region.before for c in step.constants)


def _judged(
    probe: Probe,
    before: Array,
    after: Array,
    units: Array,
    rounding: Array,
    overflows: Array,
    what: str,
) -> float:
    """The largest difference in units, beyond rounding in float64.

    Args:
        overflows: where ``before`` is no number, and nothing is to be learnt from that.
    """
    if before.shape != after.shape:
        raise RegionError(f"an output of shape {before.shape} becomes one of {after.shape}")
    ratio = (np.abs(after - before) - rounding) / units
    if (worst := float(ratio.max(initial=0.0))) <= MOST:
        return worst
    # Numbers that are none: equal on both sides, or a failure.
    is_same = (after == before) | (np.isnan(before) & np.isnan(after))
    is_same |= (np.abs(after - before) <= rounding) | overflows
    ratio = np.where(is_same, 0.0, np.nan_to_num(ratio, nan=np.inf))
    worst = float(ratio.max(initial=0.0))
    if worst <= MOST:
        return worst
    at = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    raise off_by(what, int(at[probe.axis]), before[at], after[at], worst)


class _Weights:
    """Both sides of a weight, a block at a time: each one is the answer to an impulse.

    Attributes:
        worst: the largest difference in units so far.
        is_vague: the channels whose factor is itself subnormal in float64.
    """

    def __init__(self, region: Region | Joined, before: Array, after: Array) -> None:
        probe = region.probe
        if before.size != probe.channels or after.size != probe.channels:
            raise RegionError("a step has another number of channels than the operator")
        self._region = region
        self._probe: Probe = probe
        self._new = region.new
        self._factor = before / after
        self.is_vague = (np.abs(self._factor) < TINY) & (self._factor != 0)
        self._is_same = self._new is region.weight and bool((before == after).all())
        # In units: a value is below two to the number of its digits.
        kind = format_of(region.weight.dtype)
        self._rounding = _EPS * (8 + 4 * len(region.before)) * 2.0**kind.digits
        self._sizes: tuple[Array, Array] | None = None
        if region.weight.dtype == np.float16:
            self._sizes = np.zeros(probe.channels), np.zeros(probe.channels)
        self.worst = 0.0

    def swept(self, put: Callable[[Chunk], None] | None = None) -> Array:
        """Compare all weights, and return what the probe's data make of the weights before, those
        after, and the units of those: of all in a small operator, of every 32nd block in a large
        one, as if the others met zeros."""
        region, probe, new = self._region, self._probe, self._new
        stream = Stream(new, put) if isinstance(new, NewTensor) else None
        total = probe.empty()
        for is_run, part in _spans(probe.parts()):
            before = part.of(region.weight)
            after = before
            if stream is not None:
                after = stream.take(before.shape)
            elif not self._is_same and not isinstance(new, NewTensor):
                after = part.of(new)
            if not is_run and (self._is_same or self._is_rounded(before, after, part)):
                continue
            units = quanta(np.ascontiguousarray(after))
            before, after = before.astype(np.float64), after.astype(np.float64)
            if not self._is_same:
                self._compare(before, after, units, part)
            if is_run:
                room, three = probe.stack(part)
                for side, values in zip(three, (before, after, units), strict=True):
                    side[...] = values.reshape(side.shape)
                probe.run(room, part, total)
        if stream is not None:
            stream.require_end()
        if self._sizes is not None:
            whole, lost = self._sizes
            require_little_lost(lost, whole)
        return probe.sides(total)

    def _is_rounded(self, before: Array, after: Array, part: Part) -> bool:
        """Whether each weight of a block is the exact one rounded once: no more than half a unit
        apart, which need not be measured."""
        if self._sizes is not None:
            return False
        exact = before.astype(np.float64)
        exact *= self._probe.by_weight(self._factor, part)
        return bool((exact.astype(after.dtype) == after).all())

    def _compare(self, before: Array, after: Array, units: Array, part: Part) -> None:
        exact = before * self._probe.by_weight(self._factor, part)
        if self._sizes is not None:
            self._weigh(exact, after, part)
        apart = np.subtract(after, exact, out=None if self._sizes else exact)
        np.abs(apart, out=apart)
        np.divide(apart, units, out=apart)
        worst = float(apart.max(initial=0.0)) - self._rounding
        if worst <= MOST:
            self.worst = max(self.worst, worst)
            return
        self._fail(before, after, units, part)

    def _fail(self, before: Array, after: Array, units: Array, part: Part) -> None:
        """Name the worst weight of a block, unless what is there is no number on both sides."""
        exact = before * self._probe.by_weight(self._factor, part)
        apart = np.abs(after - exact)
        if self.is_vague.any():
            apart = apart - _EPS * TINY * 8 * np.abs(before)
        apart = apart / units - self._rounding
        is_same = (after == exact) | (np.isnan(after) & np.isnan(exact))
        apart = np.where(is_same, 0.0, np.nan_to_num(apart, nan=np.inf))
        at = np.unravel_index(int(np.argmax(apart)), apart.shape)
        if apart[at] > MOST:
            channel = int(self._channels(part, apart.shape)[at])
            raise off_by("weight", channel, exact[at], after[at], apart[at])

    def _channels(self, part: Part, shape: tuple[int, ...]) -> Array:
        numbers = self._probe.by_weight(np.arange(self._probe.channels), part)
        return np.broadcast_to(numbers, shape)

    def _weigh(self, exact: Array, after: Array, part: Part) -> None:
        """Sum up, channel by channel, what there is and what became zero."""
        assert self._sizes is not None
        where = self._channels(part, exact.shape).ravel()
        size = np.abs(exact).ravel()
        lost = np.where(after.ravel() == 0, size, 0.0)
        for total, values in zip(self._sizes, (size, lost), strict=True):
            total += np.bincount(where, values, self._probe.channels)

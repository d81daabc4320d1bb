"""Each part between tensors that both models share, judged on its own from equal values.

An error in the first layer of fifty is as plain here as one in the last: nothing that follows can
hide it, and rounding in the other layers does not count.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfold.checking.draws import Draws, floor_of, measured
from bnfold.checking.inputs import IMPULSES, probes
from bnfold.checking.judgement import Judgement
from bnfold.checking.measure import Comparison, Worst
from bnfold.checking.side import Cone, Side
from bnfold.checking.unlike import why_unlike
from bnfold.errors import ModelError
from bnfold.onnxgraph.graph import Node

Array = npt.NDArray[Any]
Values = Mapping[str, Array]

SMALL = 1 << 20
"""Up to so many values in all tensors of a feed, single weights are tried in any dtype."""

GROSS = 1000.0
"""So many times too far off, a tensor holds something else, not the same with an error."""

LONGEST_DETOUR = 16
"""How many tensors in a row may hold other values before both models meet again."""


class LocalCheck:
    """Judges every tensor that both models share by name.

    A tensor that differs is not taken as given any more, so the tensors after it are judged
    from further back. Where they agree again, the models only went different ways (a name that
    now holds the normalised values, a scale that moved into both branches of an Add).

    Args:
        multiple: how many units of rounding are still the same function.
        pinned: tensors that are known to differ, and are taken as given nevertheless.
    """

    def __init__(
        self,
        original: Side,
        folded: Side,
        draws: Draws,
        multiple: float,
        seed: int,
        pinned: Collection[str] = (),
    ) -> None:
        self._original, self._folded = original, folded
        self._draws, self._multiple, self._seed = draws, multiple, seed
        self._pinned = pinned
        theirs = set(original.made)
        self.shared = [name for name in folded.made if name in theirs]
        self._trusted = set(self.shared) | (original.given() & folded.given())
        self._needed = folded.needed()
        self.judgements: dict[str, Judgement] = {}
        self.is_hopeless = False
        self._parts: dict[str, tuple[Cone, Cone, bool]] = {}

    def add_feed(self, name: str, values: dict[str, Array], *, with_probes: bool) -> None:
        """Judge every shared tensor on one feed.

        Args:
            name: of the feed.
            values: of ORIGINAL, for all shared tensors and inputs; those that are not arrays of
                numbers are left out.
            with_probes: whether to try zeros, and single channels, in front of each part too.
        """
        # Single weights need many runs: always where rounding is coarse, else in small models.
        is_small = sum(value.size for value in values.values()) <= SMALL
        is_thorough = self._draws.is_narrow or is_small
        for missing in [name for name in self._trusted if name not in values]:
            self._forget(missing)
        for target in self.shared:
            if target not in values or target in self._pinned:
                continue
            judgement = self.judgements.setdefault(target, Judgement(target))
            ours, theirs, is_identical = self._part(target)
            judgement.through |= theirs.through | ours.through
            if is_identical:
                continue
            given = {cut: values[cut] for cut in ours.cut | theirs.cut}
            self._judge(judgement, name, given, values[target])
            is_plain = not judgement.is_same
            if with_probes and judgement.is_same and ours.cut == theirs.cut:
                for probe, inputs in probes(given, with_impulses=is_thorough):
                    by_number = is_small and probe.startswith(IMPULSES)
                    self._judge(judgement, f"{name}, {probe}", inputs, None, by_number=by_number)
            if not judgement.is_same and target in self._trusted:
                judgement.may_be_detour &= is_plain
                self._distrust(target)
            if self.is_hopeless:
                return

    def failures(self) -> list[Judgement]:
        """The tensors that differ and after which the models do not meet again, in order."""
        outputs = set(self._original.output_names)
        after = self._after()
        excused: dict[str, bool] = {}
        for target in reversed(self.shared):
            found = self.judgements.get(target)
            if found is None or found.is_same:
                excused[target] = True
                continue
            meets = all(j.is_same or excused.get(j.tensor, False) for j in after[target])
            # What leads to an output without another judged tensor on the way meets nowhere.
            meets = meets and (bool(after[target]) or target not in self._needed)
            excused[target] = (
                found.may_be_detour and target not in outputs and meets and not self.is_hopeless
            )
            found.is_excused = excused[target]
        return [self.judgements[name] for name in self.shared if not excused.get(name, True)]

    def _after(self) -> dict[str, list[Judgement]]:
        """For each tensor those that were judged with it inside of their cones."""
        after: dict[str, list[Judgement]] = defaultdict(list)
        for judgement in self.judgements.values():
            for name in judgement.through:
                after[name].append(judgement)
        return after

    def detours(self) -> list[str]:
        """The tensors of one name that hold other values, though the models meet again after."""
        self.failures()
        return [name for name, judgement in self.judgements.items() if judgement.is_excused]

    def confirm_detours(self, values: Values) -> None:
        """Look whether FOLDED really needs the other values of the tensors that differ.

        Where it comes to the same end with ORIGINAL's values of such a tensor too, nothing makes
        up for the difference: what follows is only too coarse to show it, and it is an error.
        """
        self.failures()
        after = self._after()
        for judgement in self.judgements.values():
            if judgement.is_excused and not judgement.is_confirmed:
                name = judgement.tensor
                meets = [j.tensor for j in after[name] if j.is_same]
                judgement.is_confirmed = any(
                    self._is_renamed(name, target, values)
                    or self._needs_other(name, target, values)
                    for target in meets
                )
                judgement.may_be_detour &= judgement.is_confirmed or not after[name]

    def _is_renamed(self, detour: str, target: str, values: Values) -> bool:
        """Whether FOLDED has a tensor of ORIGINAL under the name of another."""
        ours = self._original.cone(target, self._trusted)
        theirs = self._folded.cone(detour, self._trusted)
        cut = ours.cut | theirs.cut
        if not cut <= set(values):
            return False
        given = {name: values[name] for name in cut}
        names = [o for node in ours.nodes for o in node.proto.output if self._folded.lacks(o)]
        if not names:
            return False
        found = self._folded.run(given, [detour], seed=self._seed)[detour]
        candidates = self._original.run(given, names, seed=self._seed)
        for name, expected in candidates.items():
            if why_unlike(expected, found):
                continue
            comparison = Comparison(expected, found, self._floor(target))
            sources = ((self._original, name, expected), (self._folded, detour, found))
            if self._measured(comparison, sources, given).units <= self._multiple:
                return True
        return False

    def _needs_other(self, detour: str, target: str, values: Values) -> bool:
        cone = self._folded.cone(target, self._trusted | {detour})
        if detour not in cone.cut or not cone.cut <= set(values):
            return True
        given = {cut: values[cut] for cut in cone.cut}
        try:
            found = self._folded.run(given, [target], seed=self._seed)[target]
        except ModelError:
            return True
        expected = values[target]
        if why_unlike(expected, found):
            return True
        comparison = Comparison(expected, found, self._floor(target))
        if comparison.is_equal:
            return False
        sources = ((self._original, target, expected), (self._folded, target, found))
        return not self._measured(comparison, sources, given).units <= self._multiple

    def part_of(self, target: str) -> tuple[Node, ...]:
        """The nodes of ORIGINAL that make a tensor from those before it."""
        return self._part(target)[0].nodes

    def _distrust(self, target: str) -> None:
        judgement = self.judgements[target]
        before = [self.judgements[n] for n in judgement.through if n in self.judgements]
        judgement.depth = 1 + max((j.depth for j in before if not j.is_same), default=0)
        self.is_hopeless = judgement.depth >= LONGEST_DETOUR
        self._forget(target)

    def _forget(self, target: str) -> None:
        """Take a tensor as given no more."""
        self._trusted.discard(target)
        self._parts = {
            name: part
            for name, part in self._parts.items()
            if target not in part[0].cut and target not in part[1].cut
        }

    def _part(self, target: str) -> tuple[Cone, Cone, bool]:
        """The cones of a tensor in ORIGINAL and FOLDED, and whether they are the same nodes."""
        found = self._parts.get(target)
        if found is None:
            ours = self._original.cone(target, self._trusted)
            theirs = self._folded.cone(target, self._trusted)
            mine = self._original.signature(ours, target)
            is_identical = mine is not None and mine == self._folded.signature(theirs, target)
            found = self._parts[target] = (ours, theirs, is_identical)
        return found

    def _judge(
        self,
        judgement: Judgement,
        feed: str,
        given: Values,
        expected: Array | None,
        *,
        by_number: bool = False,
    ) -> None:
        """Judge one tensor from given values.

        Args:
            expected: ORIGINAL's values, or None to compute them from ``given`` too.
            by_number: whether each number is made by few weights.
        """
        target = judgement.tensor
        try:
            if expected is None:
                expected = self._original.run(given, [target], seed=self._seed)[target]
            found = self._folded.run(given, [target], seed=self._seed)[target]
        except ModelError as error:
            judgement.is_same, judgement.units = False, np.inf
            judgement.feed, judgement.why = feed, str(error)
            return
        why = why_unlike(expected, found)
        if why:
            judgement.is_same, judgement.units = False, np.inf
            judgement.feed, judgement.why = feed, f"{target} {why}"
            return
        comparison = Comparison(expected, found, self._floor(target), by_number)
        if comparison.is_equal:
            return
        sources = ((self._original, target, expected), (self._folded, target, found))
        worst = self._measured(comparison, sources, given)
        if worst.units > judgement.units or judgement.worst is None:
            judgement.units, judgement.worst, judgement.feed = worst.units, worst, feed
        if not worst.units <= self._multiple:
            judgement.is_same = False
            if worst.units < GROSS * self._multiple:
                judgement.may_be_detour &= comparison.affine_units() <= self._multiple
            elif not np.isfinite(worst.units):
                judgement.may_be_detour = False

    def _floor(self, target: str) -> float:
        ours, theirs, _ = self._part(target)
        return floor_of(self._original, ours.nodes, self._folded, theirs.nodes)

    def _measured(
        self, comparison: Comparison, sources: Sequence[tuple[Side, str, Array]], given: Values
    ) -> Worst:
        """The worst channel.

        Args:
            sources: each model, the tensor, and its unmoved values.
            given: what it is computed from.
        """

        def draw(number: int) -> list[tuple[Array, Array]]:
            pairs = []
            for (side, name, unmoved), move in zip(sources, self._draws[number], strict=True):
                if move.moves_anything:
                    # A constant that is moved may be no value that the model can work with.
                    with contextlib.suppress(ModelError):
                        moved = side.run(given, [name], move, seed=self._seed)[name]
                        pairs.append((moved, unmoved))
            return pairs

        return measured(comparison, draw, self._multiple)

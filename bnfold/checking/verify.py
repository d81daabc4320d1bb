"""Are two models the same function? Interface, float64, rounding, then the runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfold.checking import runtime
from bnfold.checking.deployed import check_deployed
from bnfold.checking.drawn import Feed
from bnfold.checking.draws import Draws
from bnfold.checking.feeds import feeds_of
from bnfold.checking.interface import interface_differences
from bnfold.checking.judgement import Judgement
from bnfold.checking.local import LocalCheck
from bnfold.checking.opaque import verify_opaque
from bnfold.checking.options import Options
from bnfold.checking.outcome import Difference, NormCheck, RuntimeCheck, VerifyReport
from bnfold.checking.precision import narrowed
from bnfold.checking.side import Side
from bnfold.checking.whole import WholeCheck
from bnfold.checking.words import detours_note, difference_of, verdict_no, verdict_yes
from bnfold.errors import UsageError
from bnfold.folding.find import Selection
from bnfold.folding.plan import plan
from bnfold.onnxgraph.graph import Node
from bnfold.onnxgraph.load import Document

Array = npt.NDArray[Any]


def verify(original: Document, folded: Document, options: Options) -> VerifyReport:
    """Judge two models; see ``bnfold.verify``."""
    if options.runtime and not runtime.is_installed():
        raise UsageError(
            "onnxruntime is not installed: pip install 'bnfold[cpu]', or leave that check out with "
            "--no-runtime (runtime=False)"
        )
    with np.errstate(all="ignore"):
        ours, theirs = Side(original), Side(folded)
        broken, notes = interface_differences(ours, theirs)
        broken += narrowed(ours, theirs)
        if broken:
            return VerifyReport(
                original.name,
                folded.name,
                is_same=False,
                verdict=f"not the same function: {broken[0]}",
                interface=tuple(broken),
                notes=tuple(notes),
                method="none",
                multiple=options.multiple,
                seed=options.seed,
            )
        unknown = sorted({*ours.evaluator.unknown, *theirs.evaluator.unknown})
        if unknown:
            return verify_opaque(ours, theirs, options, unknown, notes)
        return _Verification(ours, theirs, options, notes).run()


def _place(failures: Sequence[Judgement]) -> Judgement:
    """The first tensor that differs by an error.

    A tensor that holds something else under the same name differs by far more than the first one
    after it that should agree again.
    """
    place = failures[0]
    for judgement in failures[1:]:
        is_after = place.tensor in judgement.through
        if place.may_be_detour and is_after and judgement.units < place.units / 100:
            place = judgement
    return place


class _Verification:
    def __init__(self, ours: Side, theirs: Side, options: Options, notes: list[str]) -> None:
        self._ours, self._theirs, self._options, self._notes = ours, theirs, options, notes
        self._common = (Draws(ours, theirs, options.seed), options.multiple, options.seed)
        self._whole = WholeCheck(ours, theirs, *self._common, options.closeness)
        self._local = LocalCheck(ours, theirs, *self._common)
        self._feeds: list[str] = []
        self._failures: list[Judgement] = []
        self._final: dict[str, Judgement] = {}
        self._judged_by = self._local

    def run(self) -> VerifyReport:
        options, outputs = self._options, self._ours.output_names
        is_local = options.closeness is None
        feeds = feeds_of(
            self._ours, options, lambda a: self._ours.run(a, outputs, seed=options.seed)
        )
        for number, feed in enumerate(feeds):
            self._feeds.append(feed.name)
            values = self._values(feed)
            if is_local and not self._failures:
                known = self._arrays(feed, values)
                self._local.add_feed(feed.name, known, with_probes=number == 0)
                self._local.confirm_detours(known)
                self._failures = self._local.failures()
                if self._failures:
                    self._judge_the_rest(feed, known, with_probes=number == 0)
            self._whole.add_feed(feed, values)
        self._require_numbers()
        for name, judgement in self._local.judgements.items():
            self._final.setdefault(name, judgement)
        checked = None
        if options.runtime and self._whole.truths:
            checked = check_deployed(self._ours, self._theirs, self._whole.truths, options.multiple)
        return self._report(checked)

    def _values(self, feed: Feed) -> dict[str, Any]:
        wanted = dict.fromkeys([*self._local.shared, *self._ours.output_names])
        return self._ours.run(feed.arrays, list(wanted), seed=self._options.seed)

    def _arrays(self, feed: Feed, values: Mapping[str, Any]) -> dict[str, Array]:
        """What can be given: the inputs as the evaluator takes them, and all that is an array."""
        names = sorted(self._ours.given() | self._theirs.given())
        given = self._ours.run(feed.arrays, names, seed=self._options.seed)
        return {
            name: np.asarray(value)
            for name, value in {**given, **values}.items()
            if isinstance(value, (np.ndarray, np.generic))
        }

    def _judge_the_rest(self, feed: Feed, values: dict[str, Array], *, with_probes: bool) -> None:
        """Judge what comes after the first difference too, from ORIGINAL's values again.

        So each norm has its own answer, and one wrong norm is one failure.
        """
        roots: dict[str, Judgement] = {}
        check = self._local
        for _ in range(MOST_ROOTS):
            failures = check.failures()
            names = {judgement.tensor for judgement in failures}
            new = {j.tensor: j for j in failures if j.through.isdisjoint(names - {j.tensor})}
            if not new:
                break
            roots.update(new)
            check = LocalCheck(self._ours, self._theirs, *self._common, pinned=roots)
            check.add_feed(feed.name, values, with_probes=with_probes)
        self._final, self._judged_by = {**roots, **check.judgements}, check

    def _require_numbers(self) -> None:
        for tally in self._whole.tallies.values():
            if tally.is_same and not tally.has_numbers:
                raise UsageError(
                    f"output {tally.name!r} of {self._ours.document.name} is NaN or infinite on "
                    "every feed, so nothing is compared: give real data (--feeds FILE.npz)"
                )

    def _report(self, checked: RuntimeCheck | None) -> VerifyReport:
        options, closeness = self._options, self._options.closeness
        outputs = [t.check(self._ours.dtype_of_output(n)) for n, t in self._whole.tallies.items()]
        is_same = not self._failures and all(output.is_same for output in outputs)
        difference = self._difference()
        if not is_same:
            verdict = verdict_no(difference, self._failures, outputs, closeness is not None)
        elif checked is not None and not checked.is_good:
            verdict = f"not the same in onnxruntime: {checked.summary}"
        else:
            verdict = verdict_yes(outputs, closeness is not None)
        detours = self._local.detours()
        if is_same and detours:
            self._notes.append(detours_note(detours))
        return VerifyReport(
            original=self._ours.document.name,
            folded=self._theirs.document.name,
            is_same=is_same and (checked is None or checked.is_good),
            verdict=verdict,
            outputs=tuple(outputs),
            norms=tuple(self._norms()),
            difference=difference,
            runtime=checked,
            notes=tuple(self._notes),
            multiple=options.multiple,
            rtol=closeness.rtol if closeness is not None else None,
            atol=closeness.atol if closeness is not None else None,
            feeds=tuple(self._feeds),
            seed=options.seed,
            tensors_checked=len(self._local.judgements),
        )

    def _difference(self) -> Difference | None:
        if self._failures:
            first = _place(self._failures)
            norm = self._norm_of(first.tensor) or self._wrong_norm_behind(first.tensor)
            return difference_of(first.tensor, norm, first.worst, first.feed, first.units)
        for tally in self._whole.tallies.values():
            if not tally.is_same:
                return difference_of(tally.name, None, tally.worst, tally.feed, tally.units)
        return None

    def _norm_of(self, tensor: str) -> str | None:
        """The norms in the part of ORIGINAL that makes a tensor: those FOLDED lacks, or all."""
        nodes = set(self._local.part_of(tensor))
        inside = [(name, last) for name, last in self._norm_nodes() if last in nodes]
        theirs = {(n.op_type, o) for n in self._theirs.index.nodes for o in n.proto.output}
        gone = [
            name
            for name, last in inside
            if not any((last.op_type, output) in theirs for output in last.proto.output)
        ]
        return ", ".join(gone or [name for name, _ in inside]) or None

    def _wrong_norm_behind(self, tensor: str) -> str | None:
        """The norm whose own part reads a tensor that differs, and differs too."""
        for check in self._norms():
            if not check.is_same and check.tensor is not None:
                part = self._judged_by.part_of(check.tensor)
                if any(tensor in node.proto.input for node in part):
                    return check.norm
        return None

    def _norms(self) -> list[NormCheck]:
        place: dict[Node, str] = {}
        for judged, judgement in self._final.items():
            if judgement.is_excused:
                continue  # judged where the models meet again
            for node in self._judged_by.part_of(judged):
                place.setdefault(node, judged)
        checks = []
        for name, last in self._norm_nodes():
            tensor = place.get(last)
            found = self._final.get(tensor) if tensor is not None else None
            is_same = found is None or found.is_same
            checks.append(NormCheck(name, is_same, tensor, found.units if found else 0.0))
        return checks

    def _norm_nodes(self) -> list[tuple[str, Node]]:
        """Each norm of ORIGINAL, and the node of the main graph that holds its last step."""
        found = []
        for decision in plan(self._ours.index, Selection()).decisions:
            node = decision.norm.steps[-1].node
            while node.scope.owner is not None:
                node = node.scope.owner
            found.append((decision.norm.name, node))
        return found


MOST_ROOTS = 8
"""How many differences that do not follow from each other are looked for, one after the other."""

"""The check of a fold before anything is written: each folded region by itself, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bnfold.checking.cluster import Cluster, clustered
from bnfold.checking.compare import largest_difference
from bnfold.checking.cores import cores
from bnfold.checking.pairs import Joined, Kind, Pair, Pairs
from bnfold.checking.probes import BLOCK
from bnfold.checking.region import NotByChannelError, Region
from bnfold.checking.whole_graph import require_whole
from bnfold.checking.written import Original, RegionError, Written
from bnfold.errors import VerificationError
from bnfold.folding.apply import Applied
from bnfold.folding.decided import FoldPlan, Plan
from bnfold.folding.find import Norm
from bnfold.folding.inline import Analysis
from bnfold.folding.outcome import RegionsChecked
from bnfold.folding.rules.quantised import Dequantised
from bnfold.folding.rules.reading import Linear
from bnfold.onnxgraph.constants import Constants
from bnfold.onnxgraph.graph import Node

if TYPE_CHECKING:
    from bnfold.checking.excerpt import Evaluators


LARGE = 1 << 18
"""Weights of so many elements and more are compared side by side."""
FEWEST_THREADS, MOST_THREADS = 3, 8
"""Two threads wait for Python's lock for as long as they save."""


def check_regions(analysis: Analysis, applied: Applied) -> RegionsChecked:
    """Compare both sides of every fold on a small probe.

    Raises:
        VerificationError: one is not the same function.
    """
    plan = analysis.plan
    if not plan.folds:
        return RegionsChecked(0, 0.0)
    original = Original(analysis.index)
    written = Written(applied.rewrite, original, _changed_nodes(plan))
    worst, unchecked = 0.0, 0
    direct = _Direct(analysis, original, written)
    with np.errstate(all="ignore"):
        folds = [fold for fold in plan.folds if not direct.takes(fold)]
        try:
            clusters = clustered(plan, folds, written)
        except RegionError as why:
            raise _failure(folds, why) from None
        general = _General(analysis, original, written)
        for cluster in clusters:
            try:
                region = _region(cluster, analysis, original, written)
                if region is None:
                    max_ulp, is_compared = general.compared(cluster)
                    worst = max(worst, max_ulp)
                    unchecked += 0 if is_compared else len(cluster.operators)
            except RegionError as why:
                raise _failure(cluster.folds, why) from None
            if region is not None:
                direct.add(cluster.folds[0], region)
        worst = max(worst, direct.finish())
        try:
            nodes = {node for cluster in clusters for node in cluster.nodes} | direct.nodes
            require_whole(analysis.index, written, nodes)
            for linear in plan.stored_biases:
                _require_stored(linear, original, written)
        except RegionError as why:
            raise _failure(plan.folds, why) from None
    return RegionsChecked(len(plan.linears) - unchecked, worst, unchecked)


def _region(
    cluster: Cluster, analysis: Analysis, original: Original, written: Written
) -> Region | None:
    """A cluster as one region, or None where that cannot be."""
    if not cluster.is_direct:
        return None
    try:
        return Region(cluster.folds[0], original, written, analysis.document.opset)
    except NotByChannelError:
        return None


def _require_stored(linear: Linear, original: Original, written: Written) -> None:
    """A bias that the graph computed is stored with the very values that it had."""
    node, at = linear.node, linear.bias_at
    old, proto = node.input(at), written.node(node)
    if old is None or proto is None or len(proto.input) <= at:
        raise RegionError(f"{node.label} loses its bias")
    before = original.value(old)
    after = written.array(written.tensor(proto.input[at], node.scope))
    same = before.shape == after.shape and before.dtype == after.dtype
    if not same or before.tobytes() != after.tobytes():
        raise RegionError(f"the bias of {node.label} changes")


class _Direct:
    """The comparison of direct folds: small pairs of one kind together, large weights side by side
    on all cores, for NumPy holds no lock while it computes.

    Attributes:
        nodes: those of the pairs.
    """

    def __init__(self, analysis: Analysis, original: Original, written: Written) -> None:
        self.nodes: set[Node] = set()
        self._original, self._written = original, written
        self._opset = analysis.document.opset
        self._pairs = Pairs(analysis.plan, written)
        self._waiting: dict[Kind, list[Pair]] = {}
        self._large: list[tuple[FoldPlan, Region]] = []
        self._worst = 0.0

    def takes(self, fold: FoldPlan) -> bool:
        """Take a fold that is a small pair, to compare it now or later.

        Raises:
            VerificationError: it, or one that waited, is not the same function.
        """
        found = self._pairs.read(fold)
        if found is None:
            return False
        kind, pair = found
        self.nodes |= {fold.sinks[0].linear.node, fold.steps[0].node}
        waiting = self._waiting.setdefault(kind, [])
        waiting.append(pair)
        if (len(waiting) + 1) * math.prod(kind.shape) > BLOCK:
            self._compare_pairs(kind, self._waiting.pop(kind))
        return True

    def add(self, fold: FoldPlan, region: Region) -> None:
        """Compare a region, now or later.

        Raises:
            VerificationError: it is not the same function.
        """
        if region.weight.size >= LARGE:
            self._large.append((fold, region))
        else:
            self._compare(fold, region)

    def finish(self) -> float:
        """Compare those that wait; the largest difference of all, in units."""
        for kind, waiting in self._waiting.items():
            self._compare_pairs(kind, waiting)
        threads = min(cores(), len(self._large), MOST_THREADS)
        if threads < FEWEST_THREADS:
            for fold, region in self._large:
                self._compare(fold, region)
            return self._worst
        from concurrent.futures import ThreadPoolExecutor  # it takes a while to import

        with ThreadPoolExecutor(threads) as pool:
            futures = [pool.submit(_difference, region) for _, region in self._large]
            try:
                for (fold, _), future in zip(self._large, futures, strict=True):
                    try:
                        self._worst = max(self._worst, future.result())
                    except RegionError as why:
                        raise _failure([fold], why) from None
            finally:
                for future in futures:
                    future.cancel()
        return self._worst

    def _compare_pairs(self, kind: Kind, pairs: Sequence[Pair]) -> None:
        try:
            self._worst = max(self._worst, largest_difference(Joined(kind, pairs)))
        except RegionError:  # one by one, to name it
            for fold in (pair.fold for pair in pairs):
                try:
                    region = Region(fold, self._original, self._written, self._opset)
                except RegionError as why:
                    raise _failure([fold], why) from None
                self._compare(fold, region)

    def _compare(self, fold: FoldPlan, region: Region) -> None:
        try:
            self._worst = max(self._worst, largest_difference(region))
        except RegionError as why:
            raise _failure([fold], why) from None


def _difference(region: Region) -> float:
    with np.errstate(all="ignore"):  # each thread has its own
        return largest_difference(region)


class _General:
    """What the check of all clusters that are not direct shares, made when there is one."""

    def __init__(self, analysis: Analysis, original: Original, written: Written) -> None:
        self._analysis, self._original, self._written = analysis, original, written

    def compared(self, cluster: Cluster) -> tuple[float, bool]:
        """The largest difference of what is stored, in units, and whether both sides ran.

        Raises:
            RegionError: they are not the same function.
        """
        # The evaluator takes a while to import, and most models have only direct clusters.
        from bnfold.checking.agree import is_compared
        from bnfold.checking.sides import Sides

        sides = Sides(
            cluster,
            self._analysis.plan,
            self._original,
            self._written,
            self._constants,
            self._inference,
            self._analysis.document,
            self._evaluators,
        )
        return sides.max_ulp, is_compared(sides, self._original.types)

    @cached_property
    def _evaluators(self) -> Evaluators:
        from bnfold.checking.excerpt import Evaluators

        return Evaluators()

    @cached_property
    def _constants(self) -> Constants:
        # Fresh ones: nothing that the folder evaluated counts.
        return Constants(self._analysis.index, self._original.types)

    @cached_property
    def _inference(self) -> set[Node]:
        """Norms in training mode that the user wants read as inference."""
        decisions = self._analysis.plan.decisions
        return {s.node for d in decisions if d.assumed_inference for s in d.norm.steps}


def _changed_nodes(plan: Plan) -> set[Node]:
    """All nodes that may read what changes in its place."""
    nodes = set(plan.linears)
    for node, linear in plan.linears.items():
        for tensor in map(node.input, (linear.weight_at, linear.bias_at)):
            if tensor is not None and tensor.producer is not None:
                nodes.add(tensor.producer)
        constants = [c for c in (linear.weight, linear.bias) if isinstance(c, Dequantised)]
        nodes |= {constant.node for constant in constants}
    for fold in plan.folds:
        nodes |= {*fold.gone, *fold.crossed}
        nodes |= {sink.back.node for sink in fold.sinks if sink.back is not None}
    return nodes


def _failure(folds: Sequence[FoldPlan], why: RegionError) -> VerificationError:
    names = list(dict.fromkeys(Norm(list(fold.steps)).name for fold in folds))
    into = list(dict.fromkeys(s.linear.node.label for fold in folds for s in fold.sinks))
    return VerificationError(
        f"the fold of {_listed(names)} into {_listed(into)} failed its check: {why}: this is a "
        "bug of bnfold's, and nothing was written; please report it"
    )


def _listed(names: Sequence[str], most: int = 3) -> str:
    """A few names, and how many more there are."""
    shown = ", ".join(names[:most]) or "nothing"
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"

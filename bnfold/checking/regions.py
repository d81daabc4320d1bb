"""The check of a fold before anything is written: each folded region by itself, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from bnfold.checking.cluster import Cluster, clustered
from bnfold.checking.compare import largest_difference
from bnfold.checking.failure import failure
from bnfold.checking.large import LARGE, LargeWeights
from bnfold.checking.pairs import Joined, Kind, Pair, Pairs
from bnfold.checking.probes import BLOCK
from bnfold.checking.region import NotByChannelError, Region
from bnfold.checking.whole_graph import require_whole
from bnfold.checking.written import Original, RegionError, Written
from bnfold.folding.apply import Applied
from bnfold.folding.decided import FoldPlan, Plan
from bnfold.folding.inline import Analysis
from bnfold.folding.outcome import RegionsChecked
from bnfold.folding.rules.quantised import Dequantised
from bnfold.folding.rules.reading import Linear
from bnfold.onnxgraph.constants import Constants
from bnfold.onnxgraph.graph import Node

if TYPE_CHECKING:
    from bnfold.checking.excerpt import Evaluators


class RegionsCheck:
    """The comparison of both sides of every fold on a small probe.

    ``finish`` compares large weights; whatever can be said without them is said at once.

    Raises:
        VerificationError: a fold is not the same function.
    """

    def __init__(self, analysis: Analysis, applied: Applied) -> None:
        self._plan = plan = analysis.plan
        self._large = LargeWeights()
        self._worst, self._unchecked = 0.0, 0
        if not plan.folds:
            return
        original = Original(analysis.index)
        written = Written(applied.rewrite, original, _changed_nodes(plan))
        direct = _Direct(analysis, original, written, self._large)
        with np.errstate(all="ignore"):
            folds = [fold for fold in plan.folds if not direct.takes(fold)]
            try:
                clusters = clustered(plan, folds, written)
            except RegionError as why:
                raise failure(folds, why) from None
            general = _General(analysis, original, written)
            for cluster in clusters:
                try:
                    region = _region(cluster, analysis, original, written)
                    if region is None:
                        max_ulp, is_compared = general.compared(cluster)
                        self._worst = max(self._worst, max_ulp)
                        self._unchecked += 0 if is_compared else len(cluster.operators)
                except RegionError as why:
                    raise failure(cluster.folds, why) from None
                if region is not None:
                    direct.add(cluster.folds[0], region)
            self._worst = max(self._worst, direct.finish())
            try:
                nodes = {node for cluster in clusters for node in cluster.nodes} | direct.nodes
                require_whole(analysis.index, written, nodes)
                for linear in plan.stored_biases:
                    _require_stored(linear, original, written)
            except RegionError as why:
                raise failure(plan.folds, why) from None

    def watch(self) -> None:
        """Compare large weights while they are written."""
        self._large.watch()

    def finish(self) -> RegionsChecked:
        """Compare the large weights that were not written yet.

        Raises:
            VerificationError: one is not the same function.
        """
        worst = max(self._worst, self._large.finish())
        return RegionsChecked(len(self._plan.linears) - self._unchecked, worst, self._unchecked)


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
    """The comparison of direct folds: small pairs of one kind together, large weights later.

    Attributes:
        nodes: those of the pairs.
    """

    def __init__(
        self, analysis: Analysis, original: Original, written: Written, large: LargeWeights
    ) -> None:
        self.nodes: set[Node] = set()
        self._original, self._written = original, written
        self._opset = analysis.document.opset
        self._pairs = Pairs(analysis.plan, written)
        self._waiting: dict[Kind, list[Pair]] = {}
        self._large = large
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
            self._large.add(fold, region)
        else:
            self._compare(fold, region)

    def finish(self) -> float:
        """Compare those that wait; the largest difference of all but large ones, in units."""
        for kind, waiting in self._waiting.items():
            self._compare_pairs(kind, waiting)
        return self._worst

    def _compare_pairs(self, kind: Kind, pairs: Sequence[Pair]) -> None:
        try:
            self._worst = max(self._worst, largest_difference(Joined(kind, pairs)))
        except RegionError:  # one by one, to name it
            for fold in (pair.fold for pair in pairs):
                try:
                    region = Region(fold, self._original, self._written, self._opset)
                except RegionError as why:
                    raise failure([fold], why) from None
                self._compare(fold, region)

    def _compare(self, fold: FoldPlan, region: Region) -> None:
        try:
            self._worst = max(self._worst, largest_difference(region))
        except RegionError as why:
            raise failure([fold], why) from None


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

"""The check of a fold before anything is written: each folded region by itself, in float64."""

from __future__ import annotations

import numpy as np

from bnfold.checking.compare import largest_difference
from bnfold.checking.region import Region
from bnfold.checking.written import Original, RegionError, Written
from bnfold.errors import VerificationError
from bnfold.folding.apply import Applied
from bnfold.folding.find import Norm
from bnfold.folding.inline import Analysis
from bnfold.folding.outcome import RegionsChecked
from bnfold.folding.plan import FoldPlan


def check_regions(analysis: Analysis, applied: Applied) -> RegionsChecked:
    """Compare both sides of every fold on a small probe.

    Raises:
        VerificationError: one is not the same function.
    """
    folds = analysis.plan.folds
    nodes = {fold.linear.node for fold in folds}
    nodes |= {step.node for fold in folds for step in fold.steps}
    original = Original(analysis.index)
    written = Written(applied.rewrite, original, nodes)
    worst = 0.0
    with np.errstate(all="ignore"):
        for fold in folds:
            try:
                region = Region(fold, original, written, analysis.document.opset)
                worst = max(worst, largest_difference(region))
            except RegionError as why:
                raise _failure(fold, why) from None
    return RegionsChecked(len(folds), worst)


def _failure(fold: FoldPlan, why: RegionError) -> VerificationError:
    name, into = Norm(list(fold.steps)).name, fold.linear.node.label
    return VerificationError(
        f"the fold of {name} into {into} failed its check: {why}: this is a bug of bnfold's, and "
        "nothing was written; please report it"
    )

"""What is said of a fold that did not pass its check."""

from __future__ import annotations

from collections.abc import Sequence

from bnfold.checking.written import RegionError
from bnfold.errors import VerificationError
from bnfold.folding.decided import FoldPlan
from bnfold.folding.find import Norm


def failure(folds: Sequence[FoldPlan], why: RegionError) -> VerificationError:
    """The error for folds that are compared together."""
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

"""Yes or no about a model: is a norm left in it that could be folded?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bnfold.folding.outcome import Folded, Kept, Report
from bnfold.folding.reasons import REASONS


@dataclass(frozen=True)
class Verdict:
    """What ``check`` says about one model.

    Attributes:
        report: what ``explain`` says.
        foldable: the norms that could be folded and are not allowed to stay.
        left: BatchNormalizations in the file, foldable or not, that are not allowed to stay.
        max_left: the bound on ``left``, or None.
    """

    report: Report
    foldable: tuple[Folded, ...]
    left: int
    max_left: int | None

    @property
    def is_clean(self) -> bool:
        """Whether the answer is yes."""
        return not self.foldable and (self.max_left is None or self.left <= self.max_left)


def judged(report: Report, allow: Iterable[str], max_left: int | None) -> Verdict:
    """The verdict about a model.

    Args:
        report: what a fold of it would do.
        allow: reason codes, and shell patterns of node names, of norms that may stay.
        max_left: how many BatchNormalizations may be left in all, or None for any number.
    """
    accepted = tuple(allow)
    codes = {entry for entry in accepted if entry in REASONS}
    patterns = [entry for entry in accepted if entry not in codes]

    def is_allowed(norm: Folded | Kept) -> bool:
        if isinstance(norm, Kept) and norm.code in codes:
            return True
        return any(fnmatchcase(name, pattern) for name in norm.nodes for pattern in patterns)

    disallowed = [norm for norm in report.norms if not is_allowed(norm)]
    return Verdict(
        report=report,
        foldable=tuple(norm for norm in disallowed if isinstance(norm, Folded)),
        left=sum(norm.kind == "batch-norm" for norm in disallowed),
        max_left=max_left,
    )

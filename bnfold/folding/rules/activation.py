"""Operators on single elements that a scale can cross: Relu, LeakyRelu, PRelu, Abs, Neg."""

from __future__ import annotations

from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.conditions import why_negative, why_shifted
from bnfold.folding.rules.reading import Context, read_version
from bnfold.folding.rules.through import Spreads, Through
from bnfold.onnxgraph.graph import Node

_LETS = "only positive scales without a shift"


def cross_homogeneous(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s f(x) == f(s x)`` for ``s >= 0`` and f = Relu, LeakyRelu, PRelu, Abs; no shift.

    Such an f multiplies each side of zero by a number of its own, which s >= 0 does not leave.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    spread = spreads[0]
    why = why_negative(node, spread, _LETS) or why_shifted(node, spread, _LETS)
    return why or spreads


def cross_negation(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s (-x) + t == -(s x - t)`` for any s and t, in both directions."""
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    return {0: Spread(spreads[0].scale, -spreads[0].shift)}


HOMOGENEOUS = Through(cross_homogeneous, cross_homogeneous)
NEGATION = Through(cross_negation, cross_negation)

"""Mul and Div of two branches: a scale goes into one of them."""

from __future__ import annotations

import numpy as np

from bnfold.algebra.rounding import TINY
from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.broadcasting import join_version, on_branch, with_preference
from bnfold.folding.rules.conditions import why_shifted, without_shift
from bnfold.folding.rules.reading import Context
from bnfold.folding.rules.through import Spreads, Through, blocked
from bnfold.onnxgraph.graph import Node


def product_backward(
    node: Node, spreads: Spreads, context: Context
) -> Spreads | list[Spreads] | Refused:
    """``s (x y) == (s x) y == x (s y)``, and ``s (x / y) == (s x) / y == x / (y / s)``; no shift.

    The last form needs s other than zero.
    """
    version = join_version(node, context)
    if isinstance(version, Refused):
        return version
    spread = spreads[0]
    why = why_shifted(node, spread)
    if why is not None:
        return why
    if node.inputs[0] is node.inputs[1]:
        return blocked(node, "takes both operands from one tensor")
    ways: list[Spreads] = []
    for at in with_preference(node, (0, 1)):
        own = _inverse(node, spread) if node.op_type == "Div" and at == 1 else spread
        if not isinstance(own, Refused):
            own = on_branch(node, at, own, context)
        if isinstance(own, Refused):
            why = why or own
            continue
        ways.append({at: own})
    assert ways or why is not None
    return ways or why or []


def product_forward(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``(s x) (r y) == (s r) (x y)``, and ``(s x) / (r y) == (s / r) (x / y)`` for r other than
    zero; no shifts.
    """
    version = join_version(node, context)
    if isinstance(version, Refused):
        return version
    found = Spread.identity()
    for at, spread in sorted(spreads.items()):
        why = why_shifted(node, spread)
        if why is not None:
            return why
        own = _inverse(node, spread) if node.op_type == "Div" and at == 1 else spread
        if isinstance(own, Refused):
            return own
        product = found.then(without_shift(own))
        lost = (np.abs(product.scale) < TINY) & (found.scale != 0) & (own.scale != 0)
        if lost.any() or not product.is_finite:
            return _beyond(node)
        found = product
    return {0: found}


def _inverse(node: Node, spread: Spread) -> Spread | Refused:
    """``1 / s``."""
    if not spread.scale.all():
        return blocked(node, "would divide by a scale of zero")
    with np.errstate(over="ignore"):
        inverse = Spread(1.0 / spread.scale, spread.shift)
    if not inverse.is_finite or (np.abs(inverse.scale) < TINY).any():
        return _beyond(node)
    return inverse


def _beyond(node: Node) -> Refused:
    return Refused(
        "beyond-dtype", f"the scale behind {node.label} would be beyond what float64 can hold"
    )


PRODUCT = Through(product_backward, product_forward, data=None, one_branch=True)

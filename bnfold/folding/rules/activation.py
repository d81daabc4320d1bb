"""Operators on single elements that a scale can cross: Relu, LeakyRelu, PRelu, Abs, Neg, Clip."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from bnfold.algebra.rounding import largest
from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.conditions import why_negative, why_shifted
from bnfold.folding.rules.reading import FLOATS, Context, read_version
from bnfold.folding.rules.through import Spreads, Through, blocked
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.known import Unknown

_LETS = "only positive scales without a shift"


def cross_homogeneous(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s f(x) == f(s x)`` for ``s >= 0`` and f = Relu, LeakyRelu, PRelu, Abs; no shift.

    Such an f multiplies each side of zero by a number of its own, which s >= 0 does not leave.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    spread = spreads[0]
    return _why_not_homogeneous(node, spread) or spreads


def cross_clip(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s clip(x) == clip(s x)`` for ``s >= 0`` if it clips at zero, on one side or both; no shift.

    Any other bound would have to be scaled too. Without bounds it is the identity.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    bounds = [_bound(node, at, version, context) for at in (0, 1)]
    for bound in bounds:
        if isinstance(bound, Refused):
            return bound
        if bound is not None and bound != 0.0:
            return blocked(node, f"clips at {bound:.6g}, where a norm would move the bend")
    return spreads if bounds == [None, None] else _why_not_homogeneous(node, spreads[0]) or spreads


def cross_thresholded(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s f(x) == f(s x)`` for ``s >= 0`` and f = ThresholdedRelu with a threshold of zero."""
    threshold = node.real("alpha", 1.0)
    if threshold != 0.0:
        return blocked(node, f"has its step at {threshold:.6g}, where a norm would move it")
    return cross_homogeneous(node, spreads, context)


def cross_negation(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``s (-x) + t == -(s x - t)`` for any s and t, in both directions."""
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    return {0: Spread(spreads[0].scale, -spreads[0].shift)}


def _why_not_homogeneous(node: Node, spread: Spread) -> Refused | None:
    return why_negative(node, spread, _LETS) or why_shifted(node, spread, _LETS)


def _bound(node: Node, at: int, version: int, context: Context) -> float | Refused | None:
    """The lower (0) or upper (1) bound of a Clip, None where every number is within it.

    That is one which is not there, is infinite, or is the largest number of the dtype, as exporters
    write it.
    """
    name, outward = ("min", -1.0) if at == 0 else ("max", 1.0)
    if version < 11:
        found = node.attribute(name)
        data = node.input(0)
        is_double = data is None or context.types.element_type(data) not in _NARROW
        # Before opset 6 there is no bound by default, then it is that of float32.
        default = outward * (np.inf if version < 6 else largest(np.float32))
        value, limit = default if found is None else float(found.f), largest(np.float32)
        return None if value * outward >= (np.inf if is_double else limit) else value
    tensor = node.input(1 + at)
    return None if tensor is None else _stored_bound(node, tensor, outward, context)


def _stored_bound(
    node: Node, tensor: Tensor, outward: float, context: Context
) -> float | Refused | None:
    known = context.constants.value(tensor)
    if isinstance(known, Unknown) or known.data_type not in FLOATS or known.array.size != 1:
        return blocked(node, f"clips at {tensor.name}, which is no constant of one value")
    value = float(known.array.reshape(-1)[0])
    return None if value * outward >= largest(known.array.dtype) else value


_NARROW = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT})

HOMOGENEOUS = Through(cross_homogeneous, cross_homogeneous)
NEGATION = Through(cross_negation, cross_negation)
CLIP = Through(cross_clip, cross_clip)
THRESHOLDED = Through(cross_thresholded, cross_thresholded)

"""What a rule for an operator that an affine map can cross looks like, and the simplest two.

``backward`` turns maps behind an operator into maps before it, ``forward`` the other way round:

    backward    affine(f(x)) = f(affine'(x))
    forward     f(affine(x)) = affine'(f(x))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.reading import Context, read_version
from bnfold.onnxgraph.graph import Node
from bnfold.onnxgraph.known import Known

Spreads = Mapping[int, Spread]
"""Maps by position among the inputs, or among the outputs, of a node; others are the identity."""

Backward = Callable[[Node, Spreads, Context], Spreads | list[Spreads] | Refused]
"""Maps of the outputs -> maps of the inputs, or several ways in the order of preference."""

Forward = Callable[[Node, Spreads, Context], Spreads | Refused]
"""Maps of the inputs -> maps of the outputs."""


@dataclass(frozen=True)
class Fill:
    """What an operator fills its border with from now on.

    Attributes:
        value: in units of its data.
        data_type: ONNX data type of the data.
    """

    value: float
    data_type: int


@dataclass(frozen=True)
class Through:
    """How an affine map crosses an operator.

    Attributes:
        backward, forward: the two directions.
        data: which inputs a map can come from or go to; None for all of them.
        one_branch: whether it is enough, on the way back, if one of those inputs takes the map.
        gives_input: whether the operator gives what it reads, so that it can go with the norm.
        refilled: what a border is filled with after a map that is let through only if it acts on
            that value, too; None where that is no help. What it is given is the way back's map.
    """

    backward: Backward
    forward: Forward
    data: tuple[int, ...] | None = (0,)
    gives_input: bool = False
    one_branch: bool = False
    refilled: Callable[[Node, Spread, Context], Fill | None] | None = None


def blocked(node: Node, why: str) -> Refused:
    """A map that an operator does not let through."""
    return Refused("not-through", f"{node.label} ({node.op_type}) {why}")


def cross_identity(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``affine(identity(x)) == identity(affine(x))``, in both directions."""
    version = read_version(node, context)
    return version if isinstance(version, Refused) else spreads


def cross_dropout(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``affine(dropout(x)) == dropout(affine(x))`` in inference, where dropout gives x itself.

    Inference is: ``is_test=1`` before opset 7, always from opset 7 to 11, and no or a false
    ``training_mode`` input from opset 12 on; and nobody reads the mask.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    if any(t is not None and (t.readers or t.is_output) for t in node.outputs[1:]):
        return blocked(node, "has a mask that is read")
    training = node.input(2)
    if version < 7:
        if node.integer("is_test", 0) == 0:
            return blocked(node, "is in training mode")
    elif version >= 12 and training is not None:
        known = context.constants.value(training)
        if not isinstance(known, Known) or np.asarray(known.array).any():
            return blocked(node, "may be in training mode")
    return spreads


IDENTITY = Through(cross_identity, cross_identity, gives_input=True)
DROPOUT = Through(cross_dropout, cross_dropout, gives_input=True)

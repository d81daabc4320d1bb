"""Operators that an affine map can cross unchanged: what they read is what they give."""

from __future__ import annotations

import numpy as np

from bnfold.folding.reasons import Refused
from bnfold.folding.rules.reading import Context, read_version
from bnfold.onnxgraph.constants import Known
from bnfold.onnxgraph.graph import Node


def crosses_identity(node: Node, context: Context) -> bool:
    """``affine(identity(x)) == identity(affine(x))``."""
    return not isinstance(read_version(node, context), Refused)


def crosses_dropout(node: Node, context: Context) -> bool:
    """``affine(dropout(x)) == dropout(affine(x))`` in inference, where dropout gives x itself.

    Inference is: ``is_test=1`` before opset 7, always from opset 7 to 11, and no or a false
    ``training_mode`` input from opset 12 on; and nobody reads the mask.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return False
    if any(t is not None and (t.readers or t.is_output) for t in node.outputs[1:]):
        return False
    if version < 7:
        return node.integer("is_test", 0) != 0
    training = node.input(2)
    if version < 12 or training is None:
        return True
    known = context.constants.value(training)
    return isinstance(known, Known) and not np.asarray(known.array).any()

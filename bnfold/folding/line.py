"""What makes the data of a norm, if it is cheap enough to be made twice."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bnfold.folding.find import gives_input
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.reading import Inward, Linear
from bnfold.folding.survey import Survey, article
from bnfold.onnxgraph.graph import Node, Tensor

MOST_PRODUCTS = 32
"""An operator is cheap if it multiplies at most this often for each value that it makes: a
depthwise convolution of 5 by 5, a pointwise one or a Gemm of 32 input channels."""

LONGEST = 8
"""How many norms that fold into an operator may be copied with it."""


@dataclass(frozen=True, eq=False)
class Line:
    """What makes the data of a norm: a linear operator, and the norms behind it.

    Attributes:
        nodes: in the order of the data.
        data: which input each of them but the first reads the one before it by.
    """

    nodes: tuple[Node, ...]
    data: tuple[int, ...]


def line_before(survey: Survey, tensor: Tensor) -> Line | None:
    """What makes a tensor, seen through what gives its input, or None where a copy is in vain."""
    nodes: list[Node] = []
    data: list[int] = []
    while len(nodes) < LONGEST:
        node, scope = tensor.producer, tensor.scope
        if node is None or len(node.outputs) > 1 or survey.is_constant(tensor):
            return None
        if survey.is_linear(node):
            return Line((node, *reversed(nodes)), tuple(reversed(data)))
        step = survey.step_of.get(node)
        if step is not None:
            if isinstance(survey.spread(step), Refused):
                return None
            before = step.data
            if node.inputs.count(before) != 1:
                return None
            nodes.append(node)
            data.append(node.inputs.index(before))
        else:
            given = node.input(0)
            if given is None or not gives_input(node, survey.context):
                return None
            before = given
        if before.scope is not scope:
            return None
        tensor = before
    return None


def why_dear(linear: Linear) -> str | None:
    """Why an operator is not copied, or None where it is cheap."""
    name, count = linear.node.label, products(linear)
    if count is None:
        return f"{name} is not copied: it is {article(linear.node.op_type)}"
    if count > MOST_PRODUCTS:
        return (
            f"{name} is not copied: each of its values takes {count} products, more than "
            f"{MOST_PRODUCTS}"
        )
    return None


def products(linear: Linear) -> int | None:
    """How many products each value of an operator is the sum of, or None where that is not known.

    For a ConvTranspose it is what they would be without strides, which is never less.
    """
    op_type, shape = linear.node.op_type, linear.weight.shape
    if op_type in ("Conv", "ConvTranspose", "FusedConv"):
        return math.prod(shape) // max(linear.layer.channels, 1)
    if op_type in ("Gemm", "MatMul", "FusedGemm", "FusedMatMul"):
        return linear.inward.channels if isinstance(linear.inward, Inward) else None
    return None

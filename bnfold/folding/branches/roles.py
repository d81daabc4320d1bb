"""What a node can be in a block of branches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bnfold.folding.reasons import Refused
from bnfold.folding.rules.elementwise import data_position
from bnfold.folding.rules.reading import Context, read_version
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.known import Known

Kind = Literal["sum", "conv", "pool", "norm", "through"]

_BROADCASTS = 8
"""From this opset on Sum broadcasts its inputs."""


@dataclass(frozen=True, eq=False)
class Role:
    """A node as a part of a block.

    Attributes:
        node: the node.
        kind: what it is.
        data: the tensors that may come from the common input, one for each read.
        signs: 1 or -1 for each of them.
        constants: further terms of a sum, constant in value.
    """

    node: Node
    kind: Kind
    data: tuple[Tensor, ...]
    signs: tuple[int, ...] = (1,)
    constants: tuple[Tensor, ...] = ()

    @property
    def output(self) -> Tensor:
        """What it makes."""
        made = self.node.outputs[0]
        assert made is not None
        return made


def role_of(node: Node, context: Context) -> Role | None:
    """What a node is, by its operator and by what of its inputs is constant; None for any other.

    Numbers are not read: a norm may still turn out to be none.
    """
    if node.domain != "" or not node.outputs or node.outputs[0] is None:
        return None
    data = node.input(0)
    if node.op_type == "Conv":
        weight = node.input(1)
        if data is None or weight is None or context.constants.why_not(weight) is not None:
            return None
        return Role(node, "conv", (data,))
    if node.op_type in ("Add", "Sub", "Mul", "Div"):
        return _arithmetic(node, context)
    if node.op_type == "Sum":
        return _sum(node, context)
    if data is None:
        return None
    if node.op_type == "BatchNormalization":
        return Role(node, "norm", (data,))
    if node.op_type == "AveragePool" and _is_known(node, context):
        return Role(node, "pool", (data,))
    if node.op_type == "Identity" and _is_known(node, context):
        return Role(node, "through", (data,))
    if node.op_type == "Dropout" and _is_known(node, context) and _is_inference(node, context):
        return Role(node, "through", (data,))
    return None


def _arithmetic(node: Node, context: Context) -> Role | None:
    at = data_position(node, context)
    if at is not None:
        data = node.inputs[at]
        return Role(node, "norm", (data,)) if data is not None else None
    tensors = tuple(t for t in node.inputs if t is not None)
    if node.op_type not in ("Add", "Sub") or len(tensors) != 2:
        return None
    if not _is_known(node, context) or node.integer("broadcast", 0):
        return None
    if any(context.constants.why_not(t) is None for t in tensors):
        return None
    return Role(node, "sum", tensors, (1, 1 if node.op_type == "Add" else -1))


def _sum(node: Node, context: Context) -> Role | None:
    tensors = tuple(t for t in node.inputs if t is not None)
    if len(tensors) != len(node.inputs) or not _is_known(node, context):
        return None
    constants = tuple(t for t in tensors if context.constants.why_not(t) is None)
    data = tuple(t for t in tensors if t not in constants)
    if not data or (constants and context.opset < _BROADCASTS):
        return None
    return Role(node, "sum", data, (1,) * len(data), constants)


def _is_known(node: Node, context: Context) -> bool:
    """Whether the version of the operator is known, and every attribute of the node."""
    return not isinstance(read_version(node, context), Refused)


def _is_inference(dropout: Node, context: Context) -> bool:
    """Whether a Dropout gives what it reads, and nothing reads its mask."""
    if any(t is not None and (t.readers or t.is_output) for t in dropout.outputs[1:]):
        return False
    training = dropout.input(2)
    if context.opset < 7:
        return dropout.integer("is_test", 0) != 0
    if context.opset < 12 or training is None:
        return True
    known = context.constants.value(training)
    return isinstance(known, Known) and not np.asarray(known.array).any()

"""A Conv as a branch reads it: all of it constant."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnfold.algebra.affine import Float64Array
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.reading import (
    Context,
    as_float64,
    malformed,
    read_constant,
    read_version,
)
from bnfold.onnxgraph.graph import Node
from bnfold.onnxgraph.known import Known


@dataclass(frozen=True, eq=False)
class ReadConv:
    """A Conv of one to three spatial axes.

    Attributes:
        node: the operator.
        weight: shape ``(M, C/group, *kernel)``.
        bias: what holds its bias, or None.
        values: float64, shape ``(M,)``: the bias, zeros where there is none.
    """

    node: Node
    weight: Known
    bias: Known | None
    values: Float64Array

    @property
    def group(self) -> int:
        """Number of groups."""
        return self.node.integer("group", 1)

    @property
    def kernel(self) -> tuple[int, ...]:
        """Number of taps of each spatial axis."""
        return self.weight.shape[2:]


def read_conv(node: Node, context: Context) -> ReadConv | Refused:
    """A Conv whose weight and bias are constant floats of one dtype, or why it is none."""
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    weight = read_constant(node.input(1), node, "weight", context, "weight-not-constant")
    if isinstance(weight, Refused):
        return weight
    shape, group = weight.shape, node.integer("group", 1)
    if len(shape) < 3 or min(shape) < 1:
        return malformed(node, f"its weight has shape {list(shape)}, without a kernel")
    if group < 1 or shape[0] % group:
        return malformed(node, f"its weight of shape {list(shape)} has no {group} groups")
    tensor = node.input(2)
    if tensor is None:
        return ReadConv(node, weight, None, np.zeros(shape[0]))
    bias = read_constant(tensor, node, "bias", context, "weight-not-constant")
    if isinstance(bias, Refused):
        return bias
    if bias.shape != shape[:1] or bias.data_type != weight.data_type:
        return malformed(
            node, f"its bias has shape {list(bias.shape)} for {shape[0]} channels, or another dtype"
        )
    return ReadConv(node, weight, bias, as_float64(bias))

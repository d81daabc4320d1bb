"""What became of each linear operator, as values that the reports of ``insert`` render."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Where = Literal["before-activation", "after-activation"]
WHERES: Final[tuple[Where, ...]] = ("before-activation", "after-activation")

LEFT_OUT: Final[dict[str, str]] = {
    "already-normalised": "A BatchNormalization stands behind the operator, or its activation.",
    "excluded": "The operator was excluded by --only or --skip.",
    "no-activation": "No activation alone reads the operator's output (after-activation only).",
    "channel-axis": "The channels of the output are on another axis than 1.",
    "unknown-rank": "The rank of the output is not known, so neither is the channel axis.",
    "other-operator": "Norms are inserted behind Conv, ConvTranspose, Gemm and MatMul only.",
    "inner-graph": "The operator is in the body of an If, Loop or Scan.",
    "function-body": "The operator is in the body of a model-local function.",
    "single-value": "The model's sizes leave one value for each channel, which has no variance.",
    "unsupported-dtype": "BatchNormalization is not defined for the data type at this opset.",
    "beyond-dtype": "A parameter of the norm would not be finite in the dtype of the model.",
    "unreadable": "The operator cannot be read: its weight is no constant, or it is malformed.",
}
"""Why an operator gets no norm: code -> meaning."""


@dataclass(frozen=True)
class InsertedNorm:
    """A BatchNormalization that was inserted.

    Attributes:
        norm: name of the new node.
        operator: name of the linear operator, or its first output where it has no name.
        operator_type: such as ``Conv``.
        behind: name of the node right before the norm: the operator, the Add of its bias, or its
            activation.
        tensor: the tensor whose values it normalises; the norm makes it now.
        channels: C.
        values: how many values of each channel the statistics are of.
        mean: the smallest and the largest mean of a channel, in units of x.
        std: the smallest and the largest standard deviation of a channel, in units of x.
        dead: how many channels have the same value everywhere in the data.
        exact: whether ``gamma / sqrt(var + epsilon)`` is exactly one on every channel, in float64;
            such a norm is the identity, unless it has taken over a bias.
        bias: what became of the operator's bias: ``none`` if it has none, ``kept``, ``removed``.
        notes: what a reader of the report should know.
    """

    norm: str
    operator: str
    operator_type: str
    behind: str
    tensor: str
    channels: int
    values: int
    mean: tuple[float, float]
    std: tuple[float, float]
    dead: int
    exact: bool
    bias: Literal["none", "kept", "removed"]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """A linear operator that got no norm.

    Attributes:
        operator: its name, or its first output where it has no name.
        operator_type: such as ``Conv``.
        graph: ``""`` for the main graph, else the names of the nodes around it, or the function.
        code: one of ``LEFT_OUT``.
        reason: one sentence in the model's own names.
    """

    operator: str
    operator_type: str
    graph: str
    code: str
    reason: str


@dataclass(frozen=True)
class InsertReport:
    """What ``insert`` did with one model.

    Attributes:
        model: the path as given, or what the caller calls it.
        where: ``before-activation`` or ``after-activation``.
        estimator: ``paper`` or ``population``.
        epsilon: of the new norms, in squared units of x.
        batches: how many batches of data the statistics are of.
        norms: the new norms, in the order of the data.
        left_out: the other linear operators, in the order of the data.
        nodes_before, nodes_after: of the main graph and all graphs in it.
        bytes_before, bytes_after: of the model file and its data files.
    """

    model: str
    where: Where
    estimator: str
    epsilon: float
    batches: int
    norms: tuple[InsertedNorm, ...]
    left_out: tuple[LeftOut, ...]
    nodes_before: int
    nodes_after: int
    bytes_before: int
    bytes_after: int

"""What became of each norm, as values that the reports render."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["batch-norm", "constant-chain"]


@dataclass(frozen=True)
class Folded:
    """A norm that was folded, or in ``explain`` and ``check`` can be.

    Attributes:
        norm: name of its BatchNormalization node, or of the first node of a constant chain; the
            first output where the node has no name.
        kind: ``batch-norm`` or ``constant-chain``.
        nodes: names of all nodes of the norm.
        graph: ``""`` for the main graph, else the names of the If, Loop or Scan nodes around it.
        into: name of the operator that takes it up.
        operator: its type, such as ``Conv``.
        channels: number of output channels.
        flushed: how many folded values fell below the smallest normal number and became zero.
            Where several norms fold into one operator, they are counted at the last one.
        assumed_inference: whether a training-mode norm was read as inference.
        notes: what else a reader should know.
    """

    norm: str
    kind: Kind
    nodes: tuple[str, ...]
    graph: str
    into: str
    operator: str
    channels: int
    flushed: int = 0
    assumed_inference: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kept:
    """A norm that stays.

    Attributes:
        norm, kind, nodes, graph: as in ``Folded``.
        code: the stable reason code, such as ``shared-tensor``.
        reason: one sentence in the model's own names.
        remedy: what the owner of the model can do.
    """

    norm: str
    kind: Kind
    nodes: tuple[str, ...]
    graph: str
    code: str
    reason: str
    remedy: str


@dataclass(frozen=True)
class RegionsChecked:
    """What a fold found when it checked itself; a failed check raises instead.

    Attributes:
        regions: how many linear operators were compared with what they were before, together
            with the norms that they take up.
        max_ulp: the largest difference, in units in the last place of what is stored, beyond the
            rounding of float64; rounding once costs half of one at most.
    """

    regions: int
    max_ulp: float


@dataclass(frozen=True)
class Report:
    """What a fold did to a model, or would do.

    Attributes:
        model: what the model is called: its path where it has one.
        norms: one entry for each norm, in topological order.
        batch_norms_before, batch_norms_after: BatchNormalization nodes, subgraphs and functions
            included.
        nodes_before, nodes_after: nodes of the graph and its subgraphs.
        bytes_before, bytes_after: of the model file and its data files.
        inlined: the model-local functions that were inlined, as ``domain::name``.
        checked: the check of the fold before it was written, or None where there was none; reports
            of the same outcomes are equal with or without it.
    """

    model: str
    norms: tuple[Folded | Kept, ...] = field(repr=False)
    batch_norms_before: int
    batch_norms_after: int
    nodes_before: int
    nodes_after: int
    bytes_before: int
    bytes_after: int
    inlined: tuple[str, ...] = ()
    checked: RegionsChecked | None = field(default=None, compare=False)

    @property
    def folded(self) -> tuple[Folded, ...]:
        """The norms that fold."""
        return tuple(norm for norm in self.norms if isinstance(norm, Folded))

    @property
    def kept(self) -> tuple[Kept, ...]:
        """The norms that stay."""
        return tuple(norm for norm in self.norms if isinstance(norm, Kept))

    @property
    def flushed(self) -> int:
        """How many values fell below the smallest normal number and became zero."""
        return sum(norm.flushed for norm in self.folded)

"""What became of each norm, as values that the reports render."""

from __future__ import annotations

from collections.abc import Sequence
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
        into: name of the operator that takes it up, or of the first of several; ``""`` where the
            norm does nothing in all.
        operator: its type, such as ``Conv``.
        channels: how many of its output channels (backward) or input channels (forward) there are.
        direction: ``backward`` into what makes its data, ``forward`` into what reads its output.
        through: names of the operators that it crosses and that stay, from the norm outwards.
        taken: each operator that takes it up with those of its own channels that change, from the
            first to the last, such as ``conv_3[0:64]``: output channels backward, input channels
            forward. Without channels where it is the only one and all of its channels change. A
            constant that changes itself, such as a table, has the name of its tensor.
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
    direction: Literal["backward", "forward"] = "backward"
    through: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    flushed: int = 0
    assumed_inference: bool = False
    notes: tuple[str, ...] = ()

    @property
    def route(self) -> str:
        """One line: ``bn_7 -> through transpose_2, concat_1 -> conv_3[0:64], conv_4[0:32]``.

        ``bn_1 -> conv_1`` where nothing lies in between.
        """
        return route_line(self.norm, self.through, self.taken)


def route_line(norm: str, through: Sequence[str], taken: Sequence[str]) -> str:
    """The route of a norm as ``explain`` prints it."""
    stages = [norm, ", ".join(taken) or "nothing: it cancels out"]
    if through:
        stages.insert(1, f"through {', '.join(through)}")
    return " -> ".join(stages)


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
class MergedBlock:
    """A sum of parallel branches that became one Conv, or in ``explain`` can be.

    Attributes:
        into: name of the Conv: that of the branch with the largest kernel.
        graph: as in ``Folded``.
        branches: names of the branches: their last Conv or pooling, their first norm where they
            have none, the tensor itself where there is nothing in between.
        kernel: its shape in the merged Conv.
        norms: the norms that went with it, which are listed as folded, too.
        nodes: how many nodes it was.
        flushed: how many merged values fell below the smallest normal number and became zero.
        notes: what else a reader should know.
    """

    into: str
    graph: str
    branches: tuple[str, ...]
    kernel: tuple[int, ...]
    norms: tuple[str, ...]
    nodes: int
    flushed: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class UnmergedBlock:
    """A sum of parallel branches that stays.

    Attributes:
        block: name of its last node.
        graph: as in ``Folded``.
        reason: one sentence in the model's own names.
    """

    block: str
    graph: str
    reason: str


@dataclass(frozen=True)
class CopiedOperator:
    """A linear operator that was copied so that a norm folds, or in ``explain`` can be.

    Attributes:
        operator: its name.
        copy: name of the copy, into which the norm folds.
        graph: as in ``Folded``.
    """

    operator: str
    copy: str
    graph: str


@dataclass(frozen=True)
class RegionsChecked:
    """What a fold found when it checked itself; a failed check raises instead.

    Attributes:
        regions: how many linear operators were compared with what they were before, together
            with the norms that they take up.
        max_ulp: the largest difference, in units in the last place of what is stored, beyond the
            rounding of float64; rounding once costs half of one at most.
        unchecked: how many more could not be compared, as no data could be made up for them or
            an operator is unknown; what they store was.
    """

    regions: int
    max_ulp: float
    unchecked: int = 0

    def together(self, other: RegionsChecked) -> RegionsChecked:
        """Two checks of one model as one."""
        return RegionsChecked(
            self.regions + other.regions,
            max(self.max_ulp, other.max_ulp),
            self.unchecked + other.unchecked,
        )


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
        stored_biases: operators without a part in a fold whose bias was computed in the graph,
            though it is constant, and is stored now.
        checked: the check of the fold before it was written, or None where there was none; reports
            of the same outcomes are equal with or without it.
        merged: the blocks of parallel branches that became one Conv, only on request.
        unmerged: the blocks that were looked at and stay.
        copied: one entry for each copy of a linear operator, only on request.
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
    stored_biases: tuple[str, ...] = ()
    checked: RegionsChecked | None = field(default=None, compare=False)
    merged: tuple[MergedBlock, ...] = ()
    unmerged: tuple[UnmergedBlock, ...] = ()
    copied: tuple[CopiedOperator, ...] = ()

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
        merged = sum(block.flushed for block in self.merged)
        return merged + sum(norm.flushed for norm in self.folded)

"""What was decided about a model: which norm goes where, and why each other one stays."""

from __future__ import annotations

from dataclasses import dataclass, field

from bnfold.algebra.layer import Layer
from bnfold.folding.find import Norm
from bnfold.folding.reasons import Refused
from bnfold.folding.route import Operand, Route
from bnfold.folding.rules.reading import Linear
from bnfold.folding.together import Ready
from bnfold.onnxgraph.graph import Node

FoldPlan = Route
"""One decided edit."""


@dataclass(frozen=True, eq=False, slots=True)
class Decision:
    """What becomes of one norm, or of the part of it that shares a fate.

    Attributes:
        norm: the norm, reduced to that part.
        fold: the fold that it is part of, or None where it stays.
        refused: why it stays, or None.
        assumed_inference: whether it is a training-mode norm that was read as inference.
    """

    norm: Norm
    fold: FoldPlan | None = None
    refused: Refused | None = None
    assumed_inference: bool = False


@dataclass
class Plan:
    """Every decision about one model.

    Attributes:
        decisions: one for each norm, or part of one, in topological order.
        folds: the decided edits, in topological order.
        linears: the operators that take up a map, in canonical form.
        layers: what each of them collects from all folds.
        operands: the constants that take up a map themselves.
        ready: operators behind which one plain norm stands, with what they store if they take up
            nothing else.
        stored_biases: operators without a part in a fold whose computed bias is stored as it is.
    """

    decisions: list[Decision] = field(default_factory=list)
    folds: list[FoldPlan] = field(default_factory=list)
    linears: dict[Node, Linear] = field(default_factory=dict)
    layers: dict[Node, Layer] = field(default_factory=dict)
    operands: list[Operand] = field(default_factory=list)
    ready: dict[Node, Ready] = field(default_factory=dict)
    stored_biases: list[Linear] = field(default_factory=list)

    def is_ready(self, node: Node) -> bool:
        """Whether what an operator stores was computed already."""
        ready = self.ready.get(node)
        return ready is not None and ready.layer is self.layers[node]

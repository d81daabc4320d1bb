"""The way of one norm: what it crosses, and which operators take it up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from bnfold.algebra.affine import Affine
from bnfold.algebra.spread import Spread
from bnfold.folding.find import Step
from bnfold.folding.rules.border import Border
from bnfold.folding.rules.reading import Linear
from bnfold.folding.rules.through import Fill
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.known import Known

Direction = Literal["backward", "forward"]


@dataclass(frozen=True, eq=False, slots=True)
class Sink:
    """One linear operator that takes up a part of a norm.

    Attributes:
        linear: the operator.
        affine: what it takes up, on its output channels (backward) or its input channels.
        back: the Add right behind an operator without a bias, which becomes its bias, or None.
        border: what keeps a shift exact in front of zero padding, or None where nothing has to.
    """

    linear: Linear
    affine: Affine
    back: Step | None = None
    border: Border | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Operand:
    """A constant that takes up a part of a norm itself: a table, a class token.

    Attributes:
        known: the constant.
        node: the operator that reads it beside its data.
        spread: what that operator needs of it.
    """

    known: Known
    node: Node
    spread: Spread


@dataclass(eq=False, slots=True)
class Route:
    """The way of one or more norms through the graph.

    Attributes:
        direction: ``backward`` into what makes their data, ``forward`` into what reads it.
        steps: the arithmetic that goes.
        passed: operators that give what they read and go too, such as Identity.
        shared: steps of earlier routes back on its way: what they do is done already.
        crossed: operators that stay, and from now on carry other values.
        sinks: the operators that take up the map.
        operands: the constants that take up the map.
        fills: operators whose border takes up the map -> what they fill it with.
        instead: tensor that goes -> tensor that has its values from now on.
        changed: tensors that carry other values than before, and get other names.
    """

    direction: Direction
    steps: list[Step] = field(default_factory=list)
    passed: list[Node] = field(default_factory=list)
    shared: list[Step] = field(default_factory=list)
    crossed: list[Node] = field(default_factory=list)
    sinks: list[Sink] = field(default_factory=list)
    operands: list[Operand] = field(default_factory=list)
    fills: dict[Node, Fill] = field(default_factory=dict)
    instead: dict[Tensor, Tensor] = field(default_factory=dict)
    changed: list[Tensor] = field(default_factory=list)

    @property
    def gone(self) -> list[Node]:
        """Every node that goes."""
        return [step.node for step in self.steps] + self.passed

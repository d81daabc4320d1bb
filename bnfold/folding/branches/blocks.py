"""Find the blocks of a graph: sums whose terms all begin at one tensor, and nothing in between
that anything else reads. One walk over the nodes, whatever the number of blocks."""

from __future__ import annotations

from dataclasses import dataclass

from bnfold.folding.branches.roles import Role, role_of
from bnfold.folding.rules.reading import Context
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.index import Index

MOST_SHARED = 8
"""How many shared tensors are looked behind to say why terms of a sum begin apart."""


@dataclass(frozen=True, eq=False)
class Block:
    """A sum of branches of one tensor, with the norms behind it.

    Attributes:
        origin: the tensor where all branches begin.
        root: the tensor that the block makes.
        roles: its nodes, in the order of the data.
    """

    origin: Tensor
    root: Tensor
    roles: tuple[Role, ...]

    @property
    def branches(self) -> int:
        """How often it reads its origin, and constants as terms of a sum."""
        made = {role.output for role in self.roles}
        return sum(
            sum(tensor not in made for tensor in role.data) + len(role.constants)
            for role in self.roles
        )

    @property
    def where(self) -> str:
        """The graph that it is in: ``''`` for the main graph."""
        return self.roles[-1].node.scope.where

    @property
    def ends_in_sum(self) -> bool:
        """Whether no norm stands behind its last sum."""
        return self.roles[-1].kind == "sum"

    @property
    def has_conv(self) -> bool:
        """Whether there is a Conv in it."""
        return any(role.kind == "conv" for role in self.roles)


class Survey:
    """Where each tensor of a graph comes from, as far as only linear operators lie in between.

    Attributes:
        roots: the root of each block, the largest ones, in the order of the data.
        apart: sums with a Conv before them whose terms begin apart only because something else
            reads a tensor on the way, each with that tensor.
    """

    def __init__(self, index: Index, context: Context) -> None:
        self.apart: list[tuple[Node, Tensor]] = []
        self._roles: dict[Node, Role] = {}
        self._order = {node: at for at, node in enumerate(index.nodes)}
        self._origin: dict[Tensor, Tensor] = {}
        # For each tensor the last one before it at which a block can end.
        self._end: dict[Tensor, Tensor | None] = {}
        inside: set[Tensor] = set()
        for node in index.nodes:
            role = role_of(node, context)
            if role is None:
                continue
            self._roles[node] = role
            origins = {self._begin(tensor) for tensor in role.data}
            if len(origins) > 1:
                self._note_apart(role)
                continue
            self._origin[role.output] = origins.pop()
            self._end[role.output] = self._end_of(role)
            inside.update(tensor for tensor in role.data if self._goes_on(tensor))
        ends = (self._end[tensor] for tensor in self._origin if tensor not in inside)
        self.roots = [tensor for tensor in ends if tensor is not None]

    def block(self, root: Tensor) -> Block:
        """The block that ends at a tensor."""
        assert root.producer is not None
        found: list[Role] = []
        waiting = [root.producer]
        while waiting:
            role = self._roles[waiting.pop()]
            found.append(role)
            for tensor in role.data:
                if self._goes_on(tensor) and tensor.producer is not None:
                    waiting.append(tensor.producer)
        found.sort(key=lambda role: self._order[role.node])
        return Block(self._origin[root], root, tuple(found))

    def inner(self, root: Tensor) -> list[Tensor]:
        """The roots of the next smaller blocks inside of one."""
        assert root.producer is not None
        role = self._roles[root.producer]
        ends = [self._end[tensor] for tensor in role.data if self._goes_on(tensor)]
        return [tensor for tensor in ends if tensor is not None]

    def _goes_on(self, tensor: Tensor) -> bool:
        """Whether what lies before a tensor can be part of the same block as its reader."""
        return tensor in self._origin and is_private(tensor)

    def _begin(self, tensor: Tensor) -> Tensor:
        return self._origin[tensor] if self._goes_on(tensor) else tensor

    def _end_of(self, role: Role) -> Tensor | None:
        if role.kind == "sum":
            return role.output
        data = role.data[0]
        end = self._end[data] if self._goes_on(data) else None
        if end is data and role.kind in ("norm", "through"):
            return role.output
        return end

    def _note_apart(self, role: Role) -> None:
        walks = [self._walk(tensor) for tensor in role.data]
        common = set(walks[0]).intersection(*walks[1:])
        if not common:
            return
        # One of the common tensors is where the terms would meet; the walks hold it in order.
        shared = [t for walk in walks for t in walk[: min(walk.index(c) for c in common)]]
        if any(self._is_of_conv(tensor) for tensor in [*shared, *role.data]):
            self.apart.append((role.node, shared[0]))

    def _walk(self, tensor: Tensor) -> list[Tensor]:
        """Where a term begins, and where it would if it were alone in reading what it reads."""
        found = [self._begin(tensor)]
        while len(found) <= MOST_SHARED and found[-1] in self._origin:
            found.append(self._origin[found[-1]])
        return found

    def _is_of_conv(self, tensor: Tensor) -> bool:
        role = self._roles.get(tensor.producer) if tensor.producer is not None else None
        while role is not None and role.kind in ("norm", "through"):
            before = role.data[0].producer
            role = self._roles.get(before) if before is not None else None
        return role is not None and role.kind == "conv"


def is_private(tensor: Tensor) -> bool:
    """Whether one node of its own graph reads a tensor, and nothing else names it."""
    if tensor.producer is None or tensor.is_output or tensor.is_pinned:
        return False
    return len(tensor.readers) == 1 and tensor.readers[0].scope is tensor.scope

"""The course of one norm: the part of its route that lies between it and what takes it up."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from bnfold.folding.find import Norm, value_readers
from bnfold.folding.route import Operand, Route, Sink
from bnfold.onnxgraph.graph import Node, Tensor

Item = Node | Operand
"""What a search meets: a node of the route, or a constant that takes up a map itself."""


@dataclass(frozen=True, eq=False)
class Course:
    """What one norm crosses, and what takes it up, which need not be all of its route.

    Attributes:
        through: the operators that it crosses, from the norm outwards.
        takers: the operators and constants that take it up, in the same order.
    """

    through: tuple[Node, ...]
    takers: tuple[Sink | Operand, ...]

    @property
    def sinks(self) -> list[Sink]:
        """The operators among the takers."""
        return [taker for taker in self.takers if isinstance(taker, Sink)]

    @property
    def taken(self) -> tuple[str, ...]:
        """Each taker with its own channels that change, from the first to the last: ``conv[0:64]``.

        One that takes up everything by itself, on all of its channels, has its plain name; so have
        constants, and operators whose weights serve groups of channels.
        """
        return tuple(_with_channels(taker, len(self.takers) == 1) for taker in self.takers)


class Courses:
    """The courses of the norms of one route, which may fold together.

    A step or an operator that goes is looked at once, however many norms come by it.
    """

    def __init__(self, route: Route) -> None:
        self._route = route
        self._found: dict[Node, Course] = {}
        self._only: Course | None = None
        if not route.crossed and not route.operands and len(route.sinks) == 1:
            # Nothing stands between: most folds.
            self._only = Course((), tuple(route.sinks))
            return
        self._steps = {step.node: step for step in (*route.steps, *route.shared)}
        self._gone = {*route.gone, *self._steps}
        self._crossed = set(route.crossed)
        self._sinks = {sink.linear.node: sink for sink in route.sinks}
        self._operands: dict[Node, list[Operand]] = defaultdict(list)
        for operand in route.operands:
            self._operands[operand.node].append(operand)
        self._carrying = {*route.changed, *route.instead}

    def of(self, norm: Norm) -> Course:
        """The course of one norm of the route."""
        if self._only is not None:
            return self._only
        is_back = self._route.direction == "backward"
        node = norm.steps[0].node if is_back else norm.steps[-1].node
        trail = [node]
        while node not in self._found:
            following = self._next(node)
            if len(following) == 1 and following[0] in self._gone:
                assert isinstance(following[0], Node)
                node = following[0]
                trail.append(node)
            else:
                self._found[node] = self._search(node)
        course = self._found[node]
        self._found.update(dict.fromkeys(trail, course))
        return course

    def _next(self, item: Item) -> list[Item]:
        if isinstance(item, Operand):
            return []
        return self._before(item) if self._route.direction == "backward" else self._after(item)

    def _before(self, node: Node) -> list[Item]:
        """What a map behind a node asks for next, by the place among the node's inputs."""
        inputs: list[Tensor | None]
        if node in self._steps:
            inputs = [self._steps[node].data]
        elif node in self._gone:
            inputs = node.inputs[:1]
        elif node in self._sinks:
            inputs = [node.input(at) for at in self._sinks[node].linear.asks]
        else:
            inputs = node.inputs
        left = list(self._operands.get(node, ()))
        found: list[Item] = []
        for tensor in dict.fromkeys(inputs):
            if tensor is None:
                continue
            own = [operand for operand in left if operand.known.tensor is tensor]
            found += own
            left = [operand for operand in left if operand not in own]
            maker = tensor.producer
            if maker is not None and self._carries(tensor, maker) and maker not in found:
                found.append(maker)
        return [*found, *left]

    def _carries(self, tensor: Tensor, maker: Node) -> bool:
        if maker in self._gone:
            return True
        return tensor in self._carrying and (maker in self._crossed or maker in self._sinks)

    def _after(self, node: Node) -> list[Item]:
        """The readers of what a node owes them."""
        if node in self._sinks:
            return []
        made = node.outputs[:1] if node in self._gone else node.outputs
        tensors = [t for t in made if t is not None and (node in self._gone or t in self._carrying)]
        readers = dict.fromkeys(reader for t in tensors for reader in value_readers(t))
        return [r for r in readers if r in self._gone or r in self._crossed or r in self._sinks]

    def _search(self, start: Node) -> Course:
        """Everything behind ``start``, each item before those that lie further out."""
        finished: list[Item] = []
        seen: set[Item] = {start}
        waiting: list[tuple[Item, list[Item]]] = [(start, self._next(start))]
        while waiting:
            left = waiting[-1][1]
            if not left:
                finished.append(waiting.pop()[0])
                continue
            following = left.pop()
            if following not in seen:
                seen.add(following)
                waiting.append((following, self._next(following)))
        met = list(reversed(finished))
        if self._route.direction == "forward":
            takers = [sink for sink in self._route.sinks if sink.linear.node in seen]
            return Course(tuple(n for n in self._route.crossed if n in seen), tuple(takers))
        ends = [self._taker(item) for item in met]
        # An operator that leaves all of a shift to its computed bias is crossed.
        taking = [taker for taker in ends if taker is not None and not _is_idle(taker)]
        taking = taking or [taker for taker in ends if taker is not None]
        idle = {sink.linear.node for sink in self._sinks.values() if sink not in taking}
        through = (n for n in met if isinstance(n, Node) and (n in self._crossed or n in idle))
        return Course(tuple(through), tuple(taking))

    def _taker(self, item: Item) -> Sink | Operand | None:
        return item if isinstance(item, Operand) else self._sinks.get(item)


def _is_idle(taker: Sink | Operand) -> bool:
    if isinstance(taker, Operand) or taker.linear.shift != "computed":
        return False
    return not _changes(taker).any()


def _changes(sink: Sink) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which channels of an operator change."""
    return np.asarray((sink.affine.scale != 1.0) | (sink.affine.shift != 0.0))


def _with_channels(taker: Sink | Operand, is_alone: bool) -> str:
    if isinstance(taker, Operand):
        return taker.known.tensor.name
    name = taker.linear.node.label
    changes = _changes(taker)
    if is_alone and changes[0] and changes[-1]:
        return name
    at = np.flatnonzero(changes)
    if taker.linear.per_group or not at.size:
        return name
    first, last = int(at[0]), int(at[-1])
    if is_alone and first == 0 and last == changes.size - 1:
        return name
    return f"{name}[{first}:{last + 1}]"

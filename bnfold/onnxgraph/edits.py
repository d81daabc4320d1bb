"""Edits of a message: what changes, while all other bytes stay what they are."""

from __future__ import annotations

from dataclasses import dataclass, field

from bnfold.onnxgraph.ranges import Piece, Range
from bnfold.onnxgraph.wire import Message, delimited


@dataclass
class Edits:
    """What changes in one message: fields replaced by pieces, messages edited, fields added.

    Attributes:
        replaced: (field number, position) -> whole fields that stand in its place; ``[]`` deletes.
        inner: (field number, position) -> the edits of the message in that field.
        first_nodes: whole node fields of a graph that go before its other nodes.
        added: whole fields at the end of the message.
    """

    replaced: dict[tuple[int, int], list[Piece]] = field(default_factory=dict)
    inner: dict[tuple[int, int], Edits] = field(default_factory=dict)
    first_nodes: list[Piece] = field(default_factory=list)
    added: list[Piece] = field(default_factory=list)

    def at(self, path: tuple[tuple[int, int], ...]) -> Edits:
        """The edits of the message at the end of a path, made where there are none yet."""
        edits = self
        for step in path:
            inner = edits.inner.get(step)
            if inner is None:
                inner = edits.inner[step] = Edits()
            edits = inner
        return edits

    def find(self, path: tuple[tuple[int, int], ...]) -> Edits | None:
        """The edits of the message at the end of a path, or None where there are none."""
        edits: Edits | None = self
        for step in path:
            if edits is None:
                return None
            edits = edits.inner.get(step)
        return edits

    def copy(self) -> Edits:
        """Edits of their own, of the same pieces."""
        return Edits(
            dict(self.replaced),
            {key: inner.copy() for key, inner in self.inner.items()},
            list(self.first_nodes),
            list(self.added),
        )

    def replaces(self, path: tuple[tuple[int, int], ...]) -> bool:
        """Whether the field at the end of a path, or one around it, is replaced or deleted."""
        edits: Edits | None = self
        for step in path:
            if edits is None:
                return False
            if step in edits.replaced:
                return True
            edits = edits.inner.get(step)
        return False

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes."""
        own = self.replaced or self.added or self.first_nodes
        return not own and all(e.is_empty for e in self.inner.values())


def _deleted(message: Message, number: int, position: int) -> tuple[int, int, list[Piece]]:
    tag_start, _, stop = message.span(number, position)
    return tag_start, stop, []


def rewritten(message: Message, edits: Edits) -> list[Piece]:
    """The message with its edits: what they do not name is the same bytes, in the same order."""
    changes: list[tuple[int, int, list[Piece]]] = []
    spans, singular = message.spans, message.singular
    for (number, position), pieces in edits.replaced.items():
        flat, at = spans[number], 3 * position
        changes.append((flat[at], flat[at + 2], pieces))
        if number in singular:
            others = message.others(number, position)
            changes += [_deleted(message, number, other) for other in others]
    for (number, position), inner in edits.inner.items():
        if (number, position) in edits.replaced or inner.is_empty:
            continue
        tag_start, _, stop = message.span(number, position)
        content = rewritten(message.child(number, position), inner)
        changes.append((tag_start, stop, delimited(number, content)))
        changes += [_deleted(message, number, other) for other in message.others(number, position)]
    changes.sort(key=lambda change: change[0])
    out: list[Piece] = []
    at = 0
    for start, stop in message.segments:
        kept = start
        while at < len(changes) and start <= changes[at][0] < stop:
            tag_start, end, pieces = changes[at]
            if kept < tag_start:
                out.append(Range(message.source, kept, tag_start))
            out += pieces
            kept = end
            at += 1
        if kept < stop:
            out.append(Range(message.source, kept, stop))
    return edits.first_nodes + out + edits.added

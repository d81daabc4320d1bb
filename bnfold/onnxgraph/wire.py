"""The protobuf wire format: walk a message, leave large tensors out, rewrite single fields.

Only the layer that every protobuf message shares is read here: field numbers, wire types and
lengths. What a field *means* stands in the numbers below, from ``onnx.proto``.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from bnfold.errors import ModelError
from bnfold.onnxgraph.ranges import Piece, Range, Source, total

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5

# Field numbers of onnx.proto.
MODEL_GRAPH, MODEL_TRAINING, MODEL_FUNCTION = 7, 20, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT = 1, 5, 11
GRAPH_VALUE_INFO, GRAPH_QUANTIZATION, GRAPH_SPARSE = 13, 14, 15
NODE_ATTRIBUTE = 5
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = 5, 6, 10, 11
FUNCTION_NODE = 7
TENSOR_FLOATS, TENSOR_RAW, TENSOR_DOUBLES, TENSOR_EXTERNAL = 4, 9, 10, 13
TENSOR_LOCATION = 14

# Message type -> field number -> message type, for the messages that can hold tensors.
NESTED: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "training": {1: "graph", 2: "graph"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_PAYLOADS: Final = frozenset({TENSOR_FLOATS, TENSOR_RAW, TENSOR_DOUBLES})

MAX_DEPTH: Final = 90
"""Messages nested deeper than this are refused; protobuf itself stops at 100."""


def encoded_varint(value: int) -> bytes:
    """``value`` in base 128, least significant group first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def tag(number: int) -> bytes:
    """The tag of a length-delimited field."""
    return encoded_varint(number << 3 | BYTES)


def delimited(number: int, pieces: list[Piece]) -> list[Piece]:
    """A whole length-delimited field: tag, length, content."""
    return [tag(number) + encoded_varint(total(pieces)), *pieces]


def _truncated(position: int) -> ModelError:
    return ModelError(f"the file is damaged or cut short: no whole field at byte {position}")


def fields(view: memoryview, start: int, stop: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Every field of a message: (number, wire type, tag start, value start, value stop).

    Raises:
        ModelError: the bytes are no protobuf message.
    """
    at = start
    while at < stop:
        tag_start = at
        key = view[at]
        at += 1
        if key > 0x7F:
            key, at = _varint(view, tag_start, stop)
        kind = key & 7
        if kind == BYTES:
            if at >= stop:
                raise _truncated(tag_start)
            length = view[at]
            at += 1
            if length > 0x7F:
                length, at = _varint(view, at - 1, stop)
            value = at
            at += length
        elif kind == VARINT:
            value = at
            _, at = _varint(view, at, stop)
        elif kind == FIXED32:
            value, at = at, at + 4
        elif kind == FIXED64:
            value, at = at, at + 8
        else:
            raise ModelError(f"the file is damaged: wire type {kind} at byte {tag_start}")
        if at > stop or key < 8:
            raise _truncated(tag_start)
        yield key >> 3, kind, tag_start, value, at


def _varint(view: memoryview, at: int, stop: int) -> tuple[int, int]:
    start, value, shift = at, 0, 0
    while at < stop and shift < 70:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise _truncated(start)


class Message:
    """Where the fields of one message lie, found in one pass.

    A singular message field that is written twice means the concatenation of both, so a message
    is a list of segments.
    """

    def __init__(self, source: Source, segments: list[tuple[int, int]]) -> None:
        self.source = source
        self.segments = segments
        self._spans: dict[int, array[int]] | None = None

    @property
    def spans(self) -> dict[int, array[int]]:
        """Field number -> tag start, value start and value stop of each occurrence in turn."""
        if self._spans is None:
            self._spans = {}
            for start, stop in self.segments:
                for number, _, tag_start, value, end in fields(self.source.view, start, stop):
                    self.record(number, tag_start, value, end)
        return self._spans

    def record(self, number: int, tag_start: int, value: int, stop: int) -> None:
        """Note one field, in the order of the file."""
        if self._spans is None:
            self._spans = {}
        self._spans.setdefault(number, array("q")).extend((tag_start, value, stop))

    def child(self, number: int, position: int) -> Message:
        """The message in the ``position``-th field ``number``."""
        _, value, stop = self.span(number, position)
        return Message(self.source, [(value, stop)])

    def span(self, number: int, position: int) -> tuple[int, int, int]:
        """Tag start, value start and value stop of one field."""
        flat = self.spans[number]
        return flat[3 * position], flat[3 * position + 1], flat[3 * position + 2]


@dataclass(frozen=True, slots=True)
class Payload:
    """The data of one tensor that was left out of the skeleton."""

    number: int
    data: Range


@dataclass
class Skeleton:
    """A model file without its large tensors, small enough to parse."""

    source: Source
    mark: str
    smallest: int
    payloads: list[Payload] = field(default_factory=list)
    graph: Message | None = None

    def build(self) -> list[Piece]:
        """The skeleton, as pieces; fills ``payloads`` and ``graph``."""
        return self._message("model", [(0, len(self.source))], 0, None)

    def _message(
        self, kind: str, segments: list[tuple[int, int]], depth: int, into: Message | None
    ) -> list[Piece]:
        if depth > MAX_DEPTH:
            raise ModelError(f"the model is damaged: messages are nested deeper than {MAX_DEPTH}")
        if kind == "tensor":
            return self._tensor(segments)
        nested = NESTED[kind]
        out: list[Piece] = []
        graphs: list[tuple[int, int]] = []
        for start, stop in segments:
            kept = start
            for number, wire, tag_start, value, end in fields(self.source.view, start, stop):
                if into is not None:
                    into.record(number, tag_start, value, end)
                inner = nested.get(number)
                if inner is None or wire != BYTES:
                    continue
                if kind == "model" and inner == "graph":
                    graphs.append((value, end))
                elif end - value < self.smallest:
                    continue
                if kept < tag_start:
                    out.append(Range(self.source, kept, tag_start))
                kept = end
                if not (kind == "model" and inner == "graph"):
                    content = self._message(inner, [(value, end)], depth + 1, None)
                    out += delimited(number, content)
            if kept < stop:
                out.append(Range(self.source, kept, stop))
        if kind == "model" and graphs:
            self.graph = Message(self.source, graphs)
            out += delimited(MODEL_GRAPH, self._message("graph", graphs, depth + 1, self.graph))
        return out

    def _tensor(self, segments: list[tuple[int, int]]) -> list[Piece]:
        (start, stop) = segments[0]
        parts = list(fields(self.source.view, start, stop))
        data = [part for part in parts if part[0] in _PAYLOADS and part[1] == BYTES]
        if len(data) != 1 or data[0][4] - data[0][3] < self.smallest:
            return [Range(self.source, start, stop)]
        number, _, tag_start, value, end = data[0]
        self.payloads.append(Payload(number, Range(self.source, value, end)))
        entry = _text(1, self.mark) + _text(2, str(len(self.payloads) - 1))
        out: list[Piece] = [Range(self.source, start, tag_start), Range(self.source, end, stop)]
        return [piece for piece in out if len(piece)] + delimited(TENSOR_EXTERNAL, [entry])


def _text(number: int, value: str) -> bytes:
    encoded = value.encode()
    return tag(number) + encoded_varint(len(encoded)) + encoded


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
            edits = edits.inner.setdefault(step, Edits())
        return edits

    def copy(self) -> Edits:
        """Edits of their own, of the same pieces."""
        return Edits(
            {key: list(pieces) for key, pieces in self.replaced.items()},
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


def rewritten(message: Message, edits: Edits) -> list[Piece]:
    """The message with its edits: what they do not name is the same bytes, in the same order."""
    changes: list[tuple[int, int, list[Piece]]] = []
    for (number, position), pieces in edits.replaced.items():
        tag_start, _, stop = message.span(number, position)
        changes.append((tag_start, stop, pieces))
    for (number, position), inner in edits.inner.items():
        if (number, position) in edits.replaced or inner.is_empty:
            continue
        tag_start, _, stop = message.span(number, position)
        content = rewritten(message.child(number, position), inner)
        changes.append((tag_start, stop, delimited(number, content)))
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

"""The protobuf wire format: field numbers, and a walk over the fields of a message.

Only the layer that every protobuf message shares is read here: field numbers, wire types and
lengths. What a field *means* stands in the numbers below, from ``onnx.proto``.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from bnfold.errors import ModelError
from bnfold.onnxgraph.ranges import Piece, Source, total

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5

# Field numbers of onnx.proto.
MODEL_GRAPH, MODEL_TRAINING, MODEL_FUNCTION = 7, 20, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT = 1, 5, 11
GRAPH_VALUE_INFO, GRAPH_QUANTIZATION = 13, 14
NODE_ATTRIBUTE = 5
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = 5, 6, 10, 11
FUNCTION_NODE = 7
TENSOR_FLOATS, TENSOR_RAW, TENSOR_DOUBLES, TENSOR_EXTERNAL = 4, 9, 10, 13

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
# The fields of those that occur once: a second one is merged into the first.
_SINGULAR: Final[dict[str, frozenset[int]]] = {
    "model": frozenset({7}),
    "attribute": frozenset({5, 6}),
    "training": frozenset({1, 2}),
    "sparse": frozenset({1, 2}),
}
PAYLOADS: Final = frozenset({TENSOR_FLOATS, TENSOR_RAW, TENSOR_DOUBLES})

MAX_DEPTH: Final = 90
"""Messages nested deeper than this are refused; protobuf itself stops at 100."""


def encoded_varint(value: int) -> bytes:
    """``value`` in base 128, least significant group first."""
    if value <= 0x7F:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SMALL = 1 << 12
"""Fields of fewer bytes are put together: each piece that is written costs more than that."""


@lru_cache(maxsize=64)
def tag(number: int) -> bytes:
    """The tag of a length-delimited field."""
    return encoded_varint(number << 3 | BYTES)


def delimited(number: int, pieces: list[Piece]) -> list[Piece]:
    """A whole length-delimited field: tag, length, content; one piece where it is small."""
    size = total(pieces)
    head = tag(number) + encoded_varint(size)
    if size < _SMALL:
        for piece in pieces:
            if type(piece) is not bytes:
                break
        else:
            return [b"".join((head, *pieces))]  # type: ignore[arg-type]
    return [head, *pieces]


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

    def __init__(
        self, source: Source, segments: list[tuple[int, int]], kind: str = "model"
    ) -> None:
        self.source = source
        self.segments = segments
        self.kind = kind
        self.known: dict[tuple[int, int], Message] = {}
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
        """The message in the ``position``-th field ``number``; of a singular field, all of them."""
        if (number, position) in self.known:
            return self.known[number, position]
        places = range(self.count(number)) if number in self.singular else [position]
        spans = [self.span(number, place)[1:] for place in places]
        return Message(self.source, spans, NESTED[self.kind].get(number, "tensor"))

    def count(self, number: int) -> int:
        """How often a field occurs."""
        return len(self.spans.get(number, ())) // 3

    def others(self, number: int, position: int) -> list[int]:
        """The further occurrences of a singular field, which a replacement stands for too."""
        return list(range(position + 1, self.count(number))) if number in self.singular else []

    @property
    def singular(self) -> frozenset[int]:
        """The fields of messages that mean one message, however often they occur."""
        return _SINGULAR.get(self.kind, frozenset())

    def span(self, number: int, position: int) -> tuple[int, int, int]:
        """Tag start, value start and value stop of one field."""
        flat = self.spans[number]
        return flat[3 * position], flat[3 * position + 1], flat[3 * position + 2]

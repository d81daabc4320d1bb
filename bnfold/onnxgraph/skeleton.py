"""A model file without its large tensors, which stay where they are."""

from __future__ import annotations

from dataclasses import dataclass, field

from bnfold.errors import ModelError
from bnfold.onnxgraph.ranges import Piece, Range, Source
from bnfold.onnxgraph.wire import (
    BYTES,
    MAX_DEPTH,
    MODEL_GRAPH,
    NESTED,
    PAYLOADS,
    TENSOR_EXTERNAL,
    Message,
    delimited,
    encoded_varint,
    fields,
    tag,
)


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
            self.graph = Message(self.source, graphs, "graph")
            out += delimited(MODEL_GRAPH, self._message("graph", graphs, depth + 1, self.graph))
        return out

    def _tensor(self, segments: list[tuple[int, int]]) -> list[Piece]:
        (start, stop) = segments[0]
        parts = list(fields(self.source.view, start, stop))
        data = [part for part in parts if part[0] in PAYLOADS]
        is_one_range = len(data) == 1 and data[0][1] == BYTES
        if not is_one_range or data[0][4] - data[0][3] < self.smallest:
            return [Range(self.source, start, stop)]
        number, _, tag_start, value, end = data[0]
        self.payloads.append(Payload(number, Range(self.source, value, end)))
        entry = _text(1, self.mark) + _text(2, str(len(self.payloads) - 1))
        out: list[Piece] = [Range(self.source, start, tag_start), Range(self.source, end, stop)]
        return [piece for piece in out if len(piece)] + delimited(TENSOR_EXTERNAL, [entry])


def _text(number: int, value: str) -> bytes:
    encoded = value.encode()
    return tag(number) + encoded_varint(len(encoded)) + encoded

"""One data file of an output: a patched copy of an input's, or a new one."""

from __future__ import annotations

from dataclasses import dataclass, field

from bnfold.onnxgraph.ranges import Piece, Range, total


@dataclass
class DataFile:
    """One data file of the output.

    Attributes:
        source: the range of the input's data file that it is a patched copy of, or None.
        name: its location, relative to the folder of the model.
        patches: offset -> new bytes of the same length.
        added: what comes behind.
        size: number of bytes so far.
    """

    source: Range | None = None
    name: str = ""
    patches: dict[int, list[Piece]] = field(default_factory=dict)
    added: list[Piece] = field(default_factory=list)
    size: int = 0

    def append(self, data: list[Piece]) -> int:
        """Add bytes at the end, aligned so that a runtime can map them; returns their offset."""
        alignment = 4096 if total(data) >= 1 << 20 else 64
        gap = -self.size % alignment
        offset = self.size + gap
        self.added += [bytes(gap), *data] if gap else data
        self.size = offset + total(data)
        return offset

    @property
    def is_changed(self) -> bool:
        """Whether it differs from the input's file."""
        return self.source is None or bool(self.patches or self.added)

    def pieces(self) -> list[Piece]:
        """Its content."""
        out: list[Piece] = []
        if self.source is not None:
            at = self.source.start
            for offset in sorted(self.patches):
                out.append(Range(self.source.source, at, offset))
                out += self.patches[offset]
                at = offset + total(self.patches[offset])
            out.append(Range(self.source.source, at, self.source.stop))
        return [piece for piece in out if len(piece)] + self.added

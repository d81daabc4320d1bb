"""What many models showed, added up, in lines that are the same on every machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.fuzz.generate import Drawn
from tests.fuzz.judge import Judgement


@dataclass
class Tally:
    """Sums over models.

    Attributes:
        graphs: how many models, by dtype.
        nestings: how many of them have nodes in bodies or functions, by kind.
        wrong, crashes: in words, by seed.
        unchecked: how many folds the fold's own check could not compare, by seed.
        folded, checked: how many norms folded, and regions were checked.
        kept: how many norms stay, by reason code.
        counts: comparisons, and what could not be compared.
    """

    graphs: Counter[str] = field(default_factory=Counter)
    nestings: Counter[str] = field(default_factory=Counter)
    wrong: dict[int, list[str]] = field(default_factory=dict)
    crashes: dict[int, list[str]] = field(default_factory=dict)
    unchecked: dict[int, int] = field(default_factory=dict)
    folded: int = 0
    checked: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, drawn: Drawn, found: Judgement) -> None:
        """Count one model."""
        self.graphs[drawn.dtype] += 1
        if drawn.nesting:
            self.nestings[drawn.nesting] += 1
        for whole, part in ((self.wrong, found.wrong), (self.crashes, found.crashes)):
            if part:
                whole[drawn.seed] = part
        if found.unchecked:
            self.unchecked[drawn.seed] = found.unchecked
        self.folded += found.folded
        self.checked += found.checked
        self.kept.update(found.kept)
        self.counts.update(found.counts)

    def lines(self) -> Iterator[str]:
        """The report."""
        yield f"graphs      {self.graphs.total()}: {_listed(self.graphs)}"
        yield f"nested      {self.nestings.total()}: {_listed(self.nestings)}"
        yield f"folds       {self.folded}, kept {self.kept.total()}"
        yield f"wrong       {len(self.wrong)}{_seeds(self.wrong)}"
        yield f"crashes     {len(self.crashes)}{_seeds(self.crashes)}"
        unchecked = sum(self.unchecked.values())
        yield f"checked     {self.checked}, unchecked {unchecked}{_seeds(self.unchecked)}"
        for name, count in sorted(self.counts.items()):
            yield f"            {count:7} {name}"
        yield "kept, by reason"
        for code, count in sorted(self.kept.items(), key=lambda entry: (-entry[1], entry[0])):
            yield f"            {count:7} {code}"
        for kind, texts in (("wrong", self.wrong), ("crash", self.crashes)):
            for seed, found in texts.items():
                yield from (f"{kind} {seed}: {text}" for text in found)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def _seeds(found: dict[int, list[str]] | dict[int, int]) -> str:
    return f" (seeds {', '.join(map(str, found))})" if found else ""

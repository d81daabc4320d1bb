"""How much faster folded models run in onnxruntime, at each level of its optimiser.

Each model is folded by bnfold and by the other tools that are installed; results are checked by
``bnfold.verify`` before they count. bnfold's fold, and that of the best peer, then run in turn with
the original, on one thread. The best peer is the one that leaves the fewest norms, of several the
fastest. Where bnfold's fold looks slower than the original, both are timed again, longer and in
another process, and so is the original beside itself: what differs there is noise.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import onnx

import bnfold
from benchmarks import machine
from benchmarks.effect_folds import Options, best_of, feeds_of, folded_by, norms_of, tied
from benchmarks.effect_models import KINDS
from benchmarks.effect_rows import HEADER, Cell, Row, findings, row_of, summary
from benchmarks.effect_timing import LEVELS, Level, Pair, Timing
from benchmarks.tools import BNFOLD, PEERS, installed

SAMPLES = Path(__file__).parent.parent / "sample_models"
LONGER = 5
BUILT = "built here"


class Effect:
    """Measures one model after the other.

    Args:
        folder: for what is made on the way.
        peers: tools beside bnfold.
        seconds: how long each pair of models is timed at each level.
        sizes: of symbolic dimensions.
    """

    def __init__(
        self, folder: Path, peers: Sequence[str], seconds: float, sizes: Mapping[str, int]
    ) -> None:
        self.folder, self.peers, self.seconds, self.sizes = folder, peers, seconds, sizes

    def measure(self, name: str, group: str, source: Path, options: Options) -> Row:
        """Fold a file by every tool and time it."""
        model = onnx.load(source)
        named = {d.dim_param for v in model.graph.input for d in v.type.tensor_type.shape.dim}
        dims = {key: size for key, size in self.sizes.items() if key in named}
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            folder = Path(place)
            paths = {tool: folder / f"{tool}.onnx" for tool in (BNFOLD, *self.peers)}
            own, *others = (
                folded_by(tool, source, path, options, dims) for tool, path in paths.items()
            )
            (folder / "timing").mkdir()
            timing = Timing(folder / "timing", feeds_of(model, dims))
            speeds: dict[str, float] = {}
            candidates = tied(others)
            for fold in candidates if len(candidates) > 1 else ():
                tried = timing.pair(source, fold.path, "all", self.seconds / 2).ratio
                speeds[fold.tool] = 0.0 if tried is None else tried.value
            row = Row(name, group, norms_of(source), own, others, best_of(others, speeds))
            for level in LEVELS:
                row.cells[level] = self._cell(timing, source, row, level)
        return row

    def _cell(self, timing: Timing, source: Path, row: Row, level: Level) -> Cell:
        if row.own.failure:
            return Cell(Pair(failure=row.own.failure))
        own = timing.pair(source, row.own.path, level, self.seconds)
        peer = Pair()
        if row.best is not None:
            peer = timing.pair(source, row.best.path, level, self.seconds)
        if own.ratio is None or not own.ratio.is_slower:
            return Cell(own, peer)
        longer = LONGER * self.seconds
        own = timing.pair(source, row.own.path, level, longer)
        return Cell(own, peer, timing.pair(source, source, level, longer))


def models_of(given: Sequence[Path], folder: Path) -> Iterator[tuple[str, str, Path, bool]]:
    """Name, group, file, and whether branches are merged, of what is to be measured.

    Args:
        given: files and folders; none for those of the project and those that are built here.
        folder: for those that are built.
    """
    for path in given or [SAMPLES]:
        for file in sorted(path.rglob("*.onnx")) if path.is_dir() else [path]:
            yield file.stem, file.parent.name, file, False
    for name, kind in {} if given else KINDS.items():
        target = folder / "built.onnx"
        onnx.save(kind.build(), target)
        yield name, BUILT, target, kind.merges_branches


def main() -> None:
    """Measure, and print a row for each model and a summary for each group."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", type=Path, help="files and folders")
    parser.add_argument("--seconds", type=float, default=1, help="for a pair and a level (1)")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--timeout", type=float, default=300, help="for a peer's fold (300)")
    parser.add_argument("--dim", nargs="*", default=[], metavar="NAME=SIZE")
    parser.add_argument("--merge-branches", action="store_true", help="merge them before the fold")
    parser.add_argument("--duplicate", action="store_true", help="copy cheap operators")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows here")
    given = parser.parse_args()
    sizes = {name: int(size) for name, size in (each.split("=") for each in given.dim)}
    options = Options(given.timeout, given.merge_branches, given.duplicate)
    peers = list(installed(given.peers))
    print(f"{machine.described()}; {given.seconds:g} s a pair and level, one thread\n")
    print(HEADER, flush=True)
    rows = []
    with tempfile.TemporaryDirectory(prefix="effect_") as name:
        folder = Path(name)
        effect = Effect(folder, peers, given.seconds, sizes)
        for label, group, path, merges in models_of(given.models, folder):
            chosen = replace(options, merge_branches=merges or options.merge_branches)
            try:
                rows.append(effect.measure(label, group, path, chosen))
            except bnfold.BnfoldError as error:
                print(f"| {group} | {label} | {error} |", flush=True)
                continue
            print(row_of(rows[-1]), flush=True)
    print(f"\n{summary(rows)}\n\n{findings(rows)}")
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], default=str, indent=1))


if __name__ == "__main__":
    main()

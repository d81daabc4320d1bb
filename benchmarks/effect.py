"""How much faster folded models run in onnxruntime, at each level of its optimiser.

Each model is folded by bnfold and by the other tools that are installed; results are checked by
``bnfold.verify`` before they count. The original, bnfold's fold, and that of the best peer then run
in turn, on one thread. The best peer is the one that leaves the fewest norms, of several the
fastest. The original runs twice, in two sessions: what differs between these is noise.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx

import bnfold
from benchmarks import machine
from benchmarks.effect_folds import Options, best_of, feeds_of, folded_by, norms_of, tied
from benchmarks.effect_models import KINDS
from benchmarks.effect_rows import HEADER, Cell, Row, findings, row_of, summary
from benchmarks.effect_timing import LEVELS, Level, ratio_of, timed
from benchmarks.tools import BNFOLD, PEERS, installed

SAMPLES = Path(__file__).parent.parent / "sample_models"
LONGER = 5
BUILT = "built here"


class Effect:
    """Measures one model after the other.

    Args:
        folder: for what is made on the way.
        peers: tools beside bnfold.
        seconds: how long each model is timed at each level.
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
        feeds = self.folder / "feeds.npz"
        np.savez(feeds, **feeds_of(model, dims))
        paths = {tool: self.folder / f"{tool}.onnx" for tool in (BNFOLD, *self.peers)}
        own = folded_by(BNFOLD, source, paths[BNFOLD], options, dims)
        others = [folded_by(tool, source, paths[tool], options, dims) for tool in self.peers]
        seconds: dict[str, float] = {}
        candidates = tied(others)
        if len(candidates) > 1:
            tried = timed({f.tool: f.path for f in candidates}, feeds, "all", self.seconds / 2)
            if not isinstance(tried, str):
                seconds = {tool: float(np.median(samples)) for tool, samples in tried.items()}
        row = Row(name, group, norms_of(source), own, others, best_of(others, seconds))
        models = {"original": source, "again": source}
        if not own.failure:
            models[BNFOLD] = own.path
        if row.best is not None:
            models["peer"] = row.best.path
        for level in LEVELS:
            row.cells[level] = self._cell(models, feeds, level)
        return row

    def _cell(self, models: Mapping[str, Path], feeds: Path, level: Level) -> Cell:
        cell = self._timed(models, feeds, level, self.seconds)
        if cell.is_slower:
            # In another process, where memory lies elsewhere.
            cell = self._timed(models, feeds, level, self.seconds * LONGER)
        return cell

    def _timed(self, models: Mapping[str, Path], feeds: Path, level: Level, seconds: float) -> Cell:
        samples = timed(models, feeds, level, seconds)
        if isinstance(samples, str):
            return Cell(failure=samples)
        original = samples.pop("original")
        ratios = {name: ratio_of(original, other) for name, other in samples.items()}
        return Cell(float(np.median(original)), ratios)


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
    parser.add_argument("--seconds", type=float, default=1, help="for a model and a level (1)")
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
    print(f"{machine.described()}; {given.seconds:g} s a model and level, one thread\n")
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

"""How much accuracy ``bnfold calibrate`` recovers on networks trained on digits.

Their statistics or weights are spoiled, or the data is another than they were trained on; the
statistics are then estimated from the training digits, of which no label is used, and the accuracy
is that of the held-out digits. Run it as a module from the root of the repository; it prints the
tables of docs/calibrate.md as Markdown.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

import numpy as np
import onnx

from tests.support_digits import (
    DAMAGES,
    DIGITS,
    WAYS,
    Score,
    measured,
    networks,
    pixels,
    recalibrated,
    reset,
    score,
)


def by_damage(seeds: int) -> tuple[str, str]:
    """The table of all networks together, and that of each network in the default way."""
    together: list[list[str]] = []
    each: list[list[str]] = []
    for damage in DAMAGES:
        runs = range(seeds) if damage.is_random else range(1)
        found = {
            name: [measured(damage, network, seed) for seed in runs]
            for name, network in networks().items()
        }
        pooled = [scores for group in found.values() for scores in group]
        ways = ["before", *(" ".join(way) for way in WAYS)]
        together.append([damage.name, *(_mean([scores[way] for scores in pooled]) for way in ways)])
        default = [
            " -> ".join(_percent([scores[way] for scores in group]) for way in ways[:2])
            for group in found.values()
        ]
        each.append([damage.name, *default])
    heads = ["", "before", *(", ".join(way) for way in WAYS)]
    return table(heads, together), table(["", *(f"`{name}`" for name in networks())], each)


def by_amount() -> tuple[str, str]:
    """Statistics that were reset, from batches of several sizes, and from little data."""
    labels, test = np.load(DIGITS / "held_out_labels.npy"), pixels("held_out")

    def row(name: str, samples: int, batch_size: int, *, drop_last: bool = True) -> list[str]:
        scores: dict[tuple[str, str], list[Score]] = {way: [] for way in WAYS}
        for network in networks().values():
            model = onnx.ModelProto()
            model.CopyFrom(network)
            reset(model, np.random.default_rng(0))
            for seed in range(3):
                order = np.random.default_rng(seed).permutation(len(pixels("train")))[:samples]
                data = pixels("train")[order]
                after = recalibrated(model, data, seed, batch_size=batch_size, drop_last=drop_last)
                for way, found in after.items():
                    scores[way].append(score(found, test, labels))
        return [name, *(_mean(found) for found in scores.values())]

    heads = ["", *(", ".join(way) for way in WAYS)]
    sizes = [row(f"{size}", 1280, size) for size in (2, 4, 8, 16, 64, 256)]
    sizes.append(row("64, and a last one of 3", 1347, 64, drop_last=False))
    amounts = [row(f"{samples}", samples, min(64, samples)) for samples in (16, 64, 256, 1280)]
    return table(["samples in a batch", *heads[1:]], sizes), table(
        ["samples in all", *heads[1:]], amounts
    )


def intact() -> str:
    """All networks as they were trained, on the held-out digits as they are."""
    labels, test = np.load(DIGITS / "held_out_labels.npy"), pixels("held_out")
    return _mean([score(network, test, labels) for network in networks().values()])


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _mean(scores: Sequence[Score]) -> str:
    loss = statistics.fmean(found.loss for found in scores)
    return f"{_percent(scores)} ({loss:.2f})" if loss < 100 else f"{_percent(scores)} ({loss:.0f})"


def _percent(scores: Sequence[Score]) -> str:
    return f"{statistics.fmean(found.accuracy for found in scores):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="of what is random")
    arguments = parser.parse_args()
    print(f"Intact: {intact()}\n", flush=True)
    print("\n\n".join(by_damage(arguments.seeds)), end="\n\n", flush=True)
    print("\n\n".join(by_amount()), flush=True)


if __name__ == "__main__":
    main()

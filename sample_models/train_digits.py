"""Trains networks for handwritten digits, with and without batch normalisation, and writes them.

Run it as a module from the root of the repository, with the extra ``samples``:
``python -m sample_models.train_digits``. It takes a few minutes on one core, writes the models
and the digits into ``sample_models/digits/`` and its tables into ``sample_models/README.md``. The
same seeds give the same files on one machine; another one rounds differently, and training
magnifies that.
"""

from __future__ import annotations

import argparse

from sample_models.digits_onnx import to_onnx
from sample_models.digits_tables import write_tables
from sample_models.digits_training import (
    DIGITS,
    KINDS,
    PLACES,
    SEEDS,
    VARIANTS,
    load,
    scores_of,
    sweep,
    train,
    write_digits,
)


def main() -> None:
    """Train everything, write everything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=SEEDS, help="networks of each variant")
    seeds = parser.parse_args().seeds
    train_on, held_out = load()
    DIGITS.mkdir(exist_ok=True)
    write_digits(DIGITS, "train", train_on)
    write_digits(DIGITS, "held_out", held_out)
    for variant in VARIANTS:
        network = train(variant, train_on, seed=0)
        if network is None:
            raise SystemExit(f"{variant.name}: its numbers are not finite")
        model = to_onnx(network, variant.name)
        (DIGITS / f"{variant.name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
    ways = dict.fromkeys(VARIANTS)
    for kind in KINDS:
        for place in PLACES:
            ways |= dict.fromkeys(sweep(kind, place))
    scores = {way: scores_of(way, train_on, held_out, seeds) for way in ways}
    write_tables(DIGITS.parent / "README.md", scores, held_out)


if __name__ == "__main__":
    main()

"""The tables of ``sample_models/README.md`` about the digits, between its marks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

import bnfold
from sample_models.digits_training import (
    BATCH,
    DIGITS,
    EPOCHS,
    KINDS,
    MOMENTUM,
    PLACES,
    RATES,
    VARIANTS,
    Digits,
    Score,
    Variant,
    score,
    sweep,
)

BEGIN, END = "<!-- tables of train_digits: begin -->", "<!-- tables of train_digits: end -->"
Scores = Mapping[Variant, Sequence[Score]]


def run(model: bytes | Path, digits: Digits) -> Score:
    """What a model makes of the digits in onnxruntime, which folds nothing itself here."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    data = model if isinstance(model, bytes) else model.read_bytes()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"pixels": digits.images.astype(np.float32)})
    return score(np.asarray(logits, dtype=np.float64), digits.labels)


def accuracy_table(scores: Scores) -> list[str]:
    """Each variant that has a file: accuracy and log-loss, mean and spread over the seeds."""
    lines = [
        "| network | batch normalisation | learning rate | accuracy, % | log-loss | failed |",
        "|---|---|---|---|---|---|",
    ]
    for variant in VARIANTS:
        found = scores[variant]
        rights = 100 * np.array([s.accuracy for s in found])
        losses = np.array([s.log_loss for s in found])
        lines.append(
            f"| {variant.kind} | {variant.words} | {variant.rate:g} "
            f"| {rights.mean():.2f} ± {rights.std(ddof=1):.2f} "
            f"| {losses.mean():.3f} ± {losses.std(ddof=1):.3f} "
            f"| {sum(s.has_failed for s in found)} of {len(found)} |"
        )
    return lines


def rate_table(scores: Scores) -> list[str]:
    """Mean accuracy at each learning rate, and how many seeds failed."""
    ways = [(kind, place) for kind in KINDS for place in PLACES]
    heads = [f"{kind}, {'no norm' if place == 'none' else place}" for kind, place in ways]
    lines = [f"| learning rate | {' | '.join(heads)} |", "|---" * (len(ways) + 1) + "|"]
    for rate, row in zip(RATES, zip(*(sweep(*way) for way in ways), strict=True), strict=True):
        cells = []
        for variant in row:
            found = scores[variant]
            failed = sum(s.has_failed for s in found)
            mean = f"{100 * np.mean([s.accuracy for s in found]):.1f}"
            cells.append(mean if not failed else f"{mean}, {failed} of {len(found)} fail")
        lines.append(f"| {rate:g} | {' | '.join(cells)} |")
    return lines


def fold_table(held_out: Digits) -> list[str]:
    """Each file before and after its fold, in onnxruntime on the held-out digits."""
    lines = [
        "| file | accuracy, % | after fold | log-loss | after fold | norms folded | where |",
        "|---|---|---|---|---|---|---|",
    ]
    for variant in VARIANTS:
        path = DIGITS / f"{variant.name}.onnx"
        result = bnfold.fold(path)
        before, after = run(path, held_out), run(result.model.SerializeToString(), held_out)
        norms = sum(n.op_type == "BatchNormalization" for n in onnx.load(path).graph.node)
        folded = result.report.folded
        direction = ", ".join(sorted({norm.direction for norm in folded})) or "-"
        if folded:
            taken = dict.fromkeys(name for norm in folded for name in norm.taken)
            direction += f", into {', '.join(taken)}"
        lines.append(
            f"| `{path.name}` | {100 * before.accuracy:.2f} | {100 * after.accuracy:.2f} "
            f"| {before.log_loss:.6f} | {after.log_loss:.6f} | {len(folded)} of {norms} "
            f"| {direction} |"
        )
    return lines


def write_tables(readme: Path, scores: Scores, held_out: Digits) -> None:
    """Put the tables between the marks of a Markdown file."""
    seeds = len(next(iter(scores.values())))
    text = "\n".join(
        [
            BEGIN,
            f"Mean ± standard deviation over {seeds} seeds, each with its own initial weights and "
            f"order; {EPOCHS} epochs, mini-batches of {BATCH}, momentum {MOMENTUM:g}:",
            "",
            *accuracy_table(scores),
            "",
            "Mean accuracy at each learning rate (norms with scale and shift), and the seeds that "
            "failed:",
            "",
            *rate_table(scores),
            "",
            "The files are the networks of seed 0. In onnxruntime, before and after `bnfold fold`:",
            "",
            *fold_table(held_out),
            END,
        ]
    )
    old = readme.read_text(encoding="utf-8")
    pattern = re.escape(BEGIN) + ".*" + re.escape(END)
    new, count = re.subn(pattern, lambda _: text, old, flags=re.S)
    assert count == 1, f"{readme} has no place for the tables"
    readme.write_text(new, encoding="utf-8")

"""Models with operators that only the runtime knows: both sides compared in onnxruntime."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfold.algebra.rounding import epsilon
from bnfold.checking import runtime
from bnfold.checking.drawn import Feed
from bnfold.checking.draws import Draws
from bnfold.checking.feeds import feeds_of
from bnfold.checking.measure import Comparison
from bnfold.checking.options import Options
from bnfold.checking.outcome import VerifyReport
from bnfold.checking.side import Side
from bnfold.checking.unlike import is_float, why_unlike
from bnfold.checking.whole import OutputTally
from bnfold.checking.words import difference_of, verdict_no, verdict_yes
from bnfold.errors import ModelError, UsageError
from bnfold.onnxgraph.ranges import Computed
from bnfold.onnxgraph.rewrite import NewTensor, Rewrite, all_tensors, without_data

Array = npt.NDArray[Any]

DRAWS = 6
"""Draws of rounding; each is a run of its own model."""

ARITHMETIC_UNITS = 4.0
"""The runtime's own arithmetic may be off by so many roundings of an output."""


def verify_opaque(
    ours: Side, theirs: Side, options: Options, unknown: Sequence[str], notes: Sequence[str]
) -> VerifyReport:
    """Compare the outputs of two models in onnxruntime at ``ORT_DISABLE_ALL``.

    The yardstick is the same: FOLDED's weights moved by up to a unit in the last place, as stored.
    Beside it counts the arithmetic of the runtime: how far its ORIGINAL is from the float64 values,
    where the evaluator knows all of ORIGINAL, and what the last place of the inputs moves.

    Raises:
        UsageError: onnxruntime was excluded, or cannot run ORIGINAL either.
    """
    named = ", ".join(unknown)
    if not options.runtime:
        raise UsageError(f"only onnxruntime could evaluate {named}, and it was left out")
    names = ours.output_names
    with runtime.on_disk(ours.document) as path:

        def run(arrays: dict[str, Array]) -> Mapping[str, Array]:
            done = runtime.run(path, [arrays], names)
            if not done.is_loaded:
                raise UsageError(f"only onnxruntime could evaluate {named}, but {done.error}")
            if done.outputs is None:
                raise ModelError(f"of {ours.document.name} {done.error}")
            return done.outputs[0]

        feeds = list(feeds_of(ours, options, run))
        arrays = [feed.arrays for feed in feeds]
        expected = runtime.run(path, arrays, names).outputs
        nudged = [
            runtime.run(path, [_nudged(a, options.seed + n) for a in arrays], names).outputs
            for n in range(DRAWS if expected is not None else 0)
        ]
    if expected is None:
        raise UsageError(f"only onnxruntime could evaluate {named}, but it cannot run ORIGINAL")
    tallies = {name: OutputTally(name) for name in names}
    with runtime.on_disk(theirs.document) as path:
        found = runtime.run(path, arrays, names)
    if found.outputs is None:
        for tally in tallies.values():
            tally.fail("", f"ORIGINAL runs, but of FOLDED {found.error}")
    else:
        draws = list(_draws(ours, theirs, options.seed, arrays))
        moves = Draws(ours, theirs, options.seed)
        for number, feed in enumerate(feeds):
            truth, moved = _truth(ours, moves, options.seed, feed.arrays)
            for name, tally in tallies.items():
                mine, other = expected[number].get(name), found.outputs[number].get(name)
                if mine is None or other is None:
                    tally.fail(feed.name, f"{name} is no tensor, which cannot be compared here")
                    continue
                noise = [(draw[number][name], other) for draw in draws]
                noise += [(run[number][name], mine) for run in nudged if run is not None]
                noise += [(values[name], truth[name]) for values in moved]
                _judge(tally, feed, mine, other, truth.get(name), noise, options)
    outputs = tuple(tally.check(ours.dtype_of_output(name)) for name, tally in tallies.items())
    bad = next((tally for tally in tallies.values() if not tally.is_same), None)
    difference = None
    if bad is not None:
        difference = difference_of(bad.name, None, bad.worst, bad.feed, bad.units)
    return VerifyReport(
        original=ours.document.name,
        folded=theirs.document.name,
        is_same=bad is None,
        verdict=verdict_no(difference, [], outputs, options.closeness is not None)
        if bad is not None
        else verdict_yes(outputs, options.closeness is not None),
        outputs=outputs,
        difference=difference,
        notes=(
            *notes,
            f"the float64 evaluator does not know {named}: only the outputs were compared, in "
            "onnxruntime",
        ),
        method="onnxruntime",
        multiple=options.multiple,
        rtol=options.closeness.rtol if options.closeness is not None else None,
        atol=options.closeness.atol if options.closeness is not None else None,
        feeds=tuple(feed.name for feed in feeds),
        seed=options.seed,
    )


def _truth(
    ours: Side, draws: Draws, seed: int, arrays: dict[str, Array]
) -> tuple[dict[str, Array], list[dict[str, Array]]]:
    """ORIGINAL's outputs in float64, and with its own constants moved; empty if not to be had."""
    if ours.evaluator.unknown:
        return {}, []
    names = ours.output_names
    moved = []
    for number in range(DRAWS):
        with contextlib.suppress(ModelError):
            moved.append(ours.run(arrays, names, draws[number][0], seed=seed))
    return ours.run(arrays, names, seed=seed), moved


def _judge(
    tally: OutputTally,
    feed: Feed,
    original: Array,
    folded: Array,
    truth: Array | None,
    noise: Sequence[tuple[Array, Array]],
    options: Options,
) -> None:
    """Judge one output on one feed.

    Args:
        truth: ORIGINAL's values in float64, or None.
        noise: values that were moved, and what they are unmoved.
    """
    why = why_unlike(original, folded)
    if why:
        tally.fail(feed.name, f"{tally.name} {why}")
        return
    mine, other = _wide(original), _wide(folded)
    exact = truth if truth is not None and truth.shape == mine.shape else mine
    comparison = Comparison(exact, other)
    generator = np.random.default_rng([options.seed, 7])
    for number in range(DRAWS):
        pairs = [
            (_wide(values), _wide(still))
            for values, still in noise[number::DRAWS]
            if isinstance(values, np.ndarray)
        ]
        if exact is not mine:
            pairs.append((mine, exact))
        if is_float(original):
            unit = ARITHMETIC_UNITS * epsilon(original.dtype) / 2
            pairs.append((mine * (1 + unit * generator.uniform(-1, 1, mine.shape)), mine))
        comparison.add_draw(*pairs)
    tally.judge(comparison, comparison.worst(), feed.name, options.multiple, options.closeness)


def _nudged(arrays: dict[str, Array], seed: int) -> dict[str, Array]:
    """Inputs whose floats are a unit in the last place off, or not."""
    generator = np.random.default_rng([seed, 8])
    return {
        name: _moved(array, generator) if is_float(array) else array
        for name, array in arrays.items()
    }


def _draws(
    ours: Side, theirs: Side, seed: int, arrays: Sequence[dict[str, Array]]
) -> Iterable[list[dict[str, Array]]]:
    """The outputs of FOLDED with its changed weights moved, for each draw and feed."""
    changed = theirs.changed(ours)
    for number in range(DRAWS):
        rewrite = Rewrite()
        generator = np.random.default_rng([seed, number])
        for path, tensor in all_tensors(theirs.document.proto):
            if id(tensor) in changed:
                data = _moved(theirs.document.tensors.array(tensor), generator).tobytes()
                proto = without_data(tensor, theirs.document.tensors.mark)
                piece = Computed(len(data), lambda data=data: iter((data,)))  # type: ignore[misc]
                rewrite.tensors.append(NewTensor(proto, [piece], path=path))
        with runtime.on_disk(theirs.document, rewrite) as model:
            done = runtime.run(model, arrays, ours.output_names)
        if done.outputs is not None:
            yield done.outputs


def _moved(stored: Array, generator: np.random.Generator) -> Array:
    """Each number a unit in the last place up or down, or where it is."""
    bits = np.dtype(f"i{stored.dtype.itemsize}")
    steps = generator.integers(-1, 2, stored.shape).astype(bits)
    whole = np.ascontiguousarray(stored).view(bits).reshape(stored.shape)
    # Neighbours of a float are neighbours as integers; zero and what is no number stay.
    wide = stored.astype(np.float64)
    usable = np.isfinite(wide) & (wide != 0)
    moved = np.where(usable, whole + steps, whole).astype(bits).view(stored.dtype)
    return np.where(np.isfinite(moved.astype(np.float64)), moved, stored).astype(
        np.dtype(stored.dtype).newbyteorder("<")
    )


def _wide(values: Array) -> Array:
    return values.astype(np.float64) if is_float(values) else values

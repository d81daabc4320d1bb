"""Named input arrays that wake every part of a model: drawn, or real data."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfold.checking.drawing import FLOATS, KINDS, Dim, Input, bound_of, draw, read_input
from bnfold.checking.options import Options
from bnfold.checking.side import Side
from bnfold.errors import ModelError, UsageError
from bnfold.onnxgraph.tensors import type_name

Array = npt.NDArray[Any]
Generator = np.random.Generator
Runner = Callable[[dict[str, Array]], Mapping[str, Any]]

SIZES = (16, 32, 64, 8, 128, 224, 1, 4, 28, 256, 299, 96, 10, 100, 512)
"""Sizes that are tried for dimensions that the model leaves open, but for the first axis."""

BATCH = (2, 1, 4, 8, 16, 32)
"""Sizes that are tried for the first axis."""

LARGEST = 1 << 26
"""Inputs with more elements than this are not drawn."""


@dataclass(frozen=True)
class Feed:
    """One set of inputs.

    Attributes:
        name: what it is, such as ``normal x100``.
        arrays: input -> values, in the dtype of the input.
    """

    name: str
    arrays: dict[str, Array]


def given_feed(name: str, arrays: Mapping[str, Any], side: Side) -> dict[str, Array]:
    """Real data in the dtypes of the inputs.

    Args:
        name: what it is, for messages.
        arrays: input -> values.

    Raises:
        UsageError: a name is no input, or a shape or dtype does not fit.
    """
    known = {value.name: value for value in side.document.proto.graph.input}
    found = {}
    for key, values in arrays.items():
        if key not in known:
            listed = ", ".join(side.input_names) or "none"
            raise UsageError(f"{name}: the model has no input {key!r} (it has: {listed})")
        read = read_input(known[key], 2)
        array = np.asarray(values)
        if array.dtype != read.dtype:
            is_float = array.dtype.kind == "f" and read.element_type in FLOATS
            is_int = array.dtype.kind in "iub" and read.dtype.kind in "iu"
            with np.errstate(all="ignore"):
                cast = array.astype(read.dtype) if is_float or is_int else array
            if not is_float and not (is_int and (cast == array).all()):
                raise UsageError(
                    f"{name}: input {key!r} is {type_name(read.element_type)}, not {array.dtype}"
                )
            array = cast
        if array.ndim != len(read.dims) or any(
            isinstance(dim, int) and dim != size
            for dim, size in zip(read.dims, array.shape, strict=True)
        ):
            raise UsageError(
                f"{name}: input {key!r} has shape {_shown(read.dims)}, not {list(array.shape)}"
            )
        found[key] = array
    return found


def feeds_of(side: Side, options: Options, run: Runner) -> Iterable[Feed]:
    """The real data, then the drawn feeds."""
    real = []
    for number, arrays in enumerate(options.feeds):
        name = "data" if len(options.feeds) == 1 else f"data {number + 1}"
        real.append(Feed(name, given_feed(name, {**options.inputs, **arrays}, side)))
    fixed = given_feed("inputs", options.inputs, side)
    for feed in real:
        missing = [name for name in side.input_names if name not in feed.arrays]
        if missing:
            raise UsageError(f"{feed.name} has no values for input {missing[0]!r}")
    if options.trials < 1 and not real:
        raise UsageError("no data: at least one trial, or real data, is needed")
    sizes = dict(options.dims)
    for feed in real[:1]:
        for value in side.document.proto.graph.input:
            array = feed.arrays.get(value.name)
            for at, dim in enumerate(value.type.tensor_type.shape.dim):
                if dim.dim_param and array is not None:
                    sizes.setdefault(dim.dim_param, array.shape[at])
    if options.trials < 1:
        return real
    return chain(
        real,
        drawn(side, fixed=fixed, dims=sizes, trials=options.trials, seed=options.seed, run=run),
    )


def drawn(
    side: Side,
    *,
    fixed: Mapping[str, Array],
    dims: Mapping[str, int],
    trials: int,
    seed: int,
    run: Runner,
) -> Iterator[Feed]:
    """Random feeds: ``trials`` of each kind, and one that replaces what a caller may replace.

    Args:
        fixed: inputs whose values are given.
        dims: sizes of symbolic dimensions.
        run: computes the outputs from the inputs, or raises ModelError.

    Raises:
        UsageError: an input cannot be drawn, or no sizes of the open dimensions are found with
            which the model runs.
    """
    inputs = [
        read_input(value, bound_of(side, value.name))
        for value in side.document.proto.graph.input
        if value.name in side.input_names
    ]
    _require_dims(inputs, dims)
    left = [entry for entry in inputs if entry.name not in fixed]
    stored = {t.name: t for t in side.document.proto.graph.initializer}
    shapes = _sizes(side, inputs, left, fixed, dims, seed, run)
    for trial in range(trials):
        for kind in KINDS if any(e.element_type in FLOATS for e in left) else ("integers",):
            arrays = dict(fixed)
            for number, entry in enumerate(left):
                generator = np.random.default_rng(
                    [seed, trial, KINDS.index(kind), number]
                    if kind in KINDS
                    else [seed, trial, 99, number]
                )
                arrays[entry.name] = draw(kind, entry, shapes[entry.name], generator)
            yield Feed(kind if trials == 1 else f"{kind}, trial {trial + 1}", arrays)
            if not left:
                return
    replaced = {}
    for number, name in enumerate(side.overridable):
        if stored[name].data_type in FLOATS and name not in fixed:
            values = side.document.tensors.array(stored[name])
            generator = np.random.default_rng([seed, 98, number])
            factor = 1 + 0.1 * generator.random(values.shape)
            replaced[name] = (values.astype(np.float64) * factor).astype(values.dtype)
    if replaced:
        arrays = {**fixed, **replaced}
        for number, entry in enumerate(left):
            generator = np.random.default_rng([seed, 97, number])
            arrays[entry.name] = draw("normal", entry, shapes[entry.name], generator)
        yield Feed("normal, with overridable initializers replaced", arrays)


def _sizes(
    side: Side,
    inputs: Sequence[Input],
    left: Sequence[Input],
    fixed: Mapping[str, Array],
    dims: Mapping[str, int],
    seed: int,
    run: Runner,
) -> dict[str, tuple[int, ...]]:
    """A shape for each input with which the model runs and no output is empty."""
    known: dict[str, int] = dict(dims)
    for entry in inputs:
        if entry.name in fixed:
            for dim, size in zip(entry.dims, fixed[entry.name].shape, strict=True):
                if isinstance(dim, str):
                    known.setdefault(dim, size)
    first = {e.dims[0] for e in left if e.dims and isinstance(e.dims[0], str)}
    open_dims = {dim for e in left for dim in e.dims if isinstance(dim, str)} - set(known)
    batch = sorted(open_dims & first)
    rest = sorted(open_dims - first)
    tried: list[str] = []
    choices = itertools.product(BATCH if batch else (0,), SIZES if rest else (0,))
    for rows, size in sorted(choices, key=lambda c: BATCH.index(c[0]) > 1 if batch else 0):
        chosen = {**known, **dict.fromkeys(batch, rows), **dict.fromkeys(rest, size)}
        shapes = {
            e.name: tuple(chosen[d] if isinstance(d, str) else d for d in e.dims) for e in left
        }
        for entry in left:
            if np.prod([*shapes[entry.name], 1.0]) > LARGEST:
                raise UsageError(
                    f"input {entry.name!r} of shape {list(shapes[entry.name])} is "
                    "too large to draw: give it with --input or --feeds"
                )
        arrays = dict(fixed)
        for number, entry in enumerate(left):
            generator = np.random.default_rng([seed, 0, 0, number])
            arrays[entry.name] = draw("normal", entry, shapes[entry.name], generator)
        try:
            found = run(arrays)
        except ModelError as error:
            tried.append(str(error))
            continue
        if all(np.asarray(value).size for value in found.values()) or not found:
            return shapes
        tried.append("an output is empty")
    raise UsageError(_cannot_run(side, batch + rest, tried))


def _cannot_run(side: Side, open_dims: Sequence[str], tried: Sequence[str]) -> str:
    why = tried[0] if tried else "no sizes to try"
    names = [dim for dim in open_dims if not dim.startswith("?")]
    if names:
        hint = f"give its dimensions ({', '.join(f'--dim {name}=SIZE' for name in names)}) or data"
    else:
        hint = "give data"
    return (
        f"{side.document.name} does not run on random inputs: {why}; {hint} "
        "(--input NAME=FILE.npy, --feeds FILE.npz)"
    )


def _require_dims(inputs: Sequence[Input], dims: Mapping[str, int]) -> None:
    symbols = {d for e in inputs for d in e.dims if isinstance(d, str) and not d.startswith("?")}
    for name in dims:
        if name not in symbols:
            listed = ", ".join(sorted(symbols)) or "none"
            raise UsageError(f"no input has a dimension {name!r} (symbolic dimensions: {listed})")


def _shown(dims: Sequence[Dim]) -> str:
    shown = ["?" if isinstance(d, str) and d.startswith("?") else str(d) for d in dims]
    return f"[{', '.join(shown)}]"

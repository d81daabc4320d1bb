"""The inputs that are timed: one set for each batch size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bnfold.checking.drawing import Input, bound_of, draw, read_input
from bnfold.checking.drawn import SIZES
from bnfold.checking.feeds import given_feed
from bnfold.checking.session import Array
from bnfold.checking.side import Side
from bnfold.checking.sizes import FLOATS
from bnfold.errors import UsageError
from bnfold.measuring.options import Options

Arrays = dict[str, Array]
Runs = Callable[[Arrays], str]
"""Runs a model; gives why it cannot, ``""`` where it can."""


class Feeding:
    """Inputs of one model.

    Attributes:
        batches: the sizes of the batch dimension; None alone where there is no such dimension.
        data: where the inputs come from.

    Raises:
        UsageError: there is no such input or dimension, data does not fit, or the model takes no
            batch of a size that was asked for.
    """

    def __init__(self, side: Side, options: Options) -> None:
        self._seed = options.seed
        inputs = [
            read_input(value, bound_of(side, value.name))
            for value in side.document.proto.graph.input
            if value.name in side.input_names
        ]
        label = "feeds" if options.feeds is not None else "inputs"
        self._given = given_feed(label, {**options.inputs, **(options.feeds or {})}, side)
        self.data = "given" if self._given else "drawn"
        self._drawn = [entry for entry in inputs if entry.name not in self._given]
        if options.feeds is not None and self._drawn:
            raise UsageError(f"feeds has no values for input {self._drawn[0].name!r}")
        for entry in self._drawn:
            if entry.dims is None:
                raise UsageError(f"input {entry.name!r} has no shape: give its values")
        self._known = _known_sizes(inputs, self._given, options)
        self._batch = _batch_symbols(inputs)
        self.batches = self._batches(inputs, options)
        self._open = [
            (entry, dim)
            for entry in self._drawn
            for dim in entry.dims or ()
            if isinstance(dim, str) and dim not in self._known and dim not in self._batch
        ]

    def settle(self, runs: Runs) -> list[str]:
        """Choose sizes for the dimensions that the model leaves open and nobody gave.

        Args:
            runs: tries the original.

        Returns:
            What was chosen, as notes.

        Raises:
            UsageError: the model runs with none of the sizes that are tried.
        """
        if not self._open:
            return []
        why = ""
        for size in _sizes([entry for entry, _ in self._open]):
            chosen = {dim: size for _, dim in self._open}
            self._known.update(chosen)
            failure = runs(self.arrays(self.batches[0]))
            if not failure:
                shown = [_shown(dim) for dim in chosen]
                return [
                    f"the model leaves {', '.join(shown)} open: {size} was taken"
                    + ("" if shown[0].startswith("axis") else "; dims (--dim) gives other sizes")
                ]
            why = why or failure
        names = ", ".join(_shown(dim) for _, dim in self._open)
        raise UsageError(
            f"the model does not run with any of the sizes that were tried for {names}, which it "
            f"leaves open: {why}; give dims (--dim NAME=SIZE), inputs or feeds"
        )

    def arrays(self, batch: int | None) -> Arrays:
        """Values of all inputs.

        Args:
            batch: one of ``batches``.
        """
        sizes = {**dict.fromkeys(self._batch, batch or 1), **self._known}
        arrays = dict(self._given)
        for number, entry in enumerate(self._drawn):
            shape = tuple(sizes[d] if isinstance(d, str) else d for d in entry.dims or ())
            generator = np.random.default_rng([self._seed, number])
            arrays[entry.name] = draw("normal", entry, shape, generator, 0)
        return arrays

    def _batches(self, inputs: Sequence[Input], options: Options) -> tuple[int | None, ...]:
        """The sizes to time, which are those that were asked for if the model takes them."""
        wanted = options.batch
        if options.feeds is not None and wanted is not None:
            raise UsageError("feeds has a batch size of its own: leave batch out")
        if not self._batch:
            return _fixed_batch(inputs, self._given, wanted)
        known = [(dim, self._known[dim]) for dim in self._batch if dim in self._known]
        if not known:
            return wanted or (1,)
        dim, size = known[0]
        if wanted is not None and wanted != (size,):
            raise UsageError(
                f"batch {_listed(wanted)} contradicts {_shown(dim)}, which dims or inputs set to "
                f"{size}"
            )
        return (size,)


def _known_sizes(
    inputs: Sequence[Input], given: Mapping[str, Array], options: Options
) -> dict[str, int]:
    """The sizes of dimensions that were given, by name or with data."""
    symbols = {d for e in inputs for d in e.dims or () if isinstance(d, str) and d[0] != "?"}
    for name in options.dims:
        if name not in symbols:
            listed = ", ".join(sorted(symbols)) or "none"
            raise UsageError(f"no input has a dimension {name!r} (symbolic dimensions: {listed})")
    known = dict(options.dims)
    for entry in inputs:
        if entry.name in given:
            for dim, size in zip(entry.dims or (), given[entry.name].shape, strict=False):
                if isinstance(dim, str) and known.setdefault(dim, size) != size:
                    raise UsageError(
                        f"input {entry.name!r} has {size} for {_shown(dim)}, which is {known[dim]} "
                        "by dims or another input"
                    )
    return known


def _batch_symbols(inputs: Sequence[Input]) -> list[str]:
    """The open first dimensions of inputs."""
    firsts = [entry.dims[0] for entry in inputs if entry.dims]
    return list(dict.fromkeys(dim for dim in firsts if isinstance(dim, str)))


def _fixed_batch(
    inputs: Sequence[Input], given: Mapping[str, Array], wanted: tuple[int, ...] | None
) -> tuple[int | None, ...]:
    """The only size that a model without an open first dimension takes."""
    for entry in inputs:
        first = entry.dims[0] if entry.dims else None
        if entry.dims is None and given[entry.name].ndim:
            first = given[entry.name].shape[0]
        if first is None:
            continue
        assert isinstance(first, int)
        if wanted is not None and wanted != (first,):
            raise UsageError(
                f"batch {_listed(wanted)} cannot be timed: input {entry.name!r} has a fixed first "
                f"dimension of {first}"
            )
        return (first,)
    if wanted is not None:
        raise UsageError(f"batch {_listed(wanted)} cannot be timed: no input has a batch dimension")
    return (None,)


def _sizes(entries: Sequence[Input]) -> tuple[int, ...]:
    """Sizes to try, those of images or sequences first where the inputs look like that."""
    ranks = {len(entry.dims or ()) for entry in entries}
    first = 224 if 4 in ranks else 128
    is_plain = ranks <= {1, 5} or (ranks == {2} and entries[0].element_type in FLOATS)
    return SIZES if is_plain else tuple(dict.fromkeys((first, *SIZES)))


def _shown(dim: str) -> str:
    """A dimension in words."""
    if dim == "?batch":
        return "the first dimension"
    if dim.startswith("?"):
        name, _, axis = dim[1:].rpartition(".")
        return f"axis {axis} of input {name!r}"
    return repr(dim)


def _listed(batch: Sequence[Any]) -> str:
    return ", ".join(str(size) for size in batch)

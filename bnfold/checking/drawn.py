"""Random feeds in sizes with which the model runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfold.checking.drawing import KINDS, Input, bound_of, draw, read_input
from bnfold.checking.side import Side
from bnfold.checking.sizes import FLOATS
from bnfold.errors import ModelError, UsageError

Array = npt.NDArray[Any]
Runner = Callable[[dict[str, Array]], Mapping[str, Any]]
Shapes = dict[str, tuple[int, ...]]

BATCH = (2, 1, 4, 8, 16, 32)
"""Sizes that are tried for the first axis."""

SIZES = (16, 32, 64, 8, 128, 224, 1, 4, 28, 256, 299, 96, 10, 100, 512)
"""Sizes that are tried for dimensions that the model leaves open, but for the first axis."""

OTHER_BATCH, OTHER_SIZES = (3, 5, 1), (24, 40, 48, 96, 12, 20, 160, 256, 6, 3)
"""Sizes for one more feed: a model that was made for the sizes of the first is not the same."""

LARGEST = 1 << 26
"""Inputs with more elements than this are not drawn."""

WITHOUT_FLOATS = ("first draw", "second draw", "third draw")
"""What is drawn in one trial where no input is a float."""


@dataclass(frozen=True)
class Feed:
    """One set of inputs.

    Attributes:
        name: what it is, such as ``normal x100``.
        arrays: input -> values, in the dtype of the input.
    """

    name: str
    arrays: dict[str, Array]


class Drawing:
    """Draws feeds for one model.

    Args:
        fixed: inputs whose values are given.
        dims: sizes of symbolic dimensions.
        seed: of all draws.
        run: computes the outputs from the inputs, or raises ModelError.
        has_data: whether there is real data beside the drawn feeds.

    Raises:
        UsageError: an input cannot be drawn, or there is no such dimension.
    """

    def __init__(
        self,
        side: Side,
        fixed: Mapping[str, Array],
        dims: Mapping[str, int],
        seed: int,
        run: Runner,
        *,
        has_data: bool,
    ) -> None:
        self._side, self._fixed, self._seed, self._run = side, dict(fixed), seed, run
        self._has_data = has_data
        inputs = [
            read_input(value, bound_of(side, value.name))
            for value in side.document.proto.graph.input
            if value.name in side.input_names
        ]
        self._left = [entry for entry in inputs if entry.name not in fixed]
        for entry in self._left:
            if entry.dims is None:
                raise UsageError(
                    f"input {entry.name!r} has no shape: give it with --input NAME=FILE.npy"
                )
        _require_dims(inputs, dims)
        self._known = dict(dims)
        for entry in inputs:
            if entry.name in fixed:
                for dim, size in zip(entry.dims or (), fixed[entry.name].shape, strict=False):
                    if isinstance(dim, str):
                        self._known.setdefault(dim, size)
        named = [dim for e in self._left for dim in e.dims or () if isinstance(dim, str)]
        first = {e.dims[0] for e in self._left if e.dims}
        is_open = dict.fromkeys(dim for dim in named if dim not in self._known)
        self._batch = [dim for dim in is_open if dim in first]
        self._rest = [dim for dim in is_open if dim not in first]

    def feeds(self, trials: int) -> Iterator[Feed]:
        """``trials`` of each kind, one in other sizes where sizes are open, and one that replaces
        what a caller may replace.

        Raises:
            UsageError: no sizes of the open dimensions are found with which the model runs.
        """
        tried: list[str] = []
        shapes = self._sizes(BATCH, SIZES, tried)
        if shapes is None:
            raise UsageError(self._cannot_run(tried))
        has_floats = any(entry.element_type in FLOATS for entry in self._left)
        kinds = KINDS if has_floats else WITHOUT_FLOATS if self._left else ("fixed",)
        for trial in range(trials if self._left else 1):
            for number, kind in enumerate(kinds):
                name = kind if trials == 1 else f"{kind}, trial {trial + 1}"
                yield Feed(name, self._arrays(kind, shapes, (trial, number)))
        if self._batch or self._rest:
            other = self._sizes(OTHER_BATCH, OTHER_SIZES, [])
            if other is not None and other != shapes:
                yield Feed("normal, other sizes", self._arrays("normal", other, (0, 98)))
        replaced = self._replaced()
        if replaced:
            arrays = self._arrays("normal", shapes, (0, 97))
            yield Feed("normal, with overridable initializers replaced", {**arrays, **replaced})

    def _sizes(self, batch: Sequence[int], sizes: Sequence[int], tried: list[str]) -> Shapes | None:
        """A shape for each input with which the model runs and no output is empty.

        Args:
            tried: gets the reasons why others do not do.
        """
        choices: Iterable[tuple[int, int]] = itertools.product(
            batch if self._batch else (0,), sizes if self._rest else (0,)
        )
        # All sizes with the first two batches before any larger batch.
        for rows, size in sorted(choices, key=lambda c: c[0] not in (0, *batch[:2])):
            chosen = dict.fromkeys(self._batch, rows) | dict.fromkeys(self._rest, size)
            chosen |= self._known
            shapes = {
                entry.name: tuple(chosen[d] if isinstance(d, str) else d for d in entry.dims or ())
                for entry in self._left
            }
            for name, shape in shapes.items():
                if np.prod([*shape, 1.0]) > LARGEST:
                    raise UsageError(
                        f"input {name!r} of shape {list(shape)} is too large to draw: give it "
                        "with --input or --feeds"
                    )
            try:
                found = self._run(self._arrays("normal", shapes, (0, 0)))
            except ModelError as error:
                tried.append(str(error))
                continue
            if all(np.asarray(value).size for value in found.values()):
                return shapes
            tried.append("an output is empty")
        return None

    def _arrays(self, kind: str, shapes: Shapes, place: tuple[int, int]) -> dict[str, Array]:
        arrays = dict(self._fixed)
        for number, entry in enumerate(self._left):
            generator = np.random.default_rng([self._seed, *place, number])
            arrays[entry.name] = draw(kind, entry, shapes[entry.name], generator, sum(place))
        return arrays

    def _replaced(self) -> dict[str, Array]:
        replaced = {}
        stored = {t.name: t for t in self._side.document.proto.graph.initializer}
        for number, name in enumerate(self._side.overridable):
            if stored[name].data_type in FLOATS and name not in self._fixed:
                values = self._side.document.tensors.array(stored[name])
                generator = np.random.default_rng([self._seed, 96, number])
                # Never of another sign: a variance stays one.
                factor = 1 + 0.1 * generator.random(values.shape)
                replaced[name] = (values.astype(np.float64) * factor).astype(values.dtype)
        return replaced

    def _cannot_run(self, tried: Sequence[str]) -> str:
        why = tried[0] if tried else "no sizes to try"
        names = [dim for dim in (*self._batch, *self._rest) if not dim.startswith("?")]
        hints = [f"--dim {name}=SIZE" for name in names]
        hints += ["--input NAME=FILE.npy", "--feeds FILE.npz"]
        if self._has_data:
            hints.append("--trials 0 to use only the data")
        return (
            f"{self._side.document.name} does not run on random inputs: {why}; give its "
            f"dimensions or data ({', '.join(hints)})"
        )


def _require_dims(inputs: Sequence[Input], dims: Mapping[str, int]) -> None:
    symbols = {
        dim
        for entry in inputs
        for dim in entry.dims or ()
        if isinstance(dim, str) and not dim.startswith("?")
    }
    for name in dims:
        if name not in symbols:
            listed = ", ".join(sorted(symbols)) or "none"
            raise UsageError(f"no input has a dimension {name!r} (symbolic dimensions: {listed})")

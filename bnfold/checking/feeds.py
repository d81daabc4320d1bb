"""Named input arrays that wake every part of a model: drawn, or real data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfold.checking.drawing import Dim, read_input
from bnfold.checking.drawn import Drawing, Feed, Runner
from bnfold.checking.options import Options
from bnfold.checking.side import Side
from bnfold.checking.sizes import FLOATS
from bnfold.errors import UsageError
from bnfold.onnxgraph.tensors import type_name

Array = npt.NDArray[Any]


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
        if read.dims is None:
            found[key] = array
            continue
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
    drawing = Drawing(side, fixed, sizes, options.seed, run, has_data=bool(real))
    return chain(real, drawing.feeds(options.trials))


def _shown(dims: Sequence[Dim]) -> str:
    shown = ["?" if isinstance(d, str) and d.startswith("?") else str(d) for d in dims]
    return f"[{', '.join(shown)}]"

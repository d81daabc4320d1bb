"""The inputs of a model, and one batch of data in their names, shapes and dtypes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from bnfold.errors import UsageError
from bnfold.onnxgraph.tensors import type_name

Array = npt.NDArray[Any]
Feed = dict[str, Array]
"""Input -> values: one batch."""


@dataclass(frozen=True)
class InputInfo:
    """An input that data has to give.

    Attributes:
        name: of the input.
        element_type: its ONNX data type.
        dims: the size of each axis, None where it is open; None as a whole where nothing says
            how many axes there are.
    """

    name: str
    element_type: int
    dims: tuple[int | None, ...] | None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its NumPy dtype."""
        return np.dtype(helper.tensor_dtype_to_np_dtype(self.element_type))

    @property
    def batch(self) -> int | None:
        """The size of the batch axis where the model fixes it."""
        return self.dims[0] if self.dims else None


def inputs_of(proto: onnx.ModelProto) -> list[InputInfo]:
    """The inputs that no initializer gives a value.

    Raises:
        UsageError: one is no tensor, so no data can be given.
    """
    stored = {tensor.name for tensor in proto.graph.initializer}
    stored |= {tensor.values.name for tensor in proto.graph.sparse_initializer}
    found = []
    for value in proto.graph.input:
        if value.name in stored:
            continue
        if not value.type.HasField("tensor_type"):
            raise UsageError(f"input {value.name!r} is no tensor: data cannot be given to it")
        kind = value.type.tensor_type
        dims: tuple[int | None, ...] | None = None
        if kind.HasField("shape"):
            dims = tuple(int(d.dim_value) if d.dim_value > 0 else None for d in kind.shape.dim)
        found.append(InputInfo(str(value.name), int(kind.elem_type), dims))
    return found


def feed_of(item: Any, inputs: Sequence[InputInfo], where: str) -> Feed:
    """One batch from whatever an iterable yields.

    Args:
        item: input -> values; or values in the order of the inputs, of which those beyond are
            left out (labels); or the values of the only input. Values are arrays, or have a
            ``detach`` as torch's tensors do.
        inputs: of the model.
        where: what it is, for messages, such as ``batch 3 of data.npz``.

    Raises:
        UsageError: an input has no values, or some of another shape or dtype.
    """
    if isinstance(item, Mapping):
        return _complete({str(key): value for key, value in item.items()}, inputs, where)
    if isinstance(item, (tuple, list)) and not _is_numbers(item):
        if len(item) < len(inputs):
            raise UsageError(
                f"{where} has {len(item)} arrays for the {len(inputs)} inputs of the model"
            )
        pairs = zip(inputs, item, strict=False)
        return _complete({entry.name: value for entry, value in pairs}, inputs, where)
    if len(inputs) != 1:
        names = ", ".join(entry.name for entry in inputs) or "none"
        raise UsageError(f"{where} is one array, and the model has the inputs: {names}")
    return _complete({inputs[0].name: item}, inputs, where)


def require_finite(feed: Feed, where: str) -> None:
    """Refuse a batch with NaN or infinity in it, which would be in every statistic.

    Raises:
        UsageError: an input has one.
    """
    for name, array in feed.items():
        values = array.astype(np.float32) if array.dtype.name == "bfloat16" else array
        if values.dtype.kind == "f":
            bad = int(np.count_nonzero(~np.isfinite(values)))
            if bad:
                kind = "NaN" if np.isnan(values).any() else "infinite"
                raise UsageError(f"{where}: {bad} of the values of input {name!r} are {kind}")


def _complete(values: Mapping[str, Any], inputs: Sequence[InputInfo], where: str) -> Feed:
    feed: Feed = {}
    for entry in inputs:
        if entry.name not in values:
            given = ", ".join(values) or "nothing"
            raise UsageError(f"{where} has no values for input {entry.name!r} (it has: {given})")
        feed[entry.name] = _fitting(values[entry.name], entry, where)
    sizes = {name: array.shape[0] for name, array in feed.items() if array.ndim}
    if 0 in sizes.values():
        raise UsageError(f"{where} is empty")
    return feed


def _fitting(value: Any, entry: InputInfo, where: str) -> Array:
    array = _array(value, entry, where)
    if array.dtype != entry.dtype:
        both = "f" if array.dtype.kind == "f" or array.dtype.name == "bfloat16" else "iub"
        is_float = both == "f" and _is_float(entry.dtype)
        is_integer = array.dtype.kind in "iub" and entry.dtype.kind in "iub"
        with np.errstate(all="ignore"):
            cast = array.astype(entry.dtype) if is_float or is_integer else array
        if not is_float and not (is_integer and (cast == array).all()):
            hint = ": scale whole numbers to floats first" if array.dtype.kind in "iub" else ""
            raise UsageError(
                f"{where}: input {entry.name!r} is {type_name(entry.element_type)}, and the data "
                f"{array.dtype}{hint}"
            )
        array = cast
    if entry.dims is not None and (
        array.ndim != len(entry.dims)
        or any(d is not None and d != s for d, s in zip(entry.dims, array.shape, strict=True))
    ):
        shown = ", ".join("?" if d is None else str(d) for d in entry.dims)
        raise UsageError(
            f"{where}: input {entry.name!r} has shape [{shown}], and the data {list(array.shape)}"
        )
    return np.asarray(array, order="C")


def _array(value: Any, entry: InputInfo, where: str) -> Array:
    try:
        if hasattr(value, "detach"):  # torch, which need not be here
            value = value.detach().cpu()
            try:
                value = value.numpy()
            except TypeError:  # bfloat16, which NumPy does not know
                value = value.float().numpy()
        array = np.asarray(value)
    except Exception as error:  # whatever an array-like of somebody else's raises
        reason = " ".join(str(error).split())
        raise UsageError(f"{where}: input {entry.name!r} is no array: {reason}") from error
    if array.dtype == object:
        raise UsageError(f"{where}: input {entry.name!r} is {type(value).__name__}, no array")
    return array


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or dtype.name == "bfloat16"


def _is_numbers(item: tuple[Any, ...] | list[Any]) -> bool:
    """Whether a list is an array written out, not several arrays."""
    while isinstance(item, (tuple, list)) and item:
        item = item[0]
    return isinstance(item, (int, float))

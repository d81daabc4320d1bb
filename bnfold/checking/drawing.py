"""Inputs of a model, and random data for one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from bnfold.algebra.rounding import largest
from bnfold.checking.side import Side
from bnfold.checking.sizes import FLOATS
from bnfold.errors import UsageError
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.tensors import type_name

Array = npt.NDArray[Any]
Generator = np.random.Generator
Dim = int | str

KINDS = ("normal", "normal x100", "uniform", "sparse", "ramp")
"""The data of one trial."""

# Operators that hand indices on, so that what reads their output bounds their input.
_HAND_ON = frozenset(
    (
        "Cast CastLike Concat Expand Flatten Identity Reshape Slice Split Squeeze Tile Transpose "
        "Unsqueeze Where"
    ).split()
)


@dataclass(frozen=True)
class Input:
    """An input of a graph that can be fed.

    Attributes:
        element_type: its ONNX data type.
        dims: a size, the name of an open dimension, or ``?...`` where it has no name;
            None where nothing says how many there are.
        bound: drawn integers stay below this number.
    """

    name: str
    element_type: int
    dims: tuple[Dim, ...] | None
    bound: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its NumPy dtype."""
        return np.dtype(helper.tensor_dtype_to_np_dtype(self.element_type))


def read_input(value: onnx.ValueInfoProto, bound: int) -> Input:
    """An input as the file declares it.

    Raises:
        UsageError: it is no tensor.
    """
    if not value.type.HasField("tensor_type"):
        raise UsageError(f"input {value.name!r} is no tensor: verify cannot feed it")
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return Input(value.name, int(kind.elem_type), None, bound)
    dims: list[Dim] = []
    for at, dim in enumerate(kind.shape.dim):
        if dim.dim_value > 0:
            dims.append(int(dim.dim_value))
        elif dim.dim_param:
            dims.append(str(dim.dim_param))
        else:
            # The first axis is mostly the batch, the same for all inputs.
            dims.append("?batch" if at == 0 else f"?{value.name}.{at}")
    return Input(value.name, int(kind.elem_type), tuple(dims), bound)


def bound_of(side: Side, name: str) -> int:
    """Integers for this input stay below this number: the rows of what they index, else 2."""
    start = side.index.main.tensors.get(name)
    if start is None:
        return 2
    bounds: list[int] = []
    waiting: list[Tensor] = [start]
    seen: set[Tensor] = set()
    while waiting:
        tensor = waiting.pop()
        if tensor in seen:
            continue
        seen.add(tensor)
        for node in tensor.readers:
            if node.op_type in ("Gather", "GatherElements") and node.input(1) is tensor:
                rows = _rows(node, node.input(0))
                if rows:
                    bounds.append(rows)
            elif node.op_type in _HAND_ON:
                waiting += [t for t in node.outputs if t is not None]
    return min(bounds, default=2)


def _rows(node: Node, data: Tensor | None) -> int | None:
    if data is None:
        return None
    if data.initializer is None:
        value = data.producer.attribute("value") if data.producer is not None else None
        dims = list(value.t.dims) if value is not None and value.HasField("t") else []
    else:
        dims = list(data.initializer.dims)
    axis = node.integer("axis", 0)
    return int(dims[axis]) if -len(dims) <= axis < len(dims) else None


def draw(
    kind: str, entry: Input, shape: tuple[int, ...], generator: Generator, number: int
) -> Array:
    """Random data for one input.

    Args:
        kind: one of ``KINDS``; only floats differ by it.
        number: of the feed: a single condition is true in every other one.

    Raises:
        UsageError: it is of a type that cannot be drawn.
    """
    if entry.element_type == TensorProto.BOOL:
        if np.prod(shape) == 1:
            return np.full(shape, (number + len(entry.name)) % 2 == 0)
        return np.asarray(generator.random(shape) < 0.5)
    if entry.element_type not in FLOATS:
        return _draw_integers(entry, shape, generator)
    values: Array
    if kind == "normal x100":
        values = 100 * generator.standard_normal(shape)
    elif kind == "uniform":
        values = generator.random(shape)
    elif kind == "sparse":
        values = 10 * generator.standard_normal(shape) * (generator.random(shape) < 0.1)
    elif kind == "ramp":
        values = _ramp(shape, generator)
    else:
        values = generator.standard_normal(shape)
    limit = largest(entry.dtype)
    drawn_values: Array = np.clip(values, -limit, limit).astype(entry.dtype)
    return drawn_values


def _ramp(shape: tuple[int, ...], generator: Generator) -> Array:
    """A constant for each sample and channel, and a gentle slope along each further axis."""
    level = np.asarray(3 * generator.standard_normal(shape[:2]))
    level = level.reshape((*shape[:2], *[1] * max(0, len(shape) - 2)))
    values: Array = np.broadcast_to(level, shape).copy()
    for axis in range(2, len(shape)):
        steps = np.linspace(-1, 1, shape[axis]) if shape[axis] > 1 else np.zeros(1)
        values += steps.reshape(-1, *[1] * (len(shape) - axis - 1))
    return values


def _draw_integers(entry: Input, shape: tuple[int, ...], generator: Generator) -> Array:
    dtype = entry.dtype
    if dtype.kind not in "iu":
        raise UsageError(
            f"input {entry.name!r} is {type_name(entry.element_type)}, which cannot be drawn: "
            "give it with --input NAME=FILE.npy"
        )
    if dtype == np.uint8 and entry.bound == 2:
        return generator.integers(0, 256, shape).astype(dtype)
    top = min(entry.bound, int(np.iinfo(dtype).max) + 1)
    return generator.integers(0, top, shape).astype(dtype)

"""Stored weights that are subnormal numbers, which processors compute with slowly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from bnfold.onnxgraph.load import Document
from bnfold.onnxgraph.ranges import chunks
from bnfold.onnxgraph.rewrite import all_tensors
from bnfold.onnxgraph.tensors import type_name

_BITS: dict[int, tuple[np.dtype[Any], int]] = {
    TensorProto.FLOAT16: (np.dtype("<u2"), 10),
    TensorProto.FLOAT: (np.dtype("<u4"), 23),
    TensorProto.DOUBLE: (np.dtype("<u8"), 52),
}
"""The width of a number, and how many bits of it are behind the point."""


def subnormal_weights(document: Document) -> dict[str, int]:
    """How many stored numbers w have ``0 < |w| <`` the smallest normal number of their dtype.

    The weights are read in pieces, so that a large model is never in memory.

    Returns:
        ``float16``, ``float32``, ``float64`` -> how many, where there are any.
    """
    names = {"float": "float32", "double": "float64"}
    found: dict[str, int] = {}
    for _, tensor in all_tensors(document.proto):
        if tensor.data_type not in _BITS:
            continue
        kind, mantissa = _BITS[tensor.data_type]
        count = sum(_subnormal(piece, mantissa) for piece in _pieces(document, tensor, kind))
        if count:
            name = type_name(tensor.data_type)
            name = names.get(name, name)
            found[name] = found.get(name, 0) + count
    return found


def _pieces(document: Document, tensor: TensorProto, kind: np.dtype[Any]) -> Iterator[Any]:
    """The numbers as unsigned integers, some at a time."""
    place = document.tensors.stored_range(tensor)
    if place is None:
        values = np.ascontiguousarray(document.tensors.array(tensor))
        yield values.astype(values.dtype.newbyteorder("<")).view(kind)
        return
    for piece in chunks(place):
        yield np.frombuffer(piece, kind)


def _subnormal(bits: npt.NDArray[Any], mantissa: int) -> int:
    """How many have an exponent of zero, and are not zero."""
    size = bits & bits.dtype.type((1 << (8 * bits.dtype.itemsize - 1)) - 1)
    return int(np.count_nonzero((size > 0) & (size < (1 << mantissa))))

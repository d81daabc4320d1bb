"""A tensor that is constant in value, or why one is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper

from bnfold.algebra.affine import Array
from bnfold.onnxgraph.graph import Tensor
from bnfold.onnxgraph.tensors import Tensors


@dataclass(frozen=True)
class Unknown:
    """A tensor that is not constant: ``code`` says why, ``detail`` in the model's names."""

    code: str
    detail: str


@dataclass(eq=False)
class Known:
    """A tensor that is constant in value.

    Attributes:
        tensor: the tensor.
        stored: the TensorProto that holds exactly this value, or None for a computed one.
        read: gives the values.
    """

    tensor: Tensor
    stored: onnx.TensorProto | None
    read: Callable[[], Array]
    # Not cached_property, which takes a lock each time before Python 3.12.
    _array: Array | None = field(default=None, init=False)
    _shape: tuple[int, ...] | None = field(default=None, init=False)
    _peak: float | None = field(default=None, init=False)

    @property
    def array(self) -> Array:
        """The values, in their own dtype; a view of the file where the file holds them."""
        if self._array is None:
            self._array = self.read()
        return self._array

    @property
    def peak(self) -> float:
        """The largest magnitude, found once; NaN where a value is none."""
        if self._peak is None:
            self._peak = _peak(self.array)
        return self._peak

    @property
    def shape(self) -> tuple[int, ...]:
        """The dims, without reading the data of a stored tensor."""
        if self._shape is None:
            stored = self.stored
            self._shape = tuple(stored.dims if stored is not None else self.array.shape)
        return self._shape

    @property
    def data_type(self) -> int:
        """The ONNX data type."""
        if self.stored is not None:
            return int(self.stored.data_type)
        return int(helper.np_dtype_to_tensor_dtype(self.array.dtype))


def _peak(values: Array) -> float:
    if values.dtype.itemsize >= 4:
        return max(float(values.max(initial=0)), -float(values.min(initial=0)))
    # NumPy is slow at these.
    flat = values.reshape(-1)
    parts = (flat[at : at + _BLOCK].astype(np.float32) for at in range(0, flat.size, _BLOCK))
    return float(np.max([_peak(part) for part in parts], initial=0.0))


_BLOCK = 1 << 18


def stored_tensor(tensor: Tensor) -> onnx.TensorProto | None:
    """The TensorProto that holds a constant: an initializer, or the value of a Constant node."""
    if tensor.initializer is not None:
        return tensor.initializer
    node = tensor.producer
    if node is not None and node.domain == "" and node.op_type == "Constant":
        value = node.attribute("value")
        if value is not None:
            return value.t
    return None


def raw_data_of(stored: onnx.TensorProto) -> bytes | None:
    """The values of a whole tensor, if the message itself holds them as raw bytes."""
    if stored.data_location or not stored.HasField("raw_data") or stored.HasField("segment"):
        return None
    return stored.raw_data


def stored_constant(tensor: Tensor, tensors: Tensors) -> Known | None:
    """The constant that one TensorProto holds, or None for one that the graph computes."""
    stored = stored_tensor(tensor)
    return None if stored is None else Known(tensor, stored, lambda: tensors.array(stored))

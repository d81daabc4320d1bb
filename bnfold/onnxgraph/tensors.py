"""The numbers in a TensorProto, whether inline, left out of the skeleton, or external."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bnfold.algebra.affine import Array
from bnfold.errors import ModelError
from bnfold.onnxgraph.external import ExternalFiles
from bnfold.onnxgraph.ranges import Range
from bnfold.onnxgraph.skeleton import Payload
from bnfold.onnxgraph.wire import TENSOR_DOUBLES, TENSOR_FLOATS, TENSOR_RAW

_KNOWN_TYPES = frozenset(TensorProto.DataType.values()) - {TensorProto.UNDEFINED}
_PACKED_BITS = {
    getattr(TensorProto, name): bits
    for name, bits in (("INT4", 4), ("UINT4", 4), ("FLOAT4E2M1", 4), ("INT2", 2), ("UINT2", 2))
    if hasattr(TensorProto, name)
}
_ITEM_BITS = {
    number: _PACKED_BITS.get(number) or 8 * helper.tensor_dtype_to_np_dtype(number).itemsize
    for number in _KNOWN_TYPES - {TensorProto.STRING}
}
_LITTLE_ENDIAN = {
    number: np.dtype(helper.tensor_dtype_to_np_dtype(number)).newbyteorder("<")
    for number in _ITEM_BITS
}
PLAIN_FLOATS: dict[int, np.dtype[Any]] = {
    number: _LITTLE_ENDIAN[number]
    for number in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
}
"""The float types in which weights are stored, as their raw data has them."""
_WHOLE_ITEMS = frozenset(_ITEM_BITS.keys() - _PACKED_BITS.keys())
_TYPED_FIELD: dict[int, int] = {
    TensorProto.FLOAT: TENSOR_FLOATS,
    TensorProto.COMPLEX64: TENSOR_FLOATS,
    TensorProto.DOUBLE: TENSOR_DOUBLES,
    TensorProto.COMPLEX128: TENSOR_DOUBLES,
}
_FIELD_OF: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.COMPLEX64: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.COMPLEX128: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT32: "uint64_data",
    TensorProto.UINT64: "uint64_data",
    TensorProto.STRING: "string_data",
}


def type_name(data_type: int) -> str:
    """``float16``, ``int8``...: the name of an ONNX data type in lower case."""
    if data_type in _KNOWN_TYPES:
        return str(TensorProto.DataType.Name(data_type)).lower()
    return f"data type {data_type}"


def byte_size(data_type: int, dims: Sequence[int]) -> int:
    """Number of bytes of the raw data of a tensor."""
    return (math.prod(dims) * _ITEM_BITS[data_type] + 7) // 8


class Tensors:
    """Reads the tensors of one model."""

    def __init__(self, mark: str, payloads: list[Payload], files: ExternalFiles) -> None:
        self.mark = mark
        self.payloads = payloads
        self.files = files

    def payload(self, tensor: onnx.TensorProto) -> Payload | None:
        """The data that was left out of the skeleton, if this tensor's was."""
        if tensor.external_data and tensor.external_data[-1].key == self.mark:
            return self.payloads[int(tensor.external_data[-1].value)]
        return None

    def is_external(self, tensor: onnx.TensorProto) -> bool:
        """Whether the data is in another file than the model."""
        return bool(tensor.data_location == TensorProto.EXTERNAL)

    def stored_range(self, tensor: onnx.TensorProto) -> Range | None:
        """The raw bytes where they lie, or None where they are inline in the parsed message."""
        if self.is_external(tensor):
            return self.files.range_of(tensor, byte_size(tensor.data_type, tensor.dims))
        payload = self.payload(tensor)
        return payload.data if payload else None

    def is_plain(self, tensor: onnx.TensorProto) -> bool:
        """Whether a tensor holds raw data in the message, as many as its dims say: so most do."""
        bits = _ITEM_BITS.get(tensor.data_type)
        if bits is None or tensor.data_location or tensor.external_data:
            return False
        for dim in tensor.dims:
            if dim < 0:
                return False
            bits *= dim
        data = tensor.raw_data
        return bits == 8 * len(data) and (bits > 0 or tensor.HasField("raw_data"))

    def check(self, tensor: onnx.TensorProto, where: str) -> None:
        """Raise ModelError where dims, data type and data of a tensor contradict each other."""
        number, dims = tensor.data_type, tensor.dims
        if self.is_plain(tensor):
            return
        if number not in _KNOWN_TYPES:
            raise ModelError(f"{where} has {type_name(number)}, which ONNX does not define")
        if any(dim < 0 for dim in dims):
            raise ModelError(f"{where} has a negative dimension: {list(dims)}")
        if tensor.HasField("segment"):
            return
        if self.is_external(tensor):
            if number == TensorProto.STRING:
                raise ModelError(f"{where} holds strings, which cannot be external")
            if self.files.folder is not None:
                self.stored_range(tensor)
            return
        payload = self.payload(tensor)
        if number == TensorProto.STRING and (payload or tensor.HasField("raw_data")):
            raise ModelError(f"{where} holds strings as raw data")
        if payload:
            if payload.number not in (TENSOR_RAW, _TYPED_FIELD.get(number)):
                raise ModelError(f"{where} of {type_name(number)} has its data in another field")
            has, needs = len(payload.data), byte_size(number, dims)
        elif tensor.HasField("raw_data"):
            has, needs = len(tensor.raw_data), byte_size(number, dims)
        else:
            count = math.prod(dims)
            if number in _PACKED_BITS:
                count = -(-count * _PACKED_BITS[number] // 8)
            elif number in (TensorProto.COMPLEX64, TensorProto.COMPLEX128):
                count *= 2
            held = len(getattr(tensor, _FIELD_OF.get(number, "int32_data")))
            if held != count:
                raise ModelError(f"{where} needs {count} values by its dims and has {held}")
            return
        if has != needs:
            raise ModelError(f"{where} needs {needs} bytes by its dims and has {has}")

    def array(self, tensor: onnx.TensorProto) -> Array:
        """The values, shape ``dims``, in the tensor's own dtype; a read-only view where possible.

        Raises:
            ModelError: the data contradicts the dims, or cannot be decoded.
        """
        number, dims = tensor.data_type, tuple(tensor.dims)
        if tensor.HasField("raw_data") and not tensor.data_location and number in _WHOLE_ITEMS:
            return _viewed(tensor.raw_data, tensor, number, dims)  # nearly every small tensor
        place = self.stored_range(tensor)
        data: bytes | memoryview = place.view() if place is not None else tensor.raw_data
        is_raw = place is not None or tensor.HasField("raw_data")
        if not is_raw or number not in _WHOLE_ITEMS:
            whole = tensor
            if place is not None:
                whole = onnx.TensorProto(data_type=number, dims=dims, raw_data=bytes(data))
            try:
                return numpy_helper.to_array(whole)
            except (ValueError, TypeError, KeyError) as error:
                raise ModelError(f"tensor {tensor.name!r} cannot be read: {error}") from error
        return _viewed(data, tensor, number, dims)


def _viewed(
    data: bytes | memoryview, tensor: onnx.TensorProto, number: int, dims: tuple[int, ...]
) -> Array:
    if len(data) != byte_size(number, dims):
        raise ModelError(f"tensor {tensor.name!r} has {len(data)} bytes for dims {dims}")
    return np.frombuffer(data, dtype=_LITTLE_ENDIAN[number]).reshape(dims)

"""One run: the seed, and the constants of a model as float64."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, SparseTensorProto, TensorProto

from bnfold.reference.call import COMPUTED_FLOATS, Array, attribute_value, bound_attributes, widened

Constant = TensorProto | SparseTensorProto
Read = Callable[[TensorProto], Array]
Widen = Callable[[TensorProto, Array], Array | None]


class Run:
    """What the nodes of one run share.

    Args:
        seed: of the random operators.
        read: the stored values of a constant.
        widen: float64 values for a float constant, or None for its exact values.
        kept: exact values of constants by the id of their proto; filled as they are read.
    """

    def __init__(self, seed: int, read: Read, widen: Widen | None, kept: dict[int, Array]) -> None:
        self.seed = seed
        self._read = read
        self._widen = widen
        self._kept = kept

    def load(self, constant: Constant, *, keep: bool = True) -> Array:
        """The values of a constant, floats as float64; kept for the next time if ``keep``."""
        if self._widen is not None:
            moved = self._moved(constant, self._widen)
            if moved is not None:
                return moved
        found = self._kept.get(id(constant))
        if found is None:
            found = self._loaded(constant)
            self._kept[id(constant)] = found
        return found

    def _moved(self, constant: Constant, widen: Widen) -> Array | None:
        if not isinstance(constant, TensorProto) or constant.data_type not in COMPUTED_FLOATS:
            return None
        values = widen(constant, self._read(constant))
        return None if values is None else np.asarray(values, dtype=np.float64)

    def _loaded(self, constant: Constant) -> Array:
        if isinstance(constant, TensorProto):
            return self._values(constant)
        dims = tuple(constant.dims)
        values, places = self._values(constant.values), self._read(constant.indices)
        dense = np.zeros(dims, dtype=values.dtype)
        if places.ndim == 2:
            dense[tuple(places.T)] = values
        else:
            dense.reshape(-1)[places] = values
        return dense

    def _values(self, tensor: TensorProto) -> Array:
        stored = self._read(tensor)
        if tensor.data_type not in COMPUTED_FLOATS:
            return stored
        return np.asarray(widened(stored))


def constant_of(
    node: onnx.NodeProto,
    bindings: Mapping[str, AttributeProto] | None,
    made: dict[int, tuple[AttributeProto, Constant]],
) -> Constant | None:
    """The tensor that a Constant node holds; None for any other node.

    Args:
        node: any node.
        bindings: values of the attributes of the function that it is in.
        made: tensors made of numbers, with their attributes by id: one attribute, one tensor.
    """
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    for name, attribute in bound_attributes(node.attribute, bindings).items():
        if name in ("value", "sparse_value"):
            tensor: Constant = attribute_value(attribute)
            return made.setdefault(id(attribute), (attribute, tensor))[1]
        if name.startswith("value_"):
            if id(attribute) not in made:
                made[id(attribute)] = (attribute, _tensor(name, attribute_value(attribute)))
            return made[id(attribute)][1]
    return None


def _tensor(name: str, value: Any) -> TensorProto:
    kinds = {"f": TensorProto.FLOAT, "i": TensorProto.INT64, "s": TensorProto.STRING}
    several = name.endswith("s")
    values = list(value) if several else [value]
    data_type = kinds[name[len("value_")]]
    return onnx.helper.make_tensor(name, data_type, [len(values)] if several else [], values)

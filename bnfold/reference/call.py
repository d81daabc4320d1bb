"""What a kernel is told about its node, and how attributes become Python values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
from onnx import AttributeProto, TensorProto

Array = npt.NDArray[Any]

FLOAT64 = np.dtype(np.float64)
# The dtypes that are computed in float64; float8 and smaller are codes and stay what they are.
COMPUTED_FLOATS = frozenset(
    {
        TensorProto.FLOAT16,
        TensorProto.BFLOAT16,
        TensorProto.FLOAT,
        TensorProto.DOUBLE,
    }
)
NARROW_FLOATS = frozenset(np.dtype(dtype) for dtype in (np.float16, ml_dtypes.bfloat16, np.float32))


@dataclass(frozen=True, slots=True)
class Call:
    """One node as its kernel sees it.

    Attributes:
        op_type: the operator.
        version: of the operator set that the graph imports, not the operator's own.
        attributes: Python values by name, with the defaults of this version; a name is absent
            where the specification has no default. A tensor or a graph is the proto itself.
        outputs: the names that the node gives its outputs, ``""`` for one that it leaves out.
    """

    op_type: str
    version: int
    attributes: Mapping[str, Any]
    outputs: tuple[str, ...] = ("y",)

    def __getitem__(self, name: str) -> Any:
        return self.attributes[name]

    def get(self, name: str, default: Any = None) -> Any:
        """The value of an attribute, or ``default`` where it has none."""
        return self.attributes.get(name, default)

    def wants(self, output: int) -> bool:
        """Whether the node names its output of this number."""
        return output < len(self.outputs) and bool(self.outputs[output])


def widened(value: Any) -> Any:
    """``value`` with float64 in place of the narrower computed floats, in sequences as well.

    Args:
        value: an array or NumPy scalar of any dtype, a list of such, None for an optional
            that is empty, or a dict of a classifier.
    """
    if isinstance(value, np.ndarray):
        return value.astype(np.float64) if value.dtype in NARROW_FLOATS else value
    if isinstance(value, list):
        return [widened(item) for item in value]
    if value is None or isinstance(value, dict):
        return value
    return widened(np.asarray(value))


def bound_attributes(
    attributes: Iterable[AttributeProto], bindings: Mapping[str, AttributeProto] | None
) -> dict[str, AttributeProto]:
    """Attributes by name; a reference becomes what the function's caller gave, or is absent.

    Args:
        attributes: of a node.
        bindings: what the function's attributes are in this call; None outside of functions.
    """
    found: dict[str, AttributeProto] = {}
    for attribute in attributes:
        if not attribute.ref_attr_name:
            found[attribute.name] = attribute
        elif bindings is not None and attribute.ref_attr_name in bindings:
            found[attribute.name] = bindings[attribute.ref_attr_name]
    return found


def attribute_value(attribute: AttributeProto) -> Any:
    """The Python value: float, int, str, a list of them, or the proto that it holds."""
    kind = attribute.type
    if kind == AttributeProto.FLOAT:
        return float(attribute.f)
    if kind == AttributeProto.INT:
        return int(attribute.i)
    if kind == AttributeProto.STRING:
        return attribute.s.decode("utf-8", "replace")
    if kind == AttributeProto.FLOATS:
        return [float(value) for value in attribute.floats]
    if kind == AttributeProto.INTS:
        return [int(value) for value in attribute.ints]
    if kind == AttributeProto.STRINGS:
        return [value.decode("utf-8", "replace") for value in attribute.strings]
    return onnx.helper.get_attribute_value(attribute)


@cache
def schema_of(domain: str, op_type: str, version: int) -> Any:
    """The schema that holds for this operator set version, or None."""
    try:
        return onnx.defs.get_schema(op_type, version, domain)
    except Exception:
        return None


@cache
def default_attributes(domain: str, op_type: str, version: int) -> dict[str, AttributeProto]:
    """The default values that the specification of this version gives, by name."""
    schema = schema_of(domain, op_type, version)
    if schema is None:
        return {}
    defaults = {name: a.default_value for name, a in schema.attributes.items()}
    return {name: value for name, value in defaults.items() if value is not None and value.type}

"""What every rule reads of a node: its version, its attributes, its constant inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from onnx import TensorProto

from bnfold.algebra.affine import Affine, Float64Array
from bnfold.algebra.layer import Layer
from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.operators import (
    LAST_OPSET,
    attributes_of,
    has_right_kind,
    key_of,
    version_of,
)
from bnfold.onnxgraph.constants import OVERRIDABLE, TOO_LARGE, Constants
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.known import Known, Unknown
from bnfold.onnxgraph.tensors import type_name
from bnfold.onnxgraph.types import Types

FLOATS = frozenset(
    {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE}
)
"""The data types in which bnfold stores what it has multiplied."""


@dataclass(frozen=True)
class Context:
    """What the rules may ask about the model.

    Attributes:
        opset: version of the standard operator set that the model imports.
        assume_inference: whether training-mode norms are read as inference.
    """

    constants: Constants
    types: Types
    opset: int
    assume_inference: bool = False

    def whole_numbers(self, tensor: Tensor | None) -> list[int] | None:
        """The values of a constant of integers, such as axes or sizes, or None."""
        if tensor is None:
            return None
        found = self.constants.value(tensor)
        if isinstance(found, Unknown) or not np.issubdtype(found.array.dtype, np.integer):
            return None
        return [int(value) for value in np.ravel(found.array)]


@dataclass(frozen=True, eq=False, slots=True)
class Inward:
    """How a linear operator reads its data: what it needs to take up a map before it.

    Attributes:
        at: which input is the data.
        axis: the axis of the input channels in the data, from the front, or negative.
        rank: finds the number of axes of the data, or None where nothing tells.
        channels: number of input channels C.
        factor: turns factors of the input channels, shape ``(C,)``, into what the stored weight is
            multiplied by, a shape that broadcasts to the weight's.
        gain: what the operator itself multiplies its products by (Gemm's alpha).
        uneven: why a shift does not reach every output alike, or None where it does.
    """

    at: int
    axis: int
    rank: Callable[[], int | None]
    channels: int
    factor: Callable[[Float64Array], Float64Array]
    gain: float = 1.0
    uneven: Refused | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Linear:
    """A linear operator in canonical form.

    Attributes:
        node: the operator.
        weight: its weight, constant in value.
        weight_factor: turns factors of the output channels, shape ``(M,)``, into what the stored
            weight is multiplied by, a shape that broadcasts to the weight's.
        layer: factors of one and the bias as float64.
        axis: the axis of the output channels in the output, from the front, or negative.
        rank: finds the number of axes of the output, or None where nothing tells.
        bias: what holds the bias now, or None.
        shift: where a shift goes: into the bias ``"input"``, into an ``"add"`` behind the
            operator, or into a bias that is ``"computed"``, by what ``asks`` says of it.
        weight_at, bias_at: which inputs they are.
        bias_shape: what a bias is stored in, where that is no vector.
        asks: inputs that have to carry a map as well, such as a computed bias, and which one for
            the map on the output channels.
        per_group: whether each weight serves several neighbouring output channels.
        outward: why it takes up no map behind it, or None where it does.
        inward: how it takes up a map before it, or why it cannot.
        notes: what a reader of the report should know about how the operator was read.
    """

    node: Node
    weight: Known
    weight_factor: Callable[[Float64Array], Float64Array]
    layer: Layer
    axis: int
    rank: Callable[[], int | None]
    bias: Known | None
    shift: Literal["input", "add", "computed"] = "input"
    weight_at: int = 1
    bias_at: int = 2
    bias_shape: tuple[int, ...] | None = None
    asks: Mapping[int, Callable[[Affine], Spread]] = field(default_factory=dict)
    per_group: bool = False
    outward: Refused | None = None
    inward: Inward | Refused | None = None
    notes: tuple[str, ...] = ()


def read_version(node: Node, context: Context) -> int | Refused:
    """The version of a node's operator, if its domain, opset and every attribute are known."""
    key = key_of(node)
    if not attributes_of(key):
        return Refused(
            "unknown-domain", f"{node.label} is a {node.op_type} of the domain {node.domain}"
        )
    version = version_of(key, context.opset)
    if version is None:
        first = min(attributes_of(key))
        if context.opset < first:
            return malformed(node, f"it came with opset {first}, and this is {context.opset}")
        return Refused(
            "unknown-opset",
            f"{node.label} is a {node.op_type} of opset {context.opset}, which bnfold "
            f"does not know (the newest it knows is {LAST_OPSET})",
        )
    defined = attributes_of(key)[version]
    for attribute in node.proto.attribute:
        if attribute.name not in defined:
            return Refused(
                "unknown-attribute",
                f"{node.label} ({node.op_type}) has the attribute {attribute.name}, which "
                f"{node.op_type} does not define at opset {context.opset}",
            )
        if not has_right_kind(attribute):
            return malformed(node, f"attribute {attribute.name} has the wrong type")
        if attribute.ref_attr_name:
            return malformed(node, f"attribute {attribute.name} refers to a function's attribute")
    return version


def malformed(node: Node, detail: str) -> Refused:
    """A node that contradicts the specification."""
    return Refused("malformed-node", f"{node.label} ({node.op_type}): {detail}")


def read_constant(
    tensor: Tensor | None, node: Node, what: str, context: Context, otherwise: str
) -> Known | Refused:
    """A constant float input of a node.

    Args:
        what: what the input is, for the sentence: ``weight``, ``mean``...
        otherwise: the code of a refusal where the input is simply not constant.
    """
    if tensor is None:
        return malformed(node, f"it has no {what}")
    found = context.constants.value(tensor)
    if isinstance(found, Unknown):
        codes = {OVERRIDABLE: OVERRIDABLE, TOO_LARGE: TOO_LARGE}
        return Refused(
            codes.get(found.code, otherwise), f"the {what} of {node.label}: {found.detail}"
        )
    if found.data_type not in FLOATS:
        return Refused(
            "unsupported-dtype",
            f"the {what} of {node.label} is {type_name(found.data_type)}, not a float",
        )
    return found


def bias_map(affine: Affine) -> Spread:
    """``affine(w x + b) == (scale w) x + affine(b)`` for a computed bias of shape ``(M,)``."""
    return Spread(affine.scale, affine.shift)


def as_float64(known: Known) -> Float64Array:
    """A small constant in float64."""
    return np.asarray(known.array).astype(np.float64)

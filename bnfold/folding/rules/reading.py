"""What every rule reads of a node: its version, its attributes, its constant inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from onnx import AttributeProto, TensorProto

from bnfold.algebra.affine import Float64Array
from bnfold.algebra.layer import Layer
from bnfold.folding.reasons import Refused
from bnfold.onnxgraph.constants import OVERRIDABLE, TOO_LARGE, Constants, Known, Unknown
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.tensors import type_name
from bnfold.onnxgraph.types import Types

LAST_OPSET: Final = 28
"""The newest operator set that the tables below were checked against."""

_CONV = {"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"}
_TRANSPOSED = _CONV | {"output_padding", "output_shape"}
_GEMM = {"alpha", "beta", "transA", "transB"}
_OLD_BINARY = {"axis", "broadcast"}
_BINARY = {1: _OLD_BINARY | {"consumed_inputs"}, 6: _OLD_BINARY, 7: set(), 13: set(), 14: set()}

ATTRIBUTES: Final[dict[str, dict[int, set[str]]]] = {
    "Conv": {1: _CONV, 11: _CONV, 22: _CONV},
    "ConvTranspose": {1: _TRANSPOSED, 11: _TRANSPOSED, 22: _TRANSPOSED},
    "Gemm": {
        1: _GEMM | {"broadcast"},
        6: _GEMM | {"broadcast"},
        **dict.fromkeys((7, 9, 11, 13), _GEMM),
    },
    "MatMul": {1: set(), 9: set(), 13: set()},
    "BatchNormalization": {
        1: {"consumed_inputs", "epsilon", "is_test", "momentum", "spatial"},
        6: {"epsilon", "is_test", "momentum", "spatial"},
        7: {"epsilon", "momentum", "spatial"},
        9: {"epsilon", "momentum"},
        14: {"epsilon", "momentum", "training_mode"},
        15: {"epsilon", "momentum", "training_mode"},
    },
    "Add": _BINARY,
    "Sub": _BINARY,
    "Mul": _BINARY,
    "Div": _BINARY,
    "Identity": {version: set() for version in (1, 13, 14, 16, 19, 21, 23, 24, 25)},
    "Dropout": {
        1: {"consumed_inputs", "is_test", "ratio"},
        6: {"is_test", "ratio"},
        7: {"ratio"},
        10: {"ratio"},
        **{version: {"seed"} for version in (12, 13, 22)},
    },
}
"""Operator -> version -> the attributes that it defines; any other is a refusal."""

_FLOATS = frozenset(
    {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE}
)
_ATTRIBUTE_KINDS = {
    **dict.fromkeys(("alpha", "beta", "epsilon", "momentum", "ratio"), AttributeProto.FLOAT),
    **dict.fromkeys(
        [
            "axis",
            "broadcast",
            "group",
            "is_test",
            "seed",
            "spatial",
            "training_mode",
            "transA",
            "transB",
        ],
        AttributeProto.INT,
    ),
    **dict.fromkeys(
        [
            "consumed_inputs",
            "dilations",
            "kernel_shape",
            "output_padding",
            "output_shape",
            "pads",
            "strides",
        ],
        AttributeProto.INTS,
    ),
    "auto_pad": AttributeProto.STRING,
}


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


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear operator in canonical form.

    Attributes:
        node: the operator.
        weight: its weight, constant in value.
        weight_factor: turns factors of the output channels, shape ``(M,)``, into what the stored
            weight is multiplied by, a shape that broadcasts to the weight's.
        layer: factors of one and the bias as float64.
        axis: the axis of the output channels in the output, from the front, or -1 for the last.
        rank: finds the number of axes of the output, or None where nothing tells.
        bias: what holds the bias now, or None.
        has_bias: whether the operator has a bias input; else the bias takes an Add of its own.
        notes: what a reader of the report should know about how the operator was read.
    """

    node: Node
    weight: Known
    weight_factor: Callable[[Float64Array], Float64Array]
    layer: Layer
    axis: int
    rank: Callable[[], int | None]
    bias: Known | None
    has_bias: bool = True
    notes: tuple[str, ...] = ()


@lru_cache(maxsize=256)
def version_of(op_type: str, opset: int) -> int | None:
    """The version of a standard operator at an opset, or None where it is not known."""
    versions = ATTRIBUTES.get(op_type, {})
    if opset > LAST_OPSET:
        from onnx import defs

        if opset > defs.onnx_opset_version():
            return None
        since = int(defs.get_schema(op_type, opset).since_version)
        return since if since in versions else None
    return max((version for version in versions if version <= opset), default=None)


def read_version(node: Node, context: Context) -> int | Refused:
    """The version of a node's operator, if its domain, opset and every attribute are known."""
    if node.domain != "":
        return Refused(
            "unknown-domain", f"{node.label} is a {node.op_type} of the domain {node.domain}"
        )
    version = version_of(node.op_type, context.opset)
    if version is None:
        return Refused(
            "unknown-opset",
            f"{node.label} is a {node.op_type} of opset {context.opset}, which bnfold "
            f"does not know (the newest it knows is {LAST_OPSET})",
        )
    for attribute in node.proto.attribute:
        if attribute.name not in ATTRIBUTES[node.op_type][version]:
            return Refused(
                "unknown-attribute",
                f"{node.label} ({node.op_type}) has the attribute {attribute.name}, which "
                f"{node.op_type} does not define at opset {context.opset}",
            )
        if attribute.type not in (_ATTRIBUTE_KINDS[attribute.name], AttributeProto.UNDEFINED):
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
    if found.data_type not in _FLOATS:
        return Refused(
            "unsupported-dtype",
            f"the {what} of {node.label} is {type_name(found.data_type)}, not a float",
        )
    return found


def as_float64(known: Known) -> Float64Array:
    """A small constant in float64."""
    return np.asarray(known.array).astype(np.float64)

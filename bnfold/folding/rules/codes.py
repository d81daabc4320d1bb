"""What a DequantizeLinear reads: its codes, and the axis along which its scale differs."""

from __future__ import annotations

from onnx import TensorProto

from bnfold.folding.reasons import Refused
from bnfold.folding.rules.reading import Context, malformed
from bnfold.onnxgraph.constants import OVERRIDABLE, TOO_LARGE
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.known import Known, Unknown
from bnfold.onnxgraph.tensors import type_name

PER_AXIS_SINCE = 13
"""The version of DequantizeLinear from which on a scale can differ along an axis."""

_CODES = frozenset(
    number
    for name, number in TensorProto.DataType.items()
    if name.startswith(("INT", "UINT", "FLOAT4", "FLOAT6", "FLOAT8E4", "FLOAT8E5"))
)


def read_codes(
    tensor: Tensor | None, node: Node, what: str, context: Context, code: str
) -> Known | Refused:
    """The codes or the zero point of a DequantizeLinear."""
    if tensor is None:
        return malformed(node, f"it has no {what}")
    found = context.constants.value(tensor)
    if isinstance(found, Unknown):
        codes = {OVERRIDABLE: OVERRIDABLE, TOO_LARGE: TOO_LARGE}
        return Refused(codes.get(found.code, code), f"the {what} of {node.label}: {found.detail}")
    if found.data_type not in _CODES:
        return malformed(node, f"its {what} is {type_name(found.data_type)}")
    return found


def scale_axis(
    node: Node, shape: tuple[int, ...], scale: tuple[int, ...], version: int
) -> int | Refused | None:
    """The axis along which a scale differs, or None where it is one value."""
    block = node.integer("block_size", 0)
    if not scale or (scale == (1,) and block == 0):
        return None
    rank = len(shape)
    axis = node.integer("axis", 1)
    listed = f"its scale has shape {list(scale)} for codes of shape {list(shape)}"
    if version < PER_AXIS_SINCE:
        return malformed(node, f"{listed}, and at its opset it is one value")
    if not -rank <= axis < rank:
        return malformed(node, f"its axis is {axis}, and its codes have {rank} axes")
    axis %= rank
    wanted: tuple[int, ...] = (shape[axis],)
    if block != 0:
        blocks = -(-shape[axis] // block) if block > 0 else 0
        wanted = (*shape[:axis], blocks, *shape[axis + 1 :])
    return axis if scale == wanted else malformed(node, f"{listed} on axis {axis}")

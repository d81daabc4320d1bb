"""Add, Sub, Mul and Div with a constant, read as an affine map."""

from __future__ import annotations

import numpy as np

from bnfold.algebra.affine import Affine, Float64Array
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.placed import Placed
from bnfold.folding.rules.reading import (
    Context,
    as_float64,
    malformed,
    read_constant,
    read_version,
)
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.known import Known


def affine_of(op_type: str, constant: Float64Array, *, constant_is_first: bool) -> Affine | None:
    """The map ``op(x, c)``, or ``op(c, x)``: ``x + c``, ``x - c``, ``c - x``, ``x * c``, ``x / c``.

    ``c / x`` is no affine map: None.

    Args:
        constant: c, shape ``(C,)`` or ``(1,)``.
    """
    one, zero = np.ones_like(constant), np.zeros_like(constant)
    if op_type == "Add":
        return Affine(one, constant)
    if op_type == "Sub":
        return Affine(-one, constant) if constant_is_first else Affine(one, -constant)
    if op_type == "Mul":
        return Affine(constant, zero)
    if constant_is_first:
        return None
    with np.errstate(divide="ignore", over="ignore"):
        return Affine(one / constant, zero)


def data_position(node: Node, context: Context) -> int | None:
    """Which of the two inputs is not constant, or None where that is not exactly one."""
    if len(node.inputs) != 2 or None in node.inputs:
        return None
    constant = [
        context.constants.why_not(tensor) is None for tensor in node.inputs if tensor is not None
    ]
    return constant.index(False) if constant.count(False) == 1 else None


def adds_several_axes(node: Node, data_at: int, context: Context) -> bool:
    """Whether a constant that differs along several axes is added: that is a branch, no norm."""
    constant = node.input(1 - data_at)
    if node.op_type not in ("Add", "Sub") or constant is None:
        return False
    found = context.constants.value(constant)
    return isinstance(found, Known) and sum(size != 1 for size in found.shape) > 1


def ends_gelu(node: Node, data_at: int) -> bool:
    """Whether a node is the last factor of a Gelu that is written out: ``0.5 (x (1 + erf(...)))``.

    Runtimes know the whole of it (with Tanh for Erf, too), and are slower without this node.
    """
    data = node.input(data_at)
    product = data.producer if data is not None else None
    if node.op_type not in ("Mul", "Div") or product is None or product.op_type != "Mul":
        return False
    for tensor in product.inputs:
        added = tensor.producer if tensor is not None else None
        if added is None or added.op_type != "Add":
            continue
        makers = (t.producer for t in added.inputs if t is not None)
        if any(maker is not None and maker.op_type in ("Erf", "Tanh") for maker in makers):
            return True
    return False


def read_elementwise(node: Node, data: Tensor, context: Context) -> Placed | Refused:
    """``scale * x + shift`` on the one axis along which the constant varies, as ONNX broadcasts.

    Args:
        data: the operand that is not constant.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    at = node.inputs.index(data)
    constant = read_constant(
        node.input(1 - at), node, "constant operand", context, "statistics-not-constant"
    )
    if isinstance(constant, Refused):
        return constant
    where = _placement(node, version, constant, constant_is_first=at == 1)
    if isinstance(where, Refused):
        return where
    axis, least_rank = where
    values = as_float64(constant).reshape(-1)
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        return Refused(
            "non-finite-statistics",
            f"channel {bad[0]} of the constant of {node.label} is {values[bad[0]]}",
        )
    affine = affine_of(node.op_type, values, constant_is_first=at == 1)
    if affine is None:
        return Refused(
            "producer-not-linear",
            f"{node.label} divides a constant by its input, which is no affine map",
        )
    if not affine.is_finite:
        channel = int(np.flatnonzero(~np.isfinite(affine.scale))[0])
        return Refused(
            "non-finite-statistics", f"channel {channel} of {node.label} divides by zero"
        )
    scales = node.op_type in ("Mul", "Div")
    return Placed(affine, axis, least_rank, is_per_channel=scales and values.size > 1)


def _placement(
    node: Node, version: int, constant: Known, *, constant_is_first: bool
) -> tuple[int | None, int] | Refused:
    """The axis along which the constant varies, and the rank that it needs."""
    shape = constant.shape
    wide = [axis for axis, size in enumerate(shape) if size != 1]
    if any(shape[axis] == 0 for axis in wide):
        return malformed(node, f"its constant has shape {list(shape)}, without values")
    if len(wide) > 1:
        return Refused(
            "axis-mismatch",
            f"the constant of {node.label} has shape {list(shape)}: it varies along "
            f"{len(wide)} axes, not along one",
        )
    if version < 7:
        return _old_placement(node, shape, wide, constant_is_first=constant_is_first)
    return (wide[0] - len(shape) if wide else None), len(shape)


def _old_placement(
    node: Node, shape: tuple[int, ...], wide: list[int], *, constant_is_first: bool
) -> tuple[int | None, int] | Refused:
    """Before opset 7 only the second operand is broadcast, and only on request."""
    if node.integer("broadcast", 0) == 0:
        # Both operands have the same shape, so the axes agree from the front and from the back.
        return (wide[0] if wide else None), len(shape)
    if constant_is_first:
        return malformed(node, "before opset 7 only the second operand is broadcast")
    found = node.attribute("axis")
    if found is None or not wide:
        return (wide[0] - len(shape) if wide else None), len(shape)
    if found.i < 0:
        return malformed(node, f"its axis is {found.i}")
    return int(found.i) + wide[0], int(found.i) + len(shape)

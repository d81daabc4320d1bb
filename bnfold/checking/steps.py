"""What follows the linear operator of a region, node by node as it is written, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from bnfold.checking.written import RegionError
from bnfold.reference.batch_norm import normalised

Array = npt.NDArray[Any]

TINY = float(np.finfo(np.float64).tiny)
"""The smallest normal number of float64; what is below it is rounded by more than its part."""
DEFAULT_EPSILON = float(np.float32(1e-5))


@dataclass(frozen=True, slots=True)
class Step:
    """One node that is an affine map of its data.

    Attributes:
        op_type: ``BatchNormalization``, ``Add``, ``Sub``, ``Mul`` or ``Div``.
        constants: in float64: gamma, beta, mean, var; or the other operand as it broadcasts.
        is_first: whether that operand is the first.
        eps: of a BatchNormalization, in squared units of its data.
    """

    op_type: str
    constants: tuple[Array, ...]
    is_first: bool = False
    eps: float = 0.0

    def value(self, x: Array) -> Array:
        """What the node makes of its data, as its definition has it."""
        if self.op_type == "BatchNormalization":
            gamma, beta, mean, var = self.constants
            return normalised(x, gamma, beta, mean, var, self.eps)
        (c,) = self.constants
        if self.op_type == "Add":
            return np.asarray(x + c)
        if self.op_type == "Sub":
            return np.asarray(c - x if self.is_first else x - c)
        if self.op_type == "Mul":
            return np.asarray(x * c)
        return np.asarray(x / c)

    def slope(self, x: Array) -> Array:
        """The same for a change of its data: without what it adds."""
        if self.op_type == "BatchNormalization":
            gamma, _, _, var = (_along(c, x.ndim) for c in self.constants)
            return np.asarray(x / np.sqrt(var + self.eps) * gamma)
        (c,) = self.constants
        if self.op_type in ("Add", "Sub"):
            shape = np.broadcast_shapes(x.shape, c.shape)
            x = x if x.shape == shape else np.broadcast_to(x, shape)
            return -x if self.is_first and self.op_type == "Sub" else x
        return np.asarray(x * c if self.op_type == "Mul" else x / c)

    def size(self, x: Array) -> Array:
        """The sum of the magnitudes of its terms, for data of magnitude x.

        A factor or a product below TINY counts as TINY.
        """
        if self.op_type == "BatchNormalization":
            gamma, beta, mean, var = (_along(np.abs(c), x.ndim) for c in self.constants)
            inner = x + mean
            scaled = (inner / np.sqrt(var + self.eps) + TINY) * gamma
            return np.asarray(scaled + beta + TINY * inner)
        c = np.abs(self.constants[0])
        if self.op_type in ("Add", "Sub"):
            return np.asarray(x + c)
        return np.asarray((x * c if self.op_type == "Mul" else x / c) + TINY * (1 + x))


Steps = Sequence[Step]


def value(steps: Steps, x: Array) -> Array:
    """What the steps make of x, which keeps its shape.

    Raises:
        RegionError: a constant does not fit.
    """
    shape = x.shape
    for step in steps:
        try:
            x = step.value(x)
        except ValueError as error:
            raise RegionError(
                f"a {step.op_type} does not fit data of shape {shape}: {error}"
            ) from error
    if x.shape != shape:
        raise RegionError(f"data of shape {shape} becomes {x.shape}")
    return x


def slope(steps: Steps, x: Array) -> Array:
    """What they make of a change of their data."""
    for step in steps:
        x = step.slope(x)
    return x


def size(steps: Steps, x: Array) -> Array:
    """The sum of the magnitudes of all terms: what float64 rounds is a part of it."""
    x = x + TINY
    for step in steps:
        x = step.size(x)
    return x


def step_of(
    proto: onnx.NodeProto, at: int, constants: Sequence[Array], version: int, rank: int
) -> Step | None:
    """A node as a step, or None for one that gives its data unchanged.

    Args:
        at: which input is the data.
        constants: the values of the other inputs, in their order.
        version: of the operator set.
        rank: number of axes of the data.

    Raises:
        RegionError: the operator is no affine map of that input.
    """
    kind = proto.op_type
    if kind in ("Identity", "Dropout") and at == 0:
        return None
    wide = [np.asarray(c).astype(np.float64) for c in constants]
    if kind == "BatchNormalization" and at == 0 and len(wide) == 4:
        eps = next((float(a.f) for a in proto.attribute if a.name == "epsilon"), DEFAULT_EPSILON)
        if any(c.shape != wide[0].shape or c.ndim != 1 for c in wide):
            raise RegionError("the parameters of a BatchNormalization differ in shape")
        return Step(kind, tuple(wide), eps=eps)
    if kind not in ("Add", "Sub", "Mul", "Div") or len(wide) != 1 or (kind == "Div" and at == 1):
        raise RegionError(f"a {kind} is no affine map of its input {at}")
    constant = wide[0]
    if version < 7:
        given = {a.name: int(a.i) for a in proto.attribute}
        if given.get("broadcast", 0) and constant.ndim and "axis" in given:
            if at == 1:
                raise RegionError(f"the first operand of a {kind} is not broadcast before opset 7")
            start = given["axis"] + (rank if given["axis"] < 0 else 0)
            trailing = rank - start - constant.ndim
            if trailing < 0:
                raise RegionError(f"the constant of a {kind} does not fit from axis {start} on")
            constant = constant.reshape(*constant.shape, *[1] * trailing)
        elif not given.get("broadcast", 0) and constant.ndim != rank:
            raise RegionError(f"a {kind} does not broadcast its constant before opset 7")
    return Step(kind, (constant,), is_first=at == 1)


def _along(parameter: Array, rank: int) -> Array:
    return parameter.reshape(-1, *[1] * (rank - 2))

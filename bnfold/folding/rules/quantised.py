"""Weights and biases behind DequantizeLinear: ``w = (q - zero) * scale``, the codes q constant."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bnfold.algebra.affine import Array, Float64Array
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.codes import PER_AXIS_SINCE, read_codes, scale_axis
from bnfold.folding.rules.reading import (
    Context,
    as_float64,
    malformed,
    read_constant,
    read_version,
)
from bnfold.onnxgraph.constants import OVERRIDABLE
from bnfold.onnxgraph.expressions import VIEWS
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.known import Known

_ON_THE_WAY = VIEWS | {"Cast", "CastLike"}


@dataclass(eq=False)
class Dequantised(Known):
    """A constant that a DequantizeLinear makes; ``array`` has its values in float64.

    Attributes:
        node: the DequantizeLinear.
        version: of that operator.
        codes: q, of the constant's shape; a QuantizeLinear may make them in the graph.
        scale, zero: of one value, of one for each index of ``axis``, or of one for each block.
        axis: along which scale and zero differ, or None where they are one value.
        block: how many indices of ``axis`` share a scale, or 0 where there are no blocks.
        between: a Transpose that only the operator reads, or None; axes above are before it.
        order: its perm.
    """

    node: Node
    version: int
    codes: Known
    scale: Known
    zero: Known | None
    axis: int | None = None
    block: int = 0
    between: Node | None = None
    order: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The dims, without reading the codes."""
        shape = self.codes.shape
        return tuple(shape[at] for at in self.order) if self.between is not None else shape

    @property
    def data_type(self) -> int:
        """The ONNX data type of what the node makes."""
        return self.node.integer("output_dtype", 0) or self.scale.data_type

    @cached_property
    def reach(self) -> Float64Array:
        """The largest ``|q - zero|`` of each scale, in a shape that broadcasts to the codes'.

        Blocks count as one.
        """
        away = np.abs(self._away())
        keep = self.axis if not self.block else None
        axes = tuple(at for at in range(away.ndim) if at != keep)
        return np.asarray(away.max(axis=axes, keepdims=True, initial=0.0))

    def spread(self, parameter: Array) -> Float64Array:
        """A scale or zero point in float64, in a shape that broadcasts to that of the codes."""
        values = parameter.astype(np.float64)
        if self.axis is None:
            return values.reshape(())
        if self.block:
            size = self.codes.shape[self.axis]
            repeated = np.repeat(values, self.block, axis=self.axis)
            return np.take(repeated, np.arange(size), axis=self.axis)
        return values.reshape(-1, *[1] * (len(self.codes.shape) - self.axis - 1))

    def values(self) -> Float64Array:
        """``(q - zero) * scale``."""
        values = np.asarray(self._away() * self.spread(self.scale.array))
        return values.transpose(self.order) if self.between is not None else values

    def _away(self) -> Float64Array:
        codes = np.asarray(self.codes.array).astype(np.float64)
        return codes if self.zero is None else codes - self.spread(self.zero.array)


@dataclass(frozen=True, eq=False)
class Rescaled:
    """The scale of a DequantizeLinear after it took up a factor.

    Attributes:
        scale: float64, not rounded, in the shape in which it is stored.
        axis: its axis, or None for one value.
        before: the scale before, of the same shape.
        widened: whether the zero point has to become one for each index of the axis.
    """

    scale: Float64Array
    axis: int | None
    before: Float64Array
    widened: bool = False


def rescaled(constant: Dequantised, factor: Float64Array) -> Rescaled | str:
    """``factor * ((q - zero) * scale) == (q - zero) * (factor * scale)``, one factor a scale.

    Holds for any factor that is the same wherever the scale can only be one value. A scale of one
    value becomes one for each index of an axis where the factor differs along that axis alone.
    ``docs/algebra.md``, equations 37 and 38.

    Args:
        factor: of a shape that broadcasts to the constant's.

    Returns:
        The new scale, or why there is none.
    """
    shape = constant.codes.shape
    if not shape:  # one factor for one code
        factor = factor.reshape(factor.shape if factor.size != 1 else ())
    factor = _narrow(factor.reshape((*[1] * (len(shape) - factor.ndim), *factor.shape)))
    if constant.between is not None:
        factor = factor.transpose(np.argsort(constant.order))
    if factor.ndim > len(shape) or any(
        size not in (1, dim) for size, dim in zip(factor.shape, shape, strict=True)
    ):
        return f"its factor has shape {list(factor.shape)}, and the codes {list(shape)}"
    old = as_float64(constant.scale)
    if constant.block:
        assert constant.axis is not None
        return _rescaled_blocks(constant, factor, constant.axis, old)
    axis = None if old.size == 1 or _is_one_value(constant) else constant.axis
    wide = {at for at, size in enumerate(factor.shape) if size != 1}
    wide |= set() if axis is None else {axis}
    if len(wide) > 1:
        listed = " and ".join(str(at) for at in sorted(wide))
        return f"its scale would differ along the axes {listed}, and can along one only"
    if not wide:
        return Rescaled(np.asarray(old * factor.reshape(-1)[0]), constant.axis, old)
    (along,) = wide
    if constant.axis == along:
        return Rescaled(old * factor.reshape(-1), along, old)
    if constant.version < PER_AXIS_SINCE:
        return (
            f"it needs a scale for each index of axis {along}, which DequantizeLinear has from "
            f"opset {PER_AXIS_SINCE} on"
        )
    before = np.full(shape[along], old.reshape(-1)[0])
    return Rescaled(before * factor.reshape(-1), along, before, widened=True)


def _rescaled_blocks(
    constant: Dequantised, factor: Float64Array, axis: int, old: Float64Array
) -> Rescaled | str:
    """``rescaled`` for a scale of one value a block: the factor has to be one value in a block."""
    size, block = constant.codes.shape[axis], constant.block
    if factor.shape[axis] == 1:
        return Rescaled(old * factor, axis, old)
    firsts = np.take(factor, np.arange(0, size, block), axis=axis)
    if (np.take(np.repeat(firsts, block, axis=axis), np.arange(size), axis=axis) != factor).any():
        return f"its factor differs inside of the blocks of {block} along axis {axis}"
    return Rescaled(old * firsts, axis, old)


def _is_one_value(constant: Dequantised) -> bool:
    """Whether scale and zero point, though there are several, are one value."""
    parts = [constant.scale.array]
    parts += [] if constant.zero is None else [constant.zero.array]
    return all(bool((part == part.reshape(-1)[0]).all()) for part in parts)


def _narrow(factor: Float64Array) -> Float64Array:
    """A factor with every axis of size 1 along which it does not differ."""
    for axis in range(factor.ndim):
        first = np.take(factor, [0], axis=axis) if factor.shape[axis] > 1 else factor
        if (first == factor).all():
            factor = first
    return factor


def read_weight(
    tensor: Tensor | None, node: Node, what: str, context: Context, code: str = "quantised-weight"
) -> Known | Refused:
    """A constant float input of a linear operator, stored as it is or behind a DequantizeLinear.

    Args:
        what: what the input is, for the sentence.
        code: of a refusal where it is quantised in a way that no factor can go into.
    """
    maker = _dequantize_before(tensor, context)
    if tensor is None or maker is None:
        return read_constant(tensor, node, what, context, "weight-not-constant")
    if maker is tensor.producer and maker.outputs[0] is tensor:
        return _read_dequantised(tensor, maker, what, context, code)
    assert tensor.producer is not None
    between = tensor.producer
    if between.op_type == "Transpose" and between.input(0) is maker.outputs[0]:
        found = _read_transposed(tensor, between, node, maker, what, context, code)
        if found is not None:
            return found
    return Refused(
        code,
        f"the {what} of {node.label} is quantised, and {between.label} ({between.op_type}) stands "
        f"between its {maker.label} (DequantizeLinear) and {node.label}",
    )


def _read_transposed(
    tensor: Tensor,
    between: Node,
    node: Node,
    maker: Node,
    what: str,
    context: Context,
    code: str,
) -> Dequantised | Refused | None:
    """A constant behind a DequantizeLinear and a Transpose that only ``node`` reads, else None."""
    is_alone = tensor.readers == [node] and node.inputs.count(tensor) == 1
    if not is_alone or tensor.is_output or tensor.is_pinned or between.scope is not node.scope:
        return None
    version, made = read_version(between, context), maker.outputs[0]
    if isinstance(version, Refused) or made is None:
        return version if isinstance(version, Refused) else None
    found = _read_dequantised(made, maker, what, context, code)
    if isinstance(found, Refused):
        return found
    rank = len(found.codes.shape)
    perm = between.attribute("perm")
    order = tuple(int(at) for at in perm.ints) if perm is not None else tuple(range(rank))[::-1]
    if sorted(order) != list(range(rank)):
        return malformed(between, f"its perm is {list(order)}, and its data has {rank} axes")
    found.between, found.order = between, order
    return found


def read_bias(tensor: Tensor | None, node: Node, what: str, context: Context) -> Known | Refused:
    """The bias of a linear operator, as ``read_weight`` reads its weight."""
    return read_weight(tensor, node, what, context, code="quantised-bias")


def _dequantize_before(tensor: Tensor | None, context: Context) -> Node | None:
    """The DequantizeLinear of constant codes, at the tensor or a few views before it."""
    while tensor is not None and tensor.producer is not None and tensor.producer.domain == "":
        node, data = tensor.producer, tensor.producer.input(0)
        if node.op_type == "DequantizeLinear":
            why = context.constants.why_not(data) if data is not None else None
            return node if why is None or why.code == OVERRIDABLE else None
        if node.op_type not in _ON_THE_WAY:
            return None
        tensor = data
    return None


def _read_dequantised(
    tensor: Tensor, node: Node, what: str, context: Context, code: str
) -> Dequantised | Refused:
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    codes = read_codes(node.input(0), node, "codes", context, code)
    if isinstance(codes, Refused):
        return codes
    scale = read_constant(node.input(1), node, "scale", context, "weight-not-constant")
    if isinstance(scale, Refused):
        return scale
    zero: Known | None = None
    if node.input(2) is not None:
        found = read_codes(node.input(2), node, "zero point", context, code)
        if isinstance(found, Refused):
            return found
        zero = found
        # One value may be written with or without an axis.
        is_one = int(np.prod(zero.shape)) == int(np.prod(scale.shape)) == 1
        if zero.data_type != codes.data_type or (zero.shape != scale.shape and not is_one):
            return malformed(node, "its zero point has another dtype or shape than its codes need")
    axis = scale_axis(node, codes.shape, scale.shape, version)
    if isinstance(axis, Refused):
        return axis
    if 0 in codes.shape:
        return malformed(node, f"its codes have shape {list(codes.shape)}")
    if not np.isfinite(as_float64(scale)).all():
        return Refused(code, f"a scale of {node.label}, which makes the {what}, is not finite")
    constant = Dequantised(
        tensor=tensor,
        stored=None,
        read=lambda: constant.values(),
        node=node,
        version=version,
        codes=codes,
        scale=scale,
        zero=zero,
        axis=axis,
        block=node.integer("block_size", 0) if len(scale.shape) > 1 else 0,
    )
    return constant

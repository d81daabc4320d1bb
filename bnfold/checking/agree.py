"""Evaluate both sides of a cluster on the same data: every tensor that others need is the same.

Nothing is rounded but by float64 itself, so the allowed difference is a tiny part of the sum of the
magnitudes of all terms. The data is random, about 30 in size, of both signs, dense in one half of
the samples and mostly zero in the other.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper

from bnfold.checking.excerpt import SAMPLERS, Excerpt
from bnfold.checking.extents import Extents, Shapes
from bnfold.checking.sides import Need, Sides
from bnfold.checking.written import RegionError
from bnfold.checking.yardstick import quanta
from bnfold.errors import ModelError
from bnfold.onnxgraph.graph import Tensor
from bnfold.onnxgraph.types import Types
from bnfold.reference.call import COMPUTED_FLOATS

Array = npt.NDArray[Any]

SIZE = 30.0
_BEYOND = 1.25
"""Of a grid: most places lie on the image, which reaches from -1 to 1, and some beyond."""
CLOSE = 1e-10
"""A difference below this part of the value itself is none: nothing more has to be computed."""
_EPS = 2.0**-52
_TINY = float(np.finfo(np.float64).tiny)
_SEED = 20150211


def is_compared(sides: Sides, types: Types) -> bool:
    """Compare both sides; whether data could be made up for them.

    Raises:
        RegionError: they are not the same function.
    """
    if not sides.needs:
        return True
    extents = Extents(sides.nodes, sides.boundary, types)
    for shapes in extents.trials():
        feeds = _feeds(sides, shapes, types)
        wanted = {need.before for need in sides.needs}
        try:
            before = [sides.before.run(feed, wanted) for feed in feeds]
        except ModelError:
            continue
        if any(not value.size for value in before[0].values()):
            continue
        why = _difference(sides, feeds, before)
        if why is None:
            return True
        # What is right for the model's own sizes alone is right.
        why = _at_own_sizes(sides, extents, shapes, types, why)
        if why is not None:
            raise RegionError(why)
        return True
    return False


def _at_own_sizes(
    sides: Sides, extents: Extents, tried: Shapes, types: Types, otherwise: str
) -> str | None:
    """What differs at the model's own sizes, or at others where those cannot be evaluated."""
    for shapes in extents.own():
        if shapes == tried:
            return otherwise
        try:
            feeds = _feeds(sides, shapes, types)
            wanted = {need.before for need in sides.needs}
            before = [sides.before.run(feed, wanted) for feed in feeds]
            return _difference(sides, feeds, before)
        except (ModelError, MemoryError):
            continue
    return otherwise


def _difference(
    sides: Sides, feeds: list[dict[str, Array]], before: list[dict[str, Array]]
) -> str | None:
    """The first need that differs, in words."""
    wanted = {need.after for need in sides.needs}
    for feed, values in zip(feeds, before, strict=True):
        try:
            after = sides.after.run(feed, wanted)
        except ModelError as error:
            return f"the written side cannot be computed: {error}"
        doubtful: list[Need] = []
        for need in sides.needs:
            one, other = values[need.before], after[need.after]
            if one.shape != other.shape or one.dtype != other.dtype:
                return f"{need.tensor.name} of shape {one.shape} becomes one of {other.shape}"
            if need.by_value and _is_apart(one, other, CLOSE * np.abs(one)).any():
                doubtful.append(need)
        if doubtful:
            why = _beyond_rounding(sides, feed, values, after, doubtful)
            if why is not None:
                return why
    return None


def _is_apart(one: Array, other: Array, allowed: Array) -> Array:
    """Where two arrays differ, wherever the first is a number."""
    if one.dtype != np.float64:
        return np.asarray(one != other)
    return np.asarray(~(np.abs(other - one) <= allowed) & np.isfinite(one))


def _beyond_rounding(
    sides: Sides,
    feed: dict[str, Array],
    before: Mapping[str, Array],
    after: Mapping[str, Array],
    needs: list[Need],
) -> str | None:
    """The first of some needs that differs by more than float64 can have rounded, in words."""
    names = {need.before for need in needs}
    sizes: Mapping[str, Array] = {}
    with contextlib.suppress(ModelError):
        sizes = sides.before.magnitudes(feed, names)
    part = _EPS * (64 + 16 * len(sides.before.nodes) + 4 * _terms(sides))
    moved = _moved(sides, feed, {need.after for need in needs}, part)
    for need in needs:
        one, other = before[need.before], after[need.after]
        if one.dtype != np.float64:
            return f"{need.tensor.name} changes"
        size = np.abs(one)
        if need.before in sizes and sizes[need.before].shape == one.shape:
            found = sizes[need.before]
            size = np.maximum(size, np.where(np.isnan(found), np.inf, found))
        if need.before not in sizes or sides.before.has_normalisers:
            size = np.maximum(size, size.max(initial=0.0, where=np.isfinite(size)))
        allowed = part * size + _TINY + moved.get(need.after, np.zeros(()))
        if _is_apart(one, other, allowed).any():
            off = np.where(np.isfinite(one), np.abs(other - one) / np.maximum(size, 1e-300), 0.0)
            at = np.unravel_index(int(np.argmax(np.nan_to_num(off, nan=np.inf))), off.shape)
            return (
                f"{need.tensor.name} would be {other[at]:.9g} in place of {one[at]:.9g} "
                f"at {[int(i) for i in at]}"
            )
    return None


def _moved(
    sides: Sides, feed: dict[str, Array], names: set[str], part: float
) -> Mapping[str, Array]:
    """What rounding can move on the written side.

    Float64 rounds its terms, which may cancel to a zero that was exact before. Constants that no
    operator's claim is about are rounded once.

    Args:
        part: of the magnitudes on the written side, that float64 may round.
    """
    halves = {
        name: quanta(np.ascontiguousarray(array).reshape(-1)).reshape(array.shape) / 2
        for name, array in sides.rewritten.items()
        if helper.np_dtype_to_tensor_dtype(array.dtype) in COMPUTED_FLOATS
    }
    read = {name for node in sides.after.nodes for name in node.input}
    halves = {name: half for name, half in halves.items() if name in read}
    try:
        plain = sides.after.magnitudes(feed, names)
        if not halves and _fills(sides.before) == _fills(sides.after):
            return {name: part * np.nan_to_num(plain[name]) for name in names}
        more = sides.after.magnitudes(feed, names, halves, unit=sides.fill_unit)
    except ModelError:
        return {}
    return {
        name: (more[name] - plain[name]) * (1 + 1e-6) + part * np.nan_to_num(plain[name])
        for name in names
    }


def _fills(side: Excerpt) -> list[float]:
    """What the Pads of a side fill their borders with, where that is an attribute."""
    found = (a for node in side.nodes if node.op_type == "Pad" for a in node.attribute)
    return sorted(attribute.f for attribute in found if attribute.name == "value")


def _terms(sides: Sides) -> int:
    """How many products the longest sum has, at most."""
    constants = sides.before.constants.values()
    longest = 1
    for constant in constants:
        if constant.is_float:
            shape = constant.shape
            if len(shape) > 1:
                longest = max(longest, max(math.prod(shape[1:]), shape[0]))
    return longest


def _feeds(sides: Sides, shapes: Shapes, types: Types) -> list[dict[str, Array]]:
    """One feed with dense and sparse samples, or two where there is one sample only."""
    generator = np.random.default_rng(_SEED)
    mixed: dict[str, Array] = {}
    sparse: dict[str, Array] = {}
    is_single = False
    for name, tensor in sides.boundary.items():
        shape = shapes[name]
        kind = types.element_type(tensor)
        if kind not in COMPUTED_FLOATS and tensor.initializer is not None:
            mixed[name] = sparse[name] = sides.default(tensor)
            continue
        if kind not in COMPUTED_FLOATS and kind != TensorProto.UNDEFINED:
            mixed[name] = sparse[name] = _whole_numbers(sides, tensor, kind, shape, generator)
            continue
        size = _BEYOND if _is_grid(sides, tensor) else SIZE
        data = generator.uniform(-size, size, shape)
        rare = data * (generator.random(shape) < 0.25)
        mixed[name], sparse[name] = data, rare
        if len(shape) > 0 and shape[0] > 1:
            data[1::2] = rare[1::2]
        else:
            is_single = True
    return [mixed, sparse] if is_single else [mixed]


def _is_grid(sides: Sides, tensor: Tensor) -> bool:
    """Whether a tensor is the places, or regions, that an operator takes its values from."""
    return any(
        node in sides.inside and node.op_type in SAMPLERS and node.input(1) is tensor
        for node in tensor.readers
    )


def _whole_numbers(
    sides: Sides,
    tensor: Tensor,
    kind: int,
    shape: tuple[int, ...],
    generator: np.random.Generator,
) -> Array:
    """Random codes or indices; indices stay below the rows that they pick."""
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(kind))
    if dtype == np.bool_:
        return generator.random(shape) < 0.5
    rows = 2
    for node in tensor.readers:
        data = node.input(0)
        if node in sides.inside and node.op_type == "Gather" and data is not tensor and data:
            dims = sides.types.shape(data) or ()
            axis = node.integer("axis", 0)
            if -len(dims) <= axis < len(dims) and isinstance(dims[axis], int):
                rows = int(dims[axis] or 1)
    return generator.integers(0, rows, shape).astype(dtype)

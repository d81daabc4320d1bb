"""A constant in any spelling: initializer, Constant node, computed, overridable, shared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from tests.fuzz.sketch import Sketch, is_defined
from tests.support_models import Array


def constant(sketch: Sketch, values: Array) -> str:
    """A float constant, in any spelling; now and then one that is there already."""
    if sketch.chance(0.15):
        alike = [name for name, known in sketch.values.items() if _is_alike(name, known, values)]
        if alike:
            return sketch.pick(alike)
    form = sketch.rng.random()
    if form < 0.72:
        name = initializer(sketch, values)
        if sketch.ir >= 4 and sketch.chance(0.01):
            sketch.overridable.append(name)
        return name
    return as_node(sketch, values) if form < 0.84 else _computed(sketch, values)


def integers(sketch: Sketch, values: Sequence[int] | int | Array) -> str:
    """Sizes, axes or indices: an initializer or a Constant node, now and then computed."""
    array = np.array(values, dtype=np.int64)
    form = sketch.rng.random()
    if form < 0.8:
        return initializer(sketch, array)
    return as_node(sketch, array) if form < 0.95 else _computed(sketch, array)


def initializer(sketch: Sketch, values: Array, prefix: str = "k") -> str:
    """A stored constant; before IR version 4 all of them are graph inputs, too."""
    name = sketch.name(prefix)
    sketch.initializers[name] = sketch.values[name] = values
    if sketch.ir < 4:
        sketch.overridable.append(name)
    return name


def as_node(sketch: Sketch, values: Array, prefix: str = "k") -> str:
    """A Constant node; an initializer where Constant does not know the dtype yet."""
    if not is_defined("Constant", sketch.opset, helper.np_dtype_to_tensor_dtype(values.dtype)):
        return initializer(sketch, values, prefix)
    name = sketch.name(prefix)
    given: dict[str, Any] = {"value": numpy_helper.from_array(values, name)}
    is_short = values.dtype == np.float32 and values.ndim < 2 and sketch.opset >= 12
    if is_short and prefix == "k" and sketch.chance(0.3):
        given = {"value_floats": [*values]} if values.ndim else {"value_float": float(values)}
    sketch.nodes.append(helper.make_node("Constant", [], [name], f"{name}_c", **given))
    sketch.values[name] = values
    return name


def _computed(sketch: Sketch, values: Array) -> str:
    """A node that computes the constant from others."""
    first = values.reshape(-1)[:1]
    spellings = ["Reshape", "Identity"]
    if values.ndim >= 2:
        spellings.append("Transpose")
    if values.dtype == sketch.dtype:
        spellings.append("Mul")
    if (values == first).all():
        spellings += ["Expand", "ConstantOfShape"]
    if values.dtype.kind != "i":
        spellings.append("Cast")
    op_type = sketch.pick(spellings)
    code = helper.np_dtype_to_tensor_dtype(values.dtype)
    if not is_defined(op_type, sketch.opset, code):
        return initializer(sketch, values)
    attributes: dict[str, Any] = {}
    if op_type == "Reshape":
        parts = [values.reshape(-1), np.array(values.shape, dtype=np.int64)]
    elif op_type == "Expand":
        parts = [first.reshape(()), np.array(values.shape, dtype=np.int64)]
    elif op_type == "ConstantOfShape":
        parts = [np.array(values.shape, dtype=np.int64)]
        attributes["value"] = numpy_helper.from_array(first, "value")
    elif op_type == "Cast":
        parts = [values.astype(np.float64)]
        attributes["to"] = code
    elif op_type == "Mul":
        parts = [np.asarray(values / values.dtype.type(2)), np.asarray(2, dtype=values.dtype)]
        parts = parts if sketch.chance(0.5) else parts[::-1]
    elif op_type == "Transpose":
        order = [int(axis) for axis in sketch.rng.permutation(values.ndim)]
        parts = [np.ascontiguousarray(values.transpose(np.argsort(order)))]
        attributes["perm"] = order
    else:
        parts = [values]
    name, inputs = sketch.name("k"), [initializer(sketch, part) for part in parts]
    sketch.nodes.append(helper.make_node(op_type, inputs, [name], f"{name}_c", **attributes))
    sketch.values[name] = values
    return name


def _is_alike(name: str, known: object, values: Array) -> bool:
    """Whether a constant that is there could stand in: same shape, and positive like it."""
    return (
        name.startswith("k")
        and isinstance(known, np.ndarray)
        and known.shape == values.shape
        and known.dtype == values.dtype
        and bool((known > 0).all()) == bool((values > 0).all())
        and bool((known != 0).all()) == bool((values != 0).all())
    )

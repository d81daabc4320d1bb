"""Norms: BatchNormalization of every opset, and arithmetic with a constant of any shape."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper

from tests.fuzz.constants import constant
from tests.fuzz.sketch import Builder, Sketch, Unfit


def batch_norm(sketch: Sketch, x: str) -> str:
    """BatchNormalization, once in a while in training mode or, before opset 9, not spatial."""
    if sketch.rank(x) < 2:
        raise Unfit("no channels")
    shape: tuple[int, ...] = sketch.shape(x)[1:2]
    attributes: dict[str, Any] = {}
    if sketch.chance(0.3):
        attributes["epsilon"] = 0.01
    if sketch.chance(0.1):
        attributes["momentum"] = 0.8
    if sketch.opset < 9 and sketch.chance(0.2):
        attributes["spatial"] = sketch.pick([1, 1, 0])
        shape = shape if attributes["spatial"] else sketch.shape(x)[1:]
    if sketch.opset >= 14 and sketch.chance(0.05):
        attributes["training_mode"] = sketch.pick([0, 0, 1])
    variance = sketch.rng.uniform(0.3, 3, shape)
    if sketch.is_wild and sketch.chance(0.2):
        variance = np.where(sketch.rng.random(shape) < 0.3, sketch.pick([0.0, -1.0]), variance)
    parameters = [sketch.signed(shape), sketch.shifts(shape), sketch.shifts(shape)]
    parameters.append(sketch.stored(variance))
    names = [constant(sketch, values) for values in parameters]
    outputs = 3 if attributes.get("training_mode") else 1
    y, *statistics = sketch.split("BatchNormalization", [x, *names], outputs, **attributes)
    sketch.data = [name for name in sketch.data if name not in statistics]
    return y


def _arithmetic(op_type: str) -> Builder:
    def build(sketch: Sketch, x: str) -> str:
        """The operator with a constant on either side; a constant is never divided."""
        shape = _constant_shape(sketch, x)
        values = sketch.signed(shape) if op_type in ("Mul", "Div") else sketch.shifts(shape)
        if op_type == "Div" and not sketch.is_wild:
            values = sketch.stored(np.where(values == 0, 1, values))
        name = constant(sketch, values)
        turned = op_type != "Div" and sketch.chance(0.3)
        return sketch.node(op_type, [name, x] if turned else [x, name])

    return build


def _constant_shape(sketch: Sketch, x: str) -> list[int]:
    """Of one axis, one value, several axes, or one that makes the data larger."""
    shape, rank, form = sketch.shape(x), sketch.rank(x), sketch.rng.random()
    found = [1] * rank
    if rank and form < 0.75:
        axes = [axis for axis in (1, -1, *range(rank)) if -rank <= axis < rank]
        axis = sketch.pick(axes)
        found[axis] = shape[axis]
    elif 0.85 <= form < 0.9:
        found = [size if sketch.chance(0.5) else 1 for size in shape]
    elif 0.9 <= form < 0.94:
        found = [sketch.pick([1, 3]) if size == 1 else size for size in shape]
        found = [size if sketch.chance(0.6) else 1 for size in found]
    if sketch.chance(0.5):
        while found and found[0] == 1:
            found = found[1:]
    elif sketch.chance(0.03):
        found = [1, *found]
    return found


def norm(sketch: Sketch, x: str) -> str:
    """Any norm, now and then twice."""
    if sketch.chance(0.4):
        name = "BatchNormalization"
    elif sketch.likes == "scale":
        name = sketch.pick(["Mul", "Div"])
    else:
        name = sketch.pick(["Mul", "Mul", "Add", "Add", "Sub", "Div"])
    y = NORMS[name](sketch, x)
    if sketch.chance(0.12):
        twin(sketch)
    return y


def twin(sketch: Sketch, *, data: str | None = None) -> str:
    """The newest node once more, on the same or on other data."""
    node = sketch.nodes[-1]
    if len(node.output) != 1:
        raise Unfit("a twin has one output")
    inputs = [data or node.input[0], *node.input[1:]]
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return sketch.split(node.op_type, inputs, 1, domain=node.domain, **given)[0]


NORMS: dict[str, Builder] = {
    "BatchNormalization": batch_norm,
    "Add": _arithmetic("Add"),
    "Sub": _arithmetic("Sub"),
    "Mul": _arithmetic("Mul"),
    "Div": _arithmetic("Div"),
}

"""Operators of several branches, activations and reductions: one builder for each."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz.constants import constant, initializer, integers
from tests.fuzz.norms import NORMS
from tests.fuzz.sketch import Builder, Sketch, Unfit


def concat(sketch: Sketch, x: str) -> str:
    """Concat of the data with other tensors and constants along any axis."""
    shape, rank = sketch.shape(x), sketch.rank(x)
    axis = sketch.whole(0, rank - 1) if sketch.chance(0.4) else min(1, rank - 1)
    beside = [size for at, size in enumerate(shape) if at != axis]

    def fits(other: tuple[int, ...]) -> bool:
        return len(other) == rank and [n for at, n in enumerate(other) if at != axis] == beside

    inputs = [x]
    for _ in range(sketch.whole(1, 2)):
        form = sketch.rng.random()
        if form < 0.7:
            inputs.append(sketch.pick([n for n in sketch.data if fits(sketch.shape(n))]))
        elif form < 0.85:
            sizes = [sketch.whole(1, 2) if at == axis else n for at, n in enumerate(shape)]
            inputs.append(constant(sketch, sketch.shifts(sizes)))
        else:
            inputs.append(sibling(sketch, x))
    if sketch.chance(0.4):
        inputs = [inputs[int(at)] for at in sketch.rng.permutation(len(inputs))]
    return sketch.node("Concat", inputs, axis=sketch.from_end(axis, rank))


def sibling(sketch: Sketch, x: str) -> str:
    """A tensor of the same shape: one that is there, often with operators or norms behind it."""
    shape = sketch.shape(x)
    made = sketch.pick([name for name in sketch.data if sketch.shape(name) == shape])
    for _ in range(2):
        form = sketch.rng.random()
        if form < 0.35 and len(shape) > 2:
            weight = sketch.weights((shape[1], shape[1], *[1] * (len(shape) - 2)), shape[1])
            inputs = [made, constant(sketch, weight)]
            if sketch.chance(0.5):
                inputs.append(constant(sketch, sketch.shifts(shape[1:2])))
            made = sketch.node("Conv", inputs)
        elif form < 0.6 and len(shape) > 1:
            weight = sketch.weights((shape[-1], shape[-1]), shape[-1])
            made = sketch.node("MatMul", [made, constant(sketch, weight)])
        elif form < 0.85:
            name = sketch.pick(["BatchNormalization", "Mul", "Mul", "Add", "Add", "Sub"])
            norm = NORMS[name](sketch, made)
            made = norm if sketch.shape(norm) == shape else made
    return made


def other(sketch: Sketch, x: str) -> str:
    """Something that broadcasts with the data: a sibling, any tensor, a constant, an input."""
    shape, form = sketch.shape(x), sketch.rng.random()
    if form < 0.45:
        return sibling(sketch, x)
    if form < 0.6:
        return sketch.pick([name for name in sketch.data if sketch.shape(name) == shape])
    if form < 0.85:
        return sketch.tensor(lambda found: _broadcasts(found, shape))
    sizes = [size if sketch.chance(0.7) else 1 for size in shape]
    if form < 0.93:
        return constant(sketch, sketch.shifts(sizes))
    return sketch.input(sizes)


def _joined(op_type: str, *, most: int = 2) -> Builder:
    def build(sketch: Sketch, x: str) -> str:
        """The operator on the data and others, in either order."""
        count = sketch.whole(2, most) if sketch.chance(0.9) or most == 2 else 1
        inputs = [x, *(other(sketch, x) for _ in range(count - 1))]
        if sketch.chance(0.5):
            inputs = inputs[::-1]
        shapes = {sketch.shape(name) for name in inputs}
        if sketch.opset < 8 and most > 2 and len(shapes) > 1:
            raise Unfit("it broadcasts since opset 8")
        return sketch.node(op_type, inputs)

    return build


def where(sketch: Sketch, x: str) -> str:
    """Where with a constant condition."""
    sizes = [size if sketch.chance(0.6) else 1 for size in sketch.shape(x)]
    condition = initializer(sketch, np.asarray(sketch.rng.random(sizes) < 0.5))
    branches = [x, other(sketch, x)]
    return sketch.node("Where", [condition, *(branches if sketch.chance(0.5) else branches[::-1])])


def product(sketch: Sketch, x: str) -> str:
    """Mul of branches, one of them often a gate."""
    gate = other(sketch, x)
    if sketch.chance(0.5) and np.abs(sketch.values[gate]).max() > 100:
        gate = sketch.node("Sigmoid", [gate])
    return sketch.node("Mul", [x, gate] if sketch.chance(0.5) else [gate, x])


def quotient(sketch: Sketch, x: str) -> str:
    """Div by something that is not near zero."""
    below = sketch.node("Abs", [other(sketch, x)])
    below = sketch.node("Add", [below, constant(sketch, sketch.stored(1.0))])
    return sketch.node("Div", [x, below])


def _elementwise(op_type: str) -> Builder:
    def build(sketch: Sketch, x: str) -> str:
        """The operator on the data alone."""
        return sketch.node(op_type, [x])

    return build


def leaky_relu(sketch: Sketch, x: str) -> str:
    """LeakyRelu."""
    return sketch.node("LeakyRelu", [x], **({"alpha": 0.25} if sketch.chance(0.5) else {}))


def clip(sketch: Sketch, x: str) -> str:
    """Clip, mostly at zero on one side; before opset 11 by attributes."""
    low, high = sketch.pick([(0.0, None), (0.0, None), (None, 0.0), (None, None), (0.0, 6.0)])
    bounds = [("min", low), ("max", high)]
    if sketch.opset < 11:
        return sketch.node("Clip", [x], **{name: v for name, v in bounds if v is not None})
    stored = ["" if v is None else initializer(sketch, sketch.stored(v)) for _, v in bounds]
    return sketch.node("Clip", [x, *stored])


def thresholded_relu(sketch: Sketch, x: str) -> str:
    """ThresholdedRelu, mostly at zero."""
    return sketch.node("ThresholdedRelu", [x], alpha=sketch.pick([0.0, 0.0, 1.0]))


def prelu(sketch: Sketch, x: str) -> str:
    """PRelu with a slope for each channel or one for all."""
    rank = sketch.rank(x)
    sizes = [1] * rank
    if rank > 1 and sketch.chance(0.8):
        sizes[1] = sketch.shape(x)[1]
    return sketch.node("PRelu", [x, constant(sketch, sketch.shifts(sizes))])


def _reduced(op_type: str, axes_since: int) -> Builder:
    def build(sketch: Sketch, x: str) -> str:
        """The reduction over some axes, often those behind the channels."""
        rank = sketch.rank(x)
        axes = sketch.some(range(rank), 1, 2)
        if rank > 2 and sketch.chance(0.4):
            axes = [*range(2, rank)]
        axes = [sketch.from_end(axis, rank) for axis in axes]
        attributes: dict[str, Any] = {}
        if sketch.chance(0.5):
            attributes["keepdims"] = sketch.whole(0, 1)
        if sketch.opset < axes_since:
            if sketch.chance(0.95):
                attributes["axes"] = axes
            return sketch.node(op_type, [x], **attributes)
        if sketch.chance(0.1):
            attributes["noop_with_empty_axes"] = 1
        inputs = [x]
        if sketch.chance(0.95):
            inputs.append(integers(sketch, axes))
        return sketch.node(op_type, inputs, **attributes)

    return build


def _broadcasts(one: tuple[int, ...], two: tuple[int, ...]) -> bool:
    try:
        return len(np.broadcast_shapes(one, two)) <= 5
    except ValueError:
        return False


JOINING: dict[str, Builder] = {
    "Concat": concat,
    "Add": _joined("Add"),
    "Sub": _joined("Sub"),
    "Sum": _joined("Sum", most=3),
    "Mean": _joined("Mean", most=3),
    "Max": _joined("Max", most=3),
    "Min": _joined("Min", most=3),
    "Where": where,
    "Mul": product,
    "Div": quotient,
}
ACTIVATION: dict[str, Builder] = {
    "Relu": _elementwise("Relu"),
    "LeakyRelu": leaky_relu,
    "PRelu": prelu,
    "Clip": clip,
    "ThresholdedRelu": thresholded_relu,
    "Abs": _elementwise("Abs"),
    "Neg": _elementwise("Neg"),
}
REDUCING: dict[str, Builder] = {
    "ReduceMean": _reduced("ReduceMean", 18),
    "ReduceSum": _reduced("ReduceSum", 13),
    "ReduceMax": _reduced("ReduceMax", 18),
    "ReduceMin": _reduced("ReduceMin", 18),
    "ReduceL1": _reduced("ReduceL1", 18),
    "ReduceL2": _reduced("ReduceL2", 18),
}
BLOCKING: dict[str, Builder] = {
    "Sigmoid": _elementwise("Sigmoid"),
    "Tanh": _elementwise("Tanh"),
    "Softplus": _elementwise("Softplus"),
}
"""Operators that let nothing through."""

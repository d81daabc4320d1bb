"""The builders by family, and how often a graph draws from each. A new operator is one row."""

from __future__ import annotations

from collections.abc import Mapping

from tests.fuzz.arithmetic import ACTIVATION, BLOCKING, JOINING, REDUCING
from tests.fuzz.linear import LINEAR
from tests.fuzz.movement import MOVEMENT
from tests.fuzz.norms import twin
from tests.fuzz.picking import PICKING
from tests.fuzz.quantised import ROUNDING
from tests.fuzz.sketch import Builder, Sketch
from tests.fuzz.windows import WINDOWS

THROUGH: Mapping[str, Builder] = {
    **MOVEMENT,
    **PICKING,
    **JOINING,
    **ACTIVATION,
    **REDUCING,
    **WINDOWS,
    **ROUNDING,
}

_LINEAR_WEIGHTS = {
    "Conv": 7,
    "Gemm": 5,
    "MatMul": 5,
    "ConvTranspose": 2,
    "Einsum": 2,
    "DeformConv": 2,
}
_FAMILIES: Mapping[str, list[tuple[Mapping[str, Builder], float]]] = {
    "": [
        (MOVEMENT, 18),
        (JOINING, 14),
        (PICKING, 5),
        (WINDOWS, 8),
        (ACTIVATION, 5),
        (REDUCING, 4),
        (BLOCKING, 1),
        (ROUNDING, 1),
    ],
    "move": [(MOVEMENT, 8), (PICKING, 2), (WINDOWS, 1)],
    "scale": [(ACTIVATION, 4), (WINDOWS, 4), (JOINING, 4), (REDUCING, 2), (MOVEMENT, 4)],
    "join": [(JOINING, 8), (MOVEMENT, 1)],
}
"""Families and their weights, by what a graph likes."""


def crossing(sketch: Sketch) -> str:
    """Add an operator that a norm may cross, or one that nothing crosses."""
    likes = sketch.likes if sketch.chance(0.85) else ""
    families = _FAMILIES[likes]
    weights = [weight for _, weight in families]
    at = sketch.rng.choice(len(families), p=[weight / sum(weights) for weight in weights])
    family = families[int(at)][0]
    if family is MOVEMENT and sketch.chance(0.02):
        return _shape_read(sketch)
    return family[sketch.pick([*family])](sketch, sketch.tensor())


def linear(sketch: Sketch) -> str:
    """Add a linear operator, now and then with a twin that shares its weight."""
    weights = [_LINEAR_WEIGHTS.get(name, 1) for name in LINEAR]
    at = int(sketch.rng.choice(len(weights), p=[w / sum(weights) for w in weights]))
    x = sketch.tensor()
    y = [*LINEAR.values()][at](sketch, x)
    node = sketch.nodes[-1]
    if sketch.chance(0.08) and node.op_type in ("Conv", "MatMul", "Gemm") and node.input[0] == x:
        shape = sketch.shape(x)
        twin(sketch, data=sketch.pick([n for n in sketch.data if sketch.shape(n) == shape]))
    return y


def _shape_read(sketch: Sketch) -> str:
    """A reader that needs the shape of a tensor and none of its values."""
    made = sketch.aside("Shape", [sketch.tensor()])
    sketch.shapes_read.append(made)
    return made

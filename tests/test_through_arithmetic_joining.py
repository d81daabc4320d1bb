"""Branches that are joined: what a map behind them is on each of them, and the other way round.

Mean of onnx.reference cannot broadcast its first input, so NumPy computes it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from tests.support_arithmetic import (
    channel_spread,
    drawn,
    node_model,
    prove_backward,
    prove_forward,
    require_refused,
)
from tests.support_through import Array, backward, forward, random_spread, require_equal

SEEDS = st.integers(0, 10**6)
OPSETS = {
    "Add": [6, 7, 13, 17, 24],
    "Sub": [6, 7, 13, 17, 24],
    "Sum": [6, 8, 13, 24],
    "Mean": [6, 8, 13, 24],
    "Max": [6, 8, 12, 13, 24],
    "Min": [6, 8, 12, 13, 24],
    "Mul": [6, 7, 13, 17, 24],
    "Div": [6, 7, 13, 17, 24],
    "Where": [9, 16, 24],
}
EXTREMES = ("Max", "Min")
VARIADIC = ("Sum", "Mean", "Max", "Min")


def mean(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    values = [feeds[name] for name in model.graph.node[0].input]
    return [np.asarray(sum(values) / len(values))]


RUNS = {"Mean": mean}


@st.composite
def joins(draw: st.DrawFn, op_type: str) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """A node, and the shape of what it makes; from the first broadcasting version on, branches
    may have fewer elements along any axis.
    """
    opset = draw(st.sampled_from(OPSETS[op_type]))
    shape = tuple(draw(st.integers(1, 3)) for _ in range(draw(st.integers(1, 4))))
    count = draw(st.integers(1, 4)) if op_type in VARIADIC else 2
    inputs: list[list[int]] = [list(shape) for _ in range(count)]
    if opset > 7:
        for own in inputs:
            own[:] = [draw(st.sampled_from([size, size, 1])) for size in own]
            own[:] = own[draw(st.integers(0, len(own))) if draw(st.booleans()) else 0 :]
    if op_type == "Where":
        inputs.insert(0, [draw(st.sampled_from([size, 1])) for size in shape])
    joined = np.broadcast_shapes(*(tuple(own) for own in inputs))
    return node_model(op_type, inputs, opset=opset), joined


def some_spread(shape: tuple[int, ...], axes: list[int], seed: int, op_type: str) -> Spread:
    """A map of a tensor that may differ along some axes only."""
    sizes = [size if axis in axes else 1 for axis, size in enumerate(shape)]
    found = random_spread(tuple(sizes), seed, positive=op_type in EXTREMES)
    shift = np.zeros(sizes) if op_type in ("Mul", "Div") else 30 * found.shift
    return Spread(found.scale, shift)


@pytest.mark.parametrize("op_type", sorted(OPSETS))
def test_backward(op_type: str) -> None:
    @settings(deadline=None, max_examples=120)
    @given(joins(op_type), st.sets(st.integers(0, 3)), SEEDS)
    def prove(made: tuple[onnx.ModelProto, tuple[int, ...]], axes: set[int], seed: int) -> None:
        model, shape = made
        spread = some_spread(shape, sorted(axes), seed, op_type)
        found = backward(model, op_type, {0: spread})
        if isinstance(found, Refused):
            assert found.code == "not-through"
            assert "broadcasts" in found.sentence
            return
        prove_backward(model, spread, seed=seed, run=RUNS.get(op_type))

    prove()


@pytest.mark.parametrize("op_type", sorted(OPSETS))
def test_equal_maps_forward(op_type: str) -> None:
    """Equal scales cross all; where shifts are added up, or scales multiplied, they may differ."""

    @settings(deadline=None, max_examples=60)
    @given(joins(op_type), SEEDS, st.integers(0, 9))
    def prove(made: tuple[onnx.ModelProto, tuple[int, ...]], seed: int, shift: int) -> None:
        model, _ = made
        run = RUNS.get(op_type)
        count = len(model.graph.node[0].input)
        first = 1 if op_type == "Where" else 0
        slots = range(first, count)
        whole = some_spread((), [], seed, op_type)
        values = {at: Spread(whole.scale, whole.shift + 0 * at) for at in slots}
        prove_forward(model, values, seed=seed, run=run)
        if op_type in ("Add", "Sub", "Sum", "Mean"):
            moved = {at: Spread(whole.scale, whole.shift + shift * at) for at in slots}
            prove_forward(model, moved, seed=seed, run=run)
            prove_forward(model, {count - 1: Spread(np.ones(()), whole.shift)}, seed=seed, run=run)
        if op_type in ("Mul", "Div"):
            other = some_spread((), [], seed + 1, op_type)
            prove_forward(model, {0: whole, 1: other}, seed=seed, run=run)
            prove_forward(model, {1: other}, seed=seed)

    prove()


@pytest.mark.parametrize("op_type", sorted(OPSETS))
def test_channels_forward(op_type: str) -> None:
    """Every branch has its channels, and some no height and width."""
    inputs: list[Any] = [[2, 3, 4, 5], [3, 1, 1]]
    slots = [0, 1]
    if op_type == "Where":
        inputs, slots = [[4, 5], *inputs], [1, 2]
    model = node_model(op_type, inputs, opset=16)
    spread = some_spread((3, 1, 1), [0], 4, op_type)
    prove_forward(model, dict.fromkeys(slots, spread), run=RUNS.get(op_type))
    prove_backward(model, spread, run=RUNS.get(op_type))


FULL = [2, 3, 4, 4]


def test_a_shift_goes_into_one_branch_of_a_sum_or_evenly_into_all() -> None:
    model = node_model("Sum", [FULL, FULL, FULL], opset=13)
    spread = channel_spread(3, 2, 0)
    ways = prove_backward(model, spread)
    shifted = [[at for at in way if way[at].shift.any()] for way in ways]
    assert shifted == [[0], [1], [2], [0, 1, 2]]
    assert all(set(way) == {0, 1, 2} for way in ways)
    assert len(prove_backward(model, channel_spread(3, 2, 0, shifted=False))) == 1


def test_a_sub_takes_the_shift_with_its_sign() -> None:
    ways = prove_backward(node_model("Sub", [FULL, FULL], opset=13), channel_spread(3, 2, 0))
    np.testing.assert_array_equal(ways[0][0].shift, -ways[1][1].shift)


def test_at_most_eight_ways() -> None:
    model = node_model("Sum", [FULL] * 12, opset=13)
    assert len(prove_backward(model, channel_spread(3, 2, 0))) == 8


def test_a_shift_alone_leaves_the_other_branches_as_they_are() -> None:
    model = node_model("Add", [FULL, [2, 1, 4, 4]], opset=13)
    spread = Spread(np.ones((3, 1, 1)), np.arange(3.0).reshape(3, 1, 1))
    (way,) = prove_backward(model, spread)
    assert way[1].is_identity
    assert way[0].equals(spread)


@pytest.mark.parametrize(("op_type", "inputs"), [("Add", "x0 x0"), ("Sum", "x0 x1 x0")])
def test_a_branch_that_is_added_twice(op_type: str, inputs: str) -> None:
    model = node_model(op_type, [FULL] * len(inputs.split()), opset=13)
    model.graph.node[0].input[:] = inputs.split()
    spread = channel_spread(3, 2, 0)
    found = backward(model, op_type, {0: spread})
    assert isinstance(found, list)
    for way in found:
        slots = [at for at, name in enumerate(inputs.split()) if name == "x0"]
        assert way[slots[0]].equals(way[slots[-1]])
        once = {inputs.split().index(n): way[inputs.split().index(n)] for n in set(inputs.split())}
        require_equal(model, op_type, drawn(model), once, {0: spread})


def test_a_branch_minus_itself() -> None:
    model = node_model("Sub", [FULL, FULL], opset=13)
    model.graph.node[0].input[:] = ["x0", "x0"]
    found = backward(model, "Sub", {0: channel_spread(3, 2, 0)})
    assert isinstance(found, Refused)
    assert "always zero" in found.sentence


def test_constant_branches_are_branches_too() -> None:
    constant = np.random.default_rng(0).normal(size=(3, 1, 1))
    for op_type in ("Sum", "Mean"):
        model = node_model(op_type, [FULL, constant, FULL], opset=13)
        spread = channel_spread(3, 2, 0)
        found = backward(model, op_type, {0: spread})
        assert isinstance(found, list)
        for way in found:
            values = drawn(model) | {"x1": constant}
            inner = [way[at].scale * values[f"x{at}"] + way[at].shift for at in range(3)]
            total = sum(inner) / (3 if op_type == "Mean" else 1)
            plain = (values["x0"] + constant + values["x2"]) / (3 if op_type == "Mean" else 1)
            np.testing.assert_allclose(total, spread.scale * plain + spread.shift, atol=1e-10)


UNEVEN = Spread(np.array([1.0, 2, 3]).reshape(3, 1, 1), np.zeros((3, 1, 1)))


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Sum", "Mean", "Max", "Min"])
@pytest.mark.parametrize(
    ("other", "words"),
    [
        ([2, 1, 4, 4], ("broadcasts x1 along axis -3", "have 3 values")),
        ([4, 4], ("broadcasts x1 along axis -3",)),
        (["N", "C", "H", "W"], ("may broadcast x1", "axis -3 is not known")),
        (None, ("may broadcast x1", "shape is not known")),
    ],
)
def test_broadcast_branches(op_type: str, other: list[Any] | None, words: tuple[str, ...]) -> None:
    model = node_model(op_type, [FULL, other or [1]], opset=13)
    if other is None:
        model.graph.input[1].type.tensor_type.ClearField("shape")
    found = backward(model, op_type, {0: UNEVEN})
    assert isinstance(found, Refused)
    assert found.code == "not-through"
    assert all(word in found.sentence for word in words), found.sentence


def test_nothing_is_as_wide_as_the_map() -> None:
    """A step that makes its data larger is for the linear operator to refuse."""
    model = node_model("Add", [[2, 1, 4, 4], [2, 1, 4, 4]], opset=13)
    even = Spread(np.full((3, 1, 1), 2.0), np.zeros((3, 1, 1)))
    assert isinstance(backward(model, "Add", {0: even}), Refused)


def test_one_value_needs_no_shapes() -> None:
    for op_type in ("Add", "Mean", "Max", "Mul"):
        model = node_model(op_type, [FULL, FULL], opset=13)
        for value in model.graph.input:
            value.type.tensor_type.ClearField("shape")
        found = backward(model, op_type, {0: Spread(np.array([2.0]), np.array([0.0]))})
        assert not isinstance(found, Refused)


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div"])
def test_the_attribute_broadcast_of_old_opsets(op_type: str) -> None:
    model = node_model(op_type, [FULL, [3]], opset=6, broadcast=1, axis=1)
    spread = channel_spread(3, 2, 0, shifted=False)
    require_refused(model, spread, "broadcasts its second input by the attribute of old opsets")


def test_branches_that_differ() -> None:
    """The maps of all branches have to agree, and one without a map has the identity."""
    one, other = channel_spread(3, 2, 0, positive=True), channel_spread(3, 2, 1, positive=True)
    for op_type in ("Add", "Sub", "Sum", "Mean", "Max", "Min"):
        model = node_model(op_type, [FULL, FULL], opset=13)
        for spreads, words in (
            ({0: one, 1: other}, "reads branches that are scaled"),
            ({0: one}, "also reads x1, which is not scaled"),
        ):
            found = forward(model, op_type, spreads)
            assert isinstance(found, Refused)
            assert words in found.sentence
    model = node_model("Where", [FULL, FULL, FULL], opset=16)
    for at, name in ((1, "x2"), (2, "x1")):
        found = forward(model, "Where", {at: one})
        assert isinstance(found, Refused)
        assert f"also reads {name}, which is not scaled or shifted" in found.sentence


def test_extremes_refuse_negative_scales() -> None:
    scale = np.array([1.0, 0.0, -0.25]).reshape(3, 1, 1)
    spread = Spread(scale, scale)
    for op_type in EXTREMES:
        model = node_model(op_type, [FULL, FULL], opset=13)
        words = f"node ({op_type}) lets only positive scales through, and channel 2 has scale -0.25"
        for found in (
            backward(model, op_type, {0: spread}),
            forward(model, op_type, {0: spread, 1: spread}),
        ):
            assert isinstance(found, Refused)
            assert words in found.sentence


def test_malformed_joins() -> None:
    for op_type, inputs in (("Add", [FULL]), ("Sum", [FULL, None, FULL]), ("Where", [FULL, FULL])):
        model = node_model(op_type, inputs, opset=13)
        slot = 1 if op_type == "Where" else 0
        require_refused(model, UNEVEN, code="malformed-node", slot=slot)

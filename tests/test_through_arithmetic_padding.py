"""Pad: which maps leave the border what it is.

Pad of onnx.reference takes no negative numbers, so NumPy computes it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from tests.support_arithmetic import (
    DATA,
    channel_spread,
    node_model,
    prove_backward,
    prove_both,
    prove_forward,
    require_refused,
)
from tests.support_through import Array, backward, forward, random_spread

SEEDS = st.integers(0, 10**6)
MODES = ["constant", "reflect", "edge", "wrap"]


def pad_model(
    shape: list[Any],
    begins: list[int],
    ends: list[int],
    *,
    opset: int = 19,
    mode: str = "",
    value: float | None = None,
    axes: list[int] | None = None,
) -> onnx.ModelProto:
    """A Pad, as its version writes it."""
    more: dict[str, Any] = {"mode": mode} if mode else {}
    if opset < 11:
        more |= {"paddings" if opset < 2 else "pads": [*begins, *ends]}
        more |= {"value": value} if value is not None else {}
        return node_model("Pad", [shape], opset=opset, **more)
    inputs: list[Any] = [shape, np.array([*begins, *ends], np.int64)]
    if value is not None or axes is not None:
        inputs.append(None if value is None else np.array(value))
    if axes is not None:
        inputs.append(np.array(axes, np.int64))
    return node_model("Pad", inputs, opset=opset, **more)


def by_numpy(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """Cut what is negative, then pad."""
    (node,) = model.graph.node
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    read = [constants.get(name) for name in node.input] + [None] * 4
    given: Any = attributes.get("pads", attributes.get("paddings", read[1]))
    pads = [int(n) for n in given]
    data = feeds[node.input[0]]
    axes = [int(a) % data.ndim for a in (range(data.ndim) if read[3] is None else read[3])]
    value = attributes.get("value", 0.0) if read[2] is None else float(read[2])
    widths = [(0, 0)] * data.ndim
    for at, axis in enumerate(axes):
        begin, end = pads[at], pads[at + len(axes)]
        kept = range(max(-begin, 0), data.shape[axis] - max(-end, 0))
        data, widths[axis] = data.take(kept, axis=axis), (max(begin, 0), max(end, 0))
    mode = attributes.get("mode", b"constant").decode()
    more = {"constant_values": value} if mode == "constant" else {}
    return [np.pad(data, widths, mode, **more)]


@st.composite
def pads(draw: st.DrawFn, modes: list[str]) -> tuple[onnx.ModelProto, list[int], list[int]]:
    """A Pad, the shape of its data, and how much longer each axis gets."""
    opset = draw(st.sampled_from([1, 2, 11, 13, 18, 19, 21, 24]))
    mode = draw(st.sampled_from([m for m in modes if m != "wrap" or opset >= 19]))
    shape = [draw(st.integers(2, 4)) for _ in range(draw(st.integers(2, 4)))]
    begins = [draw(st.integers(-1, 1)) for _ in shape]
    ends = [draw(st.integers(-1 if b >= 0 else 0, 1)) for b in begins]
    for at, n in enumerate(shape):
        assume(n + min(begins[at], 0) + min(ends[at], 0) >= 2)
    value = draw(st.sampled_from([None, 0.0, -2.5])) if mode == "constant" else None
    axes = None
    if opset >= 18 and draw(st.booleans()):
        axes = draw(st.permutations(range(len(shape))))
        for at in axes[2:]:
            begins[at] = ends[at] = 0
        axes = axes[:2]
    kept = axes if axes is not None else list(range(len(shape)))
    model = pad_model(
        shape,
        [begins[at] for at in kept],
        [ends[at] for at in kept],
        opset=opset,
        mode=mode,
        value=value,
        axes=None if axes is None else [a - len(shape) * draw(st.integers(0, 1)) for a in axes],
    )
    return model, shape, [b + e for b, e in zip(begins, ends, strict=True)]


@settings(deadline=None, max_examples=300)
@given(pads(MODES), st.sets(st.integers(0, 3)), st.booleans(), SEEDS)
def test_pad(
    made: tuple[onnx.ModelProto, list[int], list[int]], wide: set[int], still: bool, seed: int
) -> None:
    """What is let through is the same function, whatever axes the map differs on."""
    model, shape, more = made
    for direction, sizes in (
        ("forward", shape),
        ("backward", [n + m for n, m in zip(shape, more, strict=True)]),
    ):
        drawn = random_spread(tuple(n if at in wide else 1 for at, n in enumerate(sizes)), seed)
        spread = Spread(drawn.scale, 0 * drawn.shift if still else DATA * drawn.shift)
        if direction == "forward":
            found = forward(model, "Pad", {0: spread})
        else:
            ways = backward(model, "Pad", {0: spread})
            found = ways if isinstance(ways, Refused) else ways[0]
        if isinstance(found, Refused):
            assert found.code == "not-through"
        elif direction == "forward":
            prove_forward(model, {0: spread}, run=by_numpy, seed=seed)
        else:
            prove_backward(model, spread, run=by_numpy, seed=seed)


@settings(deadline=None, max_examples=60)
@given(pads(["reflect", "edge", "wrap"]), SEEDS)
def test_copies_take_one_value(
    made: tuple[onnx.ModelProto, list[int], list[int]], seed: int
) -> None:
    drawn = random_spread((1,), seed)
    prove_both(made[0], Spread(drawn.scale, DATA * drawn.shift), run=by_numpy, seed=seed)


SPACE: dict[str, Any] = {"begins": [0, 0, 1, 2], "ends": [0, 0, 0, 1]}


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
def test_copies_of_the_space_take_every_map_of_channels(mode: str) -> None:
    model = pad_model([2, 3, 4, 5], **SPACE, mode=mode)
    prove_both(model, channel_spread(3, 2, 0, batch=2))
    along = Spread(np.ones(5), np.arange(5.0))
    found = forward(model, "Pad", {0: along})
    assert isinstance(found, Refused)
    assert "pads axis 3 with copies, and the scale and shift have 5 values" in found.sentence


@pytest.mark.parametrize("opset", [1, 2, 11, 18])
@pytest.mark.parametrize("value", [None, 0.0])
def test_zeros_take_a_scale(opset: int, value: float | None) -> None:
    model = pad_model([2, 3, 4, 5], **SPACE, opset=opset, value=value)
    prove_both(model, channel_spread(3, 2, 0, shifted=False, batch=2), run=by_numpy)
    spread = Spread(np.full((3, 1, 1), 2.0), np.array([0, -1.5, 0]).reshape(3, 1, 1))
    words = "node (Pad) pads with 0, and channel 1 has scale 2 and shift -1.5, which change"
    require_refused(model, spread, words)


def test_a_value_that_a_map_leaves() -> None:
    scale = np.array([2.0, -1.0, 1.0]).reshape(3, 1, 1)
    model = pad_model([2, 3, 4, 5], **SPACE, value=0.5)
    prove_both(model, Spread(scale, 0.5 - scale * 0.5))
    require_refused(model, Spread(scale, 0 * scale), "pads with 0.5, and channel 0 has scale 2")


def test_minus_infinity_stays_under_positive_scales() -> None:
    """What frameworks put before a MaxPool."""
    model = pad_model([2, 3, 4, 5], **SPACE, value=-np.inf)
    scale = np.array([2.0, 0.5, 1.0]).reshape(3, 1, 1)
    spread = Spread(scale, scale - 3)
    data = np.random.default_rng(0).uniform(-DATA, DATA, (2, 3, 4, 5))
    inner = by_numpy(model, {"x0": scale * data + spread.shift})[0]
    outer = scale * by_numpy(model, {"x0": data})[0] + spread.shift
    np.testing.assert_array_equal(inner, outer)
    for found in (forward(model, "Pad", {0: spread}), backward(model, "Pad", {0: spread})):
        made = found[0] if isinstance(found, list) else found
        assert not isinstance(made, Refused)
        assert made[0].equals(spread)
    for factor in (0.0, -1.0):
        require_refused(model, Spread(factor * scale, scale), "pads with -inf, and channel 0")


def test_channels_that_are_added_keep_their_values() -> None:
    model = pad_model([2, 3, 4, 5], [0, 1, 0, 0], [0, 2, 0, 0])
    before = channel_spread(3, 2, 0)
    (made,) = prove_forward(model, {0: before}).values()
    np.testing.assert_array_equal(made.scale.ravel()[[0, 4, 5]], 1.0)
    np.testing.assert_array_equal(made.shift.ravel()[[0, 4, 5]], 0.0)
    (way,) = prove_backward(model, made)
    assert way[0].equals(before)
    changed = np.zeros((1, 6, 1, 1))
    changed[0, 4] = 2.0
    found = backward(model, "Pad", {0: Spread(np.ones((1, 6, 1, 1)), changed)})
    assert isinstance(found, Refused)
    assert "pads with 0, and channel 4 has scale 1 and shift 2" in found.sentence


def test_channels_that_are_cut_off() -> None:
    for mode in MODES:
        model = pad_model([2, 5, 4, 3], [0, -1, 0, 0], [0, -2, 0, 0], mode=mode)
        assert prove_forward(model, {0: channel_spread(5, 2, 0)}, run=by_numpy)[0].shape[1] == 2
        (way,) = prove_backward(model, channel_spread(2, 2, 0), run=by_numpy)
        assert way[0].shape[1] == 5


def test_nothing_is_left() -> None:
    model = pad_model([2, 3, 4, 5], [0, -4, 0, 0], [0, 4, 0, 0])
    spread = channel_spread(3, 2, 0)
    found = forward(model, "Pad", {0: spread})
    assert isinstance(found, Refused)
    assert "leaves no element of axis 1" in found.sentence


def test_no_pads_at_all() -> None:
    model = pad_model([2, 3, 4, 5], [0] * 4, [0] * 4)
    prove_both(model, channel_spread(3, 2, 0, batch=2))


def test_what_is_not_certain() -> None:
    spread = channel_spread(3, 2, 0)
    model = node_model("Pad", [[2, 3, 4, 5], ["P"]], opset=19)
    require_refused(model, spread, "pads that are not constant")
    ones = np.ones(8, np.int64)
    model = node_model("Pad", [[2, 3, 4, 5], ones, []], opset=19)
    require_refused(model, spread, "a value that is not constant")
    model = node_model("Pad", [[2, 3, 4, 5], ones, None, ["A"]], opset=19)
    require_refused(model, spread, "axes that are not constant")
    model = pad_model([2, 3, 4, 5], [1], [1], axes=[1])
    model.graph.input[0].type.tensor_type.ClearField("shape")
    require_refused(model, spread, "rank of x0 is not known", code="unknown-rank")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (pad_model([2, 3, 4], [1] * 3, [1] * 2), "pads are [1, 1, 1, 1, 1]"),
        (pad_model([2, 3, 4], [], []), "no pads"),
        (pad_model([2, 3, 4], [1] * 3, [1] * 3, mode="mirror"), "mode is mirror"),
        (pad_model([2, 3, 4], [1] * 2, [1] * 2, axes=[1, -2]), "axes are [1, -2]"),
        (pad_model([2, 3, 4], [1], [1], axes=[3]), "axes are [3]"),
    ],
)
def test_malformed_pads(model: onnx.ModelProto, words: str) -> None:
    require_refused(model, channel_spread(3, 1, 0), words, code="malformed-node")


def test_a_map_of_more_axes() -> None:
    model = pad_model([2, 3, 4], [0, 0, 1], [0, 0, 1])
    require_refused(model, channel_spread(3, 2, 0, batch=2), "4 axes", code="axis-mismatch")

"""Reductions over axes: which maps cross them, at every version."""

from __future__ import annotations

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
    node_model,
    prove_backward,
    prove_both,
    prove_forward,
    require_refused,
)
from tests.support_through import backward, forward, random_spread

SEEDS = st.integers(0, 10**6)
LENGTHS = ("ReduceL1", "ReduceL2")
REDUCTIONS = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum")
OPSETS = {
    "ReduceMean": [7, 11, 13, 18, 24],
    "ReduceSum": [7, 11, 13, 18, 24],
    "ReduceMax": [7, 11, 12, 13, 18, 20, 24],
    "ReduceMin": [7, 11, 12, 13, 18, 20, 24],
    "ReduceL1": [7, 11, 13, 18, 24],
    "ReduceL2": [7, 11, 13, 18, 24],
}


def has_axes_input(op_type: str, opset: int) -> bool:
    return opset >= (13 if op_type == "ReduceSum" else 18)


def reduction(
    op_type: str, opset: int, shape: list[Any], axes: list[int] | None, **more: Any
) -> onnx.ModelProto:
    if axes is None:
        return node_model(op_type, [shape], opset=opset, **more)
    if has_axes_input(op_type, opset):
        return node_model(op_type, [shape, np.array(axes, np.int64)], opset=opset, **more)
    return node_model(op_type, [shape], opset=opset, axes=axes, **more)


@st.composite
def cases(draw: st.DrawFn, op_type: str) -> tuple[onnx.ModelProto, list[int], list[int], bool]:
    """A node, the shape of its data, what it reduces, and whether those axes stay."""
    opset = draw(st.sampled_from(OPSETS[op_type]))
    shape = [draw(st.integers(1, 4)) for _ in range(draw(st.integers(1, 4)))]
    rank, more = len(shape), {}
    axes: list[int] | None = draw(
        st.one_of(st.none(), st.lists(st.integers(0, rank - 1), min_size=1, unique=True))
    )
    reduced = list(range(rank)) if axes is None else axes
    if axes is None and has_axes_input(op_type, opset) and draw(st.booleans()):
        more["noop_with_empty_axes"] = draw(st.integers(0, 1))
        axes = draw(st.sampled_from([None, []]))
        reduced = [] if more["noop_with_empty_axes"] else reduced
    elif axes is not None:
        # Negative axes are older than the text that allows them.
        axes = [axis - rank if draw(st.booleans()) else axis for axis in axes]
    keeps = draw(st.booleans())
    if not keeps or draw(st.booleans()):
        more["keepdims"] = int(keeps)
    return reduction(op_type, opset, shape, axes, **more), shape, sorted(reduced), keeps


def without(shape: list[int], axes: list[int], keeps: bool) -> list[int]:
    return [1 if at in axes else n for at, n in enumerate(shape) if keeps or at not in axes]


@pytest.mark.parametrize("op_type", REDUCTIONS)
def test_reductions(op_type: str) -> None:
    @settings(deadline=None, max_examples=120)
    @given(cases(op_type), SEEDS)
    def prove(made: tuple[onnx.ModelProto, list[int], list[int], bool], seed: int) -> None:
        model, shape, axes, keeps = made
        if not axes and not keeps:
            keeps = True
        positive = op_type in ("ReduceMax", "ReduceMin")
        output = tuple(without(shape, axes, keeps))
        prove_backward(model, random_spread(output, seed, positive=positive), seed=seed)
        before = tuple(without(shape, axes, True))
        prove_forward(model, {0: random_spread(before, seed, positive=positive)}, seed=seed)
        few = before[seed % (len(before) + 1) :]
        prove_forward(model, {0: random_spread(few, seed, positive=positive)}, seed=seed)

    prove()


@pytest.mark.parametrize("op_type", LENGTHS)
def test_lengths(op_type: str) -> None:
    """On the way back scales have to be positive, forward they become so."""

    @settings(deadline=None, max_examples=120)
    @given(cases(op_type), SEEDS)
    def prove(made: tuple[onnx.ModelProto, list[int], list[int], bool], seed: int) -> None:
        model, shape, axes, keeps = made
        keeps = keeps or not axes
        output, before = (tuple(without(shape, axes, k)) for k in (keeps, True))
        back = random_spread(output, seed, positive=True)
        prove_backward(model, Spread(back.scale, 0 * back.shift), seed=seed)
        ahead = random_spread(before, seed)
        if axes:
            prove_forward(model, {0: Spread(ahead.scale, 0 * ahead.shift)}, seed=seed)

    prove()


@pytest.mark.parametrize("op_type", LENGTHS)
def test_lengths_refuse(op_type: str) -> None:
    model = reduction(op_type, 13, [2, 3, 4, 4], [2, 3])
    scale = np.array([1.0, 0.0, -0.25]).reshape(3, 1, 1)
    found = backward(model, op_type, {0: Spread(scale, 0 * scale)})
    assert isinstance(found, Refused)
    assert "only positive scales without a shift" in found.sentence
    assert "channel 2 has scale -0.25" in found.sentence
    shifted = Spread(abs(scale), np.array([0.0, 2.0, 0.0]).reshape(3, 1, 1))
    require_refused(model, shifted, "channel 1 has shift 2")
    uneven = Spread(np.arange(1.0, 5), np.zeros(4))
    require_refused(model, uneven, "reduces axis -1, along which the scale and shift have 4 values")


@pytest.mark.parametrize("op_type", REDUCTIONS)
def test_a_map_that_differs_along_a_reduced_axis(op_type: str) -> None:
    for keeps in (0, 1):
        model = reduction(op_type, 13, [2, 3, 4], [1], keepdims=keeps)
        spread = random_spread((3, 1), 0, positive=True)
        found = forward(model, op_type, {0: spread})
        assert isinstance(found, Refused)
        assert "reduces axis -2, along which the scale and shift have 3 values" in found.sentence
        # Behind it that axis has one element, so such a map makes its data larger.
        if keeps:
            assert isinstance(backward(model, op_type, {0: spread}), Refused)


def test_channels_behind_a_reduction_of_the_space() -> None:
    spread = random_spread((3,), 0)
    model = reduction("ReduceMean", 13, ["N", 3, "H", "W"], [2, 3], keepdims=0)
    (way,) = prove_backward(model, spread)
    assert way[0].shape == (1, 3, 1, 1)
    assert prove_forward(model, {0: way[0]})[0].shape == (1, 3)


def test_sums_of_an_unknown_number() -> None:
    model = reduction("ReduceSum", 13, ["N", 3, "H", 4], [2, 3])
    prove_both(model, channel_spread(3, 2, 0, shifted=False))
    spread = Spread(np.ones((3, 1, 1)), np.array([0, 0.5, 0]).reshape(3, 1, 1))
    words = ("node (ReduceSum)", "adds up a number of elements that is not known", "has shift 0.5")
    require_refused(model, spread, *words)
    prove_backward(reduction("ReduceSum", 13, ["N", 3, 5, 4], [2, 3]), spread)


def test_extremes_refuse_negative_scales() -> None:
    spread = Spread(np.array([1.0, 0.0, -0.25]).reshape(3, 1, 1), np.zeros((3, 1, 1)))
    for op_type in ("ReduceMax", "ReduceMin"):
        model = reduction(op_type, 13, [2, 3, 4, 4], [2, 3])
        require_refused(model, spread, "only positive scales", "channel 2 has scale -0.25")


@pytest.mark.parametrize("op_type", REDUCTIONS)
def test_what_is_not_certain(op_type: str) -> None:
    spread = random_spread((3, 1, 1), 0, positive=True)
    model = node_model(op_type, [[2, 3, 4, 4], ["K"]], opset=18)
    require_refused(model, spread, "has axes that are not constant")
    model = reduction(op_type, 18, [2, 3, 4, 4], [2])
    model.graph.input[0].type.tensor_type.ClearField("shape")
    require_refused(model, spread, "rank of x0 is not known", code="unknown-rank")
    for axes in ([4], [2, -2], [-5]):
        model = reduction(op_type, 18, [2, 3, 4, 4], axes)
        require_refused(model, spread, f"axes are {axes}", code="malformed-node")
    model = reduction(op_type, 11, [2, 3, 4, 4], None)
    model.graph.node[0].attribute.add(name="axes", type=onnx.AttributeProto.INTS)
    require_refused(model, spread, "empty list", code="malformed-node")
    model = reduction(op_type, 11, [2, 3, 4, 4], [2], noop_with_empty_axes=1)
    require_refused(model, spread, "noop_with_empty_axes", code="unknown-attribute")
    model = reduction(op_type, 13, [2, 3, 4, 4], [2, 3], keepdims=0)
    wide = random_spread((2, 3, 4, 4, 1), 0, positive=True)
    require_refused(model, wide, "5 axes", code="axis-mismatch")

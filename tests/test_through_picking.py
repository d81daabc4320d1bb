"""Operators that pick elements, add them up along an axis or put zeros in: which maps cross them.

The evaluator of onnx computes both sides in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from tests.support_arithmetic import (
    channel_spread,
    drawn,
    node_model,
    own,
    prove_backward,
    prove_both,
    prove_forward,
    refusals,
    require_refused,
)
from tests.support_through import backward, forward, random_spread

SEEDS = st.integers(0, 10**6)
CHANNELS = Spread(np.array([2.0, -1.0, 0.5]).reshape(3, 1, 1), np.zeros((3, 1, 1)))
SHIFTED = Spread(CHANNELS.scale, np.array([0.0, 0.0, 7.0]).reshape(3, 1, 1))
COLUMNS = Spread(np.array([2.0, -1.0, 0.5, 3.0]), np.zeros(4))
IMAGE = [2, 3, 5, 4]


def without_shape(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.input[0].type.tensor_type.ClearField("shape")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


@st.composite
def gathers(draw: st.DrawFn) -> tuple[onnx.ModelProto, tuple[int, ...], tuple[int, ...]]:
    """A GatherND, and the shapes of maps that are even along what it picks, before and behind."""
    batch = [draw(st.integers(1, 3)) for _ in range(draw(st.integers(0, 2)))]
    picked = [draw(st.integers(1, 3)) for _ in range(draw(st.integers(1, 2)))]
    rest = [draw(st.integers(1, 3)) for _ in range(draw(st.integers(0, 2)))]
    added = [draw(st.integers(1, 3)) for _ in range(draw(st.integers(0, 2)))]
    generator = np.random.default_rng(draw(SEEDS))
    shape = (*batch, *added)
    indices = np.stack([generator.integers(-n, n, shape) for n in picked], axis=-1)
    opset = draw(st.sampled_from([12, 13, 21]))
    model = node_model(
        "GatherND", [[*batch, *picked, *rest], indices], opset=opset, batch_dims=len(batch)
    )
    before, behind = ((*batch, *[1] * len(c), *rest) for c in (picked, added))
    return model, before, behind


@settings(deadline=None, max_examples=120)
@given(gathers(), SEEDS)
def test_gather_nd(
    made: tuple[onnx.ModelProto, tuple[int, ...], tuple[int, ...]], seed: int
) -> None:
    model, before, behind = made
    (way,) = prove_backward(model, random_spread(behind, seed), seed=seed)
    assert len(way[0].shape) == len(before)
    prove_forward(model, {0: random_spread(before, seed)}, seed=seed)


def test_gather_nd_refuses() -> None:
    indices = np.array([[0, 1], [1, 2]])
    model = node_model("GatherND", [IMAGE, indices], opset=13)
    found = forward(model, "GatherND", {0: CHANNELS})
    assert isinstance(found, Refused)
    assert "picks from axis -3, along which the scale and shift have 3 values" in found.sentence
    pairs = Spread(np.array([1.0, 2.0]).reshape(2, 1, 1), np.zeros((2, 1, 1)))
    behind = backward(model, "GatherND", {0: pairs})
    assert isinstance(behind, Refused)
    assert "picks from axis -3" in behind.sentence
    prove_both(model, COLUMNS)
    unknown = node_model("GatherND", [IMAGE, [2, "K"]], opset=13)
    require_refused(unknown, COLUMNS, "indices of a length that is not known")
    require_refused(without_shape(model), COLUMNS, "the rank", code="unknown-rank")
    far = node_model("GatherND", [IMAGE, np.zeros((2, 5), np.int64)], opset=13)
    require_refused(far, COLUMNS, "pick 5 axes of 4 from 0 on", code="malformed-node")


@settings(deadline=None, max_examples=60)
@given(st.integers(-3, 2), st.integers(1, 5), st.sampled_from([11, 13]), SEEDS)
def test_gather_elements(axis: int, places: int, opset: int, seed: int) -> None:
    shape = [2, 3, 4]
    wanted = [*shape]
    wanted[axis] = places
    indices = np.random.default_rng(seed).integers(-shape[axis], shape[axis], wanted)
    model = node_model("GatherElements", [shape, indices], opset=opset, axis=axis)
    even = tuple(1 if at == axis % 3 else n for at, n in enumerate(shape))
    # That of onnx knows no negative axes.
    prove_both(model, random_spread(even, seed), run=own if axis < 0 else None, seed=seed)


def test_gather_elements_refuses() -> None:
    indices = np.zeros((2, 3, 2, 4), np.int64)
    model = node_model("GatherElements", [IMAGE, indices], opset=13, axis=2)
    prove_both(model, CHANNELS)
    model = node_model("GatherElements", [IMAGE, indices], opset=13, axis=1)
    require_refused(model, CHANNELS, "picks from axis -3")
    fewer = node_model("GatherElements", [IMAGE, indices[:, :2]], opset=13, axis=2)
    require_refused(fewer, CHANNELS, "moves axis 1 of size 2, where the norm has 3 values")
    prove_both(fewer, COLUMNS, run=own)
    model = node_model("GatherElements", [IMAGE, indices], opset=13, axis=4)
    require_refused(model, CHANNELS, "its axis is 4", code="malformed-node")
    require_refused(without_shape(fewer), COLUMNS, "the rank", code="unknown-rank")


@settings(deadline=None, max_examples=40)
@given(st.integers(-3, 2), st.sampled_from([9, 11]), SEEDS)
def test_compress(axis: int, opset: int, seed: int) -> None:
    shape = [2, 3, 4]
    chosen = np.random.default_rng(seed).integers(0, 2, shape[axis]).astype(bool)
    chosen[0] = True
    model = node_model("Compress", [shape, chosen], opset=opset, axis=axis)
    even = tuple(1 if at == axis % 3 else n for at, n in enumerate(shape))
    prove_both(model, random_spread(even, seed), seed=seed)


def test_compress_of_all_elements() -> None:
    chosen = np.array([True, False, True, True])
    model = node_model("Compress", [[2, 3], chosen], opset=11)
    prove_both(model, Spread(np.full(1, -3.0), np.full(1, 5.0)))
    prove_forward(model, {0: Spread(np.full((2, 1), -3.0), np.full((2, 1), 5.0))})
    require_refused(model, random_spread((3,), 0), "which the norm treats differently")


def test_compress_refuses() -> None:
    model = node_model("Compress", [IMAGE, np.array([True, True, False])], opset=11, axis=1)
    require_refused(model, CHANNELS, "picks from axis -3")
    prove_both(model, COLUMNS)
    require_refused(without_shape(model), COLUMNS, "the rank", code="unknown-rank")


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1), SEEDS)
def test_reverse_sequence(time: int, seed: int) -> None:
    shape = [3, 4, 2]
    lengths = np.random.default_rng(seed).integers(1, shape[time] + 1, shape[1 - time])
    model = node_model(
        "ReverseSequence", [shape, lengths], opset=10, time_axis=time, batch_axis=1 - time
    )
    even = tuple(1 if at == time else n for at, n in enumerate(shape))
    prove_both(model, random_spread(even, seed), seed=seed)
    uneven = random_spread((*shape[:2], 1), seed)
    require_refused(model, uneven, f"picks from axis {time - 3}")


@settings(deadline=None, max_examples=60)
@given(st.integers(-3, 2), st.sampled_from([11, 14]), st.booleans(), st.booleans(), SEEDS)
def test_cum_sum(axis: int, opset: int, exclusive: bool, reverse: bool, seed: int) -> None:
    shape = [2, 3, 4]
    model = node_model(
        "CumSum",
        [shape, np.array(axis)],
        opset=opset,
        exclusive=int(exclusive),
        reverse=int(reverse),
    )
    even = tuple(1 if at == axis % 3 else n for at, n in enumerate(shape))
    scale = random_spread(even, seed).scale
    prove_both(model, Spread(scale, 0 * scale), seed=seed)
    along = np.arange(1.0, shape[axis] + 1).reshape([-1 if n == 1 else 1 for n in even])
    require_refused(model, Spread(along, 0 * along), f"adds up along axis {axis % 3 - 3}")
    require_refused(model, Spread(np.ones(1), np.ones(1)), "lets no shift through")


def test_cum_sum_refuses() -> None:
    model = node_model("CumSum", [IMAGE, []], opset=14)
    require_refused(model, CHANNELS, "adds up along an axis that is not constant")
    one = Spread(np.array(-2.0), np.array(0.0))
    assert forward(model, "CumSum", {0: one}) == {0: one}
    model = node_model("CumSum", [IMAGE, np.array(4)], opset=14)
    require_refused(model, CHANNELS, "its axis is 4", code="malformed-node")
    model = without_shape(node_model("CumSum", [IMAGE, np.array(2)], opset=14))
    require_refused(model, CHANNELS, "rank of x0 is not known", code="unknown-rank")


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1), st.integers(-4, 4), SEEDS)
def test_trilu(upper: int, diagonal: int, seed: int) -> None:
    model = node_model("Trilu", [[2, 3, 4], np.array(diagonal)], opset=14, upper=upper)
    scale = random_spread((2, 3, 4), seed).scale
    prove_both(model, Spread(scale, 0 * scale), seed=seed)
    require_refused(model, Spread(np.ones(1), np.ones(1)), "puts zeros into the place")


SIZES: list[tuple[list[int], dict[str, Any]]] = [
    ([3, 2], {"axes": [2, 3]}),
    ([2, 3], {"axes": [-1, 2]}),
    ([2, 3, 4, 3], {}),
]


@pytest.mark.parametrize(("sizes", "more"), SIZES)
def test_center_crop(sizes: list[int], more: dict[str, Any]) -> None:
    model = node_model("CenterCropPad", [IMAGE, np.array(sizes)], opset=18, **more)
    prove_both(model, channel_spread(3, 2, 1, batch=2))
    require_refused(model, COLUMNS, "cuts or pads axis -1")


def test_center_pad() -> None:
    model = node_model("CenterCropPad", [IMAGE, np.array([9, 2])], opset=18, axes=[2, 3])
    prove_both(model, CHANNELS)
    require_refused(model, SHIFTED, "may pad with zeros", "channel 2 has shift 7")
    require_refused(model, COLUMNS, "cuts or pads axis -1")
    same = node_model("CenterCropPad", [IMAGE, np.array([9, 4])], opset=18, axes=[2, 3])
    prove_both(same, COLUMNS)


def test_center_crop_pad_of_unknown_sizes() -> None:
    cases: list[list[Any]] = [[IMAGE, [2]], [["N", 3, "H", "W"], np.array([3, 2])]]
    for inputs in cases:
        model = node_model("CenterCropPad", inputs, opset=18, axes=[2, 3])
        require_refused(model, SHIFTED, "may pad with zeros")
        assert not isinstance(forward(model, "CenterCropPad", {0: CHANNELS}), Refused)
    model = node_model("CenterCropPad", [IMAGE, np.array([3, 2, 1])], opset=18, axes=[2, 3])
    require_refused(model, CHANNELS, "3 sizes for 2 axes", code="malformed-node")
    model = node_model("CenterCropPad", [IMAGE, np.array([3, 2])], opset=18, axes=[2, -2])
    require_refused(model, CHANNELS, "an axis twice", code="malformed-node")
    require_refused(without_shape(model), CHANNELS, "the rank", code="unknown-rank")


@st.composite
def grids(draw: st.DrawFn) -> tuple[onnx.ModelProto, str, int]:
    """A GridSample of images or volumes, at places on and beyond them."""
    opset = draw(st.sampled_from([16, 20, 22]))
    spatial = draw(st.integers(2, 3 if opset >= 20 else 2))
    names = ["nearest", "linear", "cubic"] if opset >= 20 else ["nearest", "bilinear", "bicubic"]
    mode = draw(st.sampled_from(names[: 2 if spatial == 3 else 3]))
    padding = draw(st.sampled_from(["zeros", "border", "reflection"]))
    sizes = [draw(st.integers(1, 4)) for _ in range(spatial)]
    places = [draw(st.integers(1, 3)) for _ in range(spatial)]
    generator = np.random.default_rng(draw(SEEDS))
    grid = generator.uniform(-1.5, 1.5, (2, *places, spatial))
    model = node_model(
        "GridSample",
        [[2, 3, *sizes], grid],
        opset=opset,
        mode=mode,
        padding_mode=padding,
        align_corners=draw(st.integers(0, 1)),
    )
    return model, padding, spatial


@settings(deadline=None, max_examples=150)
@given(grids(), SEEDS)
def test_grid_sample(made: tuple[onnx.ModelProto, str, int], seed: int) -> None:
    model, padding, spatial = made
    plain = channel_spread(3, spatial, seed, shifted=False, batch=2)
    prove_both(model, plain, run=own, seed=seed)
    shifted = channel_spread(3, spatial, seed, batch=2)
    if padding == "zeros":
        assert all("finds zeros beyond" in why.sentence for why in refusals(model, shifted))
    else:
        prove_both(model, shifted, run=own, seed=seed)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_grid_sample_of_onnx(mode: str, padding: str) -> None:
    grid = np.random.default_rng(3).uniform(-1.2, 1.2, (2, 4, 5, 2))
    model = node_model(
        "GridSample", [IMAGE, grid], opset=22, mode=mode, padding_mode=padding, align_corners=1
    )
    spread = channel_spread(3, 2, 1, shifted=padding != "zeros", batch=2)
    assert forward(model, "GridSample", {0: spread}) == {0: spread}
    evaluator, x = ReferenceEvaluator(model), drawn(model)["x0"]
    runs: list[Any] = [
        evaluator.run(None, {"x0": data}) for data in (x, spread.scale * x + spread.shift)
    ]
    (plain,), (inner,) = runs
    # Its weights are numbers of float32.
    np.testing.assert_allclose(inner, spread.scale * plain + spread.shift, rtol=0, atol=1e-4)


def test_grid_sample_refuses() -> None:
    grid = np.zeros((2, 4, 5, 2))
    model = node_model("GridSample", [IMAGE, grid], opset=20, padding_mode="border")
    require_refused(model, COLUMNS, "samples along axis -1")
    others: list[dict[str, Any]] = [{"mode": "lanczos"}, {"padding_mode": "wrap"}]
    for more in others:
        odd = node_model("GridSample", [IMAGE, grid], opset=20, **more)
        require_refused(odd, CHANNELS, "its mode is", code="malformed-node")
    require_refused(without_shape(model), CHANNELS, "rank of x0", code="unknown-rank")


@pytest.mark.parametrize("opset", [10, 16, 22])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align(mode: str, opset: int) -> None:
    generator = np.random.default_rng(opset)
    corners = generator.uniform(-3, 3, (5, 2))
    regions = np.concatenate([corners, corners + generator.uniform(1, 6, (5, 2))], axis=1)
    images = np.array([0, 1, 1, 0, 1])
    model = node_model(
        "RoiAlign",
        [IMAGE, regions, images],
        opset=opset,
        mode=mode,
        output_height=2,
        output_width=3,
        sampling_ratio=2,
        spatial_scale=0.5,
    )
    for seed in range(3):
        prove_both(model, channel_spread(3, 2, seed, positive=mode == "max", shifted=False))
    require_refused(model, SHIFTED, "finds zeros beyond the image", "channel 2 has shift 7")
    if mode == "max":
        require_refused(model, CHANNELS, "only positive scales", "channel 1 has scale -1")
    require_refused(model, COLUMNS if mode == "avg" else abs_of(COLUMNS), "regions along axis -1")
    batch = Spread(np.array([1.0, 2.0]).reshape(2, 1, 1, 1), np.zeros((2, 1, 1, 1)))
    require_refused(model, batch, "regions along axis -4")
    five = Spread(np.ones((1,) * 5), np.zeros((1,) * 5))
    require_refused(model, five, "5 axes", code="axis-mismatch")


def abs_of(spread: Spread) -> Spread:
    return Spread(np.abs(spread.scale), spread.shift)


def test_roi_align_of_another_mode() -> None:
    regions, images = np.zeros((1, 4)), np.array([0])
    model = node_model("RoiAlign", [IMAGE, regions, images], opset=16, mode="sum")
    require_refused(model, CHANNELS, "its mode is sum", code="malformed-node")

"""Resize and Upsample: their weights sum to one in every mode, so every map crosses them.

Resize of onnx.reference computes weights of float32, which miss one by 1e-6, and its Upsample takes
only whole numbers. So bnfold's own evaluator computes, and both are asked where both can.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnfold.algebra.spread import Spread
from tests.support_arithmetic import channel_spread, node_model, own, prove_both, require_refused

SEEDS = st.integers(0, 10**6)
COORDINATES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
NEAREST = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


def scales_of(values: list[float]) -> Any:
    return np.array(values, np.float32)


@st.composite
def resizes(draw: st.DrawFn) -> onnx.ModelProto:
    """A Resize of the space only, by scales or sizes, in any mode."""
    opset = draw(st.sampled_from([10, 11, 13, 18, 19, 24]))
    rank = draw(st.integers(1, 2))
    shape: list[Any] = [2, 3, *[draw(st.integers(1, 6)) for _ in range(rank)]]
    factors = [draw(st.sampled_from([0.5, 0.7, 1.0, 1.5, 2.0, 3.0])) for _ in range(rank)]
    sizes = [max(int(n * f), 1) for n, f in zip(shape[2:], factors, strict=True)]
    if any(int(n * f) < 1 for n, f in zip(shape[2:], factors, strict=True)):
        factors = [2.0] * rank
    if opset == 10:
        mode = draw(st.sampled_from(["nearest", "linear"]))
        return node_model("Resize", [shape, scales_of([1, 1, *factors])], opset=10, mode=mode)
    more: dict[str, Any] = {"mode": draw(st.sampled_from(["nearest", "linear", "cubic"]))}
    coordinates = COORDINATES + (["half_pixel_symmetric"] if opset >= 19 else [])
    more["coordinate_transformation_mode"] = draw(st.sampled_from(coordinates))
    more["nearest_mode"] = draw(st.sampled_from(NEAREST))
    more["exclude_outside"] = draw(st.integers(0, 1))
    if draw(st.booleans()):
        more["cubic_coeff_a"] = draw(st.sampled_from([-0.5, -0.75, -1.0]))
    if opset >= 18 and more["mode"] != "nearest":
        more["antialias"] = draw(st.integers(0, 1))
    ahead = [2, 3]
    if opset >= 18 and draw(st.booleans()):
        more["axes"] = [2, 3][:rank] if draw(st.booleans()) else [-2, -1][-rank:]
        ahead = []
        if draw(st.booleans()):
            more["keep_aspect_ratio_policy"] = draw(st.sampled_from(["not_larger", "not_smaller"]))
    if draw(st.booleans()) or "keep_aspect_ratio_policy" in more:
        empty = np.zeros(0, np.float32) if opset < 13 else None
        wanted = np.array([*ahead, *sizes], np.int64)
        return node_model("Resize", [shape, empty, empty, wanted], opset=opset, **more)
    scales = scales_of([*[1.0] * len(ahead), *factors])
    return node_model("Resize", [shape, None, scales], opset=opset, **more)


@settings(deadline=None, max_examples=200)
@given(resizes(), SEEDS)
def test_resize(model: onnx.ModelProto, seed: int) -> None:
    spatial = len(model.graph.input[0].type.tensor_type.shape.dim) - 2
    spread = channel_spread(3, spatial, seed, batch=1 + seed % 2)
    prove_both(model, spread, run=own, seed=seed)


@settings(deadline=None, max_examples=40)
@given(resizes(), SEEDS)
def test_one_value_crosses_every_axis(model: onnx.ModelProto, seed: int) -> None:
    """Sizes and scales need not be known then."""
    node = model.graph.node[0]
    kept = [tensor.name for tensor in model.graph.initializer]
    assert kept[-1] in node.input
    prove_both(model, Spread(np.array([-2.0]), np.array([7.0])), run=own, seed=seed)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("scale", [2.0, 0.5])
def test_resize_by_the_evaluator_of_onnx(mode: str, scale: float) -> None:
    model = node_model(
        "Resize", [[1, 3, 5, 5], None, scales_of([1, 1, scale, scale])], opset=13, mode=mode
    )
    prove_both(model, channel_spread(3, 2, 1))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("opset", [7, 9])
def test_upsample(mode: str, opset: int) -> None:
    factors = [1.0, 1.0, 2.0, 1.5]
    if opset < 9:
        model = node_model("Upsample", [[2, 3, 4, 5]], opset=opset, mode=mode, scales=factors)
    else:
        model = node_model("Upsample", [[2, 3, 4, 5], scales_of(factors)], opset=opset, mode=mode)
    prove_both(model, channel_spread(3, 2, 1, batch=2), run=own)


def test_upsample_of_the_first_version() -> None:
    more: dict[str, Any] = {"mode": "bilinear", "height_scale": 2.0, "width_scale": 3.0}
    model = node_model("Upsample", [[2, 3, 4, 5]], opset=6, **more)
    prove_both(model, channel_spread(3, 2, 1, batch=2), run=own)
    model = node_model("Upsample", [[2, 3, 4, 5]], opset=6, **more | {"height_scale": 1.0})
    prove_both(model, Spread(np.ones((4, 1)), np.arange(4.0).reshape(4, 1)), run=own)


SPREAD = channel_spread(3, 2, 1)


def resize(*inputs: Any, opset: int = 19, shape: Any = (1, 3, 5, 5), **more: Any) -> Any:
    return node_model("Resize", [list(shape), *inputs], opset=opset, **more)


def test_sizes_that_only_shapes_tell() -> None:
    """The sizes are computed, but the file says how many channels there are before and after."""
    model = resize(None, None, ["R"], opset=13, mode="nearest")
    model.graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.INT64
    require_refused(model, SPREAD, "resizes axis -3, along which the scale and shift have 3 values")
    for dim in ({"dim_value": 1}, {"dim_value": 3}, {}, {}):
        model.graph.output[0].type.tensor_type.shape.dim.add(**dim)

    def run(_: onnx.ModelProto, feeds: Any) -> list[Any]:
        fixed = resize(None, None, np.array([1, 3, 7, 9], np.int64), opset=13, mode="nearest")
        return own(fixed, {"x0": feeds["x0"]})

    from tests.support_through import backward, require_equal

    found = backward(model, "Resize", {0: SPREAD})
    assert isinstance(found, list)
    data = {"x0": np.random.default_rng(0).uniform(-30, 30, (1, 3, 5, 5))}
    require_equal(model, "Resize", data, found[0], {0: SPREAD}, run=run)


def test_a_map_that_differs_along_a_resized_axis() -> None:
    words = "resizes axis -3, along which the scale and shift have 3 values"
    require_refused(resize(None, scales_of([1, 2, 1, 1])), SPREAD, words)
    require_refused(resize(None, scales_of([1, 1.25, 1, 1])), SPREAD, words)
    require_refused(resize(None, None, np.array([1, 4, 5, 5])), SPREAD, words)
    require_refused(resize(None, scales_of([2, 1]), axes=[1, 2]), SPREAD, words)
    model = resize(None, None, np.array([3, 5]), axes=[1, 2], keep_aspect_ratio_policy="not_larger")
    require_refused(model, SPREAD, words)


def test_scales_that_are_not_constant() -> None:
    for opset, inputs in ((19, (None, ["R"])), (10, (["R"],))):
        model = resize(*inputs, opset=opset)
        require_refused(model, SPREAD, "has scales that are not constant")


def test_crops() -> None:
    more: dict[str, Any] = {
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 1.0,
    }
    roi = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32)
    model = resize(roi, scales_of([1, 1, 2, 2]), **more)
    require_refused(model, SPREAD, "by tf_crop_and_resize, which may leave the data")
    require_refused(model, Spread(np.array(2.0), np.array(1.0)), "tf_crop_and_resize")


def test_places_half_an_element_further() -> None:
    """At opset 11; with ``ceil`` it moves even what it does not resize."""
    more = {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "ceil"}
    model = resize(None, scales_of([1, 1, 2, 2]), opset=11, **more)
    require_refused(model, SPREAD, "resizes axis -3")


def test_malformed_resizes() -> None:
    model = resize(None, scales_of([1, 1, 2]))
    require_refused(model, SPREAD, "3 scales for 4 axes", code="malformed-node")
    model = resize(None, scales_of([1, 1, 2, 2]), np.array([1, 3, 5, 5]))
    require_refused(model, SPREAD, "both scales and sizes", code="malformed-node")
    model = resize(None, scales_of([1, 1, 2, 2]), mode="area")
    require_refused(model, SPREAD, "mode is area", code="malformed-node")
    model = resize(None, scales_of([2.0]), axes=[4])
    require_refused(model, SPREAD, "axes are [4]", code="malformed-node")
    model = resize(None, scales_of([1, 1, 2, 2]), opset=11, antialias=1)
    require_refused(model, SPREAD, "antialias", code="unknown-attribute")
    model = resize(None, scales_of([1, 1, 2, 2]))
    model.graph.input[0].type.tensor_type.ClearField("shape")
    require_refused(model, SPREAD, "rank of x0 is not known", code="unknown-rank")
    model = resize(None, scales_of([1, 1, 2, 2]))
    wide = channel_spread(3, 2, 0, batch=2)
    wide = Spread(wide.scale[None], wide.shift[None])
    require_refused(model, wide, "5 axes", code="axis-mismatch")

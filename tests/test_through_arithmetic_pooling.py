"""Pooling: which maps cross it, in every geometry, proven in float64.

AveragePool and MaxPool of onnx.reference fail on some geometries (``ceil_mode`` with counted pads
most of all), so bnfold's own evaluator computes there, and both are asked where both can.
"""

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
    own,
    prove_backward,
    prove_both,
    prove_forward,
    refusals,
    require_refused,
)
from tests.support_through import backward, forward

SEEDS = st.integers(0, 10**6)


@st.composite
def pools(draw: st.DrawFn, op_type: str) -> onnx.ModelProto:
    """A pool of any geometry that the specification allows at an opset."""
    last = 22
    opset = draw(st.sampled_from([6, 7, 8, 10, 11, 12, 17, 19, last]))
    rank = draw(st.integers(1, 3))
    axes = range(rank)
    attributes: dict[str, Any] = {}
    kernel = [draw(st.integers(1, 3)) for _ in axes]
    strides = [draw(st.integers(1, 3)) for _ in axes]
    has_dilations = opset >= {"AveragePool": 19, "LpPool": 18}.get(op_type, 10)
    dilations = [draw(st.integers(1, 2)) if has_dilations else 1 for _ in axes]
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    sizes = [draw(st.integers(max(r, 2), r + 4)) for r in reach]
    auto_pad = draw(st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if auto_pad == "NOTSET":
        attributes["pads"] = [draw(st.integers(0, r - 1)) for r in [*reach, *reach]]
    elif draw(st.booleans()) or auto_pad != "NOTSET":
        attributes["auto_pad"] = auto_pad
    if opset >= (18 if op_type == "LpPool" else 10) and draw(st.booleans()):
        attributes["ceil_mode"] = 1
    if op_type == "LpPool" and draw(st.booleans()):
        attributes["p"] = draw(st.integers(1, 3))
    if has_dilations:
        attributes["dilations"] = dilations
    if op_type == "AveragePool" and opset >= 7 and draw(st.booleans()):
        attributes["count_include_pad"] = 1
    shape = [draw(st.integers(1, 2)), draw(st.integers(1, 3)), *sizes]
    return node_model(
        op_type, [shape], opset=opset, kernel_shape=kernel, strides=strides, **attributes
    )


def channels_of(model: onnx.ModelProto) -> tuple[int, int]:
    """The number of channels of the data and of its spatial axes."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    return dims[1].dim_value, len(dims) - 2


@settings(deadline=None, max_examples=150)
@given(pools("AveragePool"), SEEDS)
def test_average_pool(model: onnx.ModelProto, seed: int) -> None:
    """What is let through is the same function, and a scale alone always is."""
    channels, spatial = channels_of(model)
    prove_both(model, channel_spread(channels, spatial, seed, shifted=False), run=own, seed=seed)
    spread = channel_spread(channels, spatial, seed)
    if isinstance(backward(model, "AveragePool", {0: spread}), Refused):
        refusals(model, spread)
        return
    prove_both(model, spread, run=own, seed=seed)


@settings(deadline=None, max_examples=150)
@given(pools("MaxPool"), SEEDS)
def test_max_pool(model: onnx.ModelProto, seed: int) -> None:
    channels, spatial = channels_of(model)
    spread = channel_spread(channels, spatial, seed, positive=True)
    if isinstance(backward(model, "MaxPool", {0: spread}), Refused):
        refusals(model, spread)
        return
    prove_both(model, spread, run=own, seed=seed)


@pytest.mark.parametrize(
    ("attributes", "opset"),
    [
        ({}, 6),
        ({"strides": [2, 1]}, 9),
        ({"pads": [1, 0, 1, 1]}, 9),
        ({"pads": [1, 1, 1, 1], "strides": [2, 2]}, 22),
        ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, 17),
        ({"auto_pad": "SAME_LOWER"}, 17),
        ({"auto_pad": "VALID", "dilations": [2, 1]}, 19),
        ({"ceil_mode": 1, "strides": [2, 2]}, 17),
        ({"ceil_mode": 1, "strides": [2, 2], "pads": [1, 1, 0, 0]}, 17),
        ({"dilations": [2, 2], "pads": [2, 2, 2, 2]}, 19),
    ],
)
def test_shifts_cross_where_pads_are_not_counted(attributes: dict[str, Any], opset: int) -> None:
    model = node_model(
        "AveragePool", [[2, 3, 6, 7]], opset=opset, kernel_shape=[2, 3], **attributes
    )
    prove_both(model, channel_spread(3, 2, 1, batch=2), run=own)
    if "auto_pad" not in attributes and "ceil_mode" not in attributes:
        prove_both(model, channel_spread(3, 2, 1, batch=2))


COUNTED: dict[str, Any] = {"kernel_shape": [2, 3], "count_include_pad": 1}


@pytest.mark.parametrize(
    "attributes",
    [
        {"pads": [1, 0, 0, 0]},
        {"pads": [0, 0, 0, 1]},
        {"auto_pad": "SAME_UPPER"},
        {"ceil_mode": 1, "strides": [2, 2]},
    ],
)
def test_counted_pads_stop_a_shift(attributes: dict[str, Any]) -> None:
    model = node_model("AveragePool", [[2, 3, 6, 7]], opset=19, **COUNTED, **attributes)
    spread = Spread(np.ones((3, 1, 1)), np.array([0.0, 2.5, 0.0]).reshape(3, 1, 1))
    words = ("node (AveragePool)", "counts its padding", "channel 1 has shift 2.5")
    require_refused(model, spread, *words)
    prove_both(model, Spread(np.array([-2.0, 0, 3]).reshape(3, 1, 1), 0 * spread.shift), run=own)


def test_counted_pads_that_are_none() -> None:
    model = node_model("AveragePool", [[2, 3, 6, 7]], opset=19, strides=[2, 2], **COUNTED)
    prove_both(model, channel_spread(3, 2, 5))


MISSING: list[tuple[list[Any], dict[str, Any]]] = [
    ([[1, 3, 6]], {"kernel_shape": [2], "pads": [2, 0]}),
    ([[1, 3, 6]], {"kernel_shape": [2], "pads": [0, 2]}),
    ([[1, 3, 4]], {"kernel_shape": [1], "strides": [2], "ceil_mode": 1}),
    ([[1, 3, 1]], {"kernel_shape": [2], "pads": [1, 2], "dilations": [3]}),
    ([[1, 3, "W"]], {"kernel_shape": [2], "pads": [1, 1], "dilations": [2]}),
    ([[1, 3, "W"]], {"kernel_shape": [2], "auto_pad": "SAME_UPPER", "dilations": [2]}),
]


@pytest.mark.parametrize("op_type", ["AveragePool", "MaxPool"])
@pytest.mark.parametrize(("inputs", "attributes"), MISSING)
def test_windows_of_nothing_but_padding(
    op_type: str, inputs: list[Any], attributes: dict[str, Any]
) -> None:
    model = node_model(op_type, inputs, opset=19, **attributes)
    spread = channel_spread(3, 1, 3, positive=True)
    require_refused(model, spread, "may have a window with nothing but padding")


def test_dilations_with_enough_data() -> None:
    for op_type in ("AveragePool", "MaxPool"):
        model = node_model(
            op_type, [["N", 3, 2]], opset=19, kernel_shape=[2], pads=[1, 1], dilations=[2]
        )
        prove_both(model, channel_spread(3, 1, 3, positive=True), run=own)


def test_negative_scales_do_not_cross_a_maximum() -> None:
    scale = np.array([1.0, 0.0, 2.0, -0.4]).reshape(4, 1, 1)
    words = "node (MaxPool) lets only positive scales through, and channel 3 has scale -0.4"
    model = node_model("MaxPool", [[1, 4, 6, 6]], opset=17, kernel_shape=[2, 2])
    require_refused(model, Spread(scale, scale), words)
    for op_type in ("GlobalMaxPool", "ReduceMax", "ReduceMin"):
        model = node_model(op_type, [[1, 4, 6, 6]], opset=13, **_axes(op_type))
        require_refused(model, Spread(scale, scale), words.replace("MaxPool", op_type))


def _axes(op_type: str) -> dict[str, Any]:
    return {"axes": [2, 3]} if op_type.startswith("Reduce") else {}


def test_places_of_the_maxima_that_are_read() -> None:
    model = node_model("MaxPool", [[1, 4, 6, 6]], opset=17, kernel_shape=[2, 2], outputs=2)
    spread = channel_spread(4, 2, 0, positive=True)
    require_refused(model, spread, "gives the places of its maxima, y1, which are read")


def test_places_of_the_maxima_that_nobody_reads() -> None:
    model = node_model("MaxPool", [[1, 4, 6, 6]], opset=17, kernel_shape=[2, 2], outputs=2)
    del model.graph.output[1]
    prove_both(model, channel_spread(4, 2, 0, positive=True), run=own)


@pytest.mark.parametrize("op_type", ["AveragePool", "MaxPool"])
def test_a_map_that_differs_along_a_pooled_axis(op_type: str) -> None:
    model = node_model(op_type, [[1, 4, 6, 5]], opset=17, kernel_shape=[1, 1])
    words = ("pools along axis -1", "have 5 values")
    require_refused(model, Spread(np.ones(5), np.arange(5.0)), *words)
    spread = Spread(np.ones((1, 1, 1, 1, 1)), np.ones((1, 1, 1, 1, 1)))
    require_refused(model, spread, "5 axes", code="axis-mismatch")


@pytest.mark.parametrize("op_type", ["AveragePool", "MaxPool"])
@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({}, "no kernel_shape"),
        ({"kernel_shape": [2, 2], "strides": [1]}, "do not fit the 2 axes"),
        ({"kernel_shape": [2, 2], "pads": [1, 1]}, "do not fit the 2 axes"),
        ({"kernel_shape": [2, 2], "pads": [0, -1, 0, 0]}, "too small"),
        ({"kernel_shape": [2, 2], "auto_pad": "SAME"}, "auto_pad is SAME"),
    ],
)
def test_malformed_pools(op_type: str, attributes: dict[str, Any], words: str) -> None:
    model = node_model(op_type, [[1, 4, 6, 6]], opset=19, **attributes)
    require_refused(model, channel_spread(4, 2, 0), words, code="malformed-node")


def test_an_attribute_of_a_later_version() -> None:
    model = node_model("AveragePool", [[1, 4, 6, 6]], opset=11, kernel_shape=[2, 2], dilations=[2])
    require_refused(model, channel_spread(4, 2, 0), "dilations", code="unknown-attribute")


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from([7, 17, 22]), SEEDS)
def test_global_pools(spatial: int, channels: int, opset: int, seed: int) -> None:
    shape = [2, channels, 3, 4, 2][: 2 + spatial]
    average = node_model("GlobalAveragePool", [shape], opset=opset)
    prove_both(average, channel_spread(channels, spatial, seed, batch=2), seed=seed)
    largest = node_model("GlobalMaxPool", [shape], opset=opset)
    positive = channel_spread(channels, spatial, seed, positive=True)
    prove_both(largest, positive, run=own, seed=seed)


@pytest.mark.parametrize("op_type", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pools_refuse(op_type: str) -> None:
    spread = Spread(np.arange(1.0, 6), np.zeros(5))
    model = node_model(op_type, [[1, 4, 6, 5]], opset=17)
    require_refused(model, spread, "pools along axis -1")
    model = node_model(op_type, [["N", "C", "H", "W"]], opset=17)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    require_refused(model, spread, "rank of x0 is not known", code="unknown-rank")


@settings(deadline=None, max_examples=150)
@given(pools("LpPool"), SEEDS)
def test_lp_pool(model: onnx.ModelProto, seed: int) -> None:
    channels, spatial = channels_of(model)
    positive = channel_spread(channels, spatial, seed, positive=True, shifted=False)
    prove_backward(model, positive, run=own, seed=seed)
    spread = channel_spread(channels, spatial, seed, shifted=False)
    found = prove_forward(model, {0: spread}, run=own, seed=seed)
    np.testing.assert_array_equal(found[0].scale, abs(spread.scale))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from([2, 17, 22]), st.integers(1, 3), SEEDS)
def test_global_lp_pool(spatial: int, channels: int, opset: int, p: int, seed: int) -> None:
    model = node_model("GlobalLpPool", [[2, channels, 3, 4, 2][: 2 + spatial]], opset=opset, p=p)
    spread = channel_spread(channels, spatial, seed, positive=True, shifted=False)
    run = by_definition
    prove_backward(model, spread, run=run, seed=seed)
    prove_forward(model, {0: Spread(-spread.scale, spread.shift)}, run=run, seed=seed)


def by_definition(model: onnx.ModelProto, feeds: Any) -> list[Any]:
    """The p-norm of each feature map, for onnx's evaluator knows no GlobalLpPool."""
    x, p = feeds["x0"], model.graph.node[0].attribute[0].i
    return [(abs(x) ** p).sum(axis=tuple(range(2, x.ndim)), keepdims=True) ** (1 / p)]


def test_an_lp_pool_of_onnx() -> None:
    model = node_model("LpPool", [[2, 3, 6, 7]], opset=22, kernel_shape=[2, 3], pads=[1, 0, 0, 1])
    prove_backward(model, channel_spread(3, 2, 1, positive=True, shifted=False))
    prove_forward(model, {0: channel_spread(3, 2, 1, shifted=False)})


@pytest.mark.parametrize("op_type", ["LpPool", "GlobalLpPool"])
def test_lp_pools_refuse(op_type: str) -> None:
    more: dict[str, Any] = {"kernel_shape": [2, 2]} if op_type == "LpPool" else {}
    model = node_model(op_type, [[1, 3, 6, 5]], opset=17, **more)
    scale = np.array([1.0, 0.0, -0.25]).reshape(3, 1, 1)
    found = backward(model, op_type, {0: Spread(scale, 0 * scale)})
    assert isinstance(found, Refused)
    assert "channel 2 has scale -0.25" in found.sentence
    assert not isinstance(forward(model, op_type, {0: Spread(scale, 0 * scale)}), Refused)
    shifted = Spread(abs(scale), np.array([0.0, 2.0, 0.0]).reshape(3, 1, 1))
    require_refused(model, shifted, "channel 1 has shift 2")
    require_refused(model, Spread(np.arange(1.0, 6), np.zeros(5)), "pools along axis -1")

"""Activations that a scale can cross, and those that nothing can."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from bnfold.algebra.spread import Spread
from bnfold.folding.rules.tables import THROUGH
from tests.support_arithmetic import channel_spread, node_model, own, prove_both, require_refused

OPSETS = {
    "Relu": [6, 13, 14, 24],
    "LeakyRelu": [6, 16],
    "PRelu": [7, 9, 16],
    "Abs": [6, 13],
    "Neg": [6, 13],
}
HOMOGENEOUS = ("Relu", "LeakyRelu", "PRelu", "Abs")
SLOPES = {"one for each channel": (3, 1, 1), "one": (1,), "one for each element": (2, 3, 4, 4)}


def one_node(op_type: str, opset: int, slope: tuple[int, ...] = (3, 1, 1), **more: Any) -> Any:
    inputs: list[Any] = [[2, 3, 4, 4]]
    if op_type == "PRelu":
        inputs.append(np.random.default_rng(1).normal(size=slope))
    return node_model(op_type, inputs, opset=opset, **more)


@pytest.mark.parametrize("op_type", sorted(HOMOGENEOUS))
def test_scales(op_type: str) -> None:
    @settings(deadline=None, max_examples=30)
    @given(st.sampled_from(OPSETS[op_type]), st.integers(0, 10**6))
    def prove(opset: int, seed: int) -> None:
        more: dict[str, Any] = {"alpha": (seed % 7 - 3) / 2} if op_type == "LeakyRelu" else {}
        model = one_node(op_type, opset, **more)
        spread = channel_spread(3, 2, seed, positive=True, shifted=False, batch=1 + seed % 2)
        run = own if op_type == "PRelu" else None
        prove_both(model, spread, seed=seed, run=run)

    prove()


@pytest.mark.parametrize("slope", SLOPES.values(), ids=SLOPES)
def test_the_slope_of_a_prelu_does_not_matter(slope: tuple[int, ...]) -> None:
    model = one_node("PRelu", 16, slope)
    prove_both(model, channel_spread(3, 2, 3, positive=True, shifted=False))


@pytest.mark.parametrize("op_type", sorted(HOMOGENEOUS))
def test_signs_and_shifts(op_type: str) -> None:
    model = one_node(op_type, 16)
    lets = f"node ({op_type}) lets only positive scales without a shift through, and"
    scale = np.array([1.0, 0.0, -0.4]).reshape(3, 1, 1)
    require_refused(model, Spread(scale, 0 * scale), f"{lets} channel 2 has scale -0.4")
    shift = np.array([0.0, -3.0, 1.0]).reshape(3, 1, 1)
    require_refused(model, Spread(abs(scale), shift), f"{lets} channel 1 has shift -3")
    require_refused(model, Spread(np.array(-2.0), np.array(0.0)), f"{lets} the map has scale -2")
    wide = Spread(np.array([[1.0, 2.0], [3.0, -4.0]]), np.zeros((2, 2)))
    require_refused(model, wide, f"{lets} element [1, 1] has scale -4")


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(OPSETS["Neg"]), st.integers(0, 10**6))
def test_negation(opset: int, seed: int) -> None:
    prove_both(one_node("Neg", opset), channel_spread(3, 2, seed), seed=seed)


def test_unknown_attributes() -> None:
    for op_type in OPSETS:
        model = one_node(op_type, 16, beta=1.0)
        require_refused(model, channel_spread(3, 2, 0), "beta", code="unknown-attribute")


@pytest.mark.parametrize(
    "op_type",
    (
        "Sigmoid HardSigmoid HardSwish Softmax Tanh Elu Selu Celu Gelu Mish Softplus Exp Log "
        "Sqrt Pow Shrink LogSoftmax Sign Erf LpNormalization LRN Floor Round"
    ).split(),
)
def test_nothing_crosses(op_type: str) -> None:
    assert op_type not in THROUGH


INFINITE, LARGEST = float("inf"), float(np.finfo(np.float64).max)
OPEN: list[tuple[float | None, float | None]] = [
    (None, None),
    (-INFINITE, INFINITE),
    (-LARGEST, LARGEST),
    (None, INFINITE),
]
AT_ZERO: list[tuple[float | None, float | None]] = [
    (0.0, None),
    (None, 0.0),
    (0.0, 0.0),
    (-0.0, LARGEST),
    (-INFINITE, 0.0),
]


def clip(low: float | None, high: float | None, opset: int) -> onnx.ModelProto:
    """A Clip of float64 data; before opset 11 its bounds are attributes."""
    if opset >= 11:
        bounds = [None if value is None else np.array(value) for value in (low, high)]
        return node_model("Clip", [[2, 3, 4, 4], *bounds], opset=opset)
    given: dict[str, Any] = {"min": low, "max": high}
    given = {name: value for name, value in given.items() if value is not None}
    return node_model("Clip", [[2, 3, 4, 4]], opset=opset, **given)


@pytest.mark.parametrize("bounds", AT_ZERO)
@pytest.mark.parametrize("opset", [11, 12, 13, 20])
def test_clip_at_zero(bounds: tuple[float | None, float | None], opset: int) -> None:
    model = clip(*bounds, opset)
    for seed in range(3):
        prove_both(model, channel_spread(3, 2, seed, positive=True, shifted=False), seed=seed)
    lets = "node (Clip) lets only positive scales without a shift through, and"
    scale = np.array([1.0, 0.0, -0.4]).reshape(3, 1, 1)
    require_refused(model, Spread(scale, 0 * scale), f"{lets} channel 2 has scale -0.4")
    require_refused(model, Spread(abs(scale), scale), f"{lets} channel 0 has shift 1")


@pytest.mark.parametrize("bounds", OPEN)
def test_clip_without_bounds(bounds: tuple[float | None, float | None]) -> None:
    prove_both(clip(*bounds, 13), channel_spread(3, 2, 1))


@pytest.mark.parametrize("bounds", [(0.0, 6.0), (-1.0, None), (0.0, 1e300), (1e-30, None)])
@pytest.mark.parametrize("opset", [6, 13])
def test_clip_at_other_numbers(bounds: tuple[float | None, float | None], opset: int) -> None:
    if opset < 11 and bounds[1] == 1e300:
        bounds = (0.0, 3e38)
    model = clip(*bounds, opset)
    require_refused(model, channel_spread(3, 2, 0, positive=True, shifted=False), "clips at")


def test_clip_at_what_is_computed() -> None:
    model = node_model("Clip", [[2, 3, 4, 4], []], opset=13)
    spread = channel_spread(3, 2, 0, positive=True, shifted=False)
    require_refused(model, spread, "clips at x1, which is no constant of one value")


def test_the_default_bounds_of_a_clip_by_attributes() -> None:
    """They are the largest numbers of float32: none for float32, but some for float64."""
    spread = channel_spread(3, 2, 0, positive=True, shifted=False)
    wide = clip(0.0, None, 6)
    require_refused(wide, spread, "clips at 3.40282e+38")
    model = clip(0.0, INFINITE, 6)
    prove_both(model, spread)
    for value in (wide.graph.input[0], wide.graph.output[0]):
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    prove_both(wide, spread)


@pytest.mark.parametrize("opset", [10, 22])
def test_thresholded_relu(opset: int) -> None:
    prove = channel_spread(3, 2, 4, positive=True, shifted=False)
    prove_both(node_model("ThresholdedRelu", [[2, 3, 4, 4]], opset=opset, alpha=0.0), prove)
    others: list[dict[str, Any]] = [{}, {"alpha": 0.5}]
    for more in others:
        model = node_model("ThresholdedRelu", [[2, 3, 4, 4]], opset=opset, **more)
        require_refused(model, prove, "has its step at")

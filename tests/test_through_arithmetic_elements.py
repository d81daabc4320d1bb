"""Activations that a scale can cross, and those that nothing can."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
        "Clip Sigmoid HardSigmoid HardSwish Softmax Tanh Elu Selu Celu Gelu Mish Softplus Exp Log "
        "Sqrt Pow ThresholdedRelu Shrink LogSoftmax Sign Erf LpNormalization LRN Floor Round"
    ).split(),
)
def test_nothing_crosses(op_type: str) -> None:
    assert op_type not in THROUGH

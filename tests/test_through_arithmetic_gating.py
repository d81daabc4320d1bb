"""Products and quotients of two branches: a scale goes into one of them."""

from __future__ import annotations

import numpy as np

from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from tests.support_arithmetic import channel_spread, node_model, prove_backward, require_refused
from tests.support_through import backward, forward

FULL = [2, 3, 4, 4]
UNEVEN = Spread(np.array([1.0, 2, 3]).reshape(3, 1, 1), np.zeros((3, 1, 1)))


def test_a_product_of_a_tensor_with_itself() -> None:
    model = node_model("Mul", [FULL, FULL], opset=13)
    model.graph.node[0].input[:] = ["x0", "x0"]
    found = backward(model, "Mul", {0: channel_spread(3, 2, 0, shifted=False)})
    assert isinstance(found, Refused)
    assert "one tensor" in found.sentence


def test_a_gate_of_one_channel_takes_no_scale() -> None:
    model = node_model("Mul", [FULL, [2, 1, 4, 4]], opset=13)
    assert [sorted(way) for way in prove_backward(model, UNEVEN)] == [[0]]
    model = node_model("Mul", [FULL, [2, 3, 1, 1]], opset=13)
    assert sorted(at for way in prove_backward(model, UNEVEN) for at in way) == [0, 1]


def test_products_refuse_shifts() -> None:
    spread = Spread(np.ones((3, 1, 1)), np.array([0, 0, 1.5]).reshape(3, 1, 1))
    for op_type in ("Mul", "Div"):
        model = node_model(op_type, [FULL, FULL], opset=13)
        for slot in (0, 1):
            words = f"node ({op_type}) lets no shift through, and channel 2 has shift 1.5"
            require_refused(model, spread, words, slot=slot)


def test_a_divisor_takes_no_zero() -> None:
    scale = np.array([1.0, 0.0, 2.0]).reshape(3, 1, 1)
    spread = Spread(scale, 0 * scale)
    model = node_model("Div", [FULL, FULL], opset=13)
    assert [sorted(way) for way in prove_backward(model, spread)] == [[0]]
    found = forward(model, "Div", {1: spread})
    assert isinstance(found, Refused)
    assert "scale of zero" in found.sentence


def test_products_beyond_float64() -> None:
    for large in (1e200, 1e-200):
        spread = Spread(np.array([large]), np.zeros(1))
        found = forward(node_model("Mul", [FULL, FULL], opset=13), "Mul", {0: spread, 1: spread})
        assert isinstance(found, Refused)
        assert found.code == "beyond-dtype"

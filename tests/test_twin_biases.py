"""Equal Adds behind an operator without a bias: one stays, where the first of them stood."""

from __future__ import annotations

from itertools import permutations

import onnx
import pytest

import bnfold
from tests.support_models import constant, filled, op_types, parsed, with_values

NODES = ("a = Add (c, k)", "r = Relu (a)", "b = Add (c, j)", "s = Sigmoid (b)")
ORDERS = [
    order
    for order in permutations(NODES)
    if order.index(NODES[0]) < order.index(NODES[1])
    and order.index(NODES[2]) < order.index(NODES[3])
]


@pytest.mark.parametrize("order", ORDERS)
def test_in_any_order(order: tuple[str, ...]) -> None:
    text = f"""net (float[2,3] x) => (float[2,4] y)
        <float[3,4] w, float[4] k, float[4] j> {{
            c = MatMul (x, w) {" ".join(order)} y = Add (r, s) }}"""
    model = filled(parsed(text))
    model = with_values(model, j=constant(model, "k"))
    result = bnfold.fold(model)
    onnx.checker.check_model(result.model, full_check=True)
    assert sorted(op_types(result.model)) == ["Add", "Add", "MatMul", "Relu", "Sigmoid"]
    assert result.verify(runtime=False).is_same

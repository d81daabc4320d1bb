"""Random graphs of linear operators, constants and maps: whatever folds, the function stays."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnfold
from tests.support_linear import require_same

WIDTH = 4


class Grown:
    """A graph that grows node by node; every tensor has the shape (2, tokens, 4)."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = {}
        self.tensors: dict[str, int] = {"x": 3}
        self.count = 0

    def constant(self, *shape: int) -> str:
        """A new constant, or now and then one that is there."""
        alike = [name for name, value in self.constants.items() if value.shape == shape]
        if alike and self.rng.random() < 0.2:
            return str(self.rng.choice(alike))
        self.count += 1
        name = f"k{self.count}"
        self.constants[name] = self.rng.uniform(0.5, 2, shape) * self.rng.choice([-1, 1], shape)
        return name

    def node(self, op_type: str, inputs: list[str], tokens: int, **attributes: object) -> str:
        """A new node and its output."""
        self.count += 1
        made = f"t{self.count}"
        node = helper.make_node(op_type, inputs, [made], made)
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        self.nodes.append(node)
        self.tensors[made] = tokens
        return made

    def any(self, tokens: int | None = None) -> str:
        """A tensor, rather a new one, of so many tokens."""
        names = [n for n, size in self.tensors.items() if tokens is None or size == tokens]
        return names[-1 - min(int(self.rng.geometric(0.7)) - 1, len(names) - 1)]

    def grow(self) -> None:
        """One more operator, or a norm."""
        data = self.any()
        tokens = self.tensors[data]
        kind = int(self.rng.integers(13))
        if kind < 4:
            vector = self.constant(WIDTH) if kind else self.constant(1, 1, WIDTH)
            scaled = self.node("Mul", [data, vector], tokens)
            self.node("Add", [scaled, self.constant(WIDTH)], tokens)
        elif kind == 4:
            norm = [self.constant(tokens) for _ in range(3)]
            self.count += 1
            self.constants[f"v{self.count}"] = self.rng.uniform(0.5, 2, tokens)
            self.node("BatchNormalization", [data, *norm, f"v{self.count}"], tokens)
        elif kind == 5:
            self.node("MatMul", [data, self.constant(WIDTH, WIDTH)], tokens)
        elif kind == 6:
            self.node("MatMul", [self.constant(tokens, tokens), data], tokens)
        elif kind == 7:
            bias = [self.constant(WIDTH)] if self.rng.random() < 0.5 else []
            self.node("LayerNormalization", [data, self.constant(WIDTH), *bias], tokens)
        elif kind == 8:
            equation = str(self.rng.choice(["bij,jk->bik", "bij,jk", "bij,ikj->bjk"]))
            if equation == "bij,ikj->bjk":
                # From (2, tokens, 4) to (2, 4, tokens), and back.
                turned = self.node("Transpose", [data], WIDTH, perm=[0, 2, 1])
                del self.tensors[turned]
                square = self.constant(WIDTH, WIDTH, tokens)
                self.node("Einsum", [turned, square], tokens, equation=equation)
            else:
                weight = self.constant(WIDTH, WIDTH)
                self.node("Einsum", [data, weight], tokens, equation=equation)
        elif kind == 9:
            self.node("Add", [data, self.constant(1, tokens, WIDTH)], tokens)
        elif kind == 10 and tokens < 6:
            token = self.constant(2, 1, WIDTH)
            order = [data, token] if self.rng.random() < 0.5 else [token, data]
            self.node("Concat", order, tokens + 1, axis=1)
        elif kind == 11:
            self.node("Where", ["q", data, self.constant(WIDTH)], tokens)
        else:
            self.node(str(self.rng.choice(["Add", "Sub"])), [data, self.any(tokens)], tokens)

    def model(self) -> onnx.ModelProto:
        """The graph; its outputs are what nothing reads."""
        read = {name for node in self.nodes for name in node.input}
        ends = [name for node in self.nodes for name in node.output if name not in read]
        used = {name: value for name, value in self.constants.items() if name in read}
        outputs = [helper.make_tensor_value_info(n, TensorProto.DOUBLE, [None] * 3) for n in ends]
        graph = helper.make_graph(
            self.nodes,
            "grown",
            [
                helper.make_tensor_value_info("x", TensorProto.DOUBLE, [2, 3, WIDTH]),
                helper.make_tensor_value_info("q", TensorProto.BOOL, [2, 1, 1]),
            ],
            outputs,
            [numpy_helper.from_array(value, name) for name, value in used.items()],
        )
        opsets = [helper.make_opsetid("", 21)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize("seed", range(40))
def test_any_graph(seed: int) -> None:
    grown = Grown(seed)
    for _ in range(int(grown.rng.integers(3, 10))):
        grown.grow()
    model = grown.model()
    onnx.checker.check_model(model, full_check=True)
    result = bnfold.fold(model)
    onnx.checker.check_model(result.model, full_check=True)
    require_same(model, result.model, seed)
    require_same(model, bnfold.fold(result.model).model, seed)

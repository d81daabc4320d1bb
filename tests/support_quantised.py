"""Models with quantised weights, and everything that has to be true of their folds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.reference import evaluate
from tests.support_models import Array

RANGES: dict[int, tuple[int, int]] = {
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-1000, 1000),
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT4: (0, 15),
    TensorProto.INT32: (-100000, 100000),
}


@dataclass(frozen=True)
class Quantised:
    """A linear operator whose weight is behind a DequantizeLinear, and a norm.

    Attributes:
        x, w: shapes of the data and of the codes.
        channels: of the norm.
        code: the data type of the codes.
        axis: of the scale, or None for one scale.
        block: how many indices of the axis share a scale, or 0 for one scale each.
        dtype: the data type of everything that is a float.
        has_zero: whether there is a zero point.
        rounds: whether the codes are computed in the graph, from a float weight.
        bias: none, or the data type of its codes, or of the bias itself.
        attributes: of the linear operator.
        is_ahead: whether the norm stands before the operator, behind a Sigmoid.
        has_shift: whether the norm has one.
    """

    op_type: str = "Conv"
    x: tuple[int, ...] = (2, 3, 6, 5)
    w: tuple[int, ...] = (4, 3, 3, 3)
    channels: int = 4
    code: int = TensorProto.INT8
    axis: int | None = None
    block: int = 0
    opset: int = 19
    dtype: int = TensorProto.FLOAT
    has_zero: bool = True
    rounds: bool = False
    bias: int = 0
    attributes: dict[str, Any] = field(default_factory=dict)
    is_ahead: bool = False
    has_shift: bool = True

    def model(self, seed: int = 0) -> onnx.ModelProto:
        """The model, with random parameters; every factor of the norm is above zero."""
        rng = np.random.default_rng(seed)
        tensors: dict[str, Array] = {}
        nodes = self._weight(rng, tensors)
        tensors.update(self._norm(rng))
        inputs = ["x", "w"]
        if self.bias:
            inputs.append("bias")
            size = int(self._outputs())
            if self.bias == TensorProto.INT32:
                tensors["bq"] = _codes(rng, self.bias, (size,))
                tensors["bs"] = self._float(rng.uniform(1e-3, 2e-3, ()))
                nodes.append(
                    helper.make_node("DequantizeLinear", ["bq", "bs"], ["bias"], "bias_dq")
                )
            else:
                tensors["bias"] = self._float(rng.normal(size=size))
        parameters = ["g", "b", "m", "v"]
        if self.is_ahead:
            inputs[0] = "n"
            nodes.append(helper.make_node("Sigmoid", ["x"], ["s"], "act"))
            nodes.append(helper.make_node("BatchNormalization", ["s", *parameters], ["n"], "norm"))
        made = "y" if self.is_ahead else "c"
        nodes.append(helper.make_node(self.op_type, inputs, [made], "op", **self.attributes))
        if not self.is_ahead:
            nodes.append(helper.make_node("BatchNormalization", ["c", *parameters], ["y"], "norm"))
        return self._assembled(nodes, tensors)

    def _weight(self, rng: np.random.Generator, tensors: dict[str, Array]) -> list[onnx.NodeProto]:
        low, high = RANGES[self.code]
        attributes: dict[str, Any] = {}
        shape: tuple[int, ...] = ()
        if self.axis is not None:
            attributes["axis"] = self.axis
            shape = (self.w[self.axis],)
        if self.block and self.axis is not None:
            attributes["block_size"] = self.block
            blocks = -(-self.w[self.axis] // self.block)
            shape = tuple(blocks if at == self.axis else n for at, n in enumerate(self.w))
        tensors["ws"] = self._float(rng.uniform(0.01, 0.02, shape))
        parts = ["wq", "ws"]
        if self.has_zero:
            numbers = rng.integers(low // 2, high // 2, shape, endpoint=True)
            tensors["wz"] = np.asarray(numbers).astype(_dtype(self.code))
            parts.append("wz")
        nodes: list[onnx.NodeProto] = []
        if self.rounds:
            tensors["wf"] = self._float(rng.normal(size=self.w))
            given = ["wf", *parts[1:]]
            nodes.append(helper.make_node("QuantizeLinear", given, ["wq"], "round", **attributes))
        else:
            tensors["wq"] = _codes(rng, self.code, self.w)
        nodes.append(helper.make_node("DequantizeLinear", parts, ["w"], "dq", **attributes))
        return nodes

    def _norm(self, rng: np.random.Generator) -> dict[str, Array]:
        shift = 1.0 if self.has_shift else 0.0
        return {
            "g": self._float(rng.uniform(0.5, 2.0, self.channels)),
            "b": self._float(shift * rng.normal(size=self.channels)),
            "m": self._float(shift * rng.normal(size=self.channels)),
            "v": self._float(rng.uniform(0.5, 4.0, self.channels)),
        }

    def _outputs(self) -> int:
        if self.op_type == "ConvTranspose":
            return int(self.w[1] * self.attributes.get("group", 1))
        if self.op_type == "Gemm":
            return self.w[0 if self.attributes.get("transB") else 1]
        return self.w[0] if self.op_type == "Conv" else self.w[-1]

    def _float(self, values: Any) -> Array:
        return np.asarray(values).astype(_dtype(self.dtype))

    def _assembled(self, nodes: list[onnx.NodeProto], tensors: dict[str, Array]) -> onnx.ModelProto:
        graph = helper.make_graph(
            nodes,
            "quantised",
            [helper.make_tensor_value_info("x", self.dtype, self.x)],
            [helper.make_tensor_value_info("y", self.dtype, [None] * len(self.x))],
            [numpy_helper.from_array(values, name) for name, values in tensors.items()],
        )
        imports = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=imports)
        model.ir_version = 7 if self.opset < 19 else 10
        return model


def _dtype(data_type: int) -> np.dtype[Any]:
    return np.dtype(helper.tensor_dtype_to_np_dtype(data_type))


def _codes(rng: np.random.Generator, data_type: int, shape: tuple[int, ...]) -> Array:
    low, high = RANGES[data_type]
    numbers = rng.integers(low, high, shape, endpoint=True)
    return np.asarray(numbers).astype(_dtype(data_type))


def raw(model: onnx.ModelProto, name: str) -> bytes:
    """The bytes of an initializer."""
    return next(bytes(t.SerializeToString()) for t in model.graph.initializer if t.name == name)


def maker(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    """The node that makes a tensor."""
    found: onnx.NodeProto = next(node for node in model.graph.node if name in node.output)
    return found


def off(before: onnx.ModelProto, after: onnx.ModelProto, seed: int = 1) -> float:
    """The largest difference of any output, relative to its largest value, in float64."""
    rng = np.random.default_rng(seed)
    dims = before.graph.input[0].type.tensor_type.shape.dim
    feeds = {"x": rng.uniform(-30, 30, [dim.dim_value or 2 for dim in dims])}
    worst = 0.0
    for one, other in zip(evaluate(before, feeds), evaluate(after, feeds), strict=True):
        assert one.shape == other.shape
        worst = max(worst, float(np.abs(one - other).max() / np.abs(one).max()))
    return worst


def check_scales(row: Quantised, *, limit: float = 1e-6) -> onnx.ModelProto:
    """Fold a row; check that its codes stay, that nothing else is lost, and what it computes."""
    model = row.model()
    onnx.checker.check_model(model, full_check=row.opset >= 13)
    before = model.SerializeToString()
    result = bnfold.fold(model)
    assert not result.report.kept, result.report.kept[0].reason
    assert len(result.report.folded) == 1
    assert result.report.batch_norms_after == 0
    assert result.report.nodes_after == len(result.model.graph.node)
    folded = result.model
    onnx.checker.check_model(folded, full_check=row.opset >= 13)
    assert model.SerializeToString() == before
    for name in ("wf",) if row.rounds else ("wq",):
        assert raw(folded, name) == raw(model, name)
    if row.bias == TensorProto.INT32:
        assert raw(folded, "bq") == raw(model, "bq")
    assert off(model, folded) < limit
    data = folded.SerializeToString()
    assert bnfold.fold(folded).model.SerializeToString() == data
    assert bnfold.fold(before).model.SerializeToString() == data
    return folded

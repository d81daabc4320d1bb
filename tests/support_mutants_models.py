"""Networks with seeded weights and statistics that fit the data which flows through them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.support_float64 import evaluate
from tests.support_models import Array

Shape = tuple[int, ...]
FLOAT32 = np.dtype(np.float32)
FLOAT16 = np.dtype(np.float16)


class Net:
    """A graph that grows node by node; every tensor's values on one batch are known.

    Attributes:
        rng: draws everything.
        values: what each tensor is in float64 on a standard normal batch, by name.
        last: the tensor that the latest node made.
    """

    def __init__(
        self, seed: int, shape: Shape, *, dtype: np.dtype[Any] = FLOAT32, opset: int = 17
    ) -> None:
        self.rng = np.random.default_rng([7, seed])
        self.dtype, self.opset = dtype, opset
        batch = 4 if len(shape) > 1 else 256
        self.values: dict[str, Array] = {"x": self.rng.standard_normal((batch, *shape))}
        self.last = "x"
        self._nodes: list[onnx.NodeProto] = []
        self._tensors: list[onnx.TensorProto] = []

    def stored(self, name: str, values: Array) -> str:
        """An initializer, rounded to the model's dtype unless it holds integers."""
        dtype = self.dtype if values.dtype.kind == "f" else values.dtype
        self._tensors.append(numpy_helper.from_array(values.astype(dtype), name))
        self.values[name] = numpy_helper.to_array(self._tensors[-1])
        if values.dtype.kind == "f":
            self.values[name] = self.values[name].astype(np.float64)
        return name

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; without inputs it reads the latest tensor."""
        number = len(self._nodes)
        out = f"t{number}"
        node = helper.make_node(
            op_type, list(inputs or [self.last]), [out], f"{op_type}_{number}", **attributes
        )
        self._nodes.append(node)
        self.values[out] = self._evaluated(node)
        self.last = out
        return out

    def conv(
        self,
        out: int,
        kernel: int = 3,
        *,
        bias: bool = True,
        rows: Array | None = None,
        data: str | None = None,
        **attributes: Any,
    ) -> str:
        """A Conv with He's initialisation; ``rows`` are factors of its output channels."""
        data = data or self.last
        fan = self.values[data].shape[1] // attributes.get("group", 1)
        weight = self._he((out, fan, kernel, kernel), fan * kernel**2)
        factors = np.ones(out) if rows is None else rows
        inputs = [data, self._parameter("weight", weight * factors.reshape(-1, 1, 1, 1))]
        if bias:
            inputs.append(self._parameter("bias", 0.1 * self.rng.standard_normal(out) * factors))
        return self.op("Conv", *inputs, **attributes)

    def transposed(self, out: int, kernel: int = 3, *, group: int = 1, **attributes: Any) -> str:
        """A ConvTranspose with a bias."""
        fan = self.values[self.last].shape[1]
        weight = self._he((fan, out // group, kernel, kernel), fan // group * kernel**2)
        bias = 0.1 * self.rng.standard_normal(out)
        inputs = [self.last, self._parameter("weight", weight), self._parameter("bias", bias)]
        return self.op("ConvTranspose", *inputs, group=group, **attributes)

    def gemm(self, out: int, *, bias: bool = True, **attributes: Any) -> str:
        """A Gemm; alpha is made up for in the weights."""
        fan = self.values[self.last].shape[0 if attributes.get("transA") else 1]
        weight = self._he((out, fan), fan) / attributes.get("alpha", 1.0)
        weight = weight if attributes.get("transB") else weight.T
        inputs = [self.last, self._parameter("weight", weight)]
        if bias:
            inputs.append(self._parameter("bias", 0.1 * self.rng.standard_normal(out)))
        return self.op("Gemm", *inputs, **attributes)

    def matmul(self, out: int, *, bias: bool = True) -> str:
        """A MatMul, with an Add behind it if it has a bias."""
        fan = self.values[self.last].shape[1]
        product = self.op("MatMul", self.last, self._parameter("weight", self._he((fan, out), fan)))
        if not bias:
            return product
        return self.op("Add", product, self._parameter("bias", 0.1 * self.rng.standard_normal(out)))

    def norm(self, *, gamma: Array | None = None, epsilon: float = 1e-5) -> str:
        """A BatchNormalization whose statistics are about those of the data before it."""
        data = self.values[self.last]
        axes = (0, *range(2, data.ndim))
        channels = data.shape[1]
        signs = np.where(self.rng.random(channels) < 0.3, -1.0, 1.0)
        drawn = signs * self.rng.uniform(0.5, 1.5, channels)
        beta = np.asarray(0.3 * self.rng.standard_normal(channels))
        return self.norm_of(
            drawn if gamma is None else gamma,
            beta,
            data.mean(axes),
            data.var(axes) * self.rng.uniform(0.8, 1.25, channels),
            epsilon=epsilon,
        )

    def unit_norm(self, *, fresh: float = 0.5) -> str:
        """A norm with mean 0 and var 1; a share of its channels with gamma 1 and beta 0."""
        channels = self.values[self.last].shape[1]
        untouched = self.rng.random(channels) < fresh
        gamma = np.where(untouched, 1.0, self.rng.uniform(0.5, 1.5, channels))
        beta = np.where(untouched, 0.0, 0.3 * self.rng.standard_normal(channels))
        return self.norm_of(gamma, beta, np.zeros(channels), np.ones(channels))

    def norm_of(
        self, gamma: Array, beta: Array, mean: Array, var: Array, *, epsilon: float = 1e-5
    ) -> str:
        """A BatchNormalization with these parameters."""
        names = zip(("gamma", "beta", "mean", "var"), (gamma, beta, mean, var), strict=True)
        inputs = [self.last, *[self._parameter(name, values) for name, values in names]]
        return self.op("BatchNormalization", *inputs, epsilon=epsilon)

    def model(self, *outputs: str, batch: int | None = None) -> onnx.ModelProto:
        """The model; without outputs the latest tensor is its output."""
        graph = helper.make_graph(
            self._nodes,
            "net",
            [self._declared("x", batch)],
            [self._declared(name, batch) for name in outputs or [self.last]],
            self._tensors,
        )
        imports = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _parameter(self, kind: str, values: Array) -> str:
        return self.stored(f"{kind}{len(self._nodes)}", values)

    def _he(self, shape: Shape, fan: int) -> Array:
        return np.asarray(np.sqrt(2 / fan) * self.rng.standard_normal(shape))

    def _declared(self, name: str, batch: int | None) -> onnx.ValueInfoProto:
        wide = any(n.output[0] == name and n.op_type == "Cast" for n in self._nodes)
        code = helper.np_dtype_to_tensor_dtype(np.dtype(np.float64) if wide else self.dtype)
        return helper.make_tensor_value_info(
            name, code, [batch or "N", *self.values[name].shape[1:]]
        )

    def _evaluated(self, node: onnx.NodeProto) -> Array:
        """The output of one node in float64."""
        inputs = {name: self.values[name] for name in node.input if name}
        graph = helper.make_graph(
            [node],
            "one",
            [
                helper.make_tensor_value_info(
                    name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
                )
                for name, array in inputs.items()
            ],
            [onnx.ValueInfoProto(name=node.output[0])],
        )
        imports = [helper.make_opsetid("", self.opset)]
        (value,) = evaluate(helper.make_model(graph, opset_imports=imports), inputs)
        return value

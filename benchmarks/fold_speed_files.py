"""The files of fold_speed: chains of every size, and one whose weights are mostly elsewhere."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data


class File(Protocol):
    """A file that can be made, the same bytes every time.

    Attributes:
        by_default: whether it is folded when no file is named.
        is_for_all: whether other tools than bnfold fold it.
    """

    @property
    def by_default(self) -> bool: ...

    @property
    def is_for_all(self) -> bool: ...

    def write(self, path: Path) -> None:
        """Write the model file, and its data file next to it if it has one."""


class _Graph:
    """Nodes and initializers while they are made."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def stored(self, name: str, values: Any) -> str:
        self.tensors.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def node(self, kind: str, name: str, inputs: list[str], output: str, **given: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=name, **given))

    def norm(self, at: int, channels: int, data: str, output: str) -> None:
        parameters = [
            self.stored(f"gamma{at}", self.random.uniform(0.5, 1.5, channels)),
            self.stored(f"beta{at}", self.random.standard_normal(channels)),
            self.stored(f"mean{at}", self.random.standard_normal(channels)),
            self.stored(f"var{at}", self.random.uniform(0.5, 2.0, channels)),
        ]
        self.node("BatchNormalization", f"bn{at}", [data, *parameters], output)

    def model(self, name: str, dims: list[str | int], output: str) -> onnx.ModelProto:
        values = [
            helper.make_tensor_value_info(each, TensorProto.FLOAT, dims) for each in ("x", output)
        ]
        graph = helper.make_graph(self.nodes, name, values[:1], values[1:], self.tensors)
        opset = helper.make_opsetid("", 17)
        return helper.make_model(graph, opset_imports=[opset], ir_version=8)


@dataclass(frozen=True)
class Chain:
    """Conv, BatchNormalization and Relu, again and again, everything in one file.

    Attributes:
        layers: how often the three nodes are repeated.
        channels, kernel: of each convolution.
        by_default: as in ``File``.
    """

    layers: int
    channels: int
    kernel: int
    by_default: bool = True

    @property
    def is_for_all(self) -> bool:
        return True

    def write(self, path: Path) -> None:
        graph, data = _Graph(), "x"
        shape = (self.channels, self.channels, self.kernel, self.kernel)
        spread = 1 / np.sqrt(self.channels * self.kernel * self.kernel)
        pads = [self.kernel // 2] * 4
        for at in range(self.layers):
            weight = graph.stored(f"w{at}", spread * graph.random.standard_normal(shape))
            graph.node("Conv", f"conv{at}", [data, weight], f"c{at}", pads=pads)
            graph.norm(at, self.channels, f"c{at}", f"n{at}")
            graph.node("Relu", f"relu{at}", [f"n{at}"], f"r{at}")
            data = f"r{at}"
        onnx.save(graph.model("chain", ["N", self.channels, 8, 8], data), path)


@dataclass(frozen=True)
class Sparse:
    """A few large weights that no fold touches, between two small Gemms with a norm each.

    All weights are in one data file; the large ones are a hole in it, zeros that take no space.

    Attributes:
        large: how many large weights there are, each of ``rows * columns`` float32 values.
        rows, columns: of the first large weight; the next one has them the other way round.
        channels: of the input and the output.
        by_default: as in ``File``.
    """

    large: int
    rows: int
    columns: int
    channels: int = 64
    by_default: bool = False

    @property
    def is_for_all(self) -> bool:
        # The other tools read all weights into memory, some of them more than once.
        return False

    def write(self, path: Path) -> None:
        graph, data, size = _Graph(), "r0", self.rows
        shapes = {"w0": (self.channels, self.rows)}
        graph.stored("w0", graph.random.standard_normal(shapes["w0"]))
        graph.node("Gemm", "gemm0", ["x", "w0"], "g0")
        graph.norm(0, self.rows, "g0", "n0")
        graph.node("Relu", "relu0", ["n0"], "r0")
        for at in range(self.large):
            after = self.rows + self.columns - size
            tensor = TensorProto(name=f"big{at}", data_type=TensorProto.FLOAT, dims=(size, after))
            graph.tensors.append(tensor)
            graph.node("MatMul", f"matmul{at}", [data, tensor.name], f"m{at}")
            graph.node("Relu", f"relu{at + 1}", [f"m{at}"], f"r{at + 1}")
            data, size = f"r{at + 1}", after
        graph.stored("w1", graph.random.standard_normal((size, self.channels)))
        graph.node("Gemm", "gemm1", [data, "w1"], "g1")
        graph.norm(1, self.channels, "g1", "y")
        beside = path.with_suffix(".data")
        with beside.open("wb") as stream:
            for tensor in graph.tensors:
                content = tensor.raw_data
                length = len(content) or 4 * self.rows * self.columns
                tensor.raw_data = content or b"\0"  # the function wants some
                set_external_data(tensor, beside.name, stream.tell(), length)
                tensor.ClearField("raw_data")
                stream.write(content)
                stream.seek(length - len(content), os.SEEK_CUR)
            stream.truncate()
        onnx.save(graph.model("sparse", ["N", self.channels], "y"), path)


FILES: Final[dict[str, File]] = {
    "small": Chain(2, 8, 3),
    "200-mb": Chain(22, 500, 3),
    "1-gb": Chain(111, 500, 3, by_default=False),
    "1.9-gb": Chain(211, 500, 3, by_default=False),
    "8-gb-external": Sparse(8, 16000, 15625),
    "6000-nodes": Chain(2000, 4, 1),
    "30000-nodes": Chain(10000, 4, 1, by_default=False),
    "60000-nodes": Chain(20000, 4, 1, by_default=False),
}


def size_of(path: Path) -> int:
    """Bytes of a model file and the data file next to it."""
    beside = path.with_suffix(".data")
    return path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)


def norms_in(path: Path) -> int:
    """How many BatchNormalization nodes a model has."""
    model = onnx.load(path, load_external_data=False)
    return sum(node.op_type == "BatchNormalization" for node in model.graph.node)

"""How long the reference evaluator takes for ResNet-50, beside onnxruntime without optimisations.

Both get the same model and the same image, and run in turn, so that a busy machine is unfair to
neither. Both have one thread; onnxruntime computes in float32, the evaluator in float64.
"""

# ruff: noqa: E402
from __future__ import annotations

import os

# Read when NumPy is first imported.
for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import platform
import statistics
import time
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from bnfold.reference import Evaluator

# He et al. 2016 (arXiv:1512.03385), table 1: blocks and inner channels of each stage.
STAGES: Final = ((3, 64), (4, 128), (6, 256), (3, 512))
CLASSES: Final = 1000


class Network:
    """ResNet-50 as it is built, with seeded random weights."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def stored(self, name: str, values: npt.NDArray[np.float64]) -> str:
        self.tensors.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def node(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op_type.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], name=name, **attributes))
        return name

    def conv(self, x: str, channels: int, filters: int, kernel: int, stride: int = 1) -> str:
        """Conv and BatchNormalization."""
        at = len(self.nodes)
        spread = np.sqrt(2 / (channels * kernel * kernel))
        shape = (filters, channels, kernel, kernel)
        weight = self.stored(f"w{at}", spread * self.generator.standard_normal(shape))
        pads = [kernel // 2] * 4
        y = self.node("Conv", x, weight, strides=[stride] * 2, pads=pads)
        parameters = (
            self.stored(f"gamma{at}", self.generator.uniform(0.5, 1.0, filters)),
            self.stored(f"beta{at}", 0.1 * self.generator.standard_normal(filters)),
            self.stored(f"mean{at}", 0.1 * self.generator.standard_normal(filters)),
            self.stored(f"var{at}", self.generator.uniform(0.5, 2.0, filters)),
        )
        return self.node("BatchNormalization", y, *parameters)

    def bottleneck(self, x: str, channels: int, inner: int, stride: int) -> str:
        """Three convolutions and a shortcut, which has one of its own where the shape changes."""
        y = self.node("Relu", self.conv(x, channels, inner, 1))
        y = self.node("Relu", self.conv(y, inner, inner, 3, stride))
        y = self.conv(y, inner, 4 * inner, 1)
        if stride != 1 or channels != 4 * inner:
            x = self.conv(x, channels, 4 * inner, 1, stride)
        return self.node("Relu", self.node("Add", y, x))


def resnet50() -> onnx.ModelProto:
    """ResNet-50 for images of 224 x 224, stride 2 in the 3x3 convolutions."""
    network = Network()
    y = network.node("Relu", network.conv("x", 3, 64, 7, 2))
    y = network.node("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for number, (blocks, inner) in enumerate(STAGES):
        for block in range(blocks):
            stride = 2 if number and not block else 1
            y = network.bottleneck(y, channels, inner, stride)
            channels = 4 * inner
    y = network.node("Flatten", network.node("GlobalAveragePool", y))
    weights = network.generator.standard_normal((CLASSES, channels)) / np.sqrt(channels)
    bias = np.zeros(CLASSES)
    w, b = network.stored("w", weights), network.stored("b", bias)
    y = network.node("Gemm", y, w, b, transB=1)
    graph = helper.make_graph(
        network.nodes,
        "resnet50",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 224, 224])],
        [helper.make_tensor_value_info(y, TensorProto.FLOAT, [1, CLASSES])],
        network.tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20, help="measured runs of each (20)")
    runs = parser.parse_args().runs
    model = resnet50()
    image = np.random.default_rng(1).standard_normal((1, 3, 224, 224)).astype(np.float32)
    evaluator, other = Evaluator(model), session(model)
    mine, (theirs,) = evaluator.run({"x": image}), other.run(None, {"x": image})
    off = max(float(np.abs(y - theirs).max()) for y in mine.values())
    seconds: dict[str, list[float]] = {"reference": [], "onnxruntime": []}
    for _ in range(runs):
        started = time.perf_counter()
        evaluator.run({"x": image})
        seconds["reference"].append(time.perf_counter() - started)
        started = time.perf_counter()
        other.run(None, {"x": image})
        seconds["onnxruntime"].append(time.perf_counter() - started)
    print(f"{processor()}, {os.cpu_count()} cores, {platform.system()}")
    packages = ("onnx", "onnxruntime", "numpy")
    print(f"Python {platform.python_version()},", *(f"{p} {version(p)}" for p in packages))
    print(f"{len(model.graph.node)} nodes, {runs} runs, largest difference {off:.1e}")
    for name, values in seconds.items():
        print(f"{name:12s} min {min(values):.3f} s, median {statistics.median(values):.3f} s")
    pairs = zip(seconds["reference"], seconds["onnxruntime"], strict=True)
    ratios = sorted(a / b for a, b in pairs)
    middle = statistics.median(ratios)
    print(f"ratio        min {ratios[0]:.2f}, median {middle:.2f}, max {ratios[-1]:.2f}")


if __name__ == "__main__":
    main()

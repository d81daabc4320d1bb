"""How long a fold takes, beside onnxruntime's offline optimisation of the same file.

Each time is that of a whole process: interpreter start, imports, reading, folding, writing. Both
programs run in turn, so that a busy machine is unfair to neither.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from bnfold.measuring.machine import cores, processor
from bnfold.measuring.memory import anonymous_memory

OFFLINE: Final = """
import sys
import onnxruntime as ort
options = ort.SessionOptions()
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
options.optimized_model_filepath = sys.argv[2]
options.log_severity_level = 3
ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
"""


@dataclass(frozen=True)
class Chain:
    """A chain of Conv, BatchNormalization and Relu.

    Attributes:
        layers: how often the three nodes are repeated.
        channels, kernel: of each convolution.
        by_default: whether it runs when no name is given.
    """

    layers: int
    channels: int
    kernel: int
    by_default: bool = True


MODELS: Final = {
    "200-mb": Chain(22, 500, 3),
    "6000-nodes": Chain(2000, 4, 1),
    "30000-nodes": Chain(10000, 4, 1),
    "60000-nodes": Chain(20000, 4, 1, by_default=False),
}


@dataclass
class Measured:
    """The runs of one program on one model.

    Attributes:
        seconds: wall time of each run.
        peak: most anonymous memory of any run, in MB.
        norms_left: BatchNormalization nodes in its output.
    """

    seconds: list[float] = field(default_factory=list)
    peak: float = 0.0
    norms_left: int = -1

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def write_chain(chain: Chain, path: Path) -> None:
    """Write the model, the same bytes every time."""
    generator = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []

    def stored(name: str, values: npt.NDArray[np.float64]) -> str:
        tensors.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    data, channels, kernel = "x", chain.channels, chain.kernel
    shape = (channels, channels, kernel, kernel)
    for at in range(chain.layers):
        spread = 1 / np.sqrt(channels * kernel * kernel)
        weight = stored(f"w{at}", spread * generator.standard_normal(shape))
        parameters = [
            stored(f"gamma{at}", generator.uniform(0.5, 1.5, channels)),
            stored(f"beta{at}", generator.standard_normal(channels)),
            stored(f"mean{at}", generator.standard_normal(channels)),
            stored(f"var{at}", generator.uniform(0.5, 2.0, channels)),
        ]
        nodes += [
            helper.make_node(
                "Conv", [data, weight], [f"c{at}"], name=f"conv{at}", pads=[kernel // 2] * 4
            ),
            helper.make_node(
                "BatchNormalization", [f"c{at}", *parameters], [f"n{at}"], name=f"bn{at}"
            ),
            helper.make_node("Relu", [f"n{at}"], [f"r{at}"], name=f"relu{at}"),
        ]
        data = f"r{at}"
    dims: list[str | int | None] = ["N", channels, 8, 8]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info(data, TensorProto.FLOAT, dims)],
        tensors,
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


def run(command: list[str], result: Measured) -> None:
    """Run a command to its end; note its time and its peak memory."""
    started = time.perf_counter()
    process = subprocess.Popen(command)
    while process.poll() is None:
        result.peak = max(result.peak, (anonymous_memory(process.pid) or 0) / 1e6)
        time.sleep(0.003)
    result.seconds.append(time.perf_counter() - started)
    if process.returncode:
        raise SystemExit(f"status {process.returncode}: {' '.join(command)}")


def norms_in(path: Path) -> int:
    """How many BatchNormalization nodes a model has."""
    model = onnx.load(path, load_external_data=False)
    return sum(node.op_type == "BatchNormalization" for node in model.graph.node)


def measure(name: str, runs: int, folder: Path) -> None:
    """Time both programs on one model, in turn, and print a row of the table for each."""
    source, target = folder / f"{name}.onnx", folder / "out.onnx"
    write_chain(MODELS[name], source)
    commands = {
        "bnfold": [sys.executable, "-m", "bnfold", "fold", f"{source}", "-o", f"{target}", "-q"],
        "onnxruntime": [sys.executable, "-c", OFFLINE, f"{source}", f"{target}"],
    }
    results = {program: Measured() for program in commands}
    for _ in range(runs):
        for program, command in commands.items():
            target.unlink(missing_ok=True)
            run(command, results[program])
            if results[program].norms_left < 0:
                results[program].norms_left = norms_in(target)
    target.unlink()
    before, size = norms_in(source), source.stat().st_size / 1e6
    source.unlink()
    fastest = results["bnfold"].median
    for program, result in results.items():
        print(
            f"| {name} | {size:.1f} | {program} | {result.median:.2f} | "
            f"{min(result.seconds):.2f} | {max(result.seconds):.2f} | "
            f"{result.median / fastest:.1f} | {result.peak:.0f} | "
            f"{before} | {result.norms_left} |",
            flush=True,
        )


def machine() -> str:
    """The processor, how many cores this process may use, and the versions that matter."""
    packages = ", ".join(f"{p} {version(p)}" for p in ("bnfold", "onnx", "onnxruntime", "numpy"))
    return (
        f"{processor()}, {cores()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, {packages}"
    )


def main() -> None:
    """Measure every model, or the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=list(MODELS), help="one model")
    parser.add_argument("--runs", type=int, default=5, help="of each program (default 5)")
    arguments = parser.parse_args()
    if arguments.runs < 1:
        parser.error("--runs must be at least 1")
    names = [arguments.only] if arguments.only else [n for n, c in MODELS.items() if c.by_default]
    print(f"{machine()}; {arguments.runs} runs of each\n")
    print(
        "| model | MB | program | median s | fastest s | slowest s | times bnfold | "
        "peak anonymous MB | norms before | norms left |"
    )
    print("|---|---:|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory(prefix="fold_speed_") as folder:
        for name in names:
            measure(name, arguments.runs, Path(folder))


if __name__ == "__main__":
    main()

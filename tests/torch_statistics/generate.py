"""Writes what the test reads: ``python -m tests.torch_statistics.generate``, with the extra torch.

``model.onnx`` is a small network as torch exports it in training mode. ``statistics.npz`` holds
data, and what torch's running statistics are after one pass over it in batches of 8, with
``momentum=None``, which is the plain average over the batches.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

HERE = Path(__file__).parent
SIZE = 8
"""Samples in a batch; the last one has 4."""

Array = npt.NDArray[Any]


def network() -> Any:
    """Norms on the input, behind an activation, and of a matrix."""
    norm = {"momentum": None}
    return torch.nn.Sequential(
        torch.nn.BatchNorm2d(3, **norm),
        torch.nn.Conv2d(3, 6, 3),
        torch.nn.ReLU(),
        torch.nn.BatchNorm2d(6, **norm),
        torch.nn.Conv2d(6, 4, 3, stride=2),
        torch.nn.BatchNorm2d(4, eps=1e-3, **norm),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 5),
        torch.nn.ReLU(),
        torch.nn.BatchNorm1d(5, **norm),
    )


def statistics(module: Any, x: Array) -> dict[str, Array]:
    """State of each norm after one pass over x: ``0.running_mean`` and so on."""
    module.train()
    with torch.no_grad():
        for at in range(0, len(x), SIZE):
            module(torch.from_numpy(x[at : at + SIZE]))
    state = module.state_dict().items()
    return {name: value.numpy().copy() for name, value in state if "running" in name}


def main() -> None:
    torch.manual_seed(0)
    module = network()
    for layer in module:
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.normal_(layer.bias)
    generator = np.random.default_rng(0)
    spread = np.array([0.5, 2, 7]).reshape(1, 3, 1, 1)
    x = (generator.standard_normal((28, 3, 8, 8)) * spread + [[[[3]]]]).astype(np.float32)
    # In eval mode the exporter would fold the norm behind a Conv.
    module.train()
    torch.onnx.export(
        module,
        (torch.from_numpy(x[:SIZE]),),
        HERE / "model.onnx",
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {0: "N"}, "y": {0: "N"}},
        training=torch.onnx.TrainingMode.TRAINING,
        do_constant_folding=False,
        opset_version=17,
        dynamo=False,
    )
    fresh = network()
    fresh.load_state_dict(module.state_dict())
    for layer in fresh:
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.reset_running_stats()
    arrays: dict[str, Any] = {"x": x, **statistics(fresh, x)}
    np.savez_compressed(HERE / "statistics.npz", **arrays)
    print([node.op_type for node in onnx.load(HERE / "model.onnx").graph.node])


if __name__ == "__main__":
    main()

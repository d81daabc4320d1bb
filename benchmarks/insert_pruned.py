"""What inserted norms are good for: accuracy of pruned networks, re-estimated and folded again.

    python benchmarks/insert_pruned.py sample_models/digits

Each network is folded, gets norms with the statistics of the training digits, and loses the part of
each of its weights that is smallest in magnitude. Then its statistics are estimated again from the
training digits, without labels, and it is folded. The accuracy is that on the held-out digits.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

import bnfold
from bnfold.checking.runtime import on_disk, run
from bnfold.onnxgraph.load import load

NETWORKS = ("conv_before", "conv_plain_slow", "mlp_before", "mlp_plain_slow")
PARTS = (0.5, 0.7, 0.8, 0.9)


def pruned(model: onnx.ModelProto, part: float) -> onnx.ModelProto:
    """The model with the smallest part of each weight set to zero; vectors stay."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        values = numpy_helper.to_array(tensor).copy()
        if values.ndim > 1:
            values[np.abs(values) < np.quantile(np.abs(values), part)] = 0
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return copy


def accuracy(model: onnx.ModelProto, folder: Path) -> float:
    """How many of the held-out digits are told right, in onnxruntime."""
    with np.load(folder / "held_out.npz") as held_out:
        feed = {name: held_out[name] for name in held_out}
    labels = np.load(folder / "held_out_labels.npy")
    output = model.graph.output[0].name
    with on_disk(load(model)) as path:
        done = run(path, [feed], [output])
    assert done.outputs is not None, done.error
    return float((done.outputs[0][output].argmax(axis=1) == labels).mean())


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="with the networks and their digits")
    folder = parser.parse_args().folder
    data = folder / "train.npz"
    print("| network | part of the weights at zero | whole | pruned | calibrated | folded |")
    print("|---|---|---|---|---|---|")
    for name in NETWORKS:
        folded = bnfold.fold(folder / f"{name}.onnx").model
        with_norms = bnfold.insert(folded, data, batch_size=64).model
        for part in PARTS:
            less = pruned(with_norms, part)
            again = bnfold.calibrate(less, data, batch_size=64).model
            models = (folded, less, again, bnfold.fold(again).model)
            cells = " | ".join(f"{100 * accuracy(model, folder):.1f} %" for model in models)
            print(f"| `{name}` | {100 * part:.0f} % | {cells} |", flush=True)


if __name__ == "__main__":
    main()

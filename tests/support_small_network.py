"""A small network with batch normalisation, and data for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper, parser

Array = npt.NDArray[Any]

TEXT = """<ir_version: 8, opset_import: ["": 17]>
g (float[N, 3, H, W] x) => (float[N, 6, I, J] y) {
  a = Conv<pads = [1, 1, 1, 1]>(x, w)
  b = BatchNormalization(a, g1, b1, m1, v1)
  c = Relu(b)
  d = Conv(c, u)
  e = BatchNormalization(d, g2, b2, m2, v2)
  y = Relu(e)
}"""
_SHAPES: dict[str, tuple[int, ...]] = {"w": (8, 3, 3, 3), "u": (6, 8, 3, 3)}
STATISTICS = ("m1", "v1", "m2", "v2")


def network(kind: str = "float") -> onnx.ModelProto:
    """Conv, BatchNormalization and Relu twice; its statistics are those of no data.

    Args:
        kind: the element type, ``float`` or ``double``.
    """
    random = np.random.default_rng(11)
    model = parser.parse_model(TEXT.replace("float[", f"{kind}["))
    for number, channels in ((1, 8), (2, 6)):
        _SHAPES.update({f"{letter}{number}": (channels,) for letter in "gbmv"})
    for name, shape in _SHAPES.items():
        value = random.standard_normal(shape).astype(np.float32)
        if name[0] in "gv":
            value = np.abs(value) + np.float32(0.5)
        stored = value.astype(np.float64) if kind == "double" else value
        model.graph.initializer.append(numpy_helper.from_array(stored, name))
    return model


def samples(number: int = 48, seed: int = 12) -> Array:
    """Images, each brighter than the one before it, so that batches differ."""
    random = np.random.default_rng(seed)
    values = random.standard_normal((number, 3, 8, 7)) + np.arange(number)[:, None, None, None] / 9
    return values.astype(np.float32)


def statistics(model: onnx.ModelProto | Path) -> Mapping[str, Array]:
    """Those that a model has, by the names of ``network``."""
    whole = onnx.load(model) if isinstance(model, Path) else model
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in whole.graph.initializer}
    return {name: found[name] for name in STATISTICS}

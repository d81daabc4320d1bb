"""Models with external data in every layout."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto

from tests.support_graphs import conv_bn, externalised, largest_difference, norms_in

Places = dict[str, tuple[str, int | None]]

# Initializer -> (file, offset) of a Conv with 64 channels: w has 6912 bytes, the others 256 each.
LAYOUTS: dict[str, Places] = {
    "one file": {
        "w": ("m.data", 0),
        "gamma": ("m.data", 6912),
        "beta": ("m.data", 7168),
        "mean": ("m.data", 7424),
        "var": ("m.data", 7680),
    },
    "one file a tensor": {
        name: (f"{name}.bin", None) for name in ("w", "gamma", "beta", "mean", "var")
    },
    "aligned offsets with gaps": {"w": ("m.data", 4096), "beta": ("m.data", 65536)},
    "only the weight": {"w": ("m.data", 0)},
    "only statistics": {"beta": ("m.data", 0), "var": ("m.data", 256)},
    "in a subfolder": {"w": ("weights/deep/m.data", 64), "var": ("weights/v.bin", 0)},
    "named like the output": {"w": ("out.onnx.data", 0)},
    "named exactly as the output": {"w": ("out.onnx", 0)},
    "one file in two spellings": {"w": ("m.data", 0), "beta": ("./m.data", 6912)},
    "a name with spaces": {"w": ("größe of it.bin", 0)},
}


def stored(folder: Path, places: Places, model: onnx.ModelProto | None = None) -> Path:
    """``in.onnx`` with its data files, in a new folder."""
    folder.mkdir(parents=True)
    path = folder / "in.onnx"
    onnx.save(externalised(model or conv_bn(channels=64), folder, places), path)
    return path


def is_inside(path: Path) -> dict[str, bool]:
    """For each initializer of a file, whether its data is in the model file itself."""
    raw = onnx.load(path, load_external_data=False)
    return {t.name: t.data_location != TensorProto.EXTERNAL for t in raw.graph.initializer}


def expect_folded(path: Path, original: onnx.ModelProto) -> None:
    """The file at ``path`` loads by the onnx package, has no norm left and computes the same."""
    folded = onnx.load(path)
    onnx.checker.check_model(str(path))
    assert norms_in(folded) == 0
    assert largest_difference(original, folded) < 1e-6

"""calibrate against torch's running statistics, those committed and those it gives now."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import bnfold
from tests.support_calibrate import Array

HERE = Path(__file__).parent / "torch_statistics"
MODEL, DATA = HERE / "model.onnx", dict(np.load(HERE / "statistics.npz"))
NORMS = ["0", "3", "5", "10"]
"""The norms among the layers."""


def calibrated(x: Array) -> dict[str, Array]:
    """``0.running_mean`` and so on -> what the calibrated model holds."""
    found = bnfold.calibrate(MODEL, x, batch_size=8).model
    stored = {t.name: numpy_helper.to_array(t) for t in found.graph.initializer}
    return {name: value for name, value in stored.items() if "running" in name}


def assert_same(found: dict[str, Array], wanted: dict[str, Array]) -> None:
    assert sorted(found) == sorted(f"{n}.running_{what}" for n in NORMS for what in ("mean", "var"))
    for norm in NORMS:
        var = wanted[f"{norm}.running_var"].astype(np.float64)
        spread = np.sqrt(var + 1e-5)
        moved = np.abs(found[f"{norm}.running_mean"] - wanted[f"{norm}.running_mean"]) / spread
        assert moved.max() < 2e-6
        assert np.abs((found[f"{norm}.running_var"] - var) / (var + 1e-5)).max() < 4e-6


def test_the_model_is_a_training_export() -> None:
    nodes = [n for n in onnx.load(MODEL).graph.node if n.op_type == "BatchNormalization"]
    assert [len(node.output) for node in nodes] == [3] * 4
    assert len(DATA["x"]) % 8 == 4  # the last batch is smaller, and counts as much as the others


def test_the_statistics_are_those_of_torch() -> None:
    assert_same(calibrated(DATA["x"]), {n: v for n, v in DATA.items() if n != "x"})


def test_the_statistics_are_those_of_torch_on_other_data() -> None:
    torch = pytest.importorskip("torch")
    from tests.torch_statistics.generate import network, statistics

    module = network()
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(MODEL).graph.initializer}
    state = {
        name: torch.from_numpy(stored[name].copy()) if name in stored else value
        for name, value in module.state_dict().items()
    }
    module.load_state_dict(state)
    for norm in NORMS:
        module[int(norm)].reset_running_stats()
    x = np.random.default_rng(1).uniform(-3, 9, (37, 3, 8, 8)).astype(np.float32)
    assert_same(calibrated(x), statistics(module, x))


def test_a_loader_of_torch_gives_batches() -> None:
    torch = pytest.importorskip("torch")
    from torch.utils.data import DataLoader, TensorDataset

    x = DATA["x"]
    labels = torch.arange(len(x))
    loader = DataLoader(TensorDataset(torch.from_numpy(x), labels), batch_size=8)
    result = bnfold.calibrate(MODEL, loader)
    other = bnfold.calibrate(MODEL, x, batch_size=8)
    assert result.model.SerializeToString() == other.model.SerializeToString()
    # It can be read again and again.
    again = bnfold.calibrate(MODEL, loader, mode="sequential")
    assert again.report.passes == 4

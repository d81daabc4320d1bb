"""How near calibrate comes to Algorithm 2 in float64: what docs/calibrate.md says of precision."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from typer.testing import CliRunner

import bnfold
from bnfold.cli.app import application
from bnfold.errors import ModelError, UsageError
from bnfold.statistics.inputs import inputs_of
from tests.support_calibrate import (
    BODY,
    Array,
    Statistics,
    epsilon_of,
    estimate,
    in_sequence,
    model,
    parameters,
    samples,
    statistics_of,
    trained,
)

SAMPLES = Path(__file__).parent.parent / "sample_models"
POINTNET = "torch_training_pointnet"
NAMES = [
    "paddle_labnet",
    "torch_dynamo_shared_conv",
    "torch_mlp",
    POINTNET,
    "torch_unet",
    "digits/conv_after_unscaled",
    "digits/mlp_before",
]
Feeds = list[dict[str, Array]]


@cache
def case_of(name: str) -> tuple[onnx.ModelProto, Feeds]:
    """A sample model and eight batches for it, of 16 samples where the model does not say."""
    proto = onnx.load(SAMPLES / f"{name}.onnx")
    generator = np.random.default_rng(5)
    feeds = []
    for _ in range(8):
        shapes = {info.name: [size or 16 for size in info.dims or ()] for info in inputs_of(proto)}
        feed = {key: generator.standard_normal(shape) for key, shape in shapes.items()}
        feeds.append({key: value.astype(np.float32) for key, value in feed.items()})
    return proto, feeds


def off(found: Mapping[str, Statistics], wanted: Mapping[str, Statistics]) -> float:
    """The largest difference: of means in standard deviations, of variances in themselves."""
    assert found.keys() == wanted.keys()
    parts = [
        part
        for name, (mean, var) in wanted.items()
        for part in ((found[name][0] - mean) / np.sqrt(var), found[name][1] / var - 1)
    ]
    return max(float(np.abs(part).max()) for part in parts)


def trained_in_float32(
    proto: onnx.ModelProto, feeds: Sequence[Mapping[str, Array]]
) -> dict[str, Statistics]:
    """``trained`` in float32: onnx's reference operators, and Algorithm 1 in NumPy."""
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    kept = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    operators = [ReferenceEvaluator(node, opsets=versions) for node in proto.graph.node]
    found: dict[str, list[tuple[int, Array, Array]]] = {}
    for feed in feeds:
        values = {**kept, **feed}
        for node, operator in zip(proto.graph.node, operators, strict=True):
            if node.op_type != "BatchNormalization":
                made = operator.run(None, {name: values[name] for name in node.input if name})
                values |= dict(zip(node.output, made, strict=True))
                continue
            x, axes = values[node.input[0]], (0, *range(2, values[node.input[0]].ndim))
            mean = x.mean(axes, keepdims=True)
            var = np.square(x - mean).mean(axes, keepdims=True)
            gamma, beta = (values[node.input[at]].reshape(mean.shape) for at in (1, 2))
            root = np.sqrt(var + np.float32(epsilon_of(node)))
            y = values[node.output[0]] = (x - mean) / root * gamma + beta
            assert y.dtype == np.float32
            m, flat = x.size // x.shape[1], (mean.astype(np.float64), var.astype(np.float64))
            entry = (m, flat[0].reshape(-1), flat[1].reshape(-1))
            found.setdefault(node.output[0], []).append(entry)
    return {name: estimate(entries, "paper") for name, entries in found.items()}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_as_near_as_float32_is_to_float64(name: str) -> None:
    proto, feeds = case_of(name)
    wanted = trained(proto, feeds)
    found = off(statistics_of(bnfold.calibrate(proto, feeds).model), wanted)
    other = off(trained_in_float32(proto, feeds), wanted)
    if name == POINTNET:
        # Norms of two samples, which can be close to each other: float32 itself says no more.
        assert 2e-6 < other < 1e-4
        assert found < 5 * other
    else:
        assert other < 1e-6
        assert found < 1e-6


def assert_rounded_once(
    found: Mapping[str, Statistics],
    wanted: Mapping[str, Statistics],
    stored_in: npt.DTypeLike = np.float32,
) -> None:
    """What is stored is nearest to what float64 gives."""
    assert found.keys() == wanted.keys()
    for name, exact in wanted.items():
        for vector, values in zip(found[name], exact, strict=True):
            step = np.spacing(np.abs(values).astype(stored_in)).astype(np.float64)
            assert (np.abs(vector - values) <= 0.501 * step).all(), name


@pytest.mark.parametrize(("estimator", "mode"), [("paper", "batch"), ("population", "sequential")])
@pytest.mark.parametrize("name", NAMES)
def test_in_float64_nothing_is_rounded_but_what_is_stored(
    name: str, estimator: str, mode: str
) -> None:
    proto, feeds = case_of(name)
    options: dict[str, Any] = {"estimator": estimator, "mode": mode}
    found = bnfold.calibrate(proto, feeds, precision="float64", **options)
    if mode == "batch":
        wanted = trained(proto, feeds, estimator)
    else:
        wanted = in_sequence(proto, feeds, estimator, stored_in=np.float32)
    assert_rounded_once(statistics_of(found.model), wanted)
    assert found.report.precision == "float64"


def test_float16_is_evaluated_in_float64_too() -> None:
    proto = model(arrays=parameters(dtype=np.float16), kind="float16")
    x = samples(dtype=np.float16)
    found = bnfold.calibrate(proto, [x], precision="float64")
    assert_rounded_once(statistics_of(found.model), trained(proto, [{"x": x}]), np.float16)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("shape", [(40_000, 3), (2_000, 3, 5), (1, 3, 512, 512)])
def test_many_values_cost_no_digits(shape: tuple[int, ...], opset: int) -> None:
    # A sum of float32 that takes one value after the other is off by up to 2e-5 here.
    dims = ",".join(["N", "3", "H", "W"][: len(shape)])
    one = np.ones(3, np.float32)
    proto = model(
        "y = BatchNormalization(x, g, b, m, v)",
        {"g": one, "b": one, "m": one, "v": one},
        opset=opset,
        inputs=f"float[{dims}] x",
        outputs=f"float[{dims}] y",
    )
    x = (np.random.default_rng(0).standard_normal(shape) + 3).astype(np.float32)
    found = bnfold.calibrate(proto, [x])
    axes = (0, *range(2, x.ndim))
    exact = x.astype(np.float64)
    assert_rounded_once(
        statistics_of(found.model), {"y": (exact.mean(axes), exact.var(axes, ddof=1))}
    )


def test_float64_needs_no_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnfold.checking.runtime.is_installed", lambda: False)
    with pytest.raises(UsageError, match="onnxruntime is not installed"):
        bnfold.calibrate(model(), samples())
    monkeypatch.setattr("subprocess.Popen", None)
    assert bnfold.calibrate(model(), samples(), precision="float64").report.batches == 2


def test_the_command_says_that_it_was_in_float64(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(model(), "m.onnx")
    np.save("x.npy", samples())
    command = ["calibrate", "m.onnx", "--data", "x.npy", "-o", "o.onnx", "--precision", "float64"]
    done = CliRunner().invoke(application(), [*command, "--save-report", "r.json"])
    assert done.exit_code == 0, done.stderr
    assert "estimator  paper, mode batch, in float64\n" in done.stdout
    assert json.loads(Path("r.json").read_text())["models"][0]["precision"] == "float64"
    wanted = bnfold.calibrate("m.onnx", "x.npy", precision="float64")
    assert onnx.load("o.onnx") == wanted.model


def test_float64_on_an_executor_gives_the_same_numbers() -> None:
    # Both precisions at once: a worker holds one model for each.
    data = {"x": samples()}
    with ThreadPoolExecutor(2) as pool:
        for precision in ("float64", "model", "float64"):
            options: dict[str, Any] = {"batch_size": 8, "precision": precision}
            expected = bnfold.calibrate(model(), data, **options)
            found = bnfold.calibrate(model(), data, executor=pool, **options)
            assert found.model == expected.model
            assert found.report == expected.report


def test_statistics_of_another_precision_are_not_merged(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    bnfold.calibrate(model(), samples(), save_stats=file)
    with pytest.raises(UsageError, match="has statistics of precision model, not float64"):
        bnfold.calibrate(model(), samples(), merge_stats=[file], precision="float64")
    bnfold.calibrate(model(), samples(), save_stats=file, precision="float64")
    again = bnfold.calibrate(model(), None, merge_stats=[file], precision="float64")
    assert again.model == bnfold.calibrate(model(), samples(), precision="float64").model


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "double"}, "precision 'double': it has to be one of model, float64"),
        ({"precision": "float64", "threads": 2}, "threads 2: they are those of onnxruntime"),
    ],
)
def test_what_has_no_meaning_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        bnfold.calibrate(model(), samples(), **options)


def test_an_operator_that_cannot_be_evaluated_is_named() -> None:
    proto = model(BODY.replace("r = Relu", "r = Absent"))
    with pytest.raises(ModelError, match=r"r is a ai\.onnx::Absent"):
        bnfold.calibrate(proto, samples(), precision="float64")

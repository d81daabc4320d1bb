"""Norms from data: what they make has mean 0 and variance 1 before gamma and beta."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bnfold
from bnfold.statistics.identity import EPSILON
from bnfold.statistics.inserted import Where
from tests.support_float64 import evaluate
from tests.support_insert import ALL_OPERATORS, CONV, RESIDUAL, model_of
from tests.support_models import constant

Array = np.ndarray[Any, np.dtype[Any]]


def images(samples: int, channels: int = 3, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return rng.normal(0.5, 1.5, (samples, channels, 6, 6)).astype(np.float32)


def tensor_of(model: onnx.ModelProto, name: str, x: Array) -> Array:
    """A tensor of the model in float64, by the reference implementation of ONNX."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.append(onnx.ValueInfoProto(name=name))
    return np.asarray(evaluate(copy, {"x": x})[0])


def over_channels(values: Array) -> tuple[Array, Array]:
    axes = tuple(axis for axis in range(values.ndim) if axis != 1)
    return values.mean(axes), values.var(axes)


@pytest.mark.parametrize("where", ["before-activation", "after-activation"])
@pytest.mark.parametrize("estimator", ["paper", "population"])
def test_what_is_normalised_has_mean_0_and_variance_1(where: Where, estimator: Any) -> None:
    model, x = model_of(ALL_OPERATORS), images(64)
    result = bnfold.insert(model, x, where=where, estimator=estimator, batch_size=64)
    assert len(result.report.norms) == (4 if where == "before-activation" else 3)
    for norm in result.report.norms:
        node = next(n for n in result.model.graph.node if n.name == norm.norm)
        _, _, mean, var = (constant(result.model, name) for name in node.input[1:])
        data = tensor_of(result.model, node.input[0], x)
        shape = (-1, *[1] * (data.ndim - 2))
        root = np.sqrt(var.astype(float) + EPSILON)
        x_hat = (data - mean.reshape(shape)) / root.reshape(shape)
        m = data.size // data.shape[1]
        means, variances = over_channels(x_hat)
        spread = over_channels(data)[1]
        np.testing.assert_allclose(means, 0, atol=1e-5)
        # The unbiased variance over Var + epsilon, and gamma^2 within 2^-8 of that.
        expected = spread / (spread * m / (m - 1) + EPSILON)
        np.testing.assert_allclose(variances, expected, rtol=2.0**-8)
        assert norm.values == m


def test_the_statistics_are_those_of_numpy() -> None:
    model, x = model_of(CONV), images(10)
    c = tensor_of(model, "c", x)
    batches = [c[:4], c[4:8], c[8:]]
    by_batch = [over_channels(batch) for batch in batches]
    sizes = [batch.size // 4 for batch in batches]
    told = {
        "paper": (
            np.mean([mean for mean, _ in by_batch], axis=0),
            np.mean([v * m / (m - 1) for (_, v), m in zip(by_batch, sizes, strict=True)], axis=0),
        ),
        "population": (c.mean((0, 2, 3)), c.var((0, 2, 3), ddof=1)),
    }
    for estimator, (mean, var) in told.items():
        result = bnfold.insert(model, x, batch_size=4, estimator=estimator)
        names = result.model.graph.node[1].input[3:]
        np.testing.assert_allclose(constant(result.model, names[0]), mean, atol=1e-5)
        np.testing.assert_allclose(constant(result.model, names[1]), var, rtol=2.0**-8)
        norm = result.report.norms[0]
        np.testing.assert_allclose(norm.mean, (mean.min(), mean.max()), atol=1e-5)
        np.testing.assert_allclose(norm.std, np.sqrt([var.min(), var.max()]), rtol=1e-5)
        assert (norm.values, result.report.batches) == (sum(sizes), 3)


def test_onnxruntime_gives_the_very_same_bits() -> None:
    model, x = model_of(RESIDUAL), images(8, 4)
    result = bnfold.insert(model, x, batch_size=8)
    assert all(norm.exact for norm in result.report.norms)
    report = result.verify(feeds={"x": x}, trials=0)
    assert report.is_same
    assert report.runtime is not None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    outputs = [
        onnxruntime.InferenceSession(
            made.SerializeToString(), options, providers=["CPUExecutionProvider"]
        ).run(None, {"x": x})
        for made in (model, result.model)
    ]
    for before, after in zip(*outputs, strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_float64_model_is_observed_in_float64() -> None:
    model, x = model_of(CONV, dtype="double"), images(8).astype(np.float64)
    result = bnfold.insert(model, x, batch_size=4, estimator="population")
    c = tensor_of(model, "c", x)
    mean, var = (constant(result.model, name) for name in result.model.graph.node[1].input[3:])
    np.testing.assert_allclose(mean, c.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(var, c.var((0, 2, 3), ddof=1), rtol=1e-6)
    assert result.report.norms[0].exact
    with pytest.raises(bnfold.ModelError, match=r"batch 1: m has shape .*no variance"):
        bnfold.insert(
            model_of("g (double[N,3] x) => (double[N,2] m) <double[3,2] w> { m = MatMul(x, w) }"),
            np.ones((1, 3)),
        )


@pytest.mark.parametrize("kind", ["npy", "npz", "folder", "mapping", "loader"])
def test_data_of_every_kind_gives_the_same(tmp_path: Path, kind: str) -> None:
    model, x = model_of(CONV), images(8)
    data: Any = {"x": x}
    options: dict[str, Any] = {"batch_size": 4}
    if kind == "npy":
        data = tmp_path / "x.npy"
        np.save(data, x)
    elif kind == "npz":
        data = tmp_path / "x.npz"
        np.savez(data, x=x)
    elif kind == "folder":
        data = tmp_path
        np.save(tmp_path / "a.npy", x[:4])
        np.save(tmp_path / "b.npy", x[4:])
    elif kind == "loader":
        data, options = [(x[:4], "label"), (x[4:], "label")], {}
    told = bnfold.insert(model, x, batch_size=4).model
    assert bnfold.insert(model, data, **options).model == told


def test_progress_is_told_batch_by_batch() -> None:
    told: list[tuple[float, str]] = []
    bnfold.insert(model_of(CONV), images(10), batch_size=4, progress=lambda *now: told.append(now))
    assert told == [(0, "batch 1 of 3"), (1 / 3, "batch 2 of 3"), (2 / 3, "batch 3 of 3")]


WRONG: dict[str, tuple[Any, dict[str, Any], type[bnfold.BnfoldError], str]] = {
    "a side": (
        {},
        {"where": "beside"},
        bnfold.UsageError,
        "where 'beside': it has to be one of",
    ),
    "an estimator": ({}, {"estimator": "mean"}, bnfold.UsageError, "estimator 'mean'"),
    "threads": ({}, {"threads": -1}, bnfold.UsageError, "threads -1"),
    "one pattern": ({}, {"only": "c*"}, bnfold.UsageError, "only and skip are lists"),
    "a bias behind": (
        {},
        {"where": "after-activation", "remove_bias": True},
        bnfold.UsageError,
        "makes no bias redundant",
    ),
    "another shape": (images(4, 5), {}, bnfold.UsageError, "'x'"),
    "no batch": ([], {}, bnfold.UsageError, "has no batch"),
    "NaN": (np.full((4, 3, 6, 6), np.nan, np.float32), {}, bnfold.UsageError, "are NaN"),
    "a missing file": ("missing.npy", {}, bnfold.FileError, "missing.npy"),
    "overflow": (np.full((4, 3, 6, 6), 3e38, np.float32), {}, bnfold.ModelError, "c"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(case: str) -> None:
    data, options, error, words = WRONG[case]
    with pytest.raises(error, match=words):
        bnfold.insert(model_of(CONV), images(4) if isinstance(data, dict) else data, **options)

"""Models with batch norms, and their statistics computed layer by layer in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper, parser

from bnfold.reference import Evaluator, batch_norm_inference, batch_norm_train

Array = npt.NDArray[Any]
Statistics = tuple[Array, Array]
"""Mean and variance, shape ``(C,)`` each."""

BODY = """
    c = Conv(x, w)
    b1 = BatchNormalization <epsilon = 0.001> (c, g1, be1, m1, v1)
    r = Relu(b1)
    d = Conv(r, w2)
    b2 = BatchNormalization(d, g2, be2, m2, v2)
    y = Relu(b2)
"""
"""Two norms, one behind the other."""


def parameters(seed: int = 0, dtype: npt.DTypeLike = np.float32) -> dict[str, Array]:
    """What ``BODY`` reads: 3 channels become 5, then 4; the statistics are 0 and 1."""
    generator = np.random.default_rng(seed)
    found = {
        "w": generator.standard_normal((5, 3, 1, 1)),
        "w2": generator.standard_normal((4, 5, 1, 1)),
    }
    for norm, channels in ((1, 5), (2, 4)):
        found |= {
            f"g{norm}": generator.uniform(0.5, 2, channels),
            f"be{norm}": generator.standard_normal(channels),
            f"m{norm}": np.zeros(channels),
            f"v{norm}": np.ones(channels),
        }
    return {name: value.astype(dtype) for name, value in found.items()}


def model(
    body: str = BODY,
    arrays: Mapping[str, Array] | None = None,
    *,
    opset: int = 18,
    ir: int = 8,
    kind: str = "float",
    inputs: str = "",
    outputs: str = "",
) -> onnx.ModelProto:
    """A model of some text, with arrays as initializers.

    Args:
        kind: the element type of input and output.
        inputs, outputs: all of them, where they are not ``x[N,3,H,W]`` and ``y[N,4,H,W]``.
    """
    inputs = inputs or f"{kind}[N,3,H,W] x"
    outputs = outputs or f"{kind}[N,4,H,W] y"
    made = parser.parse_model(
        f'<ir_version: {ir}, opset_import: ["": {opset}]> g ({inputs}) => ({outputs}) {{{body}}}'
    )
    for name, array in (parameters() if arrays is None else arrays).items():
        made.graph.initializer.append(numpy_helper.from_array(array, name))
    return made


def samples(count: int = 50, seed: int = 1, dtype: npt.DTypeLike = np.float32) -> Array:
    """Images that are neither centred nor scaled, shape ``(count, 3, 5, 6)``."""
    generator = np.random.default_rng(seed)
    spread = np.array([0.5, 2.0, 7.0]).reshape(1, 3, 1, 1)
    offset = np.array([10.0, -3.0, 0.5]).reshape(1, 3, 1, 1)
    return np.asarray(generator.standard_normal((count, 3, 5, 6)) * spread + offset).astype(dtype)


def cut(array: Array, size: int) -> list[Array]:
    return [array[at : at + size] for at in range(0, len(array), size)]


def estimate(batches: Sequence[tuple[int, Array, Array]], estimator: str) -> Statistics:
    """``E[x]`` and ``Var[x]`` of batches of ``(m, mean, biased variance)``, by the definitions."""
    if estimator == "paper":
        mean = np.mean([mean for _, mean, _ in batches], axis=0)
        return mean, np.mean([m / (m - 1) * var for m, _, var in batches], axis=0)
    total = sum(m for m, _, _ in batches)
    mean = np.sum([m * mean for m, mean, _ in batches], axis=0) / total
    squares = np.sum([m * (var + (one - mean) ** 2) for m, one, var in batches], axis=0)
    return mean, squares / (total - 1)


def trained(
    proto: onnx.ModelProto, batches: Sequence[Mapping[str, Array]], estimator: str = "paper"
) -> dict[str, Statistics]:
    """Output of each norm -> what Algorithm 2 gives it; all normalise by their mini-batch."""
    evaluator = Evaluator(proto)
    found: dict[str, list[tuple[int, Array, Array]]] = {}
    for feed in batches:
        given: dict[str, Array] = dict(feed)
        for node in norms_of(proto):
            data = evaluator.run(given, [node.input[0]])[node.input[0]]
            gamma, beta = (stored(proto, node.input[at]) for at in (1, 2))
            made = batch_norm_train(data, gamma, beta, eps=epsilon_of(node))
            found.setdefault(node.output[0], []).append(
                (data.size // data.shape[1], made.mean, made.var)
            )
            given[node.output[0]] = made.y
    return {name: estimate(entries, estimator) for name, entries in found.items()}


def in_sequence(
    proto: onnx.ModelProto,
    batches: Sequence[Mapping[str, Array]],
    estimator: str = "paper",
    stored_in: npt.DTypeLike = np.float64,
) -> dict[str, Statistics]:
    """The same, where the norms before each one are in inference form with their new statistics.

    Args:
        stored_in: the dtype to which those are rounded before they are used.
    """
    evaluator = Evaluator(proto)
    givens: list[dict[str, Array]] = [dict(feed) for feed in batches]
    found: dict[str, Statistics] = {}
    for node in norms_of(proto):
        gathered = []
        for given in givens:
            data = evaluator.run(given, [node.input[0]])[node.input[0]]
            axes = (0, *range(2, data.ndim))
            gathered.append((data.size // data.shape[1], data.mean(axes), data.var(axes)))
        mean, var = found[node.output[0]] = estimate(gathered, estimator)
        gamma, beta = (stored(proto, node.input[at]) for at in (1, 2))
        mean, var = (vector.astype(stored_in).astype(np.float64) for vector in (mean, var))
        for given in givens:
            data = evaluator.run(given, [node.input[0]])[node.input[0]]
            given[node.output[0]] = batch_norm_inference(
                data, gamma, beta, mean, var, eps=epsilon_of(node)
            )
    return found


def norms_of(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in proto.graph.node if node.op_type == "BatchNormalization"]


def statistics_of(proto: onnx.ModelProto) -> dict[str, Statistics]:
    """Output of each norm -> the statistics that the model holds."""
    return {
        str(node.output[0]): (stored(proto, node.input[3]), stored(proto, node.input[4]))
        for node in norms_of(proto)
    }


def stored(proto: onnx.ModelProto, name: str) -> Array:
    """A constant in float64."""
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor).astype(np.float64)
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.output[0] == name:
            return numpy_helper.to_array(node.attribute[0].t).astype(np.float64)
    raise KeyError(name)


def epsilon_of(node: onnx.NodeProto) -> float:
    found = [a.f for a in node.attribute if a.name == "epsilon"]
    return float(found[0]) if found else float(np.float32(1e-5))


def assert_close(
    found: Mapping[str, Statistics], wanted: Mapping[str, Statistics], within: float = 1e-6
) -> None:
    """Means to so many standard deviations, variances to that part of themselves."""
    assert found.keys() == wanted.keys()
    for name, (mean, var) in wanted.items():
        spread = np.sqrt(var)
        assert np.abs((found[name][0] - mean) / spread).max() <= within, name
        assert np.abs(found[name][1] / var - 1).max() <= within, name

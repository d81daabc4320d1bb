"""Operators that draw numbers: here each a function of the seed and of the name of its output.

Source: ONNX, RandomNormal, RandomUniform, Bernoulli, Multinomial, Dropout.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import onnx

from bnfold.reference.call import COMPUTED_FLOATS, Array, Call


def generator(seed: int, name: str) -> np.random.Generator:
    """The generator of one node: equal for equal seeds and names of the first output."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def random_normal(call: Call, draw: np.random.Generator, like: Any = None) -> Array:
    """Of ``mean`` and standard deviation ``scale``; float64, of the shape of an input."""
    return draw.normal(call["mean"], call["scale"], _shape(call, like))


def random_uniform(call: Call, draw: np.random.Generator, like: Any = None) -> Array:
    """Between ``low`` and ``high``; float64, shaped like the input if there is one."""
    return draw.uniform(call["low"], call["high"], _shape(call, like))


def _shape(call: Call, like: Any) -> tuple[int, ...]:
    return tuple(call["shape"]) if like is None else np.shape(like)


def bernoulli(call: Call, draw: np.random.Generator, x: Array) -> Array:
    """One with the probability that x says, else zero, of the dtype that the node asks for."""
    drawn = draw.uniform(size=x.shape) < x
    data_type = call.get("dtype")
    if data_type is None or data_type in COMPUTED_FLOATS:
        return drawn.astype(np.float64)
    return drawn.astype(onnx.helper.tensor_dtype_to_np_dtype(data_type))


def multinomial(call: Call, draw: np.random.Generator, x: Array) -> Array:
    """``sample_size`` classes for each row of unnormalised log-probabilities ``(N, classes)``."""
    weights = np.exp(x - x.max(axis=1, keepdims=True))
    bounds = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
    drawn = draw.uniform(size=(x.shape[0], call["sample_size"]))
    classes = (drawn[:, :, None] >= bounds[:, None, :-1]).sum(axis=2)
    return np.asarray(classes).astype(onnx.helper.tensor_dtype_to_np_dtype(call["dtype"]))


def dropout(
    call: Call,
    draw: np.random.Generator,
    x: Array,
    ratio: Array | None = None,
    training: Array | None = None,
) -> tuple[Array, Array]:
    """x as it is, or in training with elements dropped and the others scaled up to make up for it.

    Training is ``is_test=0`` before opset 7, the third input from 12 on, and never in between.
    """
    if call.version < 7:
        trains = not call.get("is_test", 0)
    else:
        trains = training is not None and bool(training)
    share = float(call["ratio"] if call.version < 12 else 0.5 if ratio is None else ratio)
    if not trains or share == 0.0:
        return x, np.ones(x.shape, dtype=bool if call.version >= 10 else x.dtype)
    kept = draw.uniform(size=x.shape) >= share
    y = np.where(kept, x / (1.0 - share), 0.0) if share < 1.0 else np.zeros(x.shape)
    return y, kept if call.version >= 10 else kept.astype(x.dtype)

"""Normalisations, every version of each.

Source: ONNX, the operators of these names.
"""

from __future__ import annotations

import numpy as np

from bnfold.reference.batch_norm import normalised
from bnfold.reference.call import FLOAT64, Array, Call


def batch_normalization(
    call: Call,
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    var: Array,
    *,
    out: Array | None = None,
) -> Array | tuple[Array, ...]:
    """By fixed statistics, or by those of the batch where the node asks for training.

    Training is ``is_test=0`` before opset 7, a second output from 7 to 13, ``training_mode=1``
    from 14 on. ``spatial=0`` (before opset 9) has one set of parameters per activation.

    Returns:
        y; in training (y, running mean, running var) and before opset 14 the statistics of the
        batch as well. The variance is the biased one.
    """
    if call.version < 7:
        training = not call.get("is_test", 0)
    elif call.version < 14:
        training = any(call.outputs[1:])
    else:
        training = bool(call.get("training_mode", 0))
    eps, momentum = call["epsilon"], call["momentum"]
    per_activation = not call.get("spatial", 1)
    if x.dtype != FLOAT64:
        x = x.astype(np.float64)
    # What may be overwritten can be gamma as well, which has another shape.
    target = out if out is x else None
    _check(x, gamma, beta, mean, var, per_activation=per_activation)
    if not training:
        return normalised(x, gamma, beta, mean, var, eps, target)
    axes = (0,) if per_activation else (0, *range(2, x.ndim))
    batch_mean = np.asarray(x.mean(axis=axes))
    batch_var = np.asarray(x.var(axis=axes))
    y = normalised(x, gamma, beta, batch_mean, batch_var, eps, target)
    running_mean = mean * momentum + batch_mean * (1 - momentum)
    running_var = var * momentum + batch_var * (1 - momentum)
    if call.version >= 14:
        return y, running_mean, running_var
    return y, running_mean, running_var, batch_mean, batch_var


def _check(x: Array, *parameters: Array, per_activation: bool) -> None:
    shape = x.shape[1:] if per_activation else x.shape[1:2] if x.ndim > 1 else (1,)
    for name, value in zip(("scale", "B", "mean", "var"), parameters, strict=True):
        if value.shape != shape:
            raise ValueError(f"{name} has shape {value.shape}, and x asks for {shape}")


def instance_normalization(call: Call, x: Array, gamma: Array, beta: Array) -> Array:
    """Every channel of every sample by its own statistics; gamma and beta ``(C,)``."""
    y = _standardised(x, tuple(range(2, x.ndim)), call["epsilon"])[0]
    return _per_channel(y, gamma, beta)


def group_normalization(call: Call, x: Array, gamma: Array, beta: Array) -> Array:
    """Groups of channels of every sample; gamma and beta per group before opset 21, then ``(C,)``.

    Raises:
        ValueError: the channels do not divide into the groups.
    """
    groups = call["num_groups"]
    if groups < 1 or x.shape[1] % groups:
        raise ValueError(f"{x.shape[1]} channels do not divide into {groups} groups")
    grouped = x.reshape(x.shape[0], groups, -1)
    y = _standardised(grouped, (2,), call["epsilon"])[0].reshape(x.shape)
    if gamma.shape[0] == groups and call.version < 21:
        gamma, beta = (np.repeat(p, x.shape[1] // groups) for p in (gamma, beta))
    return _per_channel(y, gamma, beta)


def layer_normalization(
    call: Call, x: Array, gamma: Array, beta: Array | None = None
) -> tuple[Array, Array, Array]:
    """All axes from ``axis`` on as one distribution.

    Returns:
        y, and mean and ``1 / sqrt(var + epsilon)`` with 1 in place of the normalised axes.
    """
    y, mean, root = _standardised(x, _from(call, x), call["epsilon"])
    y = y * gamma
    return (y if beta is None else y + beta), mean, 1.0 / root


def rms_normalization(call: Call, x: Array, gamma: Array) -> Array:
    """``x / sqrt(mean(x^2) + epsilon)`` over all axes from ``axis`` on, times gamma."""
    power = np.square(x).mean(axis=_from(call, x), keepdims=True)
    return np.asarray(x / np.sqrt(power + call["epsilon"]) * gamma)


def mean_variance_normalization(call: Call, x: Array) -> Array:
    """``(x - mean) / (standard deviation + 1e-9)`` over ``axes``, by default (0, 2, 3)."""
    axes = tuple(call.get("axes") or (0, 2, 3))
    mean = x.mean(axis=axes, keepdims=True)
    return np.asarray((x - mean) / (x.std(axis=axes, keepdims=True) + 1e-9))


def lrn(call: Call, x: Array) -> Array:
    """``x / (bias + alpha / size * s)^beta``, s the sum of squares over ``size`` channels."""
    size, channels = call["size"], x.shape[1]
    before = (size - 1) // 2
    squares = np.zeros((x.shape[0], channels + size - 1, *x.shape[2:]))
    squares[:, before : before + channels] = np.square(x)
    sums = squares[:, :channels].copy()
    for at in range(1, size):
        np.add(sums, squares[:, at : at + channels], out=sums)
    base = call.get("bias", 1.0) + call["alpha"] / size * sums
    return np.asarray(x / np.power(base, call["beta"]))


def _standardised(x: Array, axes: tuple[int, ...], eps: float) -> tuple[Array, Array, Array]:
    mean = x.mean(axis=axes, keepdims=True)
    y = x - mean
    root = np.sqrt(np.square(y).mean(axis=axes, keepdims=True) + eps)
    return np.divide(y, root, out=y), mean, root


def _from(call: Call, x: Array) -> tuple[int, ...]:
    axis = call.get("axis", -1)
    return tuple(range(axis + x.ndim if axis < 0 else axis, x.ndim))


def _per_channel(y: Array, gamma: Array, beta: Array) -> Array:
    shape = (-1, *[1] * (y.ndim - 2))
    np.multiply(y, gamma.reshape(shape), out=y)
    return np.add(y, beta.reshape(shape), out=y)

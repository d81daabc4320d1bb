"""Batch normalisation as Ioffe & Szegedy 2015 define it, in float64.

Algorithm 1 normalises by the statistics of the batch, Algorithm 2 (step 11) by fixed ones. Both
are computed as written, subtract, divide, scale, shift, and never as one multiply-add.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bnfold.errors import ModelError
from bnfold.reference.call import Array

Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BatchCache:
    """What Algorithm 1 has computed of one batch, and its gradient needs.

    ``P`` is the shape of a parameter: ``(C,)``, or ``x.shape[1:]`` per activation.

    Attributes:
        deviations: ``x - mean``, in units of x, of its shape.
        normalised: x hat, ``deviations / root``, without unit, of the shape of x.
        mean: of the batch, in units of x; shape P.
        var: of the batch, biased (divided by m, not m - 1), in squared units of x; shape P.
        root: ``sqrt(var + eps)``, in units of x; shape P.
        gamma: the scale; shape P, ones in the variant without.
        axes: of x, those that one distribution goes over.
        count: m (m' = m p q for feature maps), the values of one distribution.
    """

    deviations: Float64s
    normalised: Float64s
    mean: Float64s
    var: Float64s
    root: Float64s
    gamma: Float64s
    axes: tuple[int, ...]
    count: int


class TrainedBatch(NamedTuple):
    """What Algorithm 1 makes of one batch: ``y, cache``.

    Attributes:
        y: the normalised, scaled and shifted values, float64, of the shape of x.
        cache: what `batch_norm_backward` needs.
    """

    y: Float64s
    cache: BatchCache

    @property
    def mean(self) -> Float64s:
        """Of the batch, in units of x; shape ``(C,)``, or ``x.shape[1:]`` per activation."""
        return self.cache.mean

    @property
    def var(self) -> Float64s:
        """Of the batch, biased, in squared units of x; shape as mean."""
        return self.cache.var


def batch_norm_train(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    eps: float,
    *,
    per_activation: bool = False,
) -> TrainedBatch:
    """Normalise a batch by its own statistics.

    Args:
        x: ``(N, C)``, or ``(N, C, *spatial)``; any real dtype. Each channel is one distribution
            of ``m = N * prod(spatial)`` values, the m' = m p q of section 3.2.
        gamma: scale, without unit; shape ``(C,)``. None is the variant without: ones.
        beta: shift, in units of y; shape ``(C,)``. None is the variant without: zeros.
        eps: added to var before the root, so in squared units of x.
        per_activation: every activation is a distribution of ``m = N`` values, as in a layer
            that is fully connected; gamma and beta then have shape ``x.shape[1:]``.

    Raises:
        ModelError: x has no batch or channel axis or no values, a shape differs, or
            ``var + eps`` is not positive on some channel.

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), Algorithm 1 and section 3.2.
    """
    data = _batch(x)
    shape = data.shape[1:] if per_activation else data.shape[1:2]
    gamma = np.ones(shape) if gamma is None else _parameter("gamma", gamma, shape)
    beta = np.zeros(shape) if beta is None else _parameter("beta", beta, shape)
    axes = (0,) if per_activation else (0, *range(2, data.ndim))
    count = int(np.prod([data.shape[axis] for axis in axes]))
    if count == 0:
        raise ModelError(f"a batch of shape {data.shape} has no values to take statistics of")
    with np.errstate(all="ignore"):
        mean = np.asarray(data.mean(axis=axes))
        # The mean of the squared deviations: no cancellation, unlike E[x^2] - E[x]^2.
        deviations = data - along(mean, data.ndim)
        var = np.asarray(np.square(deviations).mean(axis=axes))
        _require_root(var, eps)
        root = np.sqrt(var + eps)
        ratio = deviations / along(root, data.ndim)
        y = along(gamma, data.ndim) * ratio + along(beta, data.ndim)
    return TrainedBatch(y, BatchCache(deviations, ratio, mean, var, root, gamma, axes, count))


def identity_setting(
    x: Array, eps: float, *, per_activation: bool = False
) -> tuple[Float64s, Float64s]:
    """The gamma and beta with which Algorithm 1 gives this batch back: ``sqrt(var + eps)``, mean.

    Args:
        x: ``(N, C)``, or ``(N, C, *spatial)``; any real dtype.
        eps: as for `batch_norm_train`, in squared units of x.
        per_activation: as for `batch_norm_train`.

    Returns:
        gamma and beta, in units of x; shape ``(C,)``, or ``x.shape[1:]`` per activation.

    Raises:
        ModelError: as `batch_norm_train`.

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), section 3.
    """
    cache = batch_norm_train(x, None, None, eps, per_activation=per_activation).cache
    return cache.root, cache.mean


def batch_norm_inference(
    x: Array, gamma: Array, beta: Array, mean: Array, var: Array, *, eps: float
) -> Float64s:
    """Normalise by fixed statistics: ``gamma (x - mean) / sqrt(var + eps) + beta``.

    Args:
        x: ``(N, C, *spatial)``, any real dtype.
        gamma, beta, mean, var: shape ``(C,)``, or ``x.shape[1:]`` for one set per activation
            (``spatial=0`` before opset 9). beta and mean in units of x, var in their square.
        eps: added to var before the root, so in squared units of x.

    Returns:
        float64, of the shape of x.

    Raises:
        ModelError: a shape differs, or ``var + eps`` is not positive on some channel.

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), Algorithm 2, step 11, before it is
    rearranged.
    """
    data = _batch(x)
    shape = data.shape[1:2] if np.ndim(gamma) == 1 else data.shape[1:]
    gamma, beta = _parameter("gamma", gamma, shape), _parameter("beta", beta, shape)
    mean, var = _parameter("mean", mean, shape), _parameter("var", var, shape)
    _require_root(var, eps)
    with np.errstate(all="ignore"):
        return normalised(data, gamma, beta, mean, var, eps)


def normalised(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    var: Array,
    eps: float,
    out: Array | None = None,
) -> Array:
    """The same without checks, as IEEE 754 has it: a bad variance gives NaN or infinity.

    Args:
        x: ``(N, C, *spatial)``, float64.
        gamma, beta, mean, var: as for `batch_norm_inference`, float64.
        eps: added to var before the root.
        out: where to write, possibly x itself; a new array if None.
    """
    gamma, beta, mean = (along(p, x.ndim) for p in (gamma, beta, mean))
    root = along(np.sqrt(var + eps), x.ndim)
    y = np.subtract(x, mean, out=out)
    np.divide(y, root, out=y)
    np.multiply(y, gamma, out=y)
    return np.add(y, beta, out=y)


def _require_root(var: Array, eps: float) -> None:
    bad = np.argwhere(~(var + eps > 0))
    if bad.size:
        at = tuple(int(i) for i in bad[0])
        where = f"channel {at[0]}" if len(at) == 1 else f"activation {at}"
        raise ModelError(
            f"{where} has var + epsilon = {float(var[at]) + eps:g}, which has no real square root"
        )


def _batch(x: Array) -> Float64s:
    data = np.asarray(x, dtype=np.float64)
    if data.ndim < 2:
        raise ModelError(f"x of shape {data.shape} has no axis of channels; (N, C, ...) is needed")
    return data


def _parameter(name: str, value: Array, shape: tuple[int, ...]) -> Float64s:
    array = np.asarray(value, dtype=np.float64)
    if array.shape != shape:
        raise ModelError(f"{name} has shape {array.shape}, and x asks for {shape}")
    return array


def along(parameter: Array, rank: int) -> Array:
    """``(C,)`` as ``(C, 1, ...)`` for x of that rank; a parameter per activation as it is."""
    return parameter.reshape(-1, *[1] * (rank - 2)) if parameter.ndim == 1 else parameter

"""The gradient of Algorithm 1, by the chain rule, as Ioffe & Szegedy 2015 write it, in float64.

Six formulas, computed in their order and not put together: what each gives can be looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnfold.errors import ModelError
from bnfold.reference.batch_norm import BatchCache, Float64s, along
from bnfold.reference.call import Array


@dataclass(frozen=True)
class BatchGradient:
    """The derivatives of the loss with respect to what Algorithm 1 takes and computes.

    ``P`` is the shape of a parameter: ``(C,)``, or ``x.shape[1:]`` per activation. The sums go
    over the m values of each distribution (m' = m p q for feature maps).

    Attributes:
        dnormalised: with respect to x hat, ``dy gamma``; of the shape of x.
        dvar: with respect to the variance of the batch,
            ``sum(dnormalised (x - mean)) (-1/2) (var + eps)^(-3/2)``; shape P.
        dmean: with respect to the mean of the batch,
            ``sum(dnormalised) (-1 / sqrt(var + eps)) + dvar sum(-2 (x - mean)) / m``; shape P.
        dx: with respect to x,
            ``dnormalised / sqrt(var + eps) + dvar 2 (x - mean) / m + dmean / m``.
        dgamma: ``sum(dy x_hat)``; shape P. In the variant without scale it is the derivative
            at gamma = 1, which nobody needs.
        dbeta: ``sum(dy)``; shape P; without shift likewise.
    """

    dnormalised: Float64s
    dvar: Float64s
    dmean: Float64s
    dx: Float64s
    dgamma: Float64s
    dbeta: Float64s


def batch_norm_gradient(dy: Array, cache: BatchCache) -> BatchGradient:
    """Every intermediate of the chain rule through Algorithm 1.

    Args:
        dy: the derivative of the loss with respect to y, of its shape; any real dtype.
        cache: as `batch_norm_train` gave it.

    Raises:
        ModelError: dy has another shape than y.

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), section 3, the six formulas below
    Algorithm 1.
    """
    dy = np.asarray(dy, dtype=np.float64)
    if dy.shape != cache.normalised.shape:
        raise ModelError(f"dy has shape {dy.shape}, and y has {cache.normalised.shape}")
    axes, m, rank = cache.axes, cache.count, dy.ndim
    with np.errstate(all="ignore"):
        dnormalised = dy * along(cache.gamma, rank)
        dvar = np.sum(dnormalised * cache.deviations, axis=axes) * -0.5 * cache.root**-3.0
        dmean = (
            np.sum(dnormalised, axis=axes) * (-1.0 / cache.root)
            + dvar * np.sum(-2.0 * cache.deviations, axis=axes) / m
        )
        dx = (
            dnormalised / along(cache.root, rank)
            + along(dvar, rank) * 2.0 * cache.deviations / m
            + along(dmean, rank) / m
        )
        dgamma = np.sum(dy * cache.normalised, axis=axes)
        dbeta = np.sum(dy, axis=axes)
    return BatchGradient(dnormalised, dvar, dmean, dx, dgamma, dbeta)


def batch_norm_backward(dy: Array, cache: BatchCache) -> tuple[Float64s, Float64s, Float64s]:
    """The derivatives with respect to what a network trains: ``dx, dgamma, dbeta``.

    Args:
        dy: the derivative of the loss with respect to y, of its shape; any real dtype.
        cache: as `batch_norm_train` gave it.

    Returns:
        dx of the shape of x; dgamma and dbeta ``(C,)``, or ``x.shape[1:]`` per activation.

    Raises:
        ModelError: dy has another shape than y.

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), section 3.
    """
    gradient = batch_norm_gradient(dy, cache)
    return gradient.dx, gradient.dgamma, gradient.dbeta

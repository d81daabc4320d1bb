"""Formulas of scale and shift that are wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.support_models import Array
from tests.support_mutants_fold import Norm, Params, Site

Rng = np.random.Generator
Change = Callable[[Site, Rng], Params | None]
"""A layer's parameters made wrong, or None where the mistake cannot be made."""

ScaleShift = tuple[Array, Array]


def _with_scale(norm: Norm, scale: Array) -> ScaleShift:
    return scale, norm.beta - scale * norm.mean


def epsilon_left_out(norm: Norm) -> ScaleShift:
    return norm._replace(eps=0.0).affine()


def epsilon_of_keras(norm: Norm) -> ScaleShift:
    return norm._replace(eps=1e-3).affine()


def epsilon_after_root(norm: Norm) -> ScaleShift:
    return _with_scale(norm, norm.gamma / (np.sqrt(norm.var) + norm.eps))


def epsilon_twice(norm: Norm) -> ScaleShift:
    return norm._replace(eps=2 * norm.eps).affine()


def unbiased_variance(norm: Norm) -> ScaleShift:
    return norm._replace(var=norm.var * 64 / 63).affine()


def no_root(norm: Norm) -> ScaleShift:
    return _with_scale(norm, norm.gamma / (norm.var + norm.eps))


def square_for_root(norm: Norm) -> ScaleShift:
    return _with_scale(norm, norm.gamma / (norm.var + norm.eps) ** 2)


def variance_taken_as_deviation(norm: Norm) -> ScaleShift:
    return norm._replace(var=norm.var**2).affine()


def deviation_multiplied(norm: Norm) -> ScaleShift:
    return _with_scale(norm, norm.gamma * np.sqrt(norm.var + norm.eps))


def fast_inverse_root(norm: Norm) -> ScaleShift:
    """The one of Quake III: a guess from the bits and one step of Newton's method."""
    size = (norm.var + norm.eps).astype(np.float32)
    guess = (np.int32(0x5F3759DF) - (size.view(np.int32) >> 1)).view(np.float32).astype(np.float64)
    return _with_scale(norm, norm.gamma * guess * (1.5 - 0.5 * size * guess**2))


def variance_clamped(norm: Norm) -> ScaleShift:
    return norm._replace(var=np.maximum(norm.var, 1e-4)).affine()


def statistics_in_four_decimals(norm: Norm) -> ScaleShift:
    return norm._replace(mean=norm.mean.round(4), var=norm.var.round(4)).affine()


def mean_forgotten(norm: Norm) -> ScaleShift:
    return norm.affine()[0], norm.beta


def mean_sign(norm: Norm) -> ScaleShift:
    return norm._replace(mean=-norm.mean).affine()


def mean_not_scaled(norm: Norm) -> ScaleShift:
    return norm.affine()[0], norm.beta - norm.mean


def mean_scaled_by_next_channel(norm: Norm) -> ScaleShift:
    scale, _ = norm.affine()
    return scale, norm.beta - np.roll(scale, 1) * norm.mean


def beta_forgotten(norm: Norm) -> ScaleShift:
    return norm._replace(beta=np.zeros_like(norm.beta)).affine()


def beta_sign(norm: Norm) -> ScaleShift:
    return norm._replace(beta=-norm.beta).affine()


def gamma_forgotten(norm: Norm) -> ScaleShift:
    return norm._replace(gamma=np.ones_like(norm.gamma)).affine()


def gamma_sign_lost(norm: Norm) -> ScaleShift:
    return norm._replace(gamma=np.abs(norm.gamma)).affine()


def gamma_plus_one(norm: Norm) -> ScaleShift:
    return norm._replace(gamma=norm.gamma + 1).affine()


def gamma_and_beta_swapped(norm: Norm) -> ScaleShift:
    return norm._replace(gamma=norm.beta, beta=norm.gamma).affine()


def mean_and_variance_swapped(norm: Norm) -> ScaleShift:
    return norm._replace(mean=norm.var, var=np.abs(norm.mean)).affine()


def scale_rolled(norm: Norm) -> ScaleShift:
    return _with_scale(norm, np.roll(norm.affine()[0], 1))


def scale_of_first_channel(norm: Norm) -> ScaleShift:
    return _with_scale(norm, np.full_like(norm.gamma, norm.affine()[0][0]))


NORM_FORMULAS: tuple[Callable[[Norm], ScaleShift], ...] = (
    epsilon_left_out,
    epsilon_of_keras,
    epsilon_after_root,
    epsilon_twice,
    unbiased_variance,
    no_root,
    square_for_root,
    variance_taken_as_deviation,
    deviation_multiplied,
    fast_inverse_root,
    variance_clamped,
    statistics_in_four_decimals,
    mean_forgotten,
    mean_sign,
    mean_not_scaled,
    mean_scaled_by_next_channel,
    beta_forgotten,
    beta_sign,
    gamma_forgotten,
    gamma_sign_lost,
    gamma_plus_one,
    gamma_and_beta_swapped,
    mean_and_variance_swapped,
    scale_rolled,
    scale_of_first_channel,
)

"""Folds that put a right affine map into a layer in a wrong way, or too coarsely."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from tests.support_models import Array
from tests.support_mutants_fold import Norm, Params, Site, applied, exact
from tests.support_mutants_formulas import Change, Rng


def norm_of_next_layer(site: Site, rng: Rng) -> Params | None:
    norm = site.norms[(site.number + 1) % len(site.norms)]
    return applied(site, *norm.affine()) if norm.gamma.shape == site.norm.gamma.shape else None


def bias_forgotten(site: Site, rng: Rng) -> Params | None:
    return Params(exact(site).weight, site.norm.affine()[1])


def bias_not_scaled(site: Site, rng: Rng) -> Params | None:
    return Params(exact(site).weight, site.params.bias + site.norm.affine()[1])


def bias_scaled_twice(site: Site, rng: Rng) -> Params | None:
    scale, shift = site.norm.affine()
    return Params(exact(site).weight, site.params.bias * scale**2 + shift)


def shift_scaled(site: Site, rng: Rng) -> Params | None:
    scale, shift = site.norm.affine()
    return Params(exact(site).weight, (site.params.bias + shift) * scale)


def shift_forgotten(site: Site, rng: Rng) -> Params | None:
    return Params(exact(site).weight, site.params.bias * _scale(site))


def weight_not_scaled(site: Site, rng: Rng) -> Params | None:
    return Params(site.params.weight, exact(site).bias)


def weight_scaled_twice(site: Site, rng: Rng) -> Params | None:
    once = exact(site)
    scale, shift = site.norm.affine()
    return Params(applied(site, scale**2, shift).weight, once.bias)


def norm_dropped(site: Site, rng: Rng) -> Params | None:
    return site.params


def scale_on_axis_1(site: Site, rng: Rng) -> Params | None:
    """Along the inputs of a group, as if they were the outputs."""
    weight = site.params.weight
    if weight.shape[1] > len(_scale(site)) or site.op == "ConvTranspose":
        return None
    scale = _scale(site)[: weight.shape[1]].reshape(1, -1, *[1] * (weight.ndim - 2))
    return Params(weight * scale, exact(site).bias)


def transposed_on_axis_0(site: Site, rng: Rng) -> Params | None:
    """ConvTranspose's weight scaled as if it were a Conv's."""
    if site.op != "ConvTranspose":
        return None
    weight = site.transposed(site.params.weight)
    scale = np.resize(_scale(site), len(weight)).reshape(-1, *[1] * (weight.ndim - 1))
    return Params(site.transposed(weight * scale), exact(site).bias)


def transposed_as_one_group(site: Site, rng: Rng) -> Params | None:
    if site.op != "ConvTranspose" or site.group == 1:
        return None
    weight = site.transposed(site.params.weight)
    scale = _scale(site)[: weight.shape[1]].reshape(1, -1, *[1] * (weight.ndim - 2))
    return Params(site.transposed(weight * scale), exact(site).bias)


def groups_interleaved(site: Site, rng: Rng) -> Params | None:
    """Scale and shift of channel ``group * i + j`` where ``i + (M/group) * j`` is meant."""
    if site.group in (1, len(site.params.weight)):
        return None
    order = np.arange(len(site.params.weight)).reshape(site.group, -1).T.reshape(-1)
    scale, shift = site.norm.affine()
    return applied(site, scale[order], shift[order])


def alpha_twice(site: Site, rng: Rng) -> Params | None:
    return _factors(site, site.gemm_alpha, 1.0)


def alpha_ignored(site: Site, rng: Rng) -> Params | None:
    return _factors(site, 1 / site.gemm_alpha, 1.0)


def beta_twice(site: Site, rng: Rng) -> Params | None:
    return _factors(site, 1.0, site.gemm_beta)


def beta_ignored(site: Site, rng: Rng) -> Params | None:
    if site.gemm_beta == 1:
        return None
    scale, shift = site.norm.affine()
    return Params(exact(site).weight, site.params.bias / site.gemm_beta * scale + shift)


def computed_in_float16(site: Site, rng: Rng) -> Params | None:
    return _computed_in(site, np.dtype(np.float16))


def computed_in_bfloat16(site: Site, rng: Rng) -> Params | None:
    return _computed_in(site, np.dtype(ml_dtypes.bfloat16))


def weight_rounded_to_float16(site: Site, rng: Rng) -> Params | None:
    weight, bias = exact(site)
    return Params(_rounded(weight, np.float16), bias)


def weight_rounded_to_bfloat16(site: Site, rng: Rng) -> Params | None:
    weight, bias = exact(site)
    return Params(_rounded(weight, ml_dtypes.bfloat16), bias)


def bias_rounded_to_float16(site: Site, rng: Rng) -> Params | None:
    weight, bias = exact(site)
    return Params(weight, _rounded(bias, np.float16))


def weight_cut_to_12_bits(site: Site, rng: Rng) -> Params | None:
    fraction, exponent = np.frexp(exact(site).weight)
    return Params(np.ldexp(np.trunc(fraction * 2**12) / 2**12, exponent), exact(site).bias)


def weight_in_8_bits(site: Site, rng: Rng) -> Params | None:
    weight, bias = exact(site)
    step = max(float(np.abs(weight).max()), 1e-30) / 127
    return Params((weight / step).round() * step, bias)


def weight_in_four_decimals(site: Site, rng: Rng) -> Params | None:
    return Params(exact(site).weight.round(4), exact(site).bias)


def _scale(site: Site) -> Array:
    return site.norm.affine()[0]


def _factors(site: Site, weight: float, bias: float) -> Params | None:
    if weight == bias == 1:
        return None
    right = exact(site)
    return Params(right.weight * weight, right.bias * bias)


def _rounded(values: Array, dtype: Any) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(values.astype(dtype).astype(np.float64))


def _computed_in(site: Site, dtype: np.dtype[Any]) -> Params:
    """Every step of the fold rounded to ``dtype``."""

    def low(values: Array | float) -> Array:
        return _rounded(np.asarray(values, dtype=np.float64), dtype)

    gamma, beta, mean, var = (low(p) for p in site.norm[:4])
    norm = Norm(gamma, beta, mean, var, float(low(site.norm.eps)))
    root = low(np.sqrt(low(norm.var + norm.eps)))
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = low(norm.gamma / root)
        shift = low(norm.beta - low(scale * norm.mean))
        weight, bias = applied(site, scale, shift)
    return Params(low(weight), low(bias))


LAYER_FORMULAS: tuple[Change, ...] = (
    norm_of_next_layer,
    bias_forgotten,
    bias_not_scaled,
    bias_scaled_twice,
    shift_scaled,
    shift_forgotten,
    weight_not_scaled,
    weight_scaled_twice,
    norm_dropped,
    scale_on_axis_1,
    transposed_on_axis_0,
    transposed_as_one_group,
    groups_interleaved,
    alpha_twice,
    alpha_ignored,
    beta_twice,
    beta_ignored,
    computed_in_float16,
    computed_in_bfloat16,
    weight_rounded_to_float16,
    weight_rounded_to_bfloat16,
    bias_rounded_to_float16,
    weight_cut_to_12_bits,
    weight_in_8_bits,
    weight_in_four_decimals,
)

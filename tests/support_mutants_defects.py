"""Right folds with one defect in one layer."""

from __future__ import annotations

import numpy as np

from tests.support_models import Array
from tests.support_mutants_fold import Params, Site, applied, exact
from tests.support_mutants_formulas import Rng


def weights_of_two_channels_swapped(site: Site, rng: Rng) -> Params | None:
    weight, bias = exact(site)
    return Params(weight[_swap(len(bias), rng)], bias)


def biases_of_two_channels_swapped(site: Site, rng: Rng) -> Params | None:
    weight, bias = exact(site)
    return Params(weight, bias[_swap(len(bias), rng)])


def scales_of_two_channels_swapped(site: Site, rng: Rng) -> Params | None:
    scale, shift = site.norm.affine()
    return applied(site, scale[_swap(len(scale), rng)], shift)


def two_channels_swapped(site: Site, rng: Rng) -> Params | None:
    order = _swap(len(site.params.bias), rng)
    return Params(*(values[order] for values in exact(site)))


def input_channels_swapped(site: Site, rng: Rng) -> Params | None:
    weight, bias = exact(site)
    columns = weight.shape[1]
    return Params(weight[:, _swap(columns, rng)], bias) if columns > 1 else None


def channel_off_by_a_thousandth(site: Site, rng: Rng) -> Params | None:
    factors = np.ones(len(site.params.bias))
    factors[rng.integers(len(factors))] = 1.001
    weight, bias = exact(site)
    return Params(weight * factors.reshape(-1, *[1] * (weight.ndim - 1)), bias * factors)


def weight_off_by_a_hundredth(site: Site, rng: Rng) -> Params | None:
    return _one_weight(site, rng, 1.01)


def weight_sign(site: Site, rng: Rng) -> Params | None:
    return _one_weight(site, rng, -1.0)


def weight_missing(site: Site, rng: Rng) -> Params | None:
    return _one_weight(site, rng, 0.0)


def bias_off_by_1e_4(site: Site, rng: Rng) -> Params | None:
    return _one_bias(site, rng, 1e-4)


def bias_off_by_1e_3(site: Site, rng: Rng) -> Params | None:
    return _one_bias(site, rng, 1e-3)


def bias_infinite(site: Site, rng: Rng) -> Params | None:
    return _one_bias(site, rng, np.inf)


def weight_nan(site: Site, rng: Rng) -> Params | None:
    return _one_weight(site, rng, np.nan)


def weight_of_dead_channel_nan(site: Site, rng: Rng) -> Params | None:
    weight, bias = exact(site)
    dead = np.flatnonzero(np.abs(weight).reshape(len(weight), -1).max(1) == 0)
    if not dead.size:
        return None
    damaged = weight.copy()
    damaged[rng.choice(dead)].reshape(-1)[0] = np.nan
    return Params(damaged, bias)


def filter_zeroed(site: Site, rng: Rng) -> Params | None:
    weight, bias = exact(site)
    damaged = weight.copy()
    damaged[rng.integers(len(weight))] = 0
    return Params(damaged, bias)


def tap_zeroed(site: Site, rng: Rng) -> Params | None:
    if not _is_spatial(site):
        return None
    weight, bias = exact(site)
    damaged = weight.copy()
    damaged[:, :, rng.integers(weight.shape[2]), rng.integers(weight.shape[3])] = 0
    return Params(damaged, bias)


def kernel_flipped(site: Site, rng: Rng) -> Params | None:
    weight, bias = exact(site)
    return Params(weight[:, :, ::-1, ::-1], bias) if _is_spatial(site) else None


def kernel_transposed(site: Site, rng: Rng) -> Params | None:
    weight, bias = exact(site)
    return Params(weight.swapaxes(2, 3), bias) if _is_spatial(site) else None


def kernel_read_channels_last(site: Site, rng: Rng) -> Params | None:
    """The same bytes, read as ``(M, *kernel, C)``."""
    weight, bias = exact(site)
    if not _is_spatial(site) or weight.shape[1] == 1:
        return None
    rows, columns, *kernel = weight.shape
    return Params(np.moveaxis(weight.reshape(rows, *kernel, columns), 3, 1), bias)


def matrix_transposed(site: Site, rng: Rng) -> Params | None:
    weight, bias = exact(site)
    if weight.shape[0] != weight.shape[1] or site.op == "ConvTranspose":
        return None
    return Params(weight.swapaxes(0, 1), bias)


def _is_spatial(site: Site) -> bool:
    return site.params.weight.ndim == 4 and site.params.weight.shape[2] > 1


def _swap(size: int, rng: Rng) -> Array:
    order = np.arange(size)
    first, second = rng.choice(size, 2, replace=False)
    order[[first, second]] = second, first
    return order


def _one_weight(site: Site, rng: Rng, factor: float) -> Params | None:
    weight, bias = exact(site)
    alive = np.flatnonzero(weight)
    if not alive.size:
        return None
    damaged = weight.copy()
    damaged.reshape(-1)[rng.choice(alive)] *= factor
    return Params(damaged, bias)


def _one_bias(site: Site, rng: Rng, more: float) -> Params | None:
    weight, bias = exact(site)
    damaged = bias.copy()
    damaged[rng.integers(len(bias))] += more
    return Params(weight, damaged)


DEFECTS = (
    weights_of_two_channels_swapped,
    biases_of_two_channels_swapped,
    scales_of_two_channels_swapped,
    two_channels_swapped,
    input_channels_swapped,
    channel_off_by_a_thousandth,
    weight_off_by_a_hundredth,
    weight_sign,
    weight_missing,
    bias_off_by_1e_4,
    bias_off_by_1e_3,
    bias_infinite,
    weight_nan,
    weight_of_dead_channel_nan,
    filter_zeroed,
    tap_zeroed,
    kernel_flipped,
    kernel_transposed,
    kernel_read_channels_last,
    matrix_transposed,
)

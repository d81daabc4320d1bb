"""The gradient of Algorithm 1: by hand, by differences, by a second derivation; properties."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnfold.errors import ModelError
from bnfold.reference import (
    batch_norm_backward,
    batch_norm_gradient,
    batch_norm_train,
    identity_setting,
)

Array = npt.NDArray[Any]
seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(st.integers(2, 5), st.integers(1, 4)).flatmap(
    lambda nc: st.lists(st.integers(1, 3), max_size=3).map(lambda spatial: (*nc, *spatial))
)
SHAPES = [(5, 3), (4, 3, 2), (3, 2, 3, 2), (2, 2, 2, 1, 3)]
by_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
by_distribution = pytest.mark.parametrize("per_activation", [False, True])


@dataclass(frozen=True)
class Drawn:
    """A batch, its parameters, and the weights of a loss ``sum(dy y)``, so dy is its gradient."""

    x: Array
    gamma: Array
    beta: Array
    dy: Array
    axes: tuple[int, ...]


def drawn(shape: tuple[int, ...], seed: int = 0, per_activation: bool = False) -> Drawn:
    draw = np.random.default_rng(seed)
    size = shape[1:] if per_activation else shape[1:2]
    axes = (0,) if per_activation else (0, *range(2, len(shape)))
    # No two values alike, so that no variance is near zero: there a difference says nothing.
    x = draw.permutation(np.prod(shape)).reshape(shape) + 0.3 * draw.standard_normal(shape)
    x = x / x.std() + 2.0
    gamma, beta = draw.standard_normal(size), draw.standard_normal(size)
    return Drawn(x, gamma, beta, draw.standard_normal(shape), axes)


def central_differences(loss: Callable[[Array], float], at: Array, step: float = 1e-5) -> Array:
    """Of a function of one array, by the fourth-order formula: the step itself errs little."""
    slope = np.zeros(at.shape)
    for place in np.ndindex(at.shape):
        moved = np.zeros(at.shape)
        moved[place] = step
        near = loss(at + moved) - loss(at - moved)
        far = loss(at + 2 * moved) - loss(at - 2 * moved)
        slope[place] = (8 * near - far) / (12 * step)
    return slope


def agree(found: Array, wanted: Array) -> None:
    np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-7)


def test_the_six_formulas_by_hand() -> None:
    """x = -1, 1 with eps 3: mean 0, variance 1, root 2, x_hat = -1/2, 1/2; gamma 4, dy = 1, 3."""
    x, dy = np.array([[-1.0], [1.0]]), np.array([[1.0], [3.0]])
    cache = batch_norm_train(x, np.array([4.0]), np.array([7.0]), 3.0).cache
    found = batch_norm_gradient(dy, cache)
    assert found.dbeta.tolist() == [4.0]
    assert found.dgamma.tolist() == [1.0]
    assert found.dnormalised.tolist() == [[4.0], [12.0]]
    # (4 (-1) + 12 (1)) (-1/2) / 8
    assert found.dvar.tolist() == [-0.5]
    # -(4 + 12) / 2, and the deviations sum to zero
    assert found.dmean.tolist() == [-8.0]
    # 4/2 - 0.5 * 2 (-1) / 2 - 8/2, and 12/2 - 0.5 * 2 (1) / 2 - 8/2
    assert found.dx.tolist() == [[-1.5], [1.5]]


@by_distribution
@by_shape
def test_central_differences_of_what_a_network_trains(
    shape: tuple[int, ...], per_activation: bool
) -> None:
    d = drawn(shape, 1, per_activation)

    def loss(x: Array, gamma: Array, beta: Array) -> float:
        done = batch_norm_train(x, gamma, beta, 1e-3, per_activation=per_activation)
        return math.fsum((done.y * d.dy).ravel())

    cache = batch_norm_train(d.x, d.gamma, d.beta, 1e-3, per_activation=per_activation).cache
    dx, dgamma, dbeta = batch_norm_backward(d.dy, cache)
    if shape[0] > 2 or not per_activation:  # of two values x_hat is -1 and 1: dx is all eps
        assert np.abs(dx).max() > 1e-2
    agree(dx, central_differences(lambda v: loss(v, d.gamma, d.beta), d.x))
    agree(dgamma, central_differences(lambda v: loss(d.x, v, d.beta), d.gamma))
    agree(dbeta, central_differences(lambda v: loss(d.x, d.gamma, v), d.beta))


@by_distribution
@by_shape
def test_central_differences_of_the_intermediates(
    shape: tuple[int, ...], per_activation: bool
) -> None:
    """Each one cut out of the chain: what comes before it is held where it is."""
    d, eps = drawn(shape, 2, per_activation), 1e-3
    mean = d.x.mean(axis=d.axes, keepdims=True)
    var = np.square(d.x - mean).mean(axis=d.axes, keepdims=True)
    gamma, beta = d.gamma.reshape(mean.shape), d.beta.reshape(mean.shape)

    def from_x_hat(x_hat: Array) -> float:
        return math.fsum((d.dy * (gamma * x_hat + beta)).ravel())

    def from_var(var: Array, mean: Array = mean) -> float:
        return from_x_hat((d.x - mean) / np.sqrt(var + eps))

    def from_mean(mean: Array) -> float:
        return from_var(np.square(d.x - mean).mean(axis=d.axes, keepdims=True), mean)

    cache = batch_norm_train(d.x, d.gamma, d.beta, eps, per_activation=per_activation).cache
    found = batch_norm_gradient(d.dy, cache)
    agree(found.dnormalised, central_differences(from_x_hat, (d.x - mean) / np.sqrt(var + eps)))
    agree(found.dvar.reshape(mean.shape), central_differences(from_var, var))
    agree(found.dmean.reshape(mean.shape), central_differences(from_mean, mean))


@settings(max_examples=60, deadline=None)
@given(shape=shapes, seed=seeds, per_activation=st.booleans())
def test_a_second_derivation_gives_the_same(
    shape: tuple[int, ...], seed: int, per_activation: bool
) -> None:
    """``gamma / root (dy - E dy - x_hat E[dy x_hat])``: dy less its mean and part along x_hat."""
    d = drawn(shape, seed, per_activation)
    cache = batch_norm_train(d.x, d.gamma, d.beta, 1e-3, per_activation=per_activation).cache
    dx, _, _ = batch_norm_backward(d.dy, cache)
    root = np.sqrt(d.x.var(axis=d.axes, keepdims=True) + 1e-3)
    x_hat = (d.x - d.x.mean(axis=d.axes, keepdims=True)) / root
    along_x_hat = x_hat * (d.dy * x_hat).mean(axis=d.axes, keepdims=True)
    rest = d.dy - d.dy.mean(axis=d.axes, keepdims=True) - along_x_hat
    np.testing.assert_allclose(dx, d.gamma.reshape(root.shape) / root * rest, atol=1e-10)


@settings(max_examples=60, deadline=None)
@given(
    shape=shapes,
    seed=seeds,
    scale=st.sampled_from([1e-2, 1.0, 1e3, -1e6]),
    shift=st.sampled_from([0.0, -7.0, 1e4]),
)
def test_the_output_has_mean_beta_and_variance_gamma_squared(
    shape: tuple[int, ...], seed: int, scale: float, shift: float
) -> None:
    """Whatever the mean and the variance of the input, which is far above eps here."""
    if math.prod(shape) == shape[0] * shape[1] == 2:
        shape = (3, *shape[1:])
    d = drawn(shape, seed)
    y, _ = batch_norm_train(d.x * scale + shift, d.gamma, d.beta, 1e-18)
    np.testing.assert_allclose(y.mean(axis=d.axes), d.beta, atol=1e-8)
    np.testing.assert_allclose(y.var(axis=d.axes), np.square(d.gamma), atol=1e-8)


@settings(max_examples=40, deadline=None)
@given(shape=shapes, seed=seeds)
def test_a_bias_before_it_has_no_effect_and_no_gradient(shape: tuple[int, ...], seed: int) -> None:
    d = drawn(shape, seed)
    bias = np.random.default_rng(seed).standard_normal(shape[1]) * 10
    column = bias.reshape(-1, *[1] * (len(shape) - 2))
    with_bias = batch_norm_train(d.x + column, d.gamma, d.beta, 1e-3)
    without = batch_norm_train(d.x, d.gamma, d.beta, 1e-3)
    np.testing.assert_allclose(with_bias.y, without.y, atol=1e-10)
    dx, _, _ = batch_norm_backward(d.dy, with_bias.cache)
    np.testing.assert_allclose(dx.sum(axis=d.axes), 0.0, atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, a=st.floats(0.01, 100.0))
def test_the_scale_of_the_weights_has_no_effect(seed: int, a: float) -> None:
    """BN((aW)x) = BN(Wx): the same gradient for x, and 1/a of it for the weights."""
    draw = np.random.default_rng(seed)
    x, weight = draw.standard_normal((8, 5)), draw.standard_normal((3, 5))
    gamma, beta, dy = draw.standard_normal(3), draw.standard_normal(3), draw.standard_normal((8, 3))
    outputs, of_x, of_weight = [], [], []
    for scaled in (weight, a * weight):
        y, cache = batch_norm_train(x @ scaled.T, gamma, beta, 0.0)
        dx, _, _ = batch_norm_backward(dy, cache)
        outputs.append(y)
        of_x.append(dx @ scaled)
        of_weight.append(dx.T @ x)
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(of_x[1], of_x[0], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(of_weight[1] * a, of_weight[0], rtol=1e-8, atol=1e-8)


@settings(max_examples=40, deadline=None)
@given(shape=shapes, seed=seeds, data=st.data())
def test_channels_do_not_mix(shape: tuple[int, ...], seed: int, data: st.DataObject) -> None:
    """Each channel's output and gradient are those that it has alone, in any order of the rows."""
    d = drawn(shape, seed)
    y, cache = batch_norm_train(d.x, d.gamma, d.beta, 1e-3)
    dx, dgamma, dbeta = batch_norm_backward(d.dy, cache)
    c = data.draw(st.integers(0, shape[1] - 1))
    one = slice(c, c + 1)
    order = np.random.default_rng(seed).permutation(shape[0])
    alone = batch_norm_train(d.x[order][:, one], d.gamma[one], d.beta[one], 1e-3)
    gradient = batch_norm_backward(d.dy[order][:, one], alone.cache)
    np.testing.assert_allclose(alone.y, y[order][:, one], atol=1e-12)
    np.testing.assert_allclose(gradient[0], dx[order][:, one], atol=1e-11)
    np.testing.assert_allclose(gradient[1], dgamma[one], atol=1e-11)
    np.testing.assert_allclose(gradient[2], dbeta[one], atol=1e-11)


@by_distribution
@by_shape
def test_the_variants_are_gamma_one_and_beta_zero(
    shape: tuple[int, ...], per_activation: bool
) -> None:
    d = drawn(shape, 3, per_activation)
    ones, zeros = np.ones(d.gamma.shape), np.zeros(d.gamma.shape)
    for given_pair, meant in [
        ((None, d.beta), (ones, d.beta)),
        ((d.gamma, None), (d.gamma, zeros)),
        ((None, None), (ones, zeros)),
    ]:
        y, cache = batch_norm_train(d.x, *given_pair, 1e-3, per_activation=per_activation)
        wanted = batch_norm_train(d.x, *meant, 1e-3, per_activation=per_activation)
        np.testing.assert_array_equal(y, wanted.y)
        for one, other in zip(
            batch_norm_backward(d.dy, cache), batch_norm_backward(d.dy, wanted.cache), strict=True
        ):
            np.testing.assert_array_equal(one, other)


@by_distribution
@by_shape
def test_the_identity_setting_gives_the_batch_back(
    shape: tuple[int, ...], per_activation: bool
) -> None:
    d = drawn(shape, 4, per_activation)
    for eps in (0.0, 1e-3, 2.0):
        gamma, beta = identity_setting(d.x, eps, per_activation=per_activation)
        np.testing.assert_allclose(beta, d.x.mean(axis=d.axes), rtol=1e-12)
        np.testing.assert_allclose(np.square(gamma), d.x.var(axis=d.axes) + eps, rtol=1e-12)
        y, _ = batch_norm_train(d.x, gamma, beta, eps, per_activation=per_activation)
        np.testing.assert_allclose(y, d.x, rtol=1e-12, atol=1e-12)


def test_the_cache_counts_places() -> None:
    x = np.arange(24.0).reshape(2, 3, 4)
    _, by_channel = batch_norm_train(x, None, None, 1e-3)
    _, by_activation = batch_norm_train(x, None, None, 1e-3, per_activation=True)
    assert (by_channel.count, by_channel.axes) == (8, (0, 2))
    assert (by_activation.count, by_activation.axes) == (2, (0,))


def test_a_dy_of_another_shape_is_named() -> None:
    _, cache = batch_norm_train(np.arange(6.0).reshape(2, 3), None, None, 1e-3)
    for backward in (batch_norm_backward, batch_norm_gradient):
        with pytest.raises(ModelError, match=r"dy has shape \(3, 2\), and y has \(2, 3\)"):
            backward(np.ones((3, 2)), cache)

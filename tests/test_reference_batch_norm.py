"""Algorithms 1 and 2 of Ioffe & Szegedy 2015: numbers derived by hand, and what must hold."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bnfold.reference
from bnfold.errors import ModelError
from bnfold.reference import batch_norm_inference, batch_norm_train

Array = npt.NDArray[Any]
SOURCES = Path(bnfold.reference.__file__).parent


def test_algorithm_1_by_hand() -> None:
    """Channel 0 is 1, 3 (mean 2, variance 1); channel 1 is 0, 4 (mean 2, variance 4)."""
    x = np.array([[1.0, 0.0], [3.0, 4.0]])
    found = batch_norm_train(x, np.array([2.0, 1.0]), np.array([10.0, 0.0]), eps=0.0)
    assert found.mean.tolist() == [2.0, 2.0]
    assert found.var.tolist() == [1.0, 4.0]
    assert found.y.tolist() == [[8.0, -1.0], [12.0, 1.0]]


def test_algorithm_1_adds_eps_to_the_variance() -> None:
    """Variance 1 and eps 3: the divisor is 2, not 1 + sqrt(3)."""
    x = np.array([[1.0], [3.0]])
    found = batch_norm_train(x, np.array([1.0]), np.array([0.0]), eps=3.0)
    assert found.y.tolist() == [[-0.5], [0.5]]
    assert found.var.tolist() == [1.0]


def test_feature_maps_count_all_their_places() -> None:
    """m' = m p q: the channel of two images with two places each is 0, 2, 4, 6."""
    x = np.array([[[0.0, 2.0]], [[4.0, 6.0]]])
    found = batch_norm_train(x, np.array([1.0]), np.array([0.0]), eps=0.0)
    assert found.mean.tolist() == [3.0]
    assert found.var.tolist() == [5.0]
    assert found.y.ravel().tolist() == [v / math.sqrt(5) for v in (-3.0, -1.0, 1.0, 3.0)]


def test_each_activation_by_itself() -> None:
    """The places of the same batch apart: 0, 4 and 2, 6."""
    x = np.array([[[0.0, 2.0]], [[4.0, 6.0]]])
    ones, zeros = np.ones((1, 2)), np.zeros((1, 2))
    found = batch_norm_train(x, ones, zeros, eps=0.0, per_activation=True)
    assert found.mean.tolist() == [[2.0, 4.0]]
    assert found.var.tolist() == [[4.0, 4.0]]
    assert found.y.tolist() == [[[-1.0, -1.0]], [[1.0, 1.0]]]


def test_algorithm_2_by_hand() -> None:
    """(7 - 1) / sqrt(8 + 1) = 2, times 5, plus 3."""
    one = [np.array([v]) for v in (5.0, 3.0, 1.0, 8.0)]
    y = batch_norm_inference(np.array([[[7.0]]]), *one, eps=1.0)
    assert y.tolist() == [[[13.0]]]


def test_algorithm_2_for_each_activation() -> None:
    x = np.array([[[7.0, 1.0]]])
    parameters = [np.array([v]) for v in ([5.0, 1.0], [3.0, 0.0], [1.0, 0.0], [8.0, 3.0])]
    y = batch_norm_inference(x, *parameters, eps=1.0)
    assert y.tolist() == [[[13.0, 0.5]]]


shapes = st.tuples(st.integers(2, 5), st.integers(1, 4)).flatmap(
    lambda nc: st.lists(st.integers(1, 4), max_size=3).map(lambda spatial: (*nc, *spatial))
)


@settings(max_examples=60, deadline=None)
@given(shape=shapes, seed=st.integers(0, 2**32 - 1), eps=st.sampled_from([1e-5, 1e-3, 1.0]))
def test_training_gives_beta_and_gamma(shape: tuple[int, ...], seed: int, eps: float) -> None:
    """The mean of y is beta, its variance gamma^2 var / (var + eps)."""
    draw = np.random.default_rng(seed)
    x = draw.standard_normal(shape) * 3 + 5
    gamma, beta = draw.standard_normal(shape[1]), draw.standard_normal(shape[1])
    found = batch_norm_train(x, gamma, beta, eps=eps)
    axes = (0, *range(2, len(shape)))
    np.testing.assert_allclose(found.y.mean(axis=axes), beta, atol=1e-12)
    expected = np.square(gamma) * found.var / (found.var + eps)
    np.testing.assert_allclose(found.y.var(axis=axes), expected, rtol=1e-10, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(shape=shapes, seed=st.integers(0, 2**32 - 1))
def test_both_algorithms_agree_on_the_same_statistics(shape: tuple[int, ...], seed: int) -> None:
    draw = np.random.default_rng(seed)
    x = draw.standard_normal(shape)
    gamma, beta = draw.standard_normal(shape[1]), draw.standard_normal(shape[1])
    found = batch_norm_train(x, gamma, beta, eps=1e-5)
    again = batch_norm_inference(x, gamma, beta, found.mean, found.var, eps=1e-5)
    np.testing.assert_array_equal(found.y, again)


def test_a_bad_variance_names_channel_and_number() -> None:
    x, one = np.zeros((1, 3, 2)), np.ones(3)
    var = np.array([1.0, 1.0, -1.0])
    with pytest.raises(ModelError, match=r"channel 2 has var \+ epsilon = -0.5"):
        batch_norm_inference(x, one, one, one, var, eps=0.5)
    with pytest.raises(ModelError, match=r"channel 0 has var \+ epsilon = nan"):
        batch_norm_inference(x, one, one, one, np.full(3, np.nan), eps=0.5)
    with pytest.raises(ModelError, match=r"channel 0 has var \+ epsilon = 0"):
        batch_norm_train(x, one, one, eps=0.0)


def test_a_bad_shape_is_named() -> None:
    one = np.ones(3)
    with pytest.raises(ModelError, match=r"mean has shape \(2,\), and x asks for \(3,\)"):
        batch_norm_inference(np.zeros((1, 3)), one, one, np.ones(2), one, eps=1.0)
    with pytest.raises(ModelError, match=r"gamma has shape \(3,\), and x asks for \(3, 2\)"):
        batch_norm_train(np.zeros((1, 3, 2)), one, one, eps=1.0, per_activation=True)
    with pytest.raises(ModelError, match="no axis of channels"):
        batch_norm_train(np.zeros(3), one, one, eps=1.0)
    with pytest.raises(ModelError, match="no values"):
        batch_norm_train(np.zeros((0, 3)), one, one, eps=1.0)


def test_the_oracle_shares_no_code_with_the_fold() -> None:
    program = (
        "import sys, bnfold.reference\n"
        "print([n for n in sys.modules if n.startswith(('bnfold.folding', 'bnfold.algebra'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_sources_import_only_the_errors() -> None:
    for path in SOURCES.glob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if words[:1] in (["from"], ["import"]) and words[1].startswith("bnfold"):
                assert words[1] == "bnfold.errors" or words[1].startswith("bnfold.reference"), line

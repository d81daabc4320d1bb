"""The data of the probes: dense, sparse, positive, and the same each time."""

from __future__ import annotations

import numpy as np
import pytest

from bnfold.checking import probes
from bnfold.checking.probes import SAMPLES, samples

MASK = (1 << 64) - 1


def splitmix64(state: int) -> int:
    """One number of the generator, in Python's own integers."""
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB & MASK
    return state ^ (state >> 31)


def test_the_bits_are_splitmix64(monkeypatch: pytest.MonkeyPatch) -> None:
    gamma = 0x9E3779B97F4A7C15
    assert splitmix64(gamma) == 0xE220A8397B1DCDAF  # its first number for the seed 0
    for seed in (1, 20150211):
        monkeypatch.setattr(probes, "_SEED", seed)
        expected = [splitmix64((seed + at) * gamma & MASK) for at in range(50)]
        assert probes._drawn(50).tolist() == expected


def test_samples_are_dense_and_sparse() -> None:
    dense, sparse = samples((4000, 25))
    kept = sparse != 0
    assert 0.5 <= dense.min() < 0.501
    assert 1.499 < dense.max() < 1.5
    assert sparse[kept].min() >= 0.5
    assert sparse.max() < 1.5
    # Five standard deviations of what 100,000 independent draws would give.
    assert abs(dense.mean() - 1.0) < 5 * 12**-0.5 / 1e5**0.5
    assert abs(dense.std() - 12**-0.5) < 0.003
    assert abs(kept.mean() - 0.125) < 5 * (0.125 * 0.875 / 1e5) ** 0.5
    assert len(np.unique(np.concatenate([dense.ravel(), sparse[kept]]))) == 100_000 + kept.sum()
    pairs = {
        "neighbours": (dense.ravel()[:-1], dense.ravel()[1:]),
        "columns": (dense[:-1].ravel(), dense[1:].ravel()),
        "both samples": (dense[kept], sparse[kept]),
        "what is kept": (dense.ravel(), kept.ravel()),
        "kept neighbours": (kept.ravel()[:-1], kept.ravel()[1:]),
    }
    for name, (left, right) in pairs.items():
        assert abs(np.corrcoef(left, right)[0, 1]) < 5 / len(left) ** 0.5, name


@pytest.mark.parametrize("shape", [(), (1,), (0,), (7, 3, 2), (0, 3)])
def test_samples_are_the_same_in_both_orders(shape: tuple[int, ...]) -> None:
    first, last = samples(shape), samples(shape, is_last=True)
    assert first.shape == (SAMPLES, *shape)
    assert last.shape == (*shape, SAMPLES)
    assert (np.moveaxis(last, -1, 0) == first).all()

"""Mean and variance of each channel, gathered batch by batch, in any order, in any parts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from bnfold.errors import ModelError

Float64s = npt.NDArray[np.float64]

Estimator = Literal["paper", "population"]
ESTIMATORS: Final[tuple[Estimator, ...]] = ("paper", "population")


@dataclass(frozen=True, eq=False)
class Moments:
    """What some batches say of the values of each of C channels, in float64.

    Attributes:
        count: values of each channel in all batches, the sum of their ``m = N * prod(spatial)``.
        mean: of all values, in units of x; shape ``(C,)``.
        m2: the sum of their squared deviations from ``mean``, in squared units of x; ``(C,)``.
        batches: how many there were.
        mean_of_means: the mean over the batches of their means; ``(C,)``.
        mean_of_vars: the mean over the batches of their unbiased variances,
            ``m / (m - 1)`` times the biased one; ``(C,)``.
    """

    count: int
    mean: Float64s
    m2: Float64s
    batches: int
    mean_of_means: Float64s
    mean_of_vars: Float64s

    @classmethod
    def of_batch(cls, m: int, mean: npt.NDArray[Any], biased_var: npt.NDArray[Any]) -> Moments:
        """Those of one batch.

        Args:
            m: values of each channel, ``N * prod(spatial)``.
            mean: in units of x; shape ``(C,)``, any float dtype.
            biased_var: divided by m, in squared units of x; shape ``(C,)``.

        Raises:
            ModelError: m is below 2, so the batch has no variance; or the shapes differ.
        """
        if m < 2:
            raise ModelError(
                f"a batch with m = N * H * W = {m} value for each channel has no variance: "
                "give it more samples"
            )
        means = np.array(mean, np.float64)
        variances = np.array(biased_var, np.float64)
        if means.ndim != 1 or means.shape != variances.shape:
            raise ModelError(
                f"mean has shape {means.shape} and variance {variances.shape}: both are (C,)"
            )
        return cls(m, means, variances * m, 1, means, variances * (m / (m - 1)))

    @property
    def channels(self) -> int:
        """C."""
        return len(self.mean)

    def estimate(self, estimator: Estimator = "paper") -> tuple[Float64s, Float64s]:
        """``E[x]`` and ``Var[x]``, shape ``(C,)`` each.

        ``paper`` is step 10 of Algorithm 2: the mean over the batches of their means, and of
        their unbiased variances, each batch counting alike. ``population`` is the mean and the
        unbiased variance of all values together, so it has the variance between the batches in
        it, and a larger batch counts more.
        """
        if estimator == "paper":
            return self.mean_of_means, self.mean_of_vars
        return self.mean, self.m2 / (self.count - 1)


def merged(one: Moments, other: Moments) -> Moments:
    """The moments of the batches of both; the order changes no more than rounding.

    Raises:
        ModelError: they are of different numbers of channels.

    Source: Chan, Golub & LeVeque 1979, Updating formulae and a pairwise algorithm for computing
    sample variances.
    """
    if one.channels != other.channels:
        raise ModelError(
            f"moments of {one.channels} and of {other.channels} channels cannot be merged"
        )
    count, batches = one.count + other.count, one.batches + other.batches
    share, turn = other.count / count, other.batches / batches
    delta = other.mean - one.mean
    return Moments(
        count,
        one.mean + delta * share,
        one.m2 + other.m2 + np.square(delta) * (one.count * share),
        batches,
        one.mean_of_means + (other.mean_of_means - one.mean_of_means) * turn,
        one.mean_of_vars + (other.mean_of_vars - one.mean_of_vars) * turn,
    )


def merged_all(parts: Iterable[dict[str, Moments]]) -> dict[str, Moments]:
    """The moments of several tensors, by name, merged over all parts."""
    found: dict[str, Moments] = {}
    for part in parts:
        for name, moments in part.items():
            found[name] = merged(found[name], moments) if name in found else moments
    return found

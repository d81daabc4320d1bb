"""How to verify."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfold.checking.measure import Comparison, Worst
from bnfold.checking.multiple import MULTIPLE
from bnfold.errors import UsageError


@dataclass(frozen=True)
class Closeness:
    """``|folded - original| <= atol + rtol |original|`` in place of the yardstick of rounding."""

    rtol: float
    atol: float

    def holds(self, comparison: Comparison) -> bool:
        """Whether it holds everywhere."""
        return bool((self._excess(comparison) <= 0).all())

    def worst(self, comparison: Comparison) -> tuple[float, Worst]:
        """By how much it holds least, negative where it holds, and there the values."""
        excess = self._excess(comparison)
        if not excess.size:
            return -np.inf, comparison.at(None)
        place = int(excess.argmax())
        return float(excess.reshape(-1)[place]), comparison.at(place)

    def _excess(self, comparison: Comparison) -> npt.NDArray[np.float64]:
        original = comparison.original
        size = np.abs(original.astype(np.float64)) if original.dtype.kind in "fiub" else 0.0
        size = np.where(np.isfinite(size), size, 0.0)
        return np.asarray(np.abs(comparison.difference) - (self.atol + self.rtol * size))


@dataclass(frozen=True)
class Options:
    """How to verify.

    Attributes:
        feeds: real data, one entry a feed: input -> values.
        inputs: values of single inputs, for every drawn feed.
        dims: sizes of symbolic dimensions.
        trials: how often each kind of data is drawn; 0 for none.
        seed: of all draws.
        multiple: how many units of rounding are still the same function.
        closeness: judge the outputs by this instead.
        runtime: whether to run both models in onnxruntime too.
    """

    feeds: Sequence[Mapping[str, Any]] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)
    dims: Mapping[str, int] = field(default_factory=dict)
    trials: int = 1
    seed: int = 0
    multiple: float = MULTIPLE
    closeness: Closeness | None = None
    runtime: bool = True


def read_options(
    *,
    feeds: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    inputs: Mapping[str, Any] | None = None,
    dims: Mapping[str, int] | None = None,
    trials: int = 1,
    seed: int = 0,
    max_ulp_noise: float = MULTIPLE,
    rtol: float | None = None,
    atol: float | None = None,
    runtime: bool = True,
) -> Options:
    """The options of ``bnfold.verify``, which says what each means.

    Raises:
        UsageError: a number is out of range.
    """
    for label, value in (("max_ulp_noise", max_ulp_noise), ("rtol", rtol), ("atol", atol)):
        if value is not None and not 0 <= value < math.inf:
            raise UsageError(f"{label} is {value}: it has to be a number, and not negative")
    if seed < 0 or trials < 0:
        raise UsageError(f"seed is {seed} and trials is {trials}: they cannot be negative")
    closeness = None
    if rtol is not None or atol is not None:
        closeness = Closeness(rtol or 0.0, atol or 0.0)
    return Options(
        feeds=[feeds] if isinstance(feeds, Mapping) else list(feeds or ()),
        inputs=dict(inputs or {}),
        dims=dict(dims or {}),
        trials=trials,
        seed=seed,
        multiple=max_ulp_noise,
        closeness=closeness,
        runtime=runtime,
    )

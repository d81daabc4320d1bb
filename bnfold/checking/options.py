"""How to verify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bnfold.checking.measure import Comparison
from bnfold.checking.outcome import MULTIPLE


@dataclass(frozen=True)
class Closeness:
    """``|folded - original| <= atol + rtol |original|`` in place of the yardstick of rounding."""

    rtol: float
    atol: float

    def holds(self, comparison: Comparison) -> bool:
        """Whether it holds everywhere."""
        size = np.abs(comparison.original.astype(np.float64))
        size = np.where(np.isfinite(size), size, 0.0)
        return bool((np.abs(comparison.difference) <= self.atol + self.rtol * size).all())


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

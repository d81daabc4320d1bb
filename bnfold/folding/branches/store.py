"""Round a merged kernel once, to the dtype that the model stores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bnfold.algebra.affine import Array, Float64Array
from bnfold.algebra.rounding import epsilon, flushed, largest, rounded, smallest_normal
from bnfold.folding.branches.kernel import Kernel
from bnfold.folding.branches.unfit import Unfit


@dataclass(frozen=True, eq=False)
class Stored:
    """A kernel as it is written.

    Attributes:
        weight: shape ``(M, C/group, *kernel)``.
        bias: shape ``(M,)``, or None where it is zero.
        flushed: how many values became zero because they were below the smallest normal number.
        kept_subnormal: how many float16 weights stay below it, because zero would be another
            function.
    """

    weight: Array
    bias: Array | None
    flushed: int
    kept_subnormal: int


def store(kernel: Kernel, dtype: npt.DTypeLike) -> Stored | Unfit:
    """The kernel in ``dtype``, each value rounded once: equations 11 to 14 of the algebra.

    Args:
        dtype: float16, bfloat16, float32 or float64.
    """
    for exact, what in ((kernel.weight, "weight"), (kernel.bias, "bias")):
        bad = np.argwhere(~np.isfinite(rounded(exact, dtype).astype(np.float64)))
        if bad.size:
            at = tuple(bad[0])
            return Unfit(
                f"channel {at[0]} would have a {what} of {exact[at]:.6g}, beyond "
                f"{np.dtype(dtype).name} (at most {largest(dtype):.6g})"
            )
    stored = rounded(kernel.weight, dtype)
    weight, zeroed = flushed(stored, kernel.weight)
    kept = 0
    if zeroed and np.dtype(dtype) == np.float16:
        needed = _needed_subnormals(kernel.weight, dtype)
        weight = np.where(needed, stored, weight)
        lost = int(np.count_nonzero((weight == 0) & (kernel.weight != 0)))
        zeroed, kept = lost, zeroed - lost
    bias, lost = flushed(rounded(kernel.bias, dtype), kernel.bias)
    return Stored(weight, bias if kernel.bias.any() else None, zeroed + lost, kept)


def _needed_subnormals(weight: Float64Array, dtype: npt.DTypeLike) -> Array:
    """Where zero would be another function, shape ``(M, 1, ...)``: equation 14."""
    sizes = np.abs(weight).reshape(len(weight), -1)
    tiny = smallest_normal(dtype)
    lost = np.where(sizes < tiny, sizes, 0.0).sum(axis=1)
    needed = lost > np.maximum(tiny, epsilon(dtype) * sizes.sum(axis=1))
    return np.asarray(needed.reshape(-1, *[1] * (weight.ndim - 1)))

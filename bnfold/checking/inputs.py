"""Other data for the inputs of one part of a model, made of the real data that it gets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

IMPULSES = "impulses"

SUBSETS = 16
"""Into how many parts, at most, the channels are divided to see single weights."""

IMPULSE_SHARE, IMPULSE_SIZE = 1 / 12, 16.0
"""How many places have an impulse, and how large it is beside the largest real value."""


def probes(
    inputs: Mapping[str, Array], *, with_impulses: bool
) -> Iterator[tuple[str, dict[str, Array]]]:
    """Zeros, and a few large values, with what they are called.

    Zeros show the bias alone, which large values would hide; impulses show single weights, which
    the rounding of all others would hide.
    """
    if not any(value.dtype.kind == "f" for value in inputs.values()):
        return  # there is nothing to round
    zeros = {
        name: np.zeros_like(value) if value.dtype.kind == "f" else value
        for name, value in inputs.items()
    }
    yield "zeros in front of it", zeros
    if any(value.dtype == bool for value in inputs.values()):
        flipped = {n: ~value if value.dtype == bool else value for n, value in inputs.items()}
        yield "conditions in front of it reversed", flipped
    if not with_impulses:
        return
    shapes = [value.shape for value in inputs.values() if value.ndim > 1]
    rows, channels = max((shape[:2] for shape in shapes), default=(1, 1))
    parts = min(SUBSETS * rows, channels)
    for number in range(0, parts if channels > 1 else 0, max(1, rows)):
        yield (
            f"{IMPULSES} in every {parts}th channel in front of it",
            {name: _impulses(value, number, parts) for name, value in inputs.items()},
        )
    if shapes and all(len(shape) == 2 for shape in shapes):
        # In front of a transposed Gemm the channels are the rows.
        for number in range(0, min(SUBSETS * channels, rows) if rows > 1 else 0, channels):
            yield (
                f"{IMPULSES} in every {min(SUBSETS * channels, rows)}th row in front of it",
                {
                    name: _impulses(value.T, number, min(SUBSETS * channels, rows)).T
                    for name, value in inputs.items()
                },
            )


def _impulses(value: Array, number: int, parts: int) -> Array:
    """A few large values, each of which meets one weight: single channels at single places.

    Their signs are those that the real data has.
    Sample n has them in the channels ``number + n`` of every ``parts``.
    """
    if value.dtype.kind != "f" or value.ndim < 2:
        return value
    rows, channels = value.shape[:2]
    turn = (np.arange(channels) - np.arange(rows)[:, None] - number) % parts == 0
    active = turn.reshape(rows, channels, *[1] * (value.ndim - 2))
    if value.ndim > 2:
        generator = np.random.default_rng(number)
        places = generator.random(value.shape[2:]) < IMPULSE_SHARE
        if places.size and not places.any():
            places.flat[generator.integers(places.size)] = True
        active = active & places
    size = np.abs(value[np.isfinite(value)]).max(initial=0.0) * IMPULSE_SIZE
    impulses: Array = np.where(active, size, 0.0)
    if (value < 0).any():
        # Only where the real data has both signs: behind a Relu nothing is negative.
        generator = np.random.default_rng([number, 1])
        impulses *= generator.choice([-1.0, 1.0], impulses.shape)
    return impulses

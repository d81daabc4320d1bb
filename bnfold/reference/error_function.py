"""The error function in float64, on whole arrays.

Source: W. J. Cody, Rational Chebyshev approximations for the error function, Mathematics of
Computation 23 (1969), 631-637, with the coefficients of his program CALERF.
"""

from __future__ import annotations

import numpy as np

from bnfold.reference.call import Array

_NEAR = (
    (
        1.85777706184603153e-1,
        3.16112374387056560e0,
        1.13864154151050156e2,
        3.77485237685302021e2,
        3.20937758913846947e3,
    ),
    (
        1.0,
        2.36012909523441209e1,
        2.44024637934444173e2,
        1.28261652607737228e3,
        2.84423683343917062e3,
    ),
)
_MIDDLE = (
    (
        2.15311535474403846e-8,
        5.64188496988670089e-1,
        8.88314979438837594e0,
        6.61191906371416295e1,
        2.98635138197400131e2,
        8.81952221241769090e2,
        1.71204761263407058e3,
        2.05107837782607147e3,
        1.23033935479799725e3,
    ),
    (
        1.0,
        1.57449261107098347e1,
        1.17693950891312499e2,
        5.37181101862009858e2,
        1.62138957456669019e3,
        3.29079923573345963e3,
        4.36261909014324716e3,
        3.43936767414372164e3,
        1.23033935480374942e3,
    ),
)
_FAR = (
    (
        1.63153871373020978e-2,
        3.05326634961232344e-1,
        3.60344899949804439e-1,
        1.25781726111229246e-1,
        1.60837851487422766e-2,
        6.58749161529837803e-4,
    ),
    (
        1.0,
        2.56852019228982242e0,
        1.87295284992346725e0,
        5.27905102951428412e-1,
        6.05183413124413191e-2,
        2.33520497626869185e-3,
    ),
)


def erf(x: Array, out: Array | None = None) -> Array:
    """The integral of ``2 / sqrt(pi) exp(-t^2)`` from 0 to x.

    Args:
        x: float64, any shape.
        out: where to write, possibly x itself; a new array if None.

    Returns:
        float64, of the shape of x, off by at most some units in the last place.
    """
    size = np.abs(x)
    y = np.ones(x.shape)
    near, far = size <= 0.46875, size > 4.0
    middle = ~near & ~far & ~np.isnan(size)
    y[near] = size[near] * _ratio(_NEAR, np.square(size[near]))
    y[middle] = 1.0 - _gaussian(size[middle]) * _ratio(_MIDDLE, size[middle])
    # From 6 on the result is 1 to the last bit.
    at = np.minimum(size[far], 6.0)
    inverse = 1.0 / np.square(at)
    tail = (1.0 / np.sqrt(np.pi) - inverse * _ratio(_FAR, inverse)) / at
    y[far] = 1.0 - _gaussian(at) * tail
    y[np.isnan(size)] = np.nan
    return np.copysign(y, x, out=out)


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], z: Array) -> Array:
    numerator, denominator = coefficients
    return np.polyval(numerator, z) / np.polyval(denominator, z)


def _gaussian(y: Array) -> Array:
    """``exp(-y^2)``, with the square split so that it does not lose digits."""
    head = np.trunc(y * 16.0) / 16.0
    return np.exp(-head * head) * np.exp(-(y - head) * (y + head))

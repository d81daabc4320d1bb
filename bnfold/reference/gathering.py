"""GatherElements: one element for each place, along an axis of any length.

Source: ONNX, GatherElements.
"""

from __future__ import annotations

import numpy as np

from bnfold.reference.call import Array, Call


def gather_elements(call: Call, x: Array, places: Array) -> Array:
    """``x[.., places[.., i, ..], ..]`` along ``axis``; negative places count from the end.

    Args:
        x: of any rank.
        places: integers, of the rank of x and no longer than x along all other axes.
    """
    axis = call.get("axis", 0) % x.ndim
    part = tuple(
        slice(None) if at == axis else slice(0, size) for at, size in enumerate(places.shape)
    )
    return np.take_along_axis(x[part], places.astype(np.int64), axis=axis)

"""GatherElements along an axis of any length, and Unsqueeze of axes in any order.

The classes of onnx.reference get these wrong.

Source: ONNX, GatherElements and Unsqueeze.
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


def unsqueeze(call: Call, x: Array, axes: Array | None = None) -> Array:
    """x with axes of size 1 at the places ``axes`` of the result, in whatever order.

    Args:
        axes: an attribute before opset 13.
    """
    found = call["axes"] if axes is None else axes.reshape(-1)
    return np.expand_dims(x, tuple(int(axis) for axis in found))

"""Values of any type, made ready to be compared number by number."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def why_unlike(original: Any, folded: Any) -> str:
    """Why two values cannot be compared number by number, or ``""``.

    Args:
        original, folded: arrays, sequences and maps of them, or None for an empty optional.
    """
    if isinstance(original, np.ndarray) and isinstance(folded, np.ndarray):
        if original.dtype.kind != folded.dtype.kind:
            return f"is {folded.dtype} in one model and {original.dtype} in the other"
        if original.shape != folded.shape:
            return f"has shape {list(folded.shape)} instead of {list(original.shape)}"
        return ""
    if type(original) is not type(folded):
        return f"is a {type(folded).__name__} instead of a {type(original).__name__}"
    if isinstance(original, dict):
        if original.keys() != folded.keys():
            return "has other keys"
        pairs = [(original[key], folded[key]) for key in original]
    elif isinstance(original, (list, tuple)):
        if len(original) != len(folded):
            return f"has {len(folded)} elements instead of {len(original)}"
        pairs = list(zip(original, folded, strict=True))
    else:
        pairs = []
    return next((why for one, other in pairs if (why := why_unlike(one, other))), "")


def joined(value: Any) -> npt.NDArray[Any]:
    """All numbers of a value: an array as it is, those of a sequence or map in one row."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, dict):
        value = [value[key] for key in sorted(value)]
    if isinstance(value, (list, tuple)):
        parts = [joined(part).reshape(-1) for part in value]
        return np.concatenate(parts) if parts else np.zeros(0)
    return np.zeros(0) if value is None else np.asarray(value)


def is_float(array: npt.NDArray[Any]) -> bool:
    """Whether an array is of any float dtype; bfloat16 is none of NumPy's own."""
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"

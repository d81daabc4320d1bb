"""Values that cannot be compared number by number."""

from __future__ import annotations

from typing import Any

import numpy as np


def why_unlike(original: Any, folded: Any) -> str:
    """Why two values cannot be compared, or ``""``."""
    for value in (original, folded):
        if not isinstance(value, np.ndarray):
            return "is no tensor"
    if original.dtype.kind != folded.dtype.kind:
        return f"is {folded.dtype} in one model and {original.dtype} in the other"
    if original.shape != folded.shape:
        return f"has shape {list(folded.shape)} instead of {list(original.shape)}"
    return ""

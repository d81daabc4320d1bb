"""Operators that onnx.reference gets wrong, for the evaluators of constant expressions."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from bnfold.algebra.affine import Array


@cache
def repaired_operators() -> list[type[Any]]:
    """Classes for the ``new_ops`` of a ReferenceEvaluator.

    Unsqueeze: before opset 13 onnx.reference puts axes in one after the other, so that it takes
    ``[1, 0]`` of a vector of 4 to the shape ``(1, 4, 1)`` in place of ``(1, 1, 4)``.
    """
    from onnx.reference.op_run import OpRun

    class Unsqueeze(OpRun):
        def _run(self, data: Array, axes: Any = None) -> tuple[Array]:
            return (np.expand_dims(data, tuple(int(axis) for axis in np.ravel(axes))),)

    return [Unsqueeze]

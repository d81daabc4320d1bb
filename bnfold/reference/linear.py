"""Matrix products.

Source: ONNX, Gemm and MatMul.
"""

from __future__ import annotations

import numpy as np

from bnfold.reference.call import FLOAT64, Array, Call
from bnfold.reference.elementwise import aligned


def gemm(call: Call, a: Array, b: Array, c: Array | None = None) -> Array:
    """``alpha A' B' + beta C``; C broadcasts to the product, before opset 7 if the node says so.

    Raises:
        ValueError: shapes that do not fit.
    """
    if a.ndim != 2 or b.ndim != 2:
        raise ValueError(f"A {a.shape} and B {b.shape} are not matrices")
    alpha, beta = call["alpha"], call["beta"]
    y = (a.T if call.get("transA", 0) else a) @ (b.T if call.get("transB", 0) else b)
    if y.dtype == FLOAT64:
        if alpha != 1.0:
            np.multiply(y, alpha, out=y)
        if c is not None:
            c = c if beta == 1.0 else c * beta
            np.add(y, aligned(call, y, c), out=y)
        return y
    product = y * alpha if alpha != 1.0 else y
    total = product if c is None else product + aligned(call, y, c if beta == 1.0 else c * beta)
    return np.asarray(total).astype(y.dtype, copy=False)


def matmul(call: Call, a: Array, b: Array) -> Array:
    """The product of stacks of matrices, as ``numpy.matmul``."""
    if a.ndim > 2 and b.ndim == 2 and a.dtype == FLOAT64 and a.flags.c_contiguous:
        return (a.reshape(-1, a.shape[-1]) @ b).reshape(*a.shape[:-1], b.shape[-1])
    return np.asarray(np.matmul(a, b))

"""The rules, by operator: everything that bnfold can fold stands in these three tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bnfold.folding.reasons import Refused
from bnfold.folding.rules import batch_norm, conv, elementwise, gemm, matmul, through
from bnfold.folding.rules.placed import Placed
from bnfold.folding.rules.reading import Context, Linear
from bnfold.onnxgraph.graph import Node, Tensor

BATCH_NORM: Final = "BatchNormalization"

PUSH_BACK: Final[dict[str, Callable[[Node, Context], Linear | Refused]]] = {
    "Conv": conv.read_conv,
    "ConvTranspose": conv.read_conv_transpose,
    "Gemm": gemm.read_gemm,
    "MatMul": matmul.read_matmul,
}
"""Linear operators that take up an affine map which follows them."""

NORMS: Final[dict[str, Callable[[Node, Tensor, Context], Placed | Refused]]] = {
    BATCH_NORM: batch_norm.read_batch_norm,
    "Add": elementwise.read_elementwise,
    "Sub": elementwise.read_elementwise,
    "Mul": elementwise.read_elementwise,
    "Div": elementwise.read_elementwise,
}
"""Operators that are an affine map by themselves."""

THROUGH: Final[dict[str, Callable[[Node, Context], bool]]] = {
    "Identity": through.crosses_identity,
    "Dropout": through.crosses_dropout,
}
"""Operators that an affine map crosses unchanged."""

"""Operators that round to integers, read what was rounded, or multiply it: no map crosses them."""

from __future__ import annotations

from bnfold.folding.reasons import Refused
from bnfold.folding.rules.reading import Context
from bnfold.folding.rules.through import Spreads, Through
from bnfold.onnxgraph.graph import Node


def read_integer_operator(node: Node, context: Context) -> Refused:
    """``affine(integers(x, w))`` is not ``integers(x, w')``: w' would have to be rounded again."""
    return Refused(
        "quantised-weight",
        f"{node.label} ({node.op_type}) multiplies integers, which no scale can go into: fold "
        "before quantising",
    )


def refuse_rounding(node: Node, spreads: Spreads, context: Context) -> Refused:
    """``affine(round(x))`` is not ``round(affine(x))``: quantisation lets no map through."""
    return Refused(
        "quantised-activation",
        f"{node.label} ({node.op_type}) rounds what passes to integers, so no scale or shift can",
    )


def refuse_rounded(node: Node, spreads: Spreads, context: Context) -> Refused:
    """``affine((q - zero) * scale)`` is not ``(q' - zero) * scale`` for integers q'."""
    codes, name = node.input(0), f"{node.label} ({node.op_type})"
    if codes is not None and context.constants.why_not(codes) is None:
        return Refused(
            "quantised-bias",
            f"{name} makes a constant of integers, which would have to be rounded again",
        )
    maker = codes.producer if codes is not None else None
    if maker is not None and maker.op_type in INTEGER_OPERATORS:
        return read_integer_operator(maker, context)
    return Refused(
        "quantised-activation", f"{name} gives values that were rounded to integers before the norm"
    )


INTEGER_OPERATORS = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
ROUNDING = Through(refuse_rounding, refuse_rounding)
ROUNDED = Through(refuse_rounded, refuse_rounded, data=())

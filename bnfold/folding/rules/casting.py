"""Cast and CastLike between floats, which are the identity in real arithmetic."""

from __future__ import annotations

from bnfold.folding.reasons import Refused
from bnfold.folding.rules.reading import FLOATS, Context, malformed, read_version
from bnfold.folding.rules.through import Spreads, Through, blocked
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.tensors import type_name


def cross_cast(node: Node, spreads: Spreads, context: Context) -> Spreads | Refused:
    """``affine(cast(x)) == cast(affine(x))`` from float16, bfloat16, float or double to one."""
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    if node.op_type == "Cast":
        wanted = node.integer("to", 0)
        if wanted == 0:
            return malformed(node, "it has no type to cast to")
    else:
        like, made = node.input(1), node.outputs[0]
        if like is None:
            return malformed(node, "it has no second input")
        wanted = _type_of(like, context) or _type_of(made, context)
    given = _type_of(node.input(0), context)
    for way, kind in (("from", given), ("to", wanted)):
        if kind not in FLOATS:
            name = type_name(kind) if kind else "a type that is not known"
            return blocked(node, f"casts {way} {name}")
    return {0: spreads[0]}


def _type_of(tensor: Tensor | None, context: Context) -> int:
    return 0 if tensor is None else context.types.element_type(tensor)


CAST = Through(cross_cast, cross_cast)

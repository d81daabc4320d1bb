"""What operators that move elements refuse, and why."""

from __future__ import annotations

from typing import Any

import pytest

from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from tests.support_movement import one_node
from tests.support_through import backward, forward, random_spread

REFUSED = {
    # name: (text, operator, map, direction, code)
    "squeeze of a wide axis": (
        "double[2,1,3] x | a = Constant <value_ints=[1]> () y = Squeeze (x, a)",
        "Squeeze",
        (4, 1),
        "forward",
        "not-through",
    ),
    "squeeze of open sizes": (
        "double[N,1,3] x | y = Squeeze (x)",
        "Squeeze",
        (3,),
        "forward",
        "not-through",
    ),
    "axes computed": (
        "double[2,1,3] x, int64[1] a | y = Squeeze (x, a)",
        "Squeeze",
        (3,),
        "both",
        "not-through",
    ),
    "an axis twice": (
        "double[2,3] x | a = Constant <value_ints=[0,0]> () y = Unsqueeze (x, a)",
        "Unsqueeze",
        (3,),
        "both",
        "malformed-node",
    ),
    "slice at a computed place": (
        "double[2,5] x, int64[1] s | e = Constant <value_ints=[4]> () "
        "a = Constant <value_ints=[1]> () y = Slice (x, s, e, a)",
        "Slice",
        (5,),
        "both",
        "not-through",
    ),
    "slice of an open size": (
        "double[2,W] x | s = Constant <value_ints=[1]> () e = Constant <value_ints=[4]> () "
        "a = Constant <value_ints=[1]> () y = Slice (x, s, e, a)",
        "Slice",
        (3,),
        "both",
        "not-through",
    ),
    "slice by no step": (
        "double[2,5] x | s = Constant <value_ints=[1]> () e = Constant <value_ints=[4]> () "
        "a = Constant <value_ints=[1]> () t = Constant <value_ints=[0]> () "
        "y = Slice (x, s, e, a, t)",
        "Slice",
        (3,),
        "both",
        "malformed-node",
    ),
    "concat of an open size": (
        "double[2,A] x, double[2,B] z | y = Concat <axis=1> (x, z)",
        "Concat",
        (5,),
        "both",
        "not-through",
    ),
    "concat without an axis": (
        "double[2,3] x | y = Concat (x, x)",
        "Concat",
        (6,),
        "both",
        "malformed-node",
    ),
    "expand along the map": (
        "double[1,3] x | s = Constant <value_ints=[4,3]> () y = Expand (x, s)",
        "Expand",
        (4, 1),
        "backward",
        "not-through",
    ),
    "expand by a new axis": (
        "double[3] x | s = Constant <value_ints=[4,3]> () y = Expand (x, s)",
        "Expand",
        (4, 1),
        "backward",
        "not-through",
    ),
    "expand of an open size": (
        "double[N,3] x | s = Constant <value_ints=[4,3]> () y = Expand (x, s)",
        "Expand",
        (4, 1),
        "backward",
        "not-through",
    ),
    "tile, repetitions differ": (
        "double[1,3] x | r = Constant <value_ints=[1,2]> () y = Tile (x, r)",
        "Tile",
        (6,),
        "backward",
        "not-through",
    ),
    "tile as often as computed": (
        "double[1,3] x, int64[2] r | y = Tile (x, r)",
        "Tile",
        (3,),
        "both",
        "not-through",
    ),
    "gather computed places": (
        "double[2,3] x, int64[2] i | y = Gather <axis=1> (x, i)",
        "Gather",
        (3,),
        "forward",
        "not-through",
    ),
    "gather one element twice": (
        "double[2,3] x | i = Constant <value_ints=[1,1]> () y = Gather <axis=1> (x, i)",
        "Gather",
        (2,),
        "backward",
        "not-through",
    ),
    "gather beyond the end": (
        "double[2,3] x | i = Constant <value_ints=[3]> () y = Gather <axis=1> (x, i)",
        "Gather",
        (1,),
        "both",
        "malformed-node",
    ),
    "pixels of unknown number": (
        "double[1,4,H,W] x | y = DepthToSpace <blocksize=2> (x)",
        "DepthToSpace",
        (4, 1, 1),
        "forward",
        "not-through",
    ),
    "an unknown mode": (
        'double[1,4,2,2] x | y = DepthToSpace <blocksize=2, mode="ABC"> (x)',
        "DepthToSpace",
        (4, 1, 1),
        "both",
        "malformed-node",
    ),
    "cast to whole numbers": (
        "double[2,3] x | y = Cast <to=7> (x)",
        "Cast",
        (3,),
        "both",
        "not-through",
    ),
    "cast from whole numbers": (
        "int64[2,3] x | y = Cast <to=1> (x)",
        "Cast",
        (3,),
        "both",
        "not-through",
    ),
    "cast to a float of 8 bits": (
        "double[2,3] x | y = Cast <to=17> (x)",
        "Cast",
        (3,),
        "both",
        "not-through",
    ),
    "cast like an unknown type": (
        "double[2,3] x, int64[1] z | y = CastLike (x, z)",
        "CastLike",
        (3,),
        "both",
        "not-through",
    ),
    "sequence without the axis": (
        "double[2,3] x | p = SplitToSequence <axis=0, keepdims=0> (x) "
        "i = Constant <value_int=0> () y = SequenceAt (p, i)",
        "SequenceAt",
        (3,),
        "both",
        "not-through",
    ),
    "sequence of others": (
        "double[2,3] x | p = SequenceConstruct (x, x) "
        "i = Constant <value_int=0> () y = SequenceAt (p, i)",
        "SequenceAt",
        (3,),
        "both",
        "not-through",
    ),
    "reshape to a computed shape": (
        "double[N,3,4] x, int64[2] s | y = Reshape (x, s)",
        "Reshape",
        (3, 1),
        "both",
        "not-through",
    ),
    "an unknown attribute": (
        "double[2,3] x | y = Flatten <axes=1> (x)",
        "Flatten",
        (3,),
        "both",
        "unknown-attribute",
    ),
}


def both(text: str, op_type: str, given: Spread, opset: int = 17) -> tuple[Any, Any]:
    """What the rule makes of a map behind and of one before the node."""
    made = one_node(text, opset)
    return backward(made, op_type, {0: given}), forward(made, op_type, {0: given})


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    text, kind, shape, direction, code = REFUSED[name]
    back, ahead = both(text, kind, random_spread(shape, 0), 19 if "8 bits" in name else 17)
    for way, found in (("backward", back), ("forward", ahead)):
        if direction in (way, "both"):
            assert isinstance(found, Refused), found
            assert found.code == code, found.sentence

"""The narrowest float that a model computes in."""

from __future__ import annotations

from onnx import TensorProto

from bnfold.checking.side import Side
from bnfold.onnxgraph.rewrite import all_tensors

_BITS = {
    number: 16 if name in ("FLOAT16", "BFLOAT16") else 32 if name == "FLOAT" else 8
    for name, number in TensorProto.DataType.items()
    if name.startswith(("FLOAT", "BFLOAT"))
}
"""Of floats narrower than float64, by ONNX data type."""


def narrowed(original: Side, folded: Side) -> list[str]:
    """A cast to a narrower float than any in ORIGINAL, whose rounding float64 does not show.

    Casts of constants do not count: there they only say how a weight is stored.
    """
    bits, node = _narrowest_cast(folded)
    if bits >= _narrowest_float(original):
        return []
    return [f"node {node!r} casts data to a float of {bits} bits, which ORIGINAL has nowhere"]


def _narrowest_cast(side: Side) -> tuple[int, str]:
    """How many bits the narrowest float has that data is cast to, and the node; 64 for none."""
    found = 64, ""
    for node in side.index.nodes:
        if node.op_type == "Cast" and node.domain == "" and node.input(0) in side.valued:
            bits = _BITS.get(node.integer("to", 0), 64)
            found = min(found, (bits, node.label))
    return found


def _narrowest_float(side: Side) -> int:
    """How many bits the narrowest float has that the model stores, is given or casts to."""
    proto = side.document.proto
    types = {tensor.data_type for _, tensor in all_tensors(proto)}
    types |= {v.type.tensor_type.elem_type for v in (*proto.graph.input, *proto.graph.output)}
    return min([_narrowest_cast(side)[0], *(_BITS.get(kind, 64) for kind in types)])

"""Constants that sizes are computed from: to move them would be another model, not rounding."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from onnx import TensorProto

from bnfold.onnxgraph.graph import Scope, Tensor
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.known import stored_tensor

FLOATS = frozenset(
    {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE}
)
# Inputs that decide about sizes.
_SIZES = {
    "Resize": frozenset({1, 2, 3}),
    "Upsample": frozenset({1}),
    "Range": frozenset({0, 1, 2}),
}
# Operators that make whole numbers; a Cast only where it casts to them.
_TO_INTEGERS = frozenset({"Cast", "Ceil", "Floor", "Round"})


def constants_of_sizes(index: Index, valued: Collection[Tensor]) -> set[int]:
    """The stored constants that lead to sizes or other integers before any value is read.

    Args:
        valued: the tensors that depend on the values of inputs.

    Returns:
        The ids of their TensorProtos.
    """
    found = set()
    for scope in index.scopes:
        for tensor in scope.tensors.values():
            stored = stored_tensor(tensor)
            if stored is not None and _leads_to_integers(tensor, valued):
                found.add(id(stored))
    return found


def with_values(index: Index, inputs: Collection[str]) -> set[Tensor]:
    """The tensors that depend on the values of inputs, not just on their shapes.

    What is computed in an inner graph counts as such in any case.
    """
    tensors = index.main.tensors
    valued = {tensors[name] for name in inputs if name in tensors}
    valued = {tensor for tensor in valued if tensor.producer is None}
    for node in index.nodes:
        if node.op_type not in ("Shape", "Size"):
            reads = [*node.inputs, *(s.find(n) for s in node.subgraphs for n in _inner(s))]
            if node.scope.owner is not None or any(tensor in valued for tensor in reads):
                valued.update(tensor for tensor in node.outputs if tensor is not None)
    return valued


def _leads_to_integers(constant: Tensor, valued: Collection[Tensor]) -> bool:
    waiting, seen = [constant], {constant}
    while waiting:
        tensor = waiting.pop()
        for node in tensor.readers:
            places = _SIZES.get(node.op_type)
            if places and any(t is tensor and at in places for at, t in enumerate(node.inputs)):
                return True
            made = next((t for t in node.outputs if t is not None), None)
            if made is None or made in valued or made in seen:
                continue
            is_cast = node.op_type in _TO_INTEGERS
            if is_cast and node.integer("to", TensorProto.INT64) not in FLOATS:
                return True
            seen.add(made)
            waiting.append(made)
    return False


def _inner(scope: Scope) -> Iterator[str]:
    waiting = [scope]
    while waiting:
        inner = waiting.pop()
        for node in inner.nodes:
            yield from (tensor.name for tensor in node.inputs if tensor is not None)
            waiting += node.subgraphs

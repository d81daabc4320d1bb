"""The written graph as a whole: every name that is read is made, once, and nothing else changes."""

from __future__ import annotations

from collections.abc import Collection

from bnfold.checking.protos import kept_attributes
from bnfold.checking.written import RegionError, Written
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.index import Index


def require_whole(index: Index, written: Written, nodes: Collection[Node]) -> None:
    """Compare every node that is written in another's place, and follow every name that goes.

    Args:
        nodes: those of all clusters, which are compared by themselves.

    Raises:
        RegionError: a name is read that nothing makes, or a node changes that no fold is about.
    """
    for scope in index.scopes:
        changed = written.changed(scope)
        among = set(changed)
        made = written.made_anew(scope)
        for node in changed:
            protos = written.nodes(node)
            for tensor in node.outputs:
                if tensor is not None and tensor.name not in made:
                    _require_unread(tensor, written)
            is_new = [name for proto in protos for name in proto.output if name in scope.tensors]
            for name in is_new:
                maker = scope.tensors[name].producer
                if maker is None or (maker is not node and maker not in among):
                    raise RegionError(f"{name} would be made twice")
            if node not in nodes and protos:
                _require_same(node, protos[0], len(protos))


def _require_unread(tensor: Tensor, written: Written) -> None:
    """Nothing reads a tensor that is gone."""
    if tensor.is_output:
        raise RegionError(f"{tensor.name} is an output of the graph, and nothing makes it any more")
    for reader in tensor.readers:
        if any(tensor.name in proto.input for proto in written.nodes(reader)):
            raise RegionError(f"{reader.label} still reads {tensor.name}")


def _require_same(node: Node, proto: object, count: int) -> None:
    """Only the names of what it reads change in a node that no fold is about."""
    before, after = node.proto, proto
    if (
        count != 1
        or before.op_type != after.op_type  # type: ignore[attr-defined]
        or list(before.output) != list(after.output)  # type: ignore[attr-defined]
        or len(before.input) != len(after.input)  # type: ignore[attr-defined]
        or kept_attributes(before, ()) != kept_attributes(after, ())  # type: ignore[arg-type]
    ):
        raise RegionError(f"{node.label} changes, and no fold is about it")

"""What each operator defines at each version; anything else on a node is a refusal."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from onnx import AttributeProto

from bnfold.folding.rules.defined import KINDS, TABLE
from bnfold.onnxgraph.graph import Node

LAST_OPSET: Final = 28
"""The newest operator set that the table of operators was checked against."""

_NAMES: Final = {kind: frozenset(names.split()) for kind, names in KINDS.items()}

LISTED: Final = frozenset(TABLE)
"""Every operator of the table."""


def key_of(node: Node) -> str:
    """What the tables of rules call an operator: its type, with its domain if it has one."""
    return node.op_type if node.domain == "" else f"{node.domain}::{node.op_type}"


@lru_cache(maxsize=256)
def attributes_of(key: str) -> dict[int, frozenset[str]]:
    """Version -> attributes of an operator; empty for one that the table does not list."""
    found: dict[int, frozenset[str]] = {}
    for row in TABLE.get(key, ()):
        versions, _, names = row.partition(":")
        for version in versions.split():
            found[int(version)] = frozenset(names.split())
    return found


@lru_cache(maxsize=1024)
def version_of(key: str, opset: int) -> int | None:
    """The version of an operator at an opset, or None where it is not known.

    Args:
        key: as ``key_of`` gives it.
        opset: of the standard operators; other domains have one version.
    """
    versions = attributes_of(key)
    if "::" in key:
        return max(versions, default=None)
    if opset > LAST_OPSET:
        from onnx import defs

        if opset > defs.onnx_opset_version():
            return None
        since = int(defs.get_schema(key, opset).since_version)
        return since if since in versions else None
    return max((version for version in versions if version <= opset), default=None)


def has_right_kind(attribute: AttributeProto) -> bool:
    """Whether an attribute is of a type that its name has in the operators of the table."""
    if attribute.type == AttributeProto.UNDEFINED:
        return True
    return attribute.name in _NAMES.get(attribute.type, ())

"""Copies of protobuf messages."""

from __future__ import annotations

from typing import Any, TypeVar

M = TypeVar("M")


def copied(message: M) -> M:
    """The same message once more."""
    proto: Any = message
    copy: M = type(proto).FromString(proto.SerializeToString())
    return copy

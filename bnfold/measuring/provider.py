"""Which provider of onnxruntime runs the models."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from bnfold.checking import runtime
from bnfold.checking.session import CPU
from bnfold.errors import UsageError
from bnfold.measuring.children import Children
from bnfold.measuring.progress import Progress

_SUFFIX = "ExecutionProvider"


def installed() -> tuple[str, list[str]]:
    """The version of onnxruntime, and its providers; asked in a child.

    Raises:
        UsageError: there is none, or it cannot be imported.
    """
    runtime.require_installed()
    with tempfile.TemporaryDirectory(prefix="bnfold-") as name:
        ended = Children(Path(name), (), 1, Progress(None, 0)).start("installed", {})
    if ended.status:
        raise UsageError(f"onnxruntime cannot be imported: {ended.why.split(': ', 1)[-1]}")
    version, providers = ended.result
    return str(version), [str(provider) for provider in providers]


def full_name(provider: str, available: Sequence[str]) -> str:
    """``CUDAExecutionProvider`` for ``cuda``, and so on.

    Raises:
        UsageError: it is not among those that are available.
    """
    for name in available:
        if provider.lower() in (name.lower(), name.removesuffix(_SUFFIX).lower()):
            return name
    short = ", ".join(name.removesuffix(_SUFFIX).lower() for name in available)
    raise UsageError(f"onnxruntime has no provider {provider!r} here (available: {short})")


def in_order(name: str) -> tuple[str, ...]:
    """The providers of a session: what the first cannot run, the processor does."""
    return (name,) if name == CPU else (name, CPU)

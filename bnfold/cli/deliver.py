"""Where the model of a command goes: to a file, or to standard output."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from bnfold.onnxgraph.output import Form

STDOUT = "-"


class Model(Protocol):
    """What ``fold``, ``calibrate`` and ``insert`` of the API give."""

    @property
    def stale(self) -> tuple[Path, ...]:
        """The data files that nothing reads any more."""

    def save(self, path: str, *, form: Form) -> None:
        """Write it to a file."""

    def write(self, stream: Any, *, form: Form) -> None:
        """Write it to a stream."""


def form_of(external_data: bool | None) -> Form:
    """What ``--external-data`` and ``--embed`` ask for."""
    if external_data is None:
        return "keep"
    return "external" if external_data else "embed"


def delivered(result: Model, target: str, form: Form) -> str:
    """Write the model; what the report calls the place."""
    if target == STDOUT:
        result.write(sys.stdout.buffer, form=form)
        return "<stdout>"
    result.save(target, form=form)
    for path in result.stale:
        print(f"bnfold: note: {target} no longer reads {path}", file=sys.stderr)
    return target

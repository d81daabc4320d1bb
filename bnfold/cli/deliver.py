"""Where the model of a command goes: to a file, or to standard output."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bnfold.cli.inputs import Input
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


def entry_and_target(
    command: str, model: str, output: str | None, in_place: bool
) -> tuple[Input, str]:
    """The one model of a command, and where the result goes.

    Raises:
        UsageError: nothing says where it goes, or two options do; or the model is a folder.
    """
    from pathlib import Path

    from bnfold.cli.inputs import inputs
    from bnfold.errors import UsageError

    if (output is not None) + in_place != 1:
        raise UsageError("say where the result goes: one of -o OUT and --in-place")
    if Path(model).is_dir():
        raise UsageError(f"{model} is a folder: {command} takes one model")
    (entry,) = inputs([model])
    if in_place and entry.path is None:
        raise UsageError("standard input cannot be replaced in place: use -o OUT")
    return entry, entry.name if output is None else output


def protect_all(
    entry: Input,
    target: str,
    reports: Mapping[str, Path | None],
    data: str | None,
    *,
    in_place: bool,
) -> None:
    """Refuse outputs that would replace an input or each other, or cannot be written.

    Args:
        target: where the model goes.
        reports: option -> path of what else is written, or None where it is not given.
        data: what ``--data`` says.

    Raises:
        UsageError: one would replace something.
        FileError: a path cannot take a new file; better said before the work than after it.
    """
    import os
    from pathlib import Path

    from bnfold.cli.inputs import protect, protect_reports
    from bnfold.errors import UsageError
    from bnfold.onnxgraph.save import require_target

    files = [Path(data)] if data is not None else []
    if files and files[0].is_dir():
        files += [path for path in files[0].iterdir() if path.suffix in (".npy", ".npz")]
    if target != STDOUT:
        if not in_place:
            protect([Path(target)], [entry])
        for file in files:
            if os.path.realpath(target) == os.path.realpath(file):
                raise UsageError(f"{target} would replace the data {file}")
        require_target(Path(target))
    protect_reports(reports, [entry], files)
    for option, path in reports.items():
        is_same = path is not None and os.path.realpath(path) == os.path.realpath(target)
        if is_same and target != STDOUT:
            raise UsageError(f"{option} and the new model are both {path}")


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

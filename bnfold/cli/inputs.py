"""What the MODEL arguments stand for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bnfold.errors import FileError, UsageError

STDIN = "-"


@dataclass(frozen=True)
class Input:
    """One model to read.

    Attributes:
        name: as reports call it.
        path: the file, or None for standard input.
        relative: where it goes inside of an output folder.
    """

    name: str
    path: Path | None
    relative: Path


def inputs(arguments: Sequence[str]) -> list[Input]:
    """The models that the arguments name, folders searched in sorted order.

    Raises:
        FileError: a folder has no ``*.onnx`` in it, or does not exist.
    """
    found: list[Input] = []
    for argument in arguments:
        path = Path(argument)
        if argument == STDIN:
            found.append(Input("<stdin>", None, Path("stdin.onnx")))
        elif path.is_dir():
            inside = sorted(p for p in path.rglob("*.onnx") if p.is_file())
            if not inside:
                raise FileError(f"the folder {path} has no *.onnx in it")
            found += [Input(str(p), p, p.relative_to(path)) for p in inside]
        else:
            found.append(Input(argument, path, Path(path.name)))
    if sum(entry.path is None for entry in found) > 1:
        raise UsageError("standard input can be read only once")
    return found


def content(entry: Input) -> Path | bytes:
    """What ``bnfold.fold`` takes: the path, or the bytes of standard input."""
    return entry.path if entry.path is not None else sys.stdin.buffer.read()


def protect(outputs: Iterable[Path], entries: Iterable[Input]) -> None:
    """Refuse an output that is one of the inputs.

    Raises:
        UsageError: it is; without --in-place that is an accident.
    """
    models = _models(entries)
    for output in outputs:
        name = models.get(os.path.realpath(output))
        if name is not None:
            raise UsageError(f"{output} is the input {name}: use --in-place to replace it")


def protect_report(
    report: Path | None, entries: Iterable[Input], outputs: Iterable[str] = ()
) -> None:
    """Refuse a report that would replace a model.

    Raises:
        UsageError: the report's path is that of an input or of an output.
    """
    if report is None:
        return
    models = {**_models(entries), **{os.path.realpath(output): output for output in outputs}}
    name = models.get(os.path.realpath(report))
    if name is not None:
        raise UsageError(f"the report {report} would replace the model {name}")


def _models(entries: Iterable[Input]) -> dict[str, str]:
    """Each file that is read, all links followed, and what it is called."""
    return {os.path.realpath(e.path): e.name for e in entries if e.path is not None}

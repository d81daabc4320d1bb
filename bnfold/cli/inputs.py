"""What the MODEL arguments stand for."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bnfold.errors import BnfoldError, FileError, UsageError
from bnfold.onnxgraph.save import require_target

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


def pair(original: str, folded: str) -> tuple[Input, Input]:
    """The two models of ``verify``; a folder is none.

    Raises:
        UsageError: both are standard input.
    """
    if original == folded == STDIN:
        raise UsageError("standard input can be read only once")
    before, after = (
        Input("<stdin>", None, Path("stdin.onnx"))
        if argument == STDIN
        else Input(argument, Path(argument), Path(Path(argument).name))
        for argument in (original, folded)
    )
    return before, after


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
    report: Path | None,
    entries: Iterable[Input],
    outputs: Iterable[str] = (),
    feeds: Iterable[Path] = (),
) -> None:
    """Refuse a report that would replace a model or its data.

    Raises:
        UsageError: the report's path is that of an input, of an output, of a model's data file, or
            of a file of feeds.
    """
    if report is None:
        return
    entries = list(entries)
    taken = {os.path.realpath(path): f"the feed {path}" for path in feeds}
    if report.exists():
        taken |= {path: f"the data file {name}" for path, name in _data_files(entries).items()}
    taken |= {path: f"the model {name}" for path, name in _models(entries).items()}
    taken |= {os.path.realpath(output): f"the model {output}" for output in outputs}
    name = taken.get(os.path.realpath(report))
    if name is not None:
        raise UsageError(f"the report {report} would replace {name}")


def protect_reports(
    reports: Mapping[str, Path | None], entries: Sequence[Input], feeds: Sequence[Path]
) -> None:
    """Refuse reports that would replace a model, its data or each other, or cannot be written.

    Args:
        reports: option -> path, or None where it is not given.

    Raises:
        UsageError: two are one file, or as in ``protect_report``.
        FileError: a path cannot take a new file; better said before the work than after it.
    """
    taken: dict[str, str] = {}
    for option, path in reports.items():
        if path is None:
            continue
        protect_report(path, entries, feeds=feeds)
        other = taken.setdefault(os.path.realpath(path), option)
        if other != option:
            raise UsageError(f"{other} and {option} are both {path}")
        require_target(path)


def _data_files(entries: Iterable[Input]) -> dict[str, str]:
    """Each file that holds tensors of a model, all links followed, and what it is called."""
    from bnfold.onnxgraph.external import location_of
    from bnfold.onnxgraph.load import load
    from bnfold.onnxgraph.rewrite import all_tensors

    found: dict[str, str] = {}
    for entry in entries:
        if entry.path is None or not entry.path.is_file():
            continue
        with contextlib.suppress(BnfoldError):  # a damaged model is said where it is used
            document = load(entry.path)
            for _, tensor in all_tensors(document.proto):
                if document.tensors.is_external(tensor):
                    path = entry.path.parent / location_of(tensor).name
                    found[os.path.realpath(path)] = str(path)
    return found


def _models(entries: Iterable[Input]) -> dict[str, str]:
    """Each file that is read, all links followed, and what it is called."""
    return {os.path.realpath(e.path): e.name for e in entries if e.path is not None}

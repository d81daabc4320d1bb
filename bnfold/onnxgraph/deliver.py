"""Delivering an output: to a path, with its data files before it, or to a stream."""

from __future__ import annotations

import contextlib
import mmap
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from bnfold.errors import BnfoldError, FileError, UsageError
from bnfold.onnxgraph.external import ExternalFiles, location_of
from bnfold.onnxgraph.load import Document, load
from bnfold.onnxgraph.output import MODEL_LIMIT, Form, for_target, in_memory
from bnfold.onnxgraph.ranges import Source, joined, total
from bnfold.onnxgraph.rewrite import Rewrite, all_tensors, has_external_data
from bnfold.onnxgraph.save import require_target, stage, staging, write_stream


@dataclass(frozen=True)
class Delivered:
    """What was written.

    Attributes:
        size: bytes of all files.
        stale: data files of the replaced model that nothing was sure to be allowed to remove.
    """

    size: int
    stale: tuple[Path, ...] = ()


def save(
    document: Document,
    rewrite: Rewrite,
    target: Path,
    form: Form,
    confirm: Callable[[], None] | None = None,
) -> Delivered:
    """Write a model and its data files.

    Data files come first and never replace a file, so that at no moment does a model name data
    that is not its own. The data file of an older model at ``target`` is removed afterwards if
    it is named after it and no model beside it mentions it.

    Args:
        confirm: called when all files are written and none has its name yet; may raise anything.

    Raises:
        FileError: a file cannot be written; nothing is left half written.
        UsageError: all tensors inside would be more than 2 GB.
    """
    require_target(target)
    document.require_unchanged()
    for name, source in document.files.opened.items():
        if source.path is not None and os.path.realpath(source.path) == os.path.realpath(target):
            raise UsageError(f"{target} is the data file {name} of the input {document.name}")
    files = for_target(document, rewrite, target, form)
    before = _data_of(target, document)
    with _folders(target.parent, [path.parent for path, _ in files.data]), staging() as staged:
        for path, pieces in files.data:
            stage(staged, path, pieces)
        stage(staged, target, files.model)
        if confirm is not None:
            confirm()
    return Delivered(files.size, _remove_stale(target, before - set(files.files)))


@contextlib.contextmanager
def _folders(root: Path, folders: list[Path]) -> Iterator[None]:
    """Make the folders of data files below ``root``; remove them again where writing fails."""
    made: list[Path] = []
    try:
        for folder in folders:
            missing = [f for f in (folder, *folder.parents) if root in f.parents and not f.exists()]
            for path in reversed(missing):
                made.append(path)
                try:
                    path.mkdir(exist_ok=True)
                except OSError as error:
                    raise FileError(f"cannot write {path}: {error.strerror or error}") from error
        yield
    except BaseException:
        for path in reversed(made):
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


def parsed(document: Document, rewrite: Rewrite) -> onnx.ModelProto:
    """The whole model in memory, of any size."""
    document.require_unchanged()
    data = joined(in_memory(document, rewrite))
    if len(data) <= MODEL_LIMIT:
        model: onnx.ModelProto = onnx.ModelProto.FromString(data)
        return model
    whole = Document(Source.of_bytes(data), document.name, ExternalFiles(None))
    for _, tensor in all_tensors(whole.proto):
        payload = whole.tensors.payload(tensor)
        if payload is not None:
            del tensor.external_data[-1]
            tensor.raw_data = bytes(payload.data.view())
    loaded: onnx.ModelProto = whole.proto
    return loaded


def write(document: Document, rewrite: Rewrite, stream: Any, form: Form) -> int:
    """Write a model to a stream; returns how many bytes it has.

    Raises:
        UsageError: it has external data that is to stay external.
    """
    if form == "external" or (form == "keep" and has_external_data(document)):
        raise UsageError(
            "a model with external data cannot go to standard output: use --embed, or -o FILE"
        )
    document.require_unchanged()
    pieces = in_memory(document, rewrite)
    write_stream(stream, pieces)
    return total(pieces)


def _data_of(target: Path, document: Document) -> set[str]:
    """The data files that an older model at ``target`` names, as far as they are worth a look."""
    if not target.is_file():
        return set()
    source = document.source.path
    if source is not None and os.path.realpath(source) == os.path.realpath(target):
        return set(document.files.opened)
    if not any(_is_named_after(target, path.name) for path in target.parent.glob("*.data")):
        return set()
    with contextlib.suppress(BnfoldError):
        old = load(target)
        tensors = (tensor for _, tensor in all_tensors(old.proto))
        return {location_of(t).name for t in tensors if old.tensors.is_external(t)}
    return set()


def _is_named_after(target: Path, name: str) -> bool:
    return re.fullmatch(re.escape(target.name) + r"(\.\d+)?\.data", name) is not None


def _remove_stale(target: Path, names: set[str]) -> tuple[Path, ...]:
    left = []
    for name in sorted(names):
        path = target.parent / name
        if _is_named_after(target, name) and not _is_mentioned(path):
            with contextlib.suppress(OSError):
                path.unlink()
        elif path.exists():
            left.append(path)
    return tuple(left)


def _is_mentioned(data: Path) -> bool:
    """Whether a model in the same folder mentions a data file."""
    wanted = data.name.encode()
    for path in data.parent.glob("*.onnx"):
        try:
            with path.open("rb") as stream:
                if os.fstat(stream.fileno()).st_size == 0:
                    continue
                with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                    if mapped.find(wanted) >= 0:
                        return True
        except OSError:
            return True
    return False

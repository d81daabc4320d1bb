"""The files of an output: the model, and its data files where tensors stay external."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import onnx

from bnfold.errors import FileError, ModelError, UsageError
from bnfold.onnxgraph.datafile import DataFile
from bnfold.onnxgraph.external import leads_inside, location_of
from bnfold.onnxgraph.graph import Path as MessagePath
from bnfold.onnxgraph.load import Document
from bnfold.onnxgraph.ranges import Piece, Range, total
from bnfold.onnxgraph.rewrite import (
    NewTensor,
    Rewrite,
    all_tensors,
    embedded,
    external,
    has_external_data,
    model_pieces,
    place,
    without_data,
)
from bnfold.onnxgraph.save import has_content
from bnfold.onnxgraph.wire import GRAPH_INITIALIZER, TENSOR_RAW

Form = Literal["keep", "embed", "external"]
SMALLEST_EXTERNAL = 1024
"""Tensors below this many bytes stay in the model, as in the onnx package."""
MODEL_LIMIT = (1 << 31) - 1
"""A protobuf message, so a model file, cannot be larger than this."""


@dataclass(frozen=True)
class _Placed:
    """A tensor that is external in the output: where it lies in which of the input's files."""

    tensor: NewTensor
    file: str
    offset: int
    length: int
    is_new: bool
    is_open_ended: bool = False


@dataclass
class Output:
    """All files of an output.

    Attributes:
        model: the content of the model file.
        data: path and content of each data file that has to be written.
        files: name -> bytes of each data file that the model reads, written now or not.
    """

    model: list[Piece]
    data: list[tuple[Path, list[Piece]]] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of bytes of all of them."""
        return total(self.model) + sum(self.files.values())


def in_memory(document: Document, rewrite: Rewrite) -> list[Piece]:
    """The model as one message, with every tensor inside that can be read."""
    form: Form = "embed" if document.files.folder is not None else "keep"
    return _Encoder(document, rewrite, form, None).run().model


def for_target(document: Document, rewrite: Rewrite, target: Path, form: Form) -> Output:
    """The files that make up the model at ``target``.

    Raises:
        UsageError: everything inside would be above the 2 GB that a model file can have.
    """
    output = _Encoder(document, rewrite, form, target).run()
    if total(output.model) > MODEL_LIMIT:
        raise UsageError(
            f"{target} would have {total(output.model)} bytes, above the 2 GB limit of a model "
            "file: write it with --external-data"
        )
    return output


class _Encoder:
    def __init__(
        self, document: Document, rewrite: Rewrite, form: Form, target: Path | None
    ) -> None:
        self._document = document
        self._tensors = document.tensors
        self._form = form
        self._target = target
        self._edits = rewrite.edits.copy()
        self._new = rewrite.tensors
        self._changed = {t.path: t for t in rewrite.tensors if t.path is not None}
        self._files: dict[str, DataFile] = {}
        self._placed: list[_Placed] = []

    def run(self) -> Output:
        for path, proto in self._originals():
            if not self._edits.replaces(path):
                self._original(path, proto)
        for tensor in self._new:
            if tensor.path is None:
                self._added(tensor)
        written = self._name_files()
        for placed in self._placed:
            file = self._files[placed.file]
            name = file.name
            has_moved_end = placed.is_open_ended and bool(file.added)
            if placed.is_new or name != placed.file or has_moved_end:
                content = external(placed.tensor.proto, name, placed.offset, placed.length)
                place(self._edits, placed.tensor, content)
        sizes = {file.name: file.size for file in self._files.values()}
        return Output(model_pieces(self._document, self._edits), written, sizes)

    def _originals(self) -> Iterator[tuple[MessagePath, onnx.TensorProto]]:
        is_plain = not self._document.is_derived and not has_external_data(self._document)
        if self._form == "keep" and is_plain:
            for path, tensor in self._changed.items():
                yield path, tensor.proto
        else:
            yield from all_tensors(self._document.proto)

    def _original(self, path: MessagePath, proto: onnx.TensorProto) -> None:
        new = self._changed.get(path)
        if self._tensors.is_external(proto):
            self._was_external(path, proto, new)
            return
        is_initializer = path[-1][0] == GRAPH_INITIALIZER
        if self._form == "external" and is_initializer:
            data = new.data if new is not None else self._raw(proto)
            if data is not None and total(data) >= SMALLEST_EXTERNAL:
                bare = without_data(proto, self._tensors.mark)
                self._move(NewTensor(bare, data, path=path))
                return
        payload = self._tensors.payload(proto)
        if new is not None:
            place(self._edits, new, embedded(new.proto, new.data, TENSOR_RAW))
        elif payload is not None and self._document.is_derived:
            tensor = NewTensor(without_data(proto, self._tensors.mark), [payload.data], path=path)
            place(self._edits, tensor, embedded(tensor.proto, tensor.data, payload.number))

    def _was_external(
        self, path: MessagePath, proto: onnx.TensorProto, new: NewTensor | None
    ) -> None:
        bare = without_data(proto, self._tensors.mark)
        if self._form == "embed" or self._target is None:
            if new is None and self._form == "keep":
                return
            data: list[Piece] = new.data if new is not None else [self._stored(proto)]
            tensor = NewTensor(bare, data, path=path)
            place(self._edits, tensor, embedded(bare, data, TENSOR_RAW))
            return
        if self._document.files.folder is None:
            # Its file is unknown; the reference stays as it is.
            return
        stored, location = self._stored(proto), location_of(proto)
        key, is_open = location.name, location.length is None
        file = self._file(key)
        if new is not None and not self._is_alone(proto, stored):
            self._move(NewTensor(bare, new.data, path=path))
            return
        if new is not None:
            file.patches[stored.start] = new.data
        there = NewTensor(bare, [], path=path)
        self._placed.append(
            _Placed(there, key, stored.start, len(stored), is_new=False, is_open_ended=is_open)
        )

    def _added(self, tensor: NewTensor) -> None:
        is_large = tensor.size >= SMALLEST_EXTERNAL and not tensor.as_node
        has_files = bool(self._files) and self._form == "keep"
        if is_large and self._target is not None and (has_files or self._form == "external"):
            self._move(tensor)
            return
        place(self._edits, tensor, embedded(tensor.proto, tensor.data, TENSOR_RAW))

    def _move(self, tensor: NewTensor) -> None:
        key = next(iter(self._files), "")
        offset = self._file(key).append(tensor.data)
        self._placed.append(_Placed(tensor, key, offset, tensor.size, is_new=True))

    def _file(self, key: str) -> DataFile:
        if key not in self._files:
            source = self._document.files.opened.get(key)
            self._files[key] = file = DataFile()
            if source is not None:
                file.source = Range(source, 0, len(source))
                file.size = len(source)
        return self._files[key]

    def _stored(self, proto: onnx.TensorProto) -> Range:
        stored = self._tensors.stored_range(proto)
        if stored is None:
            raise ModelError(f"tensor {proto.name!r} has no data of its own")
        return stored

    def _raw(self, proto: onnx.TensorProto) -> list[Piece] | None:
        stored = self._tensors.stored_range(proto)
        if stored is not None:
            return [stored]
        return [proto.raw_data] if proto.HasField("raw_data") else None

    def _is_alone(self, proto: onnx.TensorProto, stored: Range) -> bool:
        """Whether no other tensor lies on the same bytes of the data file."""
        return (location_of(proto).name, stored.start) not in self._overlapping

    @cached_property
    def _overlapping(self) -> set[tuple[str, int]]:
        """File and offset of each tensor that shares bytes with another one."""
        places: list[tuple[str, int, int]] = []
        for path, tensor in all_tensors(self._document.proto):
            if self._tensors.is_external(tensor) and not self._edits.replaces(path):
                found = self._stored(tensor)
                places.append((location_of(tensor).name, found.start, found.stop))
        overlapping: set[tuple[str, int]] = set()
        reached, last = -1, ("", -1)
        for name, start, stop in sorted(places):
            if name == last[0] and start < reached:
                overlapping |= {last, (name, start)}
            elif name != last[0]:
                reached = -1
            if stop > reached:
                reached, last = stop, (name, start)
        return overlapping

    def _name_files(self) -> list[tuple[Path, list[Piece]]]:
        """Give each data file a name that overwrites nothing but an equal file."""
        written: list[tuple[Path, list[Piece]]] = []
        if self._target is None:
            return written
        folder, taken = self._target.parent, {self._target.name}
        home = self._document.files.folder
        is_home = home is not None and os.path.realpath(home) == os.path.realpath(folder)
        source = self._document.source.path
        in_place = source is not None and os.path.realpath(source) == os.path.realpath(self._target)
        for key, file in self._files.items():
            if is_home and not file.is_changed and (in_place or not self._changes_anything()):
                file.name = key
                continue
            pieces = file.pieces()
            for name in self._candidates(key, is_home):
                path = folder / name
                if name in taken or not leads_inside(folder, path):
                    continue
                if not os.path.lexists(path):
                    written.append((path, pieces))
                    break
                if has_content(path, pieces) and not (is_home and name == key):
                    break
            else:
                raise FileError(f"cannot find a free name for the data of {self._target}")
            taken.add(name)
            file.name = name
        return written

    def _changes_anything(self) -> bool:
        return bool(self._new) or not self._edits.is_empty

    def _candidates(self, key: str, is_home: bool) -> Iterator[str]:
        assert self._target is not None
        if key and not is_home:
            yield key
        yield f"{self._target.name}.data"
        for number in range(1, 1000):
            yield f"{self._target.name}.{number}.data"

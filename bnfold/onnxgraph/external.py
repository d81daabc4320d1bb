"""External data: where a tensor's bytes lie when they are not in the model file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import onnx

from bnfold.errors import FileError, ModelError
from bnfold.onnxgraph.ranges import Range, Source


@dataclass(frozen=True, slots=True)
class Location:
    """The ``external_data`` entries of one tensor.

    Attributes:
        name: the file, relative to the folder of the model, with ``/`` between its parts, and
            without ``.`` or empty parts, so that one file has one name.
        offset: first byte.
        length: number of bytes, or None for "to the end of the file".
    """

    name: str
    offset: int
    length: int | None


def location_of(tensor: onnx.TensorProto) -> Location:
    """Where the bytes of an external tensor lie, as the model says it.

    Raises:
        ModelError: no location, or numbers that are none.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if not entries.get("location"):
        raise ModelError(f"tensor {tensor.name!r} is external but names no file")
    numbers: dict[str, int | None] = {"offset": 0, "length": None}
    for key in numbers:
        if entries.get(key):
            try:
                numbers[key] = int(entries[key])
            except ValueError:
                numbers[key] = -1
            if (numbers[key] or 0) < 0:
                raise ModelError(
                    f"tensor {tensor.name!r} has {key} {entries[key][:80]!r} in its external data"
                )
    return Location(
        str(PurePosixPath(entries["location"])), numbers["offset"] or 0, numbers["length"]
    )


class ExternalFiles:
    """The data files of one model, each opened once.

    Only files inside the model's own folder are opened: an absolute path, ``..`` or a symbolic
    link that leads out is refused, so that a model cannot make its reader copy other files.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._open: dict[str, Source] = {}

    @property
    def opened(self) -> dict[str, Source]:
        """Location name -> file, in order of first use."""
        return dict(self._open)

    def range_of(self, tensor: onnx.TensorProto, size: int) -> Range:
        """The bytes of an external tensor.

        Args:
            tensor: with ``data_location`` EXTERNAL.
            size: number of bytes that its dims and data type ask for.

        Raises:
            ModelError: it points outside of the model's folder, beyond the file, or its length is
                not ``size``.
            FileError: the file cannot be read.
        """
        where = location_of(tensor)
        if where.length is not None and where.length != size:
            raise ModelError(
                f"tensor {tensor.name!r} needs {size} bytes by its dims, "
                f"but its external data has {where.length}"
            )
        source = self._source(where.name, tensor.name)
        if where.offset + size > len(source):
            raise ModelError(
                f"tensor {tensor.name!r} ends at byte {where.offset + size} of {where.name}, "
                f"which has only {len(source)}"
            )
        return Range(source, where.offset, where.offset + size)

    def _source(self, name: str, tensor: str) -> Source:
        if name not in self._open:
            if self.folder is None:
                raise ModelError(
                    f"the data of tensor {tensor!r} is in the file {name!r}, and the model came "
                    "without its folder: pass the path of the model file instead"
                )
            self._open[name] = Source.of_file(inside(self.folder, name, tensor))
        return self._open[name]


def inside(folder: Path, name: str, tensor: str) -> Path:
    """The path of a data file.

    Raises:
        ModelError: it is not inside ``folder``.
        FileError: it does not exist.
    """
    parts, shown = Path(name), name if len(name) <= 200 else f"{name[:200]}..."
    goes_up = ".." in name.replace("\\", "/").split("/")
    if parts.is_absolute() or goes_up or "\0" in name or parts.drive:
        raise ModelError(
            f"tensor {tensor!r} has its data in {shown!r}, outside of the model's folder"
        )
    path = folder / parts
    try:
        is_inside, exists = leads_inside(folder, path), path.exists()
    except OSError as error:
        raise FileError(
            f"cannot read the data file {shown!r} of tensor {tensor!r}: {error.strerror}"
        ) from error
    if not is_inside:
        raise ModelError(
            f"tensor {tensor!r} has its data in {shown!r}, a link that leads out of the model's "
            "folder"
        )
    if not exists:
        raise FileError(f"the data file {folder / shown} of tensor {tensor!r} does not exist")
    return path


def leads_inside(folder: Path, path: Path) -> bool:
    """Whether a path, with all links followed, is inside of a folder."""
    root = os.path.realpath(folder)
    return os.path.commonpath([root, os.path.realpath(path)]) == root

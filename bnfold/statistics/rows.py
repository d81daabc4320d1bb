"""Samples that lie in files or in memory, of which a batch takes a few rows."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfold.errors import FileError, UsageError
from bnfold.statistics.inputs import InputInfo

Array = npt.NDArray[Any]

_SAMPLED = 1 << 16
"""So many bytes at either end of an array go into its identity."""


class Part:
    """Samples of one file, or of a mapping: arrays with one row for each sample.

    Args:
        name: the file, or what the caller's data is called.
        arrays: input -> values; those without axes belong to every batch as they are.

    Attributes:
        size: number of samples.

    Raises:
        UsageError: the arrays have different numbers of rows, or none has any.
    """

    def __init__(self, name: str, arrays: Mapping[str, Array]) -> None:
        self.name, self.arrays = name, dict(arrays)
        sizes = {key: len(array) for key, array in self.arrays.items() if array.ndim}
        if not sizes:
            raise UsageError(f"{name} has no array with samples in it")
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{key} has {size}" for key, size in sizes.items())
            raise UsageError(f"{name}: every array needs as many samples as the others: {told}")
        self.size = next(iter(sizes.values()))

    def take(self, rows: npt.NDArray[np.int64]) -> dict[str, Array]:
        """Some samples, copied into memory."""
        found: dict[str, Array] = {}
        for key, array in self.arrays.items():
            found[key] = np.asarray(array[rows]) if array.ndim else array
        return found

    def identify(self, hashed: Any) -> None:
        """Put what these samples are into a hash: their shapes, dtypes, and bytes at both ends."""
        for key, array in self.arrays.items():
            hashed.update(repr((key, array.shape, array.dtype.str)).encode())
            if array.size == 0:
                continue
            flat = array.reshape(-1) if array.flags.c_contiguous else array.ravel()
            count = max(1, _SAMPLED // max(1, array.dtype.itemsize))
            for piece in (flat[:count], flat[-count:]):
                hashed.update(np.ascontiguousarray(piece).view(np.uint8).tobytes())


class Rows:
    """The samples of several parts, one after the other.

    Args:
        parts: at least one.

    Raises:
        UsageError: there is no sample, or two parts hold arrays of other shapes or names.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = [part for part in parts if part.size]
        if not self._parts:
            raise UsageError(f"{parts[0].name} is empty" if parts else "there is no data")
        first = self._parts[0]
        for part in self._parts[1:]:
            if _form(part) != _form(first):
                raise UsageError(
                    f"{part.name} has arrays {_told(part)}, and {first.name} {_told(first)}"
                )
        self._ends = np.cumsum([part.size for part in self._parts])
        self.size = int(self._ends[-1])

    def take(self, rows: npt.NDArray[np.int64]) -> dict[str, Array]:
        """Samples by their numbers, in that order."""
        at = np.searchsorted(self._ends, rows, side="right")
        starts = np.concatenate(([0], self._ends[:-1]))
        used = np.unique(at)
        if len(used) == 1:
            return self._parts[int(used[0])].take(rows - starts[used[0]])
        found: dict[str, Array] = {}
        for number in map(int, used):
            mine = np.flatnonzero(at == number)
            for key, values in self._parts[number].take(rows[mine] - starts[number]).items():
                if values.ndim == 0:
                    found[key] = values
                    continue
                if key not in found:
                    found[key] = np.empty((len(rows), *values.shape[1:]), values.dtype)
                found[key][mine] = values
        return found

    def where(self, rows: npt.NDArray[np.int64]) -> str:
        """The parts that hold some samples, for messages."""
        used = np.unique(np.searchsorted(self._ends, rows, side="right"))
        names = [self._parts[number].name for number in used]
        return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"

    def digest(self) -> str:
        """What the data is, whatever it is called and wherever it lies."""
        hashed = hashlib.blake2b(digest_size=16)
        for part in self._parts:
            part.identify(hashed)
        return hashed.hexdigest()


def part_of_mapping(name: str, arrays: Mapping[str, Any], inputs: Sequence[InputInfo]) -> Part:
    """The arrays of the inputs; others, such as labels, are left out.

    Raises:
        UsageError: an input has no array, or it is none.
    """
    found: dict[str, Array] = {}
    for entry in inputs:
        if entry.name not in arrays:
            if len(inputs) == 1 and len(arrays) == 1:
                found[entry.name] = np.asarray(next(iter(arrays.values())))
                continue
            given = ", ".join(map(str, arrays)) or "nothing"
            raise UsageError(f"{name} has no array for input {entry.name!r} (it has: {given})")
        found[entry.name] = np.asarray(arrays[entry.name])
    return Part(name, found)


def part_of_file(path: Path, inputs: Sequence[InputInfo], room: Path) -> Part:
    """The samples of a ``.npy`` or ``.npz`` file, which stay in the file.

    Args:
        path: the file.
        inputs: of the model.
        room: a folder for what has to be decompressed.

    Raises:
        FileError: it cannot be read, is damaged, or holds no numbers.
        UsageError: it has no array for an input.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(6)
        if head == b"\x93NUMPY":
            if len(inputs) != 1:
                names = ", ".join(entry.name for entry in inputs)
                raise UsageError(
                    f"{path} is one array, and the model has the inputs {names}: use an .npz file "
                    "with one array for each"
                )
            return Part(str(path), {inputs[0].name: _mapped(path, path)})
        if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
            return part_of_mapping(str(path), _Members(path, inputs, room).arrays(), inputs)
    except (FileError, UsageError):
        raise
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # NumPy, zipfile and zlib raise what the bytes lead them to
        raise FileError(f"{path} is damaged: {' '.join(str(error).split())}") from error
    raise FileError(f"{path} is no .npy or .npz file")


class _Members:
    """The arrays of an ``.npz`` file, each as a file that can be mapped."""

    def __init__(self, path: Path, inputs: Sequence[InputInfo], room: Path) -> None:
        self._path, self._room = path, room
        self._wanted = {entry.name for entry in inputs}

    def arrays(self) -> dict[str, Array]:
        """Those of the inputs, or all where only one can be meant."""
        with zipfile.ZipFile(self._path) as archive:
            names = [n for n in archive.namelist() if n.endswith(".npy")]
            chosen = [n for n in names if n[:-4] in self._wanted] or names[:1]
            found = {name[:-4]: self._array(archive, name) for name in chosen}
        if len(names) > 1:  # two arrays of other names: which one is meant is not to be guessed
            found |= {n[:-4]: np.empty(0) for n in names if n not in chosen}
        return found

    def _array(self, archive: zipfile.ZipFile, name: str) -> Array:
        number = len(list(self._room.iterdir()))
        target = self._room / f"{number}.npy"
        with archive.open(name) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
        return _mapped(target, self._path)


def _mapped(path: Path, named: Path) -> Array:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" in str(error) or "Python objects" in str(error):
            raise FileError(f"{named} holds Python objects, which are never loaded") from error
        if "empty file" in str(error):
            array = np.load(path, allow_pickle=False)  # no samples: nothing to map
        else:
            raise
    if array.dtype.kind not in "biufcSU":
        raise FileError(f"{named} holds {array.dtype}, which are no numbers")
    return array  # type: ignore[no-any-return]


def _form(part: Part) -> dict[str, tuple[tuple[int, ...], str]]:
    return {key: (array.shape[1:], array.dtype.str) for key, array in part.arrays.items()}


def _told(part: Part) -> str:
    return ", ".join(
        f"{key} of {array.dtype} [n, {', '.join(map(str, array.shape[1:]))}]"
        for key, array in part.arrays.items()
    )

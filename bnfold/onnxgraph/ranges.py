"""Bytes that stay where they are: ranges of files and of memory, and pieces of an output."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bnfold.errors import FileError


class Source:
    """The bytes of one input: a memory-mapped file, or bytes that the caller holds.

    Attributes:
        path: the file, or None for bytes in memory.
        view: all bytes, read-only; of a file, pages are read when they are touched.
    """

    def __init__(self, view: memoryview, path: Path | None = None, fd: int | None = None) -> None:
        self.view = view
        self.path = path
        self._fd = fd
        self._state = _state(fd, path)

    @classmethod
    def of_bytes(cls, data: bytes) -> Source:
        """Bytes that the caller holds."""
        return cls(memoryview(data))

    @classmethod
    def of_file(cls, path: Path) -> Source:
        """A file, mapped and not read.

        Raises:
            FileError: it does not exist, is no regular file, or cannot be read.
        """
        try:
            fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise FileError(f"cannot read {path}: {error.strerror or error}") from error
        except ValueError as error:
            raise FileError(f"cannot read {str(path)!r}: {error}") from error
        try:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                raise FileError(f"cannot read {path}: it is a folder")
            if not stat.S_ISREG(status.st_mode):
                with os.fdopen(fd, "rb") as stream:
                    return cls(memoryview(stream.read()), path)
            if status.st_size == 0:
                return cls(memoryview(b""), path, fd)
            mapped = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            os.close(fd)
            raise FileError(f"cannot read {path}: {error}") from error
        except FileError:
            os.close(fd)
            raise
        return cls(memoryview(mapped), path, fd)

    def __len__(self) -> int:
        return len(self.view)

    def __del__(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def require_unchanged(self) -> None:
        """Refuse to go on with a file that somebody writes to.

        Raises:
            FileError: it was changed since it was opened; a shorter file could not even be read.
        """
        if _state(self._fd, self.path) != self._state:
            raise FileError(f"{self.path} was changed since it was read: start again")

    @property
    def fd(self) -> int | None:
        """The open file, or None for bytes in memory."""
        return self._fd


def _state(fd: int | None, path: Path | None) -> tuple[int, int]:
    if fd is None:
        return 0, 0
    try:
        status = os.fstat(fd)
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error
    return status.st_size, status.st_mtime_ns


Chunk = bytes | memoryview
"""A part of a piece."""


@dataclass(frozen=True, slots=True)
class Range:
    """The bytes ``start`` to ``stop`` of a source."""

    source: Source
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def view(self) -> memoryview:
        """The bytes, without a copy."""
        return self.source.view[self.start : self.stop]

    def chunks(self) -> Iterator[memoryview]:
        """The bytes in pieces of a bounded size."""
        for at in range(self.start, self.stop, CHUNK):
            yield self.source.view[at : min(at + CHUNK, self.stop)]


@dataclass(frozen=True, slots=True)
class Computed:
    """Bytes that are made while they are written, so that they are never all in memory.

    Attributes:
        size: how many there are.
        make: gives them, in pieces of a bounded size.
        watch: gives them to what writes them, and looks at them itself; None where nobody does.
    """

    size: int
    make: Callable[[], Iterator[Chunk]]
    watch: Callable[[Callable[[Chunk], None]], None] | None = None

    def __len__(self) -> int:
        return self.size

    def chunks(self) -> Iterator[Chunk]:
        """The bytes in pieces of a bounded size."""
        return self.make()


Piece = bytes | Range | Computed
CHUNK = 1 << 22


def total(pieces: Sequence[Piece]) -> int:
    """Number of bytes of all pieces."""
    return len(pieces[0]) if len(pieces) == 1 else sum(map(len, pieces))


def give(piece: Piece, put: Callable[[Chunk], None]) -> None:
    """Give the bytes of any piece to what writes them, in pieces of a bounded size."""
    if isinstance(piece, Computed) and piece.watch is not None:
        piece.watch(put)
        return
    for chunk in chunks(piece):
        put(chunk)


def chunks(piece: Piece) -> Iterator[Chunk]:
    """The bytes of any piece, in pieces of a bounded size."""
    if isinstance(piece, bytes):
        yield piece
    else:
        yield from piece.chunks()


def joined(pieces: Sequence[Piece]) -> bytes:
    """All bytes in memory."""
    if len(pieces) == 1 and isinstance(pieces[0], bytes):
        return pieces[0]
    return b"".join(chunk for piece in pieces for chunk in chunks(piece))

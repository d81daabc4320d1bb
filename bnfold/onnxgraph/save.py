"""Saving: whole files or none. A new file appears under its name only when all of it is on disk."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bnfold.errors import FileError
from bnfold.onnxgraph.ranges import CHUNK, Chunk, Computed, Piece, Range, chunks, give, total
from bnfold.onnxgraph.threads import side_by_side

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
BUFFER = 1 << 16
"""Smaller pieces are written together."""


class Staged:
    """A file that is written, but does not stand under its name yet."""

    def __init__(self, temporary: Path, target: Path) -> None:
        self.temporary = temporary
        self.target = target


@contextlib.contextmanager
def staging() -> Iterator[list[Staged]]:
    """Write any number of files with ``stage``, then give them their names in order.

    Whatever fails before that leaves no file behind and every old file whole. Where a file is
    replaced, all of them are on the disk first, so that not even a power failure loses the old
    one; where none is, there is nothing to lose, and the system writes in its own time.
    """
    staged: list[Staged] = []
    new: list[Staged] = []
    try:
        yield staged
        is_replacing = any(entry.target.exists() for entry in staged)
        for entry in staged if is_replacing else ():
            _bring_to_disk(entry)
        for entry in staged:
            if not entry.target.exists():
                new.append(entry)
            try:
                os.replace(entry.temporary, entry.target)
            except OSError as error:
                raise _cannot_write(entry.target, error) from error
        for folder in {entry.target.parent for entry in staged} if is_replacing else ():
            _sync_folder(folder)
    finally:
        # What is on disk decides, for an interrupt can come between any two steps: once the last
        # file has its name the output is complete, else none of the new ones may stay.
        is_complete = bool(staged) and not staged[-1].temporary.exists()
        leftover = [entry.temporary for entry in staged if entry.temporary.exists()]
        if not is_complete:
            leftover += [entry.target for entry in new if not entry.temporary.exists()]
        for path in leftover:
            with contextlib.suppress(OSError):
                path.unlink()


def stage(staged: list[Staged], target: Path, pieces: Sequence[Piece]) -> None:
    """Write a file beside its target under a temporary name.

    Raises:
        FileError: the folder is missing or read-only, the disk is full, the target is a folder.
    """
    require_target(target)
    temporary = target.with_name(f".{target.name[:100]}.{os.urandom(8).hex()}.tmp")
    # Before there is a file, for an interrupt can come as soon as there is one.
    staged.append(Staged(temporary, target))
    try:
        handle = os.open(temporary, _NEW, 0o600)
    except OSError as error:
        raise _cannot_write(target, error) from error
    try:
        try:
            _write(handle, pieces)
            temporary.chmod(_mode_of(target))
        finally:
            os.close(handle)
    except OSError as error:
        raise _cannot_write(target, error) from error


def _bring_to_disk(entry: Staged) -> None:
    try:
        handle = os.open(entry.temporary, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise _cannot_write(entry.target, error) from error


def require_target(target: Path) -> None:
    """Refuse a path that cannot take a new file.

    A symbolic link is refused, because both ways to go on would surprise somebody: to replace
    the link, or to change a file of another name (a model cache keeps its files behind links).

    Raises:
        FileError: it is a link, a folder or a device, its name is impossible, or its folder is
            missing.
    """
    if "\0" in str(target):
        raise FileError(f"cannot write {str(target)!r}: a name cannot hold a null byte")
    try:
        if target.is_symlink():
            raise FileError(
                f"cannot write {target}: it is a symbolic link to {target.readlink()}; "
                "name the file itself"
            )
        if not target.parent.is_dir():
            raise FileError(f"cannot write {target}: the folder {target.parent} does not exist")
        if target.is_dir():
            raise FileError(f"cannot write {target}: it is a folder")
        if target.exists() and not target.is_file():
            raise FileError(f"cannot write {target}: it is no regular file")
    except OSError as error:
        raise _cannot_write(target, error) from error


def has_content(path: Path, pieces: Sequence[Piece]) -> bool:
    """Whether a file holds exactly these bytes."""
    try:
        if path.stat().st_size != total(pieces):
            return False
        with path.open("rb") as stream:
            return all(
                stream.read(len(chunk)) == chunk for piece in pieces for chunk in chunks(piece)
            )
    except OSError:
        return False


def write_stream(stream: Any, pieces: Sequence[Piece]) -> None:
    """Write all pieces to an open binary stream, such as standard output."""
    for piece in pieces:
        for chunk in chunks(piece):
            stream.write(chunk)
    stream.flush()


def _write(handle: int, pieces: Sequence[Piece]) -> None:
    size = total(pieces)
    at = 0
    small = bytearray()
    computed: list[tuple[int, Computed]] = []

    def put(chunk: Chunk) -> None:
        nonlocal small
        if len(chunk) < BUFFER:
            small += chunk
            if len(small) < BUFFER:
                return
            chunk = b""
        _write_all(handle, small)
        small.clear()
        _write_all(handle, chunk)

    for piece in pieces:
        if isinstance(piece, bytes) and len(piece) < BUFFER:
            at += len(piece)
            small += piece
            if len(small) >= BUFFER:
                _write_all(handle, small)
                small.clear()
            continue
        if isinstance(piece, Range) and len(piece) >= CHUNK and piece.source.fd is not None:
            _write_all(handle, small)
            small.clear()
            _copy(piece, handle, at)
            at += len(piece)
            os.lseek(handle, at, os.SEEK_SET)
            continue
        if isinstance(piece, Computed) and len(piece) >= CHUNK:
            _write_all(handle, small)
            small.clear()
            computed.append((at, piece))
            at += len(piece)
            os.lseek(handle, at, os.SEEK_SET)
            continue
        at += len(piece)
        give(piece, put)
    _write_all(handle, small)
    _write_computed(handle, computed)
    if os.fstat(handle).st_size < size:
        os.ftruncate(handle, size)


def _write_computed(handle: int, placed: Sequence[tuple[int, Computed]]) -> None:
    """Write large computed pieces at their places, two side by side where that can be: one is
    computed while the other is written, and neither holds Python's lock."""
    if len(placed) < 2 or not hasattr(os, "pwrite"):
        for at, piece in placed:
            os.lseek(handle, at, os.SEEK_SET)
            give(piece, partial(_write_all, handle))
        return
    side_by_side(lambda one: _write_at(handle, *one), placed, 2)


def _write_at(handle: int, at: int, piece: Computed) -> None:
    def put(chunk: Chunk) -> None:
        nonlocal at
        with memoryview(chunk) as whole:
            done = 0
            while done < len(whole):
                with whole[done:] as rest:
                    done += os.pwrite(handle, rest, at + done)
            at += done

    give(piece, put)


def _write_all(handle: int, chunk: bytes | bytearray | memoryview) -> None:
    with memoryview(chunk) as whole:
        done = 0
        while done < len(whole):
            with whole[done:] as rest:
                done += os.write(handle, rest)


def _copy(piece: Range, handle: int, at: int) -> None:
    """Copy a range of a file inside the kernel where it can, leaving holes as holes."""
    source = piece.source.fd
    assert source is not None
    position = piece.start
    while position < piece.stop:
        start, stop = _next_data(source, position, piece.stop)
        here = start
        while here < stop:
            copied = _copy_some(source, handle, here, at + here - piece.start, stop - here)
            if copied == 0:
                raise OSError(errno.EIO, "the input file became shorter while it was read")
            here += copied
        position = stop


def _next_data(source: int, position: int, stop: int) -> tuple[int, int]:
    """The next stretch of a file that is no hole; ``(stop, stop)`` where only holes are left."""
    if not hasattr(os, "SEEK_DATA"):
        return position, stop
    try:
        start = os.lseek(source, position, os.SEEK_DATA)
        return min(start, stop), min(os.lseek(source, start, os.SEEK_HOLE), stop)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return stop, stop
        return position, stop


def _copy_some(source: int, target: int, start: int, at: int, count: int) -> int:
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(source, target, min(count, 1 << 30), start, at)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
                raise
    data = os.pread(source, min(count, CHUNK), start)
    os.lseek(target, at, os.SEEK_SET)
    _write_all(target, data)
    return len(data)


def _mode_of(target: Path) -> int:
    """The permissions of the file that is replaced, or those of any new file."""
    try:
        return target.stat().st_mode & 0o7777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _cannot_write(target: Path, error: OSError) -> FileError:
    reason = error.strerror or str(error)
    name = str(target)
    return FileError(f"cannot write {name if len(name) < 300 else f'{name[:300]}...'}: {reason}")

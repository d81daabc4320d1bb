"""What --dim, --batch, --level, --input and --feeds stand for: sizes, and arrays from files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bnfold.errors import FileError, UsageError
from bnfold.measuring.levels import LEVELS, Level

LARGEST = 2**31 - 1
"""The largest size that a dimension may be given."""
_NUMBERS_AND_TEXT = "biufcSU"
"""The kinds of NumPy dtypes that a feed may have."""

Array = npt.NDArray[Any]


def dims_of(arguments: Sequence[str]) -> dict[str, int]:
    """``NAME=SIZE`` as a mapping.

    Raises:
        UsageError: one is something else, or a name comes twice.
    """
    sizes: dict[str, int] = {}
    for argument in arguments:
        name, equals, size = argument.rpartition("=")
        if not equals or not name:
            raise UsageError(f"--dim {argument}: it has to be NAME=SIZE")
        if not _is_size(size):
            raise UsageError(f"--dim {argument}: a size is a whole number from 1 to {LARGEST}")
        if name in sizes:
            raise UsageError(f"--dim gives {name} twice")
        sizes[name] = int(size)
    return sizes


def sizes_of(option: str, arguments: Sequence[str]) -> list[int]:
    """``1,8`` and ``32`` as a list, in the order given.

    Raises:
        UsageError: one is no size, or comes twice.
    """
    sizes: list[int] = []
    for word in _words(arguments):
        if not _is_size(word):
            raise UsageError(f"{option} {word}: a size is a whole number from 1 to {LARGEST}")
        if int(word) in sizes:
            raise UsageError(f"{option} gives {word} twice")
        sizes.append(int(word))
    return sizes


def levels_of(arguments: Sequence[str]) -> tuple[Level, ...]:
    """``disable,all`` and ``basic`` as levels in their own order; all of them if there is none.

    Raises:
        UsageError: one is no level, or comes twice.
    """
    words = _words(arguments)
    for word in words:
        if word not in LEVELS:
            raise UsageError(f"--level {word}: it has to be one of {', '.join(LEVELS)}")
        if words.count(word) > 1:
            raise UsageError(f"--level gives {word} twice")
    return tuple(level for level in LEVELS if level in words or not words)


def arrays_of(arguments: Sequence[str]) -> dict[str, Array]:
    """``NAME=FILE.npy`` as a mapping.

    Raises:
        UsageError: one is something else, or a name comes twice.
        FileError: a file cannot be read, or is no ``.npy`` file of numbers.
    """
    arrays: dict[str, Array] = {}
    for argument in arguments:
        name, _, path = argument.partition("=")
        if not name or not path:
            raise UsageError(f"--input {argument}: it has to be NAME=FILE.npy")
        if name in arrays:
            raise UsageError(f"--input gives {name} twice")
        loaded = _loaded(Path(path))
        if not isinstance(loaded, np.ndarray):
            raise UsageError(f"--input {argument}: {path} is an .npz file: use --feeds {path}")
        arrays[name] = loaded
    return arrays


def feed_of(path: Path) -> dict[str, Array]:
    """The arrays of one ``.npz`` file by their names.

    Raises:
        UsageError: it is an ``.npy`` file.
        FileError: it cannot be read, is no ``.npz`` file of numbers, or holds no array.
    """
    loaded = _loaded(path)
    if isinstance(loaded, np.ndarray):
        raise UsageError(f"--feeds {path}: it is an .npy file: use --input NAME={path}")
    if not loaded:
        raise FileError(f"{path} has no arrays")
    return dict(loaded)


def files_of(arguments: Sequence[str], feeds: Sequence[Path]) -> list[Path]:
    """The files that --input and --feeds name."""
    return [*(Path(path) for _, _, path in (a.partition("=") for a in arguments) if path), *feeds]


def require_amount(option: str, value: float | None) -> None:
    """Refuse a tolerance that is none.

    Raises:
        UsageError: it is negative, infinite or NaN.
    """
    if value is not None and not (math.isfinite(value) and value >= 0):
        raise UsageError(f"{option} {value:g}: it has to be a finite number of at least 0")


def _words(arguments: Sequence[str]) -> list[str]:
    return [word.strip() for argument in arguments for word in argument.split(",")]


def _is_size(text: str) -> bool:
    is_number = text.isascii() and text.isdigit() and len(text) <= 10
    return is_number and 1 <= int(text) <= LARGEST


def _loaded(path: Path) -> Array | Mapping[str, Array]:
    """An ``.npy`` file as an array, an ``.npz`` file as a mapping; never a pickle."""
    try:
        with path.open("rb") as stream:
            head = stream.read(6)
            stream.seek(0)
            if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
                with np.load(stream, allow_pickle=False) as found:
                    return {str(name): _numbers(path, found[name]) for name in found}
            if head == b"\x93NUMPY":
                return _numbers(path, np.load(stream, allow_pickle=False))
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"cannot read {path}: {error.strerror or error}") from error
    except MemoryError as error:
        raise FileError(f"{path} holds an array that does not fit into memory") from error
    except Exception as error:  # NumPy, zipfile and zlib raise what the bytes lead them to
        if "allow_pickle" in str(error):
            raise FileError(f"{path} holds Python objects, which are never loaded") from error
        raise FileError(f"{path} is damaged: {' '.join(str(error).split())}") from error
    raise FileError(f"{path} is no .npy or .npz file")


def _numbers(path: Path, value: Any) -> Array:
    if not isinstance(value, np.ndarray):
        raise FileError(f"{path} has an entry that is no array")
    if value.dtype.kind not in _NUMBERS_AND_TEXT:
        raise FileError(f"{path} holds {value.dtype}, which are no numbers")
    return value

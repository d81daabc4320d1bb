"""Where mini-batches come from: files, folders, functions, arrays, and whatever yields batches."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bnfold.errors import BnfoldError, FileError, UsageError
from bnfold.statistics.inputs import Feed, InputInfo, feed_of, require_finite
from bnfold.statistics.rows import Part, Rows, part_of_file, part_of_mapping

BATCH_SIZE: Final = 32
"""Samples in a batch, where neither the caller nor the model says it."""


class Batches:
    """Mini-batches, each a mapping of input -> values in the dtype of the input.

    Only the batch that is asked for is in memory.

    Attributes:
        name: what messages call the data.
        total: how many batches there are, or None where nobody knows.
        can_repeat: whether they can be read more than once, in the same order.
        key: equal for the same batches in the same order; ``""`` where that cannot be told.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[int], Iterator[Feed]],
        *,
        total: int | None = None,
        can_repeat: bool = True,
        key: str = "",
    ) -> None:
        self.name, self.total, self.can_repeat, self.key = name, total, can_repeat, key
        self._read = read

    def __iter__(self) -> Iterator[Feed]:
        return self._read(0)

    def after(self, count: int) -> Iterator[Feed]:
        """The batches without the first ``count``."""
        return self._read(count)


def batches_of(
    data: Any,
    *,
    inputs: Sequence[InputInfo],
    batch_size: int | None = None,
    batches: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    drop_last: bool = False,
) -> Batches:
    """Mini-batches of some data.

    Args:
        data: samples along the first axis, from which batches are cut: a path of a ``.npy`` or
            ``.npz`` file or of a folder of them, a mapping of input -> array, or one array.
            Or batches as they are: ``module:function``, which is called for them, or any iterable
            of mappings, of tuples in the order of the inputs, or of arrays.
        inputs: of the model; see ``inputs_of``.
        batch_size: samples in a batch; by default what the model fixes, or 32. Only for samples.
        batches: at most so many.
        shuffle: take the samples in a random order, one for each seed. Only for samples.
        seed: of that order, not negative.
        drop_last: leave out a last batch that is smaller than the others. Only for samples.

    Raises:
        FileError: a file or folder cannot be read.
        UsageError: the data does not fit the inputs, or an option does not fit the data. Batches
            raise it when they are read, with their number.
    """
    _require_counts(batch_size, batches, seed)
    if isinstance(data, Batches):
        return data
    if isinstance(data, str) and ":" in data and not Path(data).exists():
        _require_samples(data, batch_size, shuffle, drop_last)
        function = _function(data)
        read = _checked_feeds(lambda: _called(function, data), inputs, data, batches)
        return Batches(data, read)
    if not isinstance(data, (str, os.PathLike, Mapping, np.ndarray)):
        return _of_iterable(data, inputs, batch_size, batches, shuffle, drop_last)
    with contextlib.ExitStack() as stack:
        name, rows = _rows(data, inputs, stack)
        size = batch_size or next((i.batch for i in inputs if i.batch), None) or BATCH_SIZE
        order = _Order(rows.size, size, batches, seed if shuffle else None, drop_last, name)
        key = f"{rows.digest()} {order.key}"
        held = stack.pop_all()

    def cut(start: int) -> Iterator[Feed]:
        for number in range(start + 1, order.total + 1):
            mine = order.batch(number - 1)
            where = f"batch {number} of {rows.where(mine)}"
            feed = feed_of(rows.take(mine), inputs, where)
            require_finite(feed, where)
            yield feed

    found = Batches(name, cut, total=order.total, key=key)
    weakref.finalize(found, held.close)
    return found


def _rows(data: Any, inputs: Sequence[InputInfo], stack: contextlib.ExitStack) -> tuple[str, Rows]:
    """What samples are called, and the samples.

    Args:
        stack: closes what they need, when they are no longer read.
    """
    name = "the data"
    if isinstance(data, Mapping):
        return name, Rows([part_of_mapping(name, data, inputs)])
    if isinstance(data, np.ndarray):
        if len(inputs) != 1:
            raise UsageError(f"the data is one array, and the model has {len(inputs)} inputs")
        return name, Rows([Part(name, {inputs[0].name: data})])
    path = Path(os.fsdecode(os.fspath(data)))
    room = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bnfold-")))
    return str(path), Rows(_parts(path, inputs, room))


class _Order:
    """Which samples are in which batch."""

    def __init__(
        self,
        samples: int,
        size: int,
        most: int | None,
        seed: int | None,
        drop_last: bool,
        name: str,
    ) -> None:
        self._samples, self._size, self._seed = samples, size, seed
        self._shuffled: npt.NDArray[np.int64] | None = None
        whole = samples // size if drop_last else -(-samples // size)
        if whole == 0:
            raise UsageError(
                f"{name} has {samples} samples, which is less than one batch of {size}, and a "
                "smaller last batch is dropped"
            )
        self.total = min(whole, most or whole)
        # How many batches are taken of it does not change which they are.
        self.key = f"size={size} seed={seed}"

    def batch(self, number: int) -> npt.NDArray[np.int64]:
        """The samples of a batch, counted from 0."""
        start, stop = number * self._size, min((number + 1) * self._size, self._samples)
        if self._seed is None:
            return np.arange(start, stop)
        if self._shuffled is None:
            self._shuffled = np.random.default_rng(self._seed).permutation(self._samples)
        return self._shuffled[start:stop]


def _of_iterable(
    data: Any,
    inputs: Sequence[InputInfo],
    batch_size: int | None,
    batches: int | None,
    shuffle: bool,
    drop_last: bool,
) -> Batches:
    name = "the data"
    if not isinstance(data, Iterable):
        raise UsageError(
            "data is a path, 'module:function', a mapping of arrays, or an iterable of batches, "
            f"not {type(data).__name__}"
        )
    _require_samples(name, batch_size, shuffle, drop_last)
    can_repeat = not isinstance(data, Iterator)
    try:
        total: int | None = len(data)  # type: ignore[arg-type]
    except TypeError:
        total = None
    if total is not None and batches is not None:
        total = min(total, batches)
    read = _checked_feeds(lambda: data, inputs, name, batches)
    return Batches(name, read, total=total, can_repeat=can_repeat)


def _checked_feeds(
    source: Callable[[], Iterable[Any]],
    inputs: Sequence[InputInfo],
    name: str,
    batches: int | None,
) -> Callable[[int], Iterator[Feed]]:
    def read(start: int) -> Iterator[Feed]:
        items = itertools.islice(iter(source()), batches)
        for number in itertools.count(1):
            where = f"batch {number} of {name}"
            try:
                item = next(items)
            except StopIteration:
                return
            except BnfoldError:
                raise
            except Exception as error:  # somebody else's code
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                raise UsageError(f"{where} cannot be read: {reason}") from error
            if number > start:
                feed = feed_of(item, inputs, where)
                require_finite(feed, where)
                yield feed

    return read


def _called(function: Callable[[], Any], name: str) -> Iterable[Any]:
    try:
        made = function()
    except Exception as error:  # somebody else's code
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"{name} failed: {reason}") from error
    if not isinstance(made, Iterable):
        raise UsageError(f"{name} gave {type(made).__name__}, which yields no batches")
    return made


def _function(name: str) -> Callable[[], Any]:
    module, _, attribute = name.rpartition(":")
    if not module or not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise FileError(f"cannot read {name}: there is no such file, nor is it module:function")
    folder = str(Path.cwd())
    with_folder = folder not in sys.path
    if with_folder:
        sys.path.insert(0, folder)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # somebody else's module
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(f"{name} cannot be imported: {reason}") from error
    finally:
        if with_folder and folder in sys.path:
            sys.path.remove(folder)
    if not callable(found):
        raise UsageError(f"{name} is {type(found).__name__}, and cannot be called")
    return found  # type: ignore[no-any-return]


def _parts(path: Path, inputs: Sequence[InputInfo], room: Path) -> list[Part]:
    if not path.is_dir():
        return [part_of_file(path, inputs, room)]
    files = sorted(p for p in path.iterdir() if p.suffix in (".npy", ".npz") and p.is_file())
    if not files:
        raise FileError(f"the folder {path} has no .npy or .npz file in it")
    return [part_of_file(file, inputs, room) for file in files]


def _require_counts(batch_size: int | None, batches: int | None, seed: int) -> None:
    for name, value in (("batch_size", batch_size), ("batches", batches)):
        if value is not None and value < 1:
            raise UsageError(f"{name} is {value}: it has to be at least 1")
    if seed < 0:
        raise UsageError(f"seed is {seed}: it has to be at least 0")


def _require_samples(name: str, batch_size: int | None, shuffle: bool, drop_last: bool) -> None:
    given = {"batch_size": batch_size is not None, "shuffle": shuffle, "drop_last": drop_last}
    wrong = [option for option, is_given in given.items() if is_given]
    if wrong:
        raise UsageError(
            f"{name} gives batches as they are: {' and '.join(wrong)} would need single samples"
        )

"""Batches on an executor: few in flight, results in the order of the batches."""

from __future__ import annotations

import copy
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from typing import Any, Generic, TypeVar

from bnfold.errors import BnfoldError, UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    executor: Executor,
    work: Callable[[Item], Result | None],
    items: Iterable[Item],
    *,
    in_flight: int,
    again: Callable[[Item], Item],
    first: int = 1,
) -> Iterator[Result]:
    """The results of work on items, in the order of the items, whoever is done first.

    An item is taken from ``items`` only when fewer than ``in_flight`` are submitted and not handed
    out. Where the items end with an error, the results of those before it come first.

    Args:
        executor: any; a process or another machine has to be able to unpickle work and items.
        work: one argument.
        items: batches.
        in_flight: at least 1.
        again: what to send in place of an item whose work gave None.
        first: the number of the first batch in messages.

    Raises:
        BnfoldError: work on a batch failed, or a worker died and nobody did its work again; the
            message names the batch. What is in flight then is cancelled.
    """
    waiting: deque[_Batch[Item, Result]] = deque()
    failure: Exception | None = None
    number, source = first, iter(items)

    def next_result() -> Result:
        """Of the batch that was submitted first, which then is no longer in flight."""
        while (result := waiting[0].result()) is None:
            for batch in waiting:  # others that are done may have given None, too
                if batch.has_given_none():
                    batch.submit(executor, work, again(batch.item))
        waiting.popleft()
        return result

    try:
        while True:
            if len(waiting) >= in_flight:
                yield next_result()
            try:
                item = next(source)
            except StopIteration:
                break
            except Exception as error:
                failure = error
                break
            waiting.append(_Batch(number, item))
            del item  # so that the batch lives only as long as it is in flight
            waiting[-1].submit(executor, work, waiting[-1].item)
            number += 1
        while waiting:
            yield next_result()
    finally:
        for batch in waiting:
            batch.cancel()
    if failure is not None:
        raise failure


def require_executor(executor: Any) -> None:
    """Refuse what is no executor.

    Raises:
        UsageError: it is no ``concurrent.futures.Executor``.
    """
    if not isinstance(executor, Executor):
        raise UsageError(
            f"executor is of type {type(executor).__name__}: it has to be a "
            "concurrent.futures.Executor, such as what dask's Client.get_executor() returns"
        )


def batches_in_flight(executor: Executor) -> int:
    """How many batches keep all workers of an executor busy: two for each."""
    workers = getattr(executor, "_max_workers", None)  # of the pools of the standard library
    return 2 * (workers if isinstance(workers, int) else os.cpu_count() or 1)


class _Batch(Generic[Item, Result]):
    """A batch in flight."""

    def __init__(self, number: int, item: Item) -> None:
        self.number, self.item = number, item
        self._future: Future[Result | None] = Future()

    def submit(self, executor: Executor, work: Callable[[Item], Result | None], item: Item) -> None:
        try:
            self._future = executor.submit(work, item)
        except Exception as error:  # a broken pool, or one that was shut down
            self._future = Future()
            self._future.set_exception(error)  # those before it have their turn first

    def result(self) -> Result | None:
        """Wait for it."""
        try:
            return self._future.result()
        except (Exception, CancelledError) as error:
            raise _named(self.number, error) from error

    def has_given_none(self) -> bool:
        """Whether it is done, without a result and without an error."""
        future = self._future
        if not future.done() or future.cancelled():
            return False
        return future.exception() is None and future.result() is None

    def cancel(self) -> None:
        self._future.cancel()


def _named(number: int, error: BaseException) -> BnfoldError:
    """The error of one batch, which says which."""
    text = " ".join(str(error).split())
    if isinstance(error, BnfoldError):
        named = copy.copy(error)
        named.args = (text if text.startswith(f"batch {number}:") else f"batch {number}: {text}",)
        return named
    if isinstance(error, CancelledError):
        return BnfoldError(f"batch {number} was cancelled: the executor lost it or was shut down")
    if isinstance(error, BrokenExecutor):
        return BnfoldError(f"batch {number}: a worker of the executor died: {text}")
    return BnfoldError(f"batch {number}: {type(error).__name__}: {text}")

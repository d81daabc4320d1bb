"""Batches on executors: how many are in flight, in which order they come, what fails how."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest

from bnfold.errors import BnfoldError, FileError, ModelError, UsageError
from bnfold.statistics.dispatch import batches_in_flight, in_order, require_executor


def same(item: Any) -> Any:
    return item


class ByHand(Executor):
    """Runs nothing until it is told to."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.futures.append(future)
        return future

    def has(self, number: int) -> bool:
        """Wait until so many batches were submitted."""
        end = time.monotonic() + 20
        while len(self.futures) < number and time.monotonic() < end:
            time.sleep(0.001)
        return len(self.futures) >= number


class Batch:
    """Something that a weak reference can be made to."""

    def __init__(self, number: int) -> None:
        self.number = number


def late_if_early(number: int) -> int:
    time.sleep(0.02 if number % 3 == 0 else 0.0)
    return number * number


def die(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def fail(number: int) -> int:
    if number == 3:
        raise ModelError("the first axis has\n one value")
    if number == 5:
        raise KeyError("x")
    return number


def test_results_come_in_the_order_of_the_batches() -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(in_order(pool, late_if_early, range(20), in_flight=8, again=same))
    assert found == [number * number for number in range(20)]


def test_a_batch_is_read_only_when_there_is_room_for_it() -> None:
    executor, drawn = ByHand(), []

    def batches() -> Iterator[int]:
        for number in range(6):
            drawn.append(number)
            yield number

    results = in_order(executor, late_if_early, batches(), in_flight=3, again=same)
    got: list[int] = []
    reader = threading.Thread(target=lambda: got.extend(results))
    reader.start()
    for number in range(6):
        assert executor.has(number + 1)
        assert len(drawn) <= number + 3
        executor.futures[number].set_result(number)
    reader.join()
    assert got == list(range(6))


def test_a_batch_is_let_go_when_its_result_is_handed_out() -> None:
    alive: list[weakref.ref[Batch]] = []
    most = 0

    def batches() -> Iterator[Batch]:
        for number in range(20):
            batch = Batch(number)
            alive.append(weakref.ref(batch))
            yield batch
            del batch

    with ThreadPoolExecutor(2) as pool:
        for _ in in_order(pool, lambda batch: batch.number, batches(), in_flight=4, again=same):
            most = max(most, sum(reference() is not None for reference in alive))
    assert 1 <= most <= 6  # those in flight, and what each thread and the generator still hold


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (range(5), "batch 4: the first axis has one value"),
        ([0, 1, 5], "batch 3: KeyError: 'x'"),
    ],
)
def test_an_error_names_the_batch_and_cancels_the_rest(items: Any, message: str) -> None:
    got: list[int] = []
    with ThreadPoolExecutor(1) as pool, pytest.raises(BnfoldError) as caught:
        got.extend(in_order(pool, fail, items, in_flight=2, again=same))
    assert str(caught.value) == message
    assert got == [number for number in items if number not in (3, 5)][: len(got)]
    assert isinstance(caught.value, ModelError) == ("axis" in message)
    assert caught.value.__cause__ is not None


def test_work_that_wants_more_is_given_more() -> None:
    lock, knows, asked = threading.Lock(), set[int](), []

    def work(item: tuple[int, bool]) -> int | None:
        number, has_all = item
        with lock:
            thread = threading.get_ident()
            if has_all:
                knows.add(thread)
            elif thread not in knows:
                asked.append(number)
                return None
        time.sleep(0.005)
        return number

    items = ((number, False) for number in range(30))
    with ThreadPoolExecutor(3) as pool:
        found = in_order(pool, work, items, in_flight=6, again=lambda item: (item[0], True))
        assert list(found) == list(range(30))
    assert 1 <= len(asked) <= 3 * 6  # not every batch goes twice


def test_an_error_waits_for_its_turn_while_others_are_sent_again() -> None:
    def work(item: tuple[int, bool]) -> int | None:
        number, has_all = item
        if number == 2:
            raise ModelError("no")
        return number if has_all else None

    got: list[int] = []
    items = ((number, False) for number in range(5))
    with ThreadPoolExecutor(1) as pool, pytest.raises(ModelError, match=r"^batch 3: no$"):
        got.extend(in_order(pool, work, items, in_flight=5, again=lambda i: (i[0], True)))
    assert got == [0, 1]


def test_what_was_not_begun_is_cancelled() -> None:
    executor = ByHand()
    results = in_order(executor, fail, range(9), in_flight=3, again=same)
    reader = threading.Thread(target=lambda: next(results))
    reader.start()
    assert executor.has(3)
    executor.futures[0].set_result(0)
    reader.join()
    results.close()  # type: ignore[attr-defined]
    assert [future.cancelled() for future in executor.futures] == [False, True, True]


def test_batches_before_a_bad_one_still_count() -> None:
    def batches() -> Iterator[int]:
        yield from range(4)
        raise FileError("batch_5.npy is damaged")

    got: list[int] = []
    with ThreadPoolExecutor(2) as pool, pytest.raises(FileError, match=r"^batch_5\.npy is damaged"):
        got.extend(in_order(pool, late_if_early, batches(), in_flight=3, again=same))
    assert got == [0, 1, 4, 9]


def test_a_process_that_dies_is_an_error_that_names_the_batch() -> None:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as pool, pytest.raises(BnfoldError) as caught:
        list(in_order(pool, die, range(6), in_flight=3, again=same))
    assert re.match(r"batch [1-3]: a worker of the executor died: ", str(caught.value))


def test_an_executor_that_was_shut_down_is_an_error() -> None:
    with ThreadPoolExecutor(1) as pool:
        pass
    with pytest.raises(BnfoldError, match="batch 1: RuntimeError: cannot schedule new futures"):
        list(in_order(pool, fail, range(6), in_flight=3, again=same))
    cancelled = ByHand()
    results = in_order(cancelled, fail, range(2), in_flight=1, again=same)
    threading.Timer(0.05, lambda: cancelled.futures[0].cancel()).start()
    with pytest.raises(BnfoldError, match=r"^batch 1 was cancelled: "):
        next(results)


def test_two_batches_for_each_worker_are_in_flight() -> None:
    with ThreadPoolExecutor(3) as pool:
        assert batches_in_flight(pool) == 6
    assert batches_in_flight(ByHand()) == 2 * (os.cpu_count() or 1)


@pytest.mark.parametrize("thing", [4, "tcp://host:8786", map, ThreadPoolExecutor])
def test_what_is_no_executor_is_refused(thing: Any) -> None:
    with pytest.raises(UsageError, match=f"^executor is of type {type(thing).__name__}: it has"):
        require_executor(thing)

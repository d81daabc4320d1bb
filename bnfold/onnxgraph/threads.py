"""Work on large arrays and files side by side: neither NumPy nor the system holds Python's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def side_by_side(work: Callable[[T], object], items: Iterable[T], threads: int) -> None:
    """Do the same to each item, several at a time, and wait for all.

    Floating-point errors are silent in it. The first failure is raised; what has not begun then
    does not begin any more.
    """
    from concurrent.futures import ThreadPoolExecutor  # it takes a while to import

    def silent(item: T) -> None:
        with np.errstate(all="ignore"):  # each thread has its own
            work(item)

    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(silent, item) for item in items]
        try:
            for future in futures:
                future.result()
        finally:
            for future in futures:
                future.cancel()

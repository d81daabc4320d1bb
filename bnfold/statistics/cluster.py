"""A dask.distributed cluster as an executor."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterator
from concurrent.futures import Executor
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from bnfold.errors import UsageError

_PATIENCE: Final = 10.0
"""Seconds in which a scheduler has to answer, and then have a worker."""


@contextlib.contextmanager
def connected(address: str) -> Iterator[tuple[Executor, int]]:
    """The workers of a cluster as an executor, and how many batches to have in flight.

    The batches of a worker that dies are done again by others.

    Args:
        address: of the scheduler, such as ``tcp://host:8786``, or the path of its scheduler file,
            which ends in ``.json``.

    Raises:
        UsageError: dask.distributed is not installed, no scheduler answers at the address, or it
            has no workers.
    """
    try:
        distributed, config = import_module("distributed"), import_module("dask.config")
    except ImportError as error:
        raise UsageError("--dask needs dask.distributed: pip install 'bnfold[dask]'") from error
    where = _of_file(Path(address)) if address.endswith(".json") else address
    # A client that nobody answers leaves a thread that complains when the program ends.
    try:
        asyncio.run(asyncio.wait_for(_greet(distributed, where), _PATIENCE))
    except (OSError, ValueError, asyncio.TimeoutError) as error:
        text = " ".join(str(error).split()) or f"timed out after {_PATIENCE:g} s"
        raise UsageError(f"--dask {address}: no scheduler answers: {text}") from error
    # A model of more than 10 MB goes to each worker once, which is no cause for a warning.
    quiet = {"distributed.admin.large-graph-warning-threshold": "1TB"}
    with (
        config.set(quiet),
        _silenced("distributed.client"),
        distributed.Client(where, set_as_default=False) as client,
    ):
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except (TimeoutError, asyncio.TimeoutError) as error:
            raise UsageError(f"--dask {address}: the scheduler has no workers") from error
        yield client.get_executor(pure=False), 2 * sum(client.nthreads().values())


@contextlib.contextmanager
def _silenced(name: str) -> Iterator[None]:
    """Let a logger say nothing: where the scheduler is gone, the error that is raised says so."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


async def _greet(distributed: Any, address: str) -> None:
    """Ask who is there; only a scheduler will do."""
    async with distributed.rpc(address) as remote:
        identity = await remote.identity()
    if identity.get("type") != "Scheduler":
        raise ValueError(f"a {identity.get('type')} is there")


def _of_file(path: Path) -> str:
    """The address in a scheduler file."""
    try:
        return str(json.loads(path.read_text())["address"])
    except OSError as error:
        raise UsageError(f"--dask {path}: cannot read it: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--dask {path}: it is no scheduler file of dask") from error

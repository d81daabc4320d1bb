"""``bnfold.insert``: steps 1 to 5 of Algorithm 2, in the setting that changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.errors import UsageError
from bnfold.onnxgraph.load import Document, load

if TYPE_CHECKING:
    from bnfold.statistics.data import Batches
    from bnfold.statistics.inputs import Feed
    from bnfold.statistics.insertion import Insertion, InsertResult
    from bnfold.statistics.moments import Moments

Progress = Callable[[float, str], None]
"""Takes the part that is done, from 0 to 1, and what goes on, in words."""


def insert(
    model: Any,
    data: Any,
    *,
    where: str = "before-activation",
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    remove_bias: bool = False,
    estimator: str = "paper",
    batch_size: int | None = None,
    batches: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    drop_last: bool = False,
    threads: int = 0,
    progress: Progress | None = None,
    name: str | None = None,
    base_dir: str | os.PathLike[str] | None = None,
) -> InsertResult:
    """Insert a BatchNormalization behind each linear operator, so that the function stays as it is.

    Each gets ``E`` and ``Var`` of its data, ``beta = E`` and ``gamma = sqrt(Var + epsilon)``. So
    it can be trained, re-estimated on other data, or folded again, which gives back the model.

    Args:
        model: as the model of ``fold``. It is not changed.
        data: what the model is run on: a path of ``.npy`` or ``.npz`` files, ``module:function``,
            a mapping of input -> array, one array, or any iterable of batches.
        where: ``before-activation``: right behind the operator and its bias; or
            ``after-activation``: behind the activation that alone reads its output.
        only: shell patterns of names of operators; if there are any, others get no norm.
        skip: shell patterns of names of operators that get no norm.
        remove_bias: let the norm add what the operator's bias adds, which it makes redundant.
        estimator: ``paper``: means over the batches of their means and unbiased variances, or
            ``population``: mean and unbiased variance of all values together.
        batch_size: samples in a batch; what the model fixes, or 32, by default.
        batches: at most so many.
        shuffle, seed: take the samples in a random order, one for each seed.
        drop_last: leave out a last batch that is smaller.
        threads: of onnxruntime, within an operator; 0 for its own choice.
        progress: is called with the part that is done, from 0 to 1, and with what goes on.
        name: what the report calls the model; its path by default.
        base_dir: the folder of external data; that of the path by default.

    Returns:
        A result with ``.model``, ``.report``, ``.save(path)`` and ``.verify()``.

    Raises:
        FileError: a file cannot be read.
        ModelError: the model is damaged, older than opset 7, cannot be run by onnxruntime, or
            makes values of the data that are not finite.
        UsageError: the data does not fit the model, an option contradicts another or is out of
            range, or there is no onnxruntime.

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), Algorithm 2, steps 1 to 5, and section 3.
    """
    # This is part of what every command imports, and only it needs these.
    from bnfold.onnxgraph.collection import collection_paused
    from bnfold.statistics.data import batches_of
    from bnfold.statistics.inputs import inputs_of
    from bnfold.statistics.inserted import WHERES
    from bnfold.statistics.insertion import Insertion
    from bnfold.statistics.moments import ESTIMATORS

    if isinstance(only, str) or isinstance(skip, str):
        raise UsageError("only and skip are lists of patterns, not one string")
    if where not in WHERES:
        raise UsageError(f"where {where!r}: it has to be one of {', '.join(WHERES)}")
    if estimator not in ESTIMATORS:
        raise UsageError(f"estimator {estimator!r}: it has to be one of {', '.join(ESTIMATORS)}")
    if threads < 0:
        raise UsageError(f"threads {threads}: it has to be at least 0")
    if remove_bias and where != "before-activation":
        raise UsageError(
            "a norm behind the activation makes no bias redundant: remove_bias is for norms "
            "before-activation"
        )
    document = load(model, name=name, folder=Path(base_dir) if base_dir is not None else None)
    with collection_paused():
        insertion = Insertion(document, where, tuple(only), tuple(skip))
    feeds = batches_of(
        data,
        inputs=inputs_of(document.proto),
        batch_size=batch_size,
        batches=batches,
        shuffle=shuffle,
        seed=seed,
        drop_last=drop_last,
    )
    moments = _observed(document, insertion, feeds, threads, progress) if insertion.sites else {}
    return insertion.finished(moments, estimator=estimator, remove_bias=remove_bias)


def _observed(
    document: Document,
    insertion: Insertion,
    feeds: Batches,
    threads: int,
    progress: Progress | None,
) -> dict[str, Moments]:
    """The moments of the tensors that are going to be normalised.

    Raises:
        UsageError: there is no batch.
    """
    from bnfold.statistics.observe import observe

    told = _told(feeds, progress)
    moments = observe(document, insertion.tensors, told, threads=threads)
    if not moments:
        raise UsageError(f"{feeds.name} has no batch")
    return moments


def _told(feeds: Batches, progress: Progress | None) -> Iterator[Feed]:
    """The batches, each of which is told when it is asked for."""
    for number, feed in enumerate(feeds, start=1):
        if progress is not None:
            of = f" of {feeds.total}" if feeds.total is not None else ""
            progress((number - 1) / (feeds.total or number), f"batch {number}{of}")
        yield feed

"""``bnfold.insert``: steps 1 to 5 of Algorithm 2, in the setting that changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from onnx import TensorProto

from bnfold.errors import UsageError
from bnfold.onnxgraph.collection import collection_paused
from bnfold.onnxgraph.load import load
from bnfold.statistics.data import Batches, batches_of
from bnfold.statistics.evaluated import observe_in_float64
from bnfold.statistics.inputs import Feed, inputs_of
from bnfold.statistics.inserted import WHERES, Where
from bnfold.statistics.insertion import Insertion, InsertResult
from bnfold.statistics.moments import ESTIMATORS, Estimator, Moments
from bnfold.statistics.observe import observe

Progress = Callable[[int, int | None], None]
"""Takes how many batches were read, and how many there are, or None where nobody knows."""

_LISTED: Final = "a list of patterns, not one string"


def insert(
    model: Any,
    data: Any,
    *,
    where: Where = "before-activation",
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    remove_bias: bool = False,
    estimator: Estimator = "paper",
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
        progress: is called after each batch with the number of batches read, and of all.
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
    if isinstance(only, str) or isinstance(skip, str):
        raise UsageError(f"only and skip are each {_LISTED}")
    _require_one_of("where", where, WHERES)
    _require_one_of("estimator", estimator, ESTIMATORS)
    if remove_bias and where != "before-activation":
        raise UsageError(
            "a norm behind the activation leaves no bias redundant: remove_bias is for "
            "where='before-activation' alone"
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
    moments: dict[str, Moments] = {}
    if insertion.sites:
        told = _told(feeds, progress)
        if any(site.element_type == TensorProto.DOUBLE for site in insertion.sites):
            moments = observe_in_float64(document, insertion.tensors, told)
        else:
            moments = observe(document, insertion.tensors, told, threads=threads)
        if not moments:
            raise UsageError(f"{feeds.name} has no batch")
    return insertion.finished(moments, estimator=estimator, remove_bias=remove_bias)


def _told(feeds: Batches, progress: Progress | None) -> Iterator[Feed]:
    for number, feed in enumerate(feeds, start=1):
        if progress is not None:
            progress(number, feeds.total)
        yield feed


def _require_one_of(option: str, value: str, known: Iterable[str]) -> None:
    words = tuple(known)
    if value not in words:
        raise UsageError(f"{option} is {value!r}: it has to be one of {', '.join(words)}")

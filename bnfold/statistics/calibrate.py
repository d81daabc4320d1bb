"""``bnfold.calibrate``: a model's batch normalisation with the statistics of other data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.errors import UsageError
from bnfold.onnxgraph.load import load

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from bnfold.statistics.data import Batches
    from bnfold.statistics.passes import Source
    from bnfold.statistics.result import CalibrateResult, StrPath


def calibrate(
    model: Any,
    data: Any = None,
    *,
    estimator: str = "paper",
    mode: str = "batch",
    batch_size: int | None = None,
    batches: int | None = None,
    shuffle: bool = False,
    seed: int = 0,
    drop_last: bool = False,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    tolerance: float | None = None,
    merge_stats: Iterable[StrPath] = (),
    save_stats: StrPath | None = None,
    precision: str = "model",
    threads: int = 0,
    executor: Executor | None = None,
    in_flight: int | None = None,
    progress: Callable[[float, str], None] | None = None,
    name: str | None = None,
    base_dir: StrPath | None = None,
) -> CalibrateResult:
    """Estimate mean and variance of every BatchNormalization of a model from data.

    Args:
        model: as the model of ``bnfold.fold``. It is not changed.
        data: a path of a ``.npy`` or ``.npz`` file, or of a folder of them, a mapping of input ->
            array, or one array: samples along the first axis, cut into batches. Or batches as they
            are: ``"module:function"``, which gives them, or any iterable of mappings, of tuples in
            the order of the inputs, or of arrays, such as torch's DataLoader. Arrays beyond the
            inputs, such as labels, are left out. None where all statistics are saved ones.
        estimator: ``paper``, the mean over the batches of their means and unbiased variances
            (Algorithm 2, step 10), or ``population``, mean and unbiased variance of all values
            together.
        mode: ``batch``, every norm normalises by its mini-batch, as in Algorithm 2, or
            ``sequential``, each norm's data is made by the norms before it in inference form, with
            what was estimated for them; that reads the data once for each norm behind another.
        batch_size: samples in a batch; by default what the model fixes, or 32.
        batches: at most so many.
        shuffle: take the samples in a random order.
        seed: of that order, not negative.
        drop_last: leave out a last batch that is smaller than the others.
        only: shell patterns of node names; if there are any, other norms stay as they are.
        skip: shell patterns of node names; norms that match stay as they are.
        tolerance: stop when three batches in a row have moved no estimate by so many standard
            deviations.
        merge_stats: files of ``save_stats``; their batches count too. Batches of the same data
            that are in them are not run again, so an interrupted run goes on.
        save_stats: a file for the statistics, which is also written where the run fails.
        precision: ``model``, onnxruntime computes the layers in the dtypes of the model, or
            ``float64``, everything is evaluated in float64, without onnxruntime; that is exact
            but for the rounding of what is stored, and slower on large models.
        threads: within an operator; 0 for onnxruntime's own choice, with an executor for 1. Only
            for precision ``model``.
        executor: runs the batches: any ``concurrent.futures.Executor``, of threads, of processes,
            or of machines that have bnfold, such as dask's ``Client.get_executor()``. The numbers
            are the same, since the batches are merged in their order.
        in_flight: how many batches the executor has at a time, and so how many are in memory;
            by default two for each worker of a pool, or for each core of this machine.
        progress: is called with the part that is done, from 0 to 1, and with what goes on.
        name: what the report calls the model; its path by default.
        base_dir: the folder of external data; that of the path by default.

    Returns:
        A result with ``.model``, ``.report`` and ``.save(path)``.

    Raises:
        FileError: a file cannot be read or written.
        ModelError: the model is damaged, has no BatchNormalization, or cannot be run;
            a batch has one value for each channel, or a statistic is not finite.
        UsageError: data or options do not fit the model, or there is no onnxruntime.
        BnfoldError: the executor lost a batch, which the message names.

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), Algorithm 2, steps 7 to 10.
    """
    # This is part of what every command imports, and only it needs these.
    from bnfold.statistics.data import batches_of
    from bnfold.statistics.estimating import estimated
    from bnfold.statistics.inputs import inputs_of
    from bnfold.statistics.options import read_options

    if isinstance(merge_stats, (str, Path)):
        raise UsageError("merge_stats is a list of files, not one path")
    options = read_options(
        estimator=estimator,
        mode=mode,
        only=only,
        skip=skip,
        tolerance=tolerance,
        merge=[Path(path) for path in merge_stats],
        keep=Path(save_stats) if save_stats is not None else None,
        precision=precision,
        threads=threads,
        progress=progress,
    )
    source = _source(executor, in_flight, in_float64=options.precision == "float64")
    document = load(model, name=name, folder=Path(base_dir) if base_dir is not None else None)

    def read_data() -> Batches:
        return batches_of(
            data,
            inputs=inputs_of(document.proto),
            batch_size=batch_size,
            batches=batches,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
        )

    return estimated(document, read_data if data is not None else None, options, source)


def _source(executor: Executor | None, in_flight: int | None, *, in_float64: bool) -> Source:
    from bnfold.statistics.dispatch import require_executor
    from bnfold.statistics.evaluating import evaluated_moments
    from bnfold.statistics.observe import moments_of
    from bnfold.statistics.worker import moments_on

    if executor is None:
        return evaluated_moments if in_float64 else moments_of
    require_executor(executor)
    if in_flight is not None and in_flight < 1:
        raise UsageError(f"in_flight {in_flight}: it has to be at least 1")
    return partial(moments_on, executor, in_flight=in_flight, in_float64=in_float64)

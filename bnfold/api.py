"""The whole program on one screen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import onnx

from bnfold.checking.multiple import MULTIPLE
from bnfold.errors import UsageError
from bnfold.folding.decided import Plan
from bnfold.folding.find import Selection
from bnfold.folding.inline import Analysis, analysed
from bnfold.folding.plan import plan
from bnfold.measuring.levels import LEVELS
from bnfold.onnxgraph import deliver
from bnfold.onnxgraph.collection import collection_paused
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.load import load
from bnfold.onnxgraph.output import Form
from bnfold.onnxgraph.rewrite import Rewrite
from bnfold.result import FoldResult, StrPath
from bnfold.statistics.calibrate import calibrate as calibrate
from bnfold.statistics.insert import insert as insert

if TYPE_CHECKING:
    from bnfold.checking.outcome import VerifyReport
    from bnfold.folding.outcome import Report
    from bnfold.folding.verdict import Verdict
    from bnfold.measuring.outcome import BenchReport


def fold(
    model: Any,
    *,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    assume_inference: bool = False,
    merge_branches: bool = False,
    duplicate: bool = False,
    verify: bool | Literal["when-saved"] = True,
    name: str | None = None,
    base_dir: StrPath | None = None,
) -> FoldResult:
    """Fold every norm of a model that can be folded exactly.

    Args:
        model: a path, ``bytes``, an ``onnx.ModelProto``, or anything with a ``model_proto``, such
            as torch's ``ONNXProgram``. It is not changed.
        only: shell patterns of node names; if there are any, other norms stay.
        skip: shell patterns of node names; norms that match stay.
        assume_inference: read training-mode norms as inference, with their running statistics.
        merge_branches: first turn each sum of parallel branches that is one convolution into one
            Conv, as in RepVGG and MobileOne; this changes the graph more than a fold.
        duplicate: where a norm stays only because others need the values before it, too, fold it
            into a copy of the operator that makes them, if that is cheap to compute twice.
        verify: compare each fold on both sides, in float64, before the result is returned; or
            ``"when-saved"``: large weights while ``save`` writes them, before there is a file.
        name: what the report calls the model; its path by default.
        base_dir: the folder of external data; that of the path by default.

    Returns:
        A result with ``.model``, ``.report`` and ``.save(path)``.

    Raises:
        FileError: the file cannot be read.
        ModelError: it is no ONNX model, or damaged.
        UsageError: ``model`` is of another type, or ``verify`` another text.
        VerificationError: a fold did not pass its check: a bug of bnfold's.

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), Algorithm 2, step 11.
    """
    document = load(model, name=name, folder=Path(base_dir) if base_dir is not None else None)
    if isinstance(only, str) or isinstance(skip, str):
        raise UsageError("only and skip are lists of patterns, not one string")
    if isinstance(verify, str) and verify != "when-saved":
        raise UsageError(f"verify is True, False or 'when-saved', not {verify!r}")
    selection = Selection(tuple(only), tuple(skip))

    def decide(index: Index) -> Plan:
        return plan(index, selection, assume_inference=assume_inference)

    def analyse(index: Index) -> Analysis:
        found = Analysis(index.document, index, decide(index))
        if not duplicate:
            return found
        from bnfold.folding.duplicate import duplicated

        return duplicated(found, decide, selection, assume_inference=assume_inference)

    with collection_paused():
        merged = None
        if merge_branches:
            from bnfold.folding.branches.merge import merge_branches as merge_all

            merged = merge_all(document, selection, assume_inference=assume_inference)
        analysis = analysed(document if merged is None else merged.document, analyse)
        return FoldResult(document, analysis, merged=merged, verify=verify)


def explain(
    model: Any,
    *,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    assume_inference: bool = False,
    merge_branches: bool = False,
    duplicate: bool = False,
    name: str | None = None,
    base_dir: StrPath | None = None,
) -> Report:
    """What ``fold`` would do: for each norm what it folds into, or why it stays.

    Takes the arguments of ``fold`` but ``verify``, raises what it raises, and writes nothing.
    """
    return fold(
        model,
        only=only,
        skip=skip,
        assume_inference=assume_inference,
        merge_branches=merge_branches,
        duplicate=duplicate,
        verify=False,
        name=name,
        base_dir=base_dir,
    ).report


def check(
    model: Any,
    *,
    allow: Iterable[str] = (),
    max_left: int | None = None,
    assume_inference: bool = False,
    name: str | None = None,
    base_dir: StrPath | None = None,
) -> Verdict:
    """Whether a norm is left in a model that could be folded.

    Args:
        model, assume_inference, name, base_dir: as in ``fold``.
        allow: reason codes, and shell patterns of node names, of norms that may stay.
        max_left: how many BatchNormalizations may be left in all, or None for any number.

    Returns:
        A verdict with ``.is_clean``, and the norms that made it a no.
    """
    from bnfold.folding.verdict import judged

    report = explain(model, assume_inference=assume_inference, name=name, base_dir=base_dir)
    return judged(report, allow, max_left)


def verify(
    original: Any,
    folded: Any,
    *,
    feeds: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    inputs: Mapping[str, Any] | None = None,
    dims: Mapping[str, int] | None = None,
    trials: int = 1,
    seed: int = 0,
    max_ulp_noise: float = MULTIPLE,
    rtol: float | None = None,
    atol: float | None = None,
    runtime: bool = True,
    name: tuple[str, str] | None = None,
    base_dir: StrPath | None = None,
) -> VerifyReport:
    """Whether two models are the same function, whoever made the second.

    Both are evaluated in float64, whatever they store. They are the same if they differ, in every
    output, in every channel, and in every part between tensors that both have, by no more than a
    small multiple of what rounding the weights that differ once moves. Then both run in
    onnxruntime, where the second must not be further from the float64 values than the first.

    Args:
        original, folded: as the model of ``fold``.
        feeds: real data, input -> values in the shape of the input; or several of these.
        inputs: values of single inputs, used in every drawn feed.
        dims: sizes of symbolic dimensions.
        trials: how often each kind of random data is drawn.
        seed: of all random draws, not negative.
        max_ulp_noise: how many units of rounding are still the same function.
        rtol, atol: if one is given, the outputs are judged by
            ``|folded - original| <= atol + rtol |original|`` instead, the other one being 0.
        runtime: whether to run both models in onnxruntime.
        name: what the report calls the two models; their paths by default.
        base_dir: the folder of external data of both; those of the paths by default.

    Returns:
        A report with ``.is_same``, ``.verdict``, and where the models differ first.

    Raises:
        FileError: a file cannot be read.
        ModelError: one is no ONNX model, is damaged, or cannot be evaluated.
        UsageError: data does not fit the inputs or is missing, a number is out of range, or there
            is no onnxruntime.
    """
    # The evaluator takes a while to import, and only this needs it.
    from bnfold.checking.options import read_options
    from bnfold.checking.verify import verify as verified

    options = read_options(
        feeds=feeds,
        inputs=inputs,
        dims=dims,
        trials=trials,
        seed=seed,
        max_ulp_noise=max_ulp_noise,
        rtol=rtol,
        atol=atol,
        runtime=runtime,
    )
    folder = Path(base_dir) if base_dir is not None else None
    names = name or (None, None)
    return verified(
        load(original, name=names[0], folder=folder),
        load(folded, name=names[1], folder=folder),
        options,
    )


def benchmark(
    original: Any,
    folded: Any = None,
    *,
    levels: Sequence[str] = LEVELS,
    threads: int = 1,
    batch: Iterable[int] | None = None,
    dims: Mapping[str, int] | None = None,
    feeds: Mapping[str, Any] | None = None,
    inputs: Mapping[str, Any] | None = None,
    provider: str = "cpu",
    duration: float = 2.0,
    profile: bool = False,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
    name: tuple[str, str] | None = None,
    base_dir: StrPath | None = None,
) -> BenchReport:
    """How much faster a folded model is in onnxruntime, where, and from the first run or not.

    Both have to be the same function, by ``verify``; if not, nothing is timed. A process holds
    both models and runs them in turn, so that a busy machine is unfair to neither.

    Args:
        original: as the model of ``fold``.
        folded: another one; the fold of ``original`` by default.
        levels: of onnxruntime's optimiser, which folds some norms itself: ``disable``, ``basic``,
            ``extended``, ``all``.
        threads: within an operator.
        batch: sizes of the batch dimension, which is the first of the inputs; the size that the
            model has, or 1, by default.
        dims: sizes of symbolic dimensions.
        feeds: real data, input -> values in the shape of the input, for every input; random
            numbers by default.
        inputs: values of single inputs.
        provider: ``cpu``, ``cuda``, or what else onnxruntime has.
        duration: seconds for each level and batch.
        profile: whether to measure the time of each operator type too.
        seed: of the random inputs and of the bootstrap, not negative.
        progress: is called with the part that is done, from 0 to 1, and with what goes on.
        name: what the report calls the two models; their paths by default.
        base_dir: the folder of external data of both; those of the paths by default.

    Returns:
        A report with ``.is_same``, and a row in ``.cells`` for each level and batch.

    Raises:
        FileError: a file cannot be read, or a temporary one not written.
        ModelError: one is no ONNX model, is damaged, or onnxruntime cannot load or run it.
        UsageError: an option does not fit the model or is out of range, or there is no
            onnxruntime.
        VerificationError: a fold did not pass its check: a bug of bnfold's.
    """
    # The evaluator takes a while to import, and only this needs it.
    from bnfold.checking.runtime import on_disk, require_installed
    from bnfold.measuring.benchmark import benchmark as measured
    from bnfold.measuring.options import read_options as read_bench_options

    options = read_bench_options(
        levels=levels,
        threads=threads,
        batch=batch,
        dims=dims,
        feeds=feeds,
        inputs=inputs,
        provider=provider,
        duration=duration,
        profile=profile,
        seed=seed,
    )
    require_installed()
    folder = Path(base_dir) if base_dir is not None else None
    names = name or (None, None)
    if folded is not None:
        documents = [
            load(model, name=label, folder=folder)
            for model, label in zip((original, folded), names, strict=True)
        ]
        return measured(documents[0], documents[1], options, progress)
    result = fold(original, name=names[0], base_dir=base_dir)
    with on_disk(result.analysis.document, result.rewrite) as path:
        label = names[1] or f"{result.original.name} folded"
        own = result.report.checked
        return measured(result.original, load(path, name=label), options, progress, own=own)


def save(
    model: FoldResult | onnx.ModelProto | bytes, path: StrPath, *, form: Form = "keep"
) -> None:
    """Write a model, all of it or nothing.

    Args:
        model: the result of ``fold``, or any model in memory.
        path: the file; an older one there is replaced when the new one is whole.
        form: ``keep`` leaves each tensor inside or outside of the model file as it was, ``embed``
            puts all inside, ``external`` puts large ones into ``<path>.data``.

    Raises:
        FileError: the file cannot be written; an older one is untouched.
        UsageError: all tensors inside would be more than 2 GB.
    """
    if isinstance(model, FoldResult):
        model.save(path, form=form)
    else:
        deliver.save(load(model), Rewrite(), Path(path), form)

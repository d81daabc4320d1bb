"""The whole program on one screen."""

from __future__ import annotations

import contextlib
import gc
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx

from bnfold.checking.outcome import MULTIPLE, VerifyReport
from bnfold.errors import UsageError
from bnfold.folding.apply import Applied, apply
from bnfold.folding.find import Selection
from bnfold.folding.inline import Analysis, analysed
from bnfold.folding.outcome import RegionsChecked, Report
from bnfold.folding.plan import plan
from bnfold.folding.summary import summarised
from bnfold.folding.verdict import Verdict, judged
from bnfold.onnxgraph import deliver
from bnfold.onnxgraph.load import Document, load
from bnfold.onnxgraph.output import Form
from bnfold.onnxgraph.rewrite import Rewrite

StrPath = str | os.PathLike[str]


class FoldResult:
    """A folded model that is not written yet.

    Attributes:
        analysis: the model with its plan.
        stale: after ``save``, the data files of a replaced model that it did not remove.
    """

    def __init__(self, document: Document, analysis: Analysis, *, verify: bool = True) -> None:
        self.analysis = analysis
        self._original = document
        self._document = analysis.document
        self._applied: Applied = apply(analysis.index, analysis.plan.folds)
        self._checked: RegionsChecked | None = None
        if verify:
            # The evaluator takes a while to import, and explaining needs none.
            from bnfold.checking.regions import check_regions

            self._checked = check_regions(analysis, self._applied)
        self._bytes_after: int | None = None
        self.stale: tuple[Path, ...] = ()

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The folded model in memory; the argument of ``fold`` is not changed.

        External data is read into it, where its folder is known.
        """
        return deliver.parsed(self._document, self.rewrite)

    @property
    def rewrite(self) -> Rewrite:
        """Everything that changes in the model."""
        return self._applied.rewrite

    @cached_property
    def report(self) -> Report:
        """What was folded into what, and why each other norm stays."""
        report = summarised(self._original, self.analysis, self._applied, self._bytes_after)
        return replace(report, checked=self._checked)

    def verify(self, **options: Any) -> VerifyReport:
        """Whether the folded model is the same function as the original one, as a whole.

        Takes the options of ``bnfold.verify``, raises what it raises, and holds both models in
        memory.
        """
        original = deliver.parsed(self._original, Rewrite())
        options.setdefault("name", (self._original.name, f"{self._original.name} folded"))
        return verify(original, self.model, **options)

    def save(self, path: StrPath, *, form: Form = "keep") -> None:
        """Write the folded model; see ``bnfold.save``."""
        target = Path(path)
        delivered = deliver.save(self._document, self.rewrite, target, form)
        self._bytes_after, self.stale = delivered.size, delivered.stale
        self.__dict__.pop("report", None)

    def write(self, stream: Any, *, form: Form = "keep") -> None:
        """Write the folded model to an open binary stream.

        Raises:
            UsageError: the model has external data, and ``form`` is not ``embed``.
        """
        self._bytes_after = deliver.write(self._document, self.rewrite, stream, form)
        self.__dict__.pop("report", None)


def fold(
    model: Any,
    *,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    assume_inference: bool = False,
    verify: bool = True,
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
        verify: compare each fold on both sides, in float64, before the result is returned.
        name: what the report calls the model; its path by default.
        base_dir: the folder of external data; that of the path by default.

    Returns:
        A result with ``.model``, ``.report`` and ``.save(path)``.

    Raises:
        FileError: the file cannot be read.
        ModelError: it is no ONNX model, or damaged.
        UsageError: ``model`` is of another type.
        VerificationError: a fold did not pass its check: a bug of bnfold's.

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), Algorithm 2, step 11.
    """
    document = load(model, name=name, folder=Path(base_dir) if base_dir is not None else None)
    if isinstance(only, str) or isinstance(skip, str):
        raise UsageError("only and skip are lists of patterns, not one string")
    selection = Selection(tuple(only), tuple(skip))
    with _collection_paused():
        analysis = analysed(
            document, lambda index: plan(index, selection, assume_inference=assume_inference)
        )
        return FoldResult(document, analysis, verify=verify)


@contextlib.contextmanager
def _collection_paused() -> Iterator[None]:
    """No garbage collection while an index is built: it would walk every node again and again.

    Measured on 30,000 nodes: 40 % of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def explain(
    model: Any,
    *,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    assume_inference: bool = False,
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
    from bnfold.checking.options import Closeness, Options
    from bnfold.checking.verify import verify as verified

    for label, value in (("max_ulp_noise", max_ulp_noise), ("rtol", rtol), ("atol", atol)):
        if value is not None and not 0 <= value < math.inf:
            raise UsageError(f"{label} is {value}: it has to be a number, and not negative")
    if seed < 0 or trials < 0:
        raise UsageError(f"seed is {seed} and trials is {trials}: they cannot be negative")
    folder = Path(base_dir) if base_dir is not None else None
    names = name or (None, None)
    closeness = None
    if rtol is not None or atol is not None:
        closeness = Closeness(rtol or 0.0, atol or 0.0)
    options = Options(
        feeds=[feeds] if isinstance(feeds, Mapping) else list(feeds or ()),
        inputs=dict(inputs or {}),
        dims=dict(dims or {}),
        trials=trials,
        seed=seed,
        multiple=max_ulp_noise,
        closeness=closeness,
        runtime=runtime,
    )
    return verified(
        load(original, name=names[0], folder=folder),
        load(folded, name=names[1], folder=folder),
        options,
    )


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

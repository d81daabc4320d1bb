"""A folded model that is not written yet."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import onnx

from bnfold.folding.apply import Applied, apply
from bnfold.folding.inline import Analysis
from bnfold.folding.outcome import RegionsChecked, Report
from bnfold.folding.summary import summarised
from bnfold.onnxgraph import deliver
from bnfold.onnxgraph.collection import collection_paused
from bnfold.onnxgraph.load import Document, load
from bnfold.onnxgraph.output import Form
from bnfold.onnxgraph.rewrite import Rewrite

if TYPE_CHECKING:
    from bnfold.checking.outcome import VerifyReport
    from bnfold.checking.regions import RegionsCheck
    from bnfold.folding.branches.merge import Merged


StrPath = str | os.PathLike[str]


class FoldResult:
    """A folded model that is not written yet.

    Attributes:
        original: the model as it was given.
        analysis: the model with its plan.
        stale: after ``save``, the data files of a replaced model that it did not remove.
    """

    def __init__(
        self,
        document: Document,
        analysis: Analysis,
        *,
        merged: Merged | None = None,
        verify: bool | Literal["when-saved"] = True,
    ) -> None:
        self.analysis = analysis
        self.original = document
        self._document = analysis.document
        self._merged = merged
        self._applied: Applied = apply(analysis.index, analysis.plan)
        self._checked: RegionsChecked | None = None
        self._check: RegionsCheck | None = None
        if verify:
            # The evaluator takes a while to import, and explaining needs none.
            from bnfold.checking.regions import RegionsCheck

            self._check = RegionsCheck(analysis, self._applied)
            if verify == "when-saved":
                self._check.watch()
            else:
                self._finish_check()
        self._bytes_after: int | None = None
        self.stale: tuple[Path, ...] = ()

    def _finish_check(self) -> None:
        """Compare what was not compared yet.

        Raises:
            VerificationError: a fold did not pass its check: a bug of bnfold's.
        """
        if self._check is None:
            return
        checked = self._check.finish()
        if self._merged is not None:
            from bnfold.checking.merged import check_merged

            checked = checked.together(check_merged(self._merged))
        self._checked, self._check = checked, None

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The folded model in memory; the argument of ``fold`` is not changed.

        External data is read into it, where its folder is known.
        """
        self._finish_check()
        return deliver.parsed(self._document, self.rewrite)

    @property
    def rewrite(self) -> Rewrite:
        """Everything that changes in the model."""
        return self._applied.rewrite

    @cached_property
    def report(self) -> Report:
        """What was folded into what, and why each other norm stays."""
        self._finish_check()
        with collection_paused():
            report = summarised(
                self.original, self.analysis, self._applied, self._bytes_after, self._merged
            )
        return replace(report, checked=self._checked)

    def verify(self, **options: Any) -> VerifyReport:
        """Whether the folded model is the same function as the original one, as a whole.

        Takes the options of ``bnfold.verify``, raises what it raises, and holds both models in
        memory.
        """
        # The evaluator takes a while to import, and only this needs it.
        from bnfold.checking.options import read_options
        from bnfold.checking.verify import verify as verified

        names = options.pop("name", None) or (self.original.name, f"{self.original.name} folded")
        base_dir = options.pop("base_dir", None)
        folder = Path(base_dir) if base_dir is not None else None
        read = read_options(**options)
        original = deliver.parsed(self.original, Rewrite())
        return verified(
            load(original, name=names[0], folder=folder),
            load(self.model, name=names[1], folder=folder),
            read,
        )

    def save(self, path: StrPath, *, form: Form = "keep") -> None:
        """Write the folded model; see ``bnfold.save``."""
        target = Path(path)
        confirm = self._finish_check
        delivered = deliver.save(self._document, self.rewrite, target, form, confirm)
        self._bytes_after, self.stale = delivered.size, delivered.stale
        self.__dict__.pop("report", None)

    def write(self, stream: Any, *, form: Form = "keep") -> None:
        """Write the folded model to an open binary stream.

        Raises:
            UsageError: the model has external data, and ``form`` is not ``embed``.
        """
        self._finish_check()
        self._bytes_after = deliver.write(self._document, self.rewrite, stream, form)
        self.__dict__.pop("report", None)

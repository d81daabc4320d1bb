"""A calibrated model that is not written yet."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx

from bnfold.onnxgraph import deliver
from bnfold.onnxgraph.load import Document
from bnfold.onnxgraph.output import Form
from bnfold.onnxgraph.rewrite import Rewrite
from bnfold.statistics.outcome import CalibrateReport

StrPath = str | os.PathLike[str]


class CalibrateResult:
    """A model with the statistics of its data, which is not written yet.

    Attributes:
        original: the model as it was given.
        rewrite: everything that changes in it.
        report: what became of each norm.
        stale: after ``save``, the data files of a replaced model that it did not remove.
    """

    def __init__(self, document: Document, rewrite: Rewrite, report: CalibrateReport) -> None:
        self.original, self.rewrite, self.report = document, rewrite, report
        self.stale: tuple[Path, ...] = ()

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The calibrated model in memory; the argument of ``calibrate`` is not changed.

        External data is read into it, where its folder is known.
        """
        return deliver.parsed(self.original, self.rewrite)

    def save(self, path: StrPath, *, form: Form = "keep") -> None:
        """Write the calibrated model; see ``bnfold.save``."""
        self.stale = deliver.save(self.original, self.rewrite, Path(path), form).stale

    def write(self, stream: Any, *, form: Form = "keep") -> None:
        """Write the calibrated model to an open binary stream.

        Raises:
            UsageError: the model has external data, and ``form`` is not ``embed``.
        """
        deliver.write(self.original, self.rewrite, stream, form)

"""A model with inserted norms that is not written yet."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from bnfold.checking.outcome import VerifyReport
from bnfold.errors import ModelError
from bnfold.folding.summary import document_size
from bnfold.onnxgraph import deliver
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.load import Document, load
from bnfold.onnxgraph.output import Form, in_memory
from bnfold.onnxgraph.ranges import total
from bnfold.onnxgraph.rewrite import Rewrite
from bnfold.statistics.identity import EPSILON
from bnfold.statistics.inserted import InsertReport, LeftOut, Where
from bnfold.statistics.inserting import Estimate, require_opset, write_norms
from bnfold.statistics.moments import Estimator, Moments
from bnfold.statistics.sites import Site, find_sites


class Insertion:
    """The places for norms in one model, before anything is known of its data.

    Attributes:
        document: the model.
        where: on which side of the activation norms go.
        sites: the places, in the order of the data.
        left_out: the linear operators that get no norm.
    """

    def __init__(
        self, document: Document, where: Where, only: Sequence[str] = (), skip: Sequence[str] = ()
    ) -> None:
        self.document, self.where = document, where
        self._index = Index(document)
        require_opset(self._index)
        self.sites: list[Site]
        self.left_out: list[LeftOut]
        self.sites, self.left_out = find_sites(self._index, where, only, skip)

    @property
    def tensors(self) -> list[str]:
        """The tensors whose statistics are needed, each once."""
        return [site.made.name for site in self.sites]

    def finished(
        self,
        moments: Mapping[str, Moments],
        *,
        estimator: Estimator = "paper",
        remove_bias: bool = False,
    ) -> InsertResult:
        """The model with a norm at each place.

        Args:
            moments: of each of ``tensors``, over axis 1.
            estimator: how E and Var follow from them.
            remove_bias: whether norms take over the biases of the operators.

        Raises:
            ModelError: a mean or variance is not finite, or is of other channels.
        """
        statistics = {
            site.made.name: _estimated(site, moments[site.made.name], estimator)
            for site in self.sites
        }
        written = write_norms(self._index, self.sites, statistics, remove_bias=remove_bias)
        nodes = len(self._index.nodes)
        report = InsertReport(
            model=self.document.name,
            where=self.where,
            estimator=estimator,
            epsilon=EPSILON,
            batches=max((m.batches for m in moments.values()), default=0),
            norms=tuple(written.norms),
            left_out=(*self.left_out, *written.left_out),
            nodes_before=nodes,
            nodes_after=nodes + written.nodes_added,
            bytes_before=document_size(self.document),
            bytes_after=0,
        )
        return InsertResult(self.document, written.rewrite, report)


class InsertResult:
    """A model with inserted norms that is not written yet.

    Attributes:
        original: the model as it was given.
        rewrite: everything that changes in it.
        stale: after ``save``, the data files of a replaced model that it did not remove.
    """

    def __init__(self, document: Document, rewrite: Rewrite, report: InsertReport) -> None:
        self.original, self.rewrite = document, rewrite
        self._report = report
        self._bytes_after: int | None = None
        self.stale: tuple[Path, ...] = ()

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The model with its norms in memory; the argument of ``insert`` is not changed.

        External data is read into it, where its folder is known.
        """
        return deliver.parsed(self.original, self.rewrite)

    @property
    def report(self) -> InsertReport:
        """The norms that were inserted, and why other linear operators got none."""
        from dataclasses import replace

        after = self._bytes_after
        if after is None:
            after = document_size(self.original)
            if not self.rewrite.is_empty:
                after += total(in_memory(self.original, self.rewrite))
                after -= total(in_memory(self.original, Rewrite()))
        return replace(self._report, bytes_after=after)

    def verify(self, **options: Any) -> VerifyReport:
        """Whether the model is still the same function.

        Takes the options of ``bnfold.verify``, raises what it raises, and holds both models in
        memory.
        """
        # The evaluator takes a while to import, and only this needs it.
        from bnfold.checking.options import read_options
        from bnfold.checking.verify import verify as verified

        read = read_options(**options)
        name = self.original.name
        return verified(
            load(deliver.parsed(self.original, Rewrite()), name=name),
            load(self.model, name=f"{name} with norms"),
            read,
        )

    def save(self, path: str | os.PathLike[str], *, form: Form = "keep") -> None:
        """Write the model, all of it or nothing; see ``bnfold.save``."""
        delivered = deliver.save(self.original, self.rewrite, Path(path), form)
        self._bytes_after, self.stale = delivered.size, delivered.stale

    def write(self, stream: Any, *, form: Form = "keep") -> None:
        """Write the model to an open binary stream.

        Raises:
            UsageError: the model has external data, and ``form`` is not ``embed``.
        """
        self._bytes_after = deliver.write(self.original, self.rewrite, stream, form)


def _estimated(site: Site, moments: Moments, estimator: Estimator) -> Estimate:
    mean, var = moments.estimate(estimator)
    name = site.made.name
    if mean.shape != (site.channels,):
        raise ModelError(f"{name} has {mean.size} channels in the data, not {site.channels}")
    for what, values in (("mean", mean), ("variance", var)):
        for channel in np.flatnonzero(~np.isfinite(values)):
            raise ModelError(
                f"channel {channel} of {name} has a {what} of {values[channel]:g} on this data"
            )
    return Estimate(mean, var, moments.count)

"""Statistics of float64 models, which onnxruntime has no convolutions for, by the evaluator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from bnfold.errors import ModelError
from bnfold.onnxgraph.load import Document
from bnfold.statistics.inputs import Feed
from bnfold.statistics.moments import Moments, merged_all


def observe_in_float64(
    document: Document, tensors: Sequence[str], feeds: Iterable[Feed]
) -> dict[str, Moments]:
    """As ``observe``, with every float a float64, and without onnxruntime.

    Raises:
        ModelError: an operator is unknown, or a tensor has one value for each channel of a batch.
    """
    # It takes a while to import, and only this needs it.
    from bnfold.reference import Evaluator

    evaluator = Evaluator(document.proto, read=document.tensors.array)
    found: dict[str, Moments] = {}
    for number, feed in enumerate(feeds, start=1):
        made = evaluator.run(feed, tensors)
        part: dict[str, Moments] = {}
        for name, values in made.items():
            axes = tuple(axis for axis in range(values.ndim) if axis != 1)
            m = values.size // values.shape[1] if values.size else 0
            try:
                part[name] = Moments.of_batch(m, values.mean(axes), np.asarray(values.var(axes)))
            except ModelError as error:
                raise ModelError(f"batch {number}, tensor {name!r}: {error}") from error
        found = merged_all([found, part])
    return found

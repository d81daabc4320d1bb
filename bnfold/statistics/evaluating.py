"""Batches computed by the float64 evaluator: on demand, and where onnxruntime has no kernels."""

from __future__ import annotations

from collections.abc import Generator, Iterable

from onnx import TensorProto

from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.load import Document
from bnfold.onnxgraph.types import Types
from bnfold.statistics.inputs import Feed
from bnfold.statistics.moments import Moments
from bnfold.statistics.program import added_prefix, observed_in, read_moments

_RARE = frozenset({TensorProto.DOUBLE, TensorProto.BFLOAT16})


def has_rare_floats(program: Document) -> bool:
    """Whether a model computes in float64 or bfloat16, for which runtimes lack operators.

    Args:
        program: of ``observing``, or of ``training_form``. What those compute does not count.
    """
    index, prefix = Index(program), added_prefix(program.proto)
    types = Types(index)
    return any(
        types.element_type(tensor) in _RARE
        for name, tensor in index.main.tensors.items()
        if tensor.producer is None or not name.startswith(prefix)
    )


def evaluated_moments(
    program: Document, feeds: Iterable[Feed], *, threads: int = 0, first: int = 1
) -> Generator[dict[str, Moments], None, None]:
    """The moments of each batch, in order, with every float a float64.

    Args:
        program: of ``observing``, or of ``training_form``.
        feeds: the batches.
        threads: has no meaning here: NumPy has its own.
        first: the number of the first batch, for messages.

    Raises:
        ModelError: an operator is unknown, a statistic is not finite, or a tensor has one value
            for each channel.
    """
    # It takes a while to import, and only this needs it.
    from bnfold.reference import Evaluator

    evaluator = Evaluator(program.proto, read=program.tensors.array)
    observed = observed_in(program.proto)
    for number, feed in enumerate(feeds, start=first):
        values = evaluator.run(feed)
        yield read_moments(values, observed, f"batch {number}")

"""Mean and variance of tensors of a model, over batches of data."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

from bnfold.checking.runtime import on_disk, require_installed
from bnfold.errors import ModelError
from bnfold.onnxgraph import deliver
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.load import Document, load
from bnfold.onnxgraph.rewrite import Rewrite
from bnfold.onnxgraph.types import Types
from bnfold.statistics.evaluating import evaluated_moments, has_rare_floats
from bnfold.statistics.inputs import Feed
from bnfold.statistics.moments import Moments, merged_all
from bnfold.statistics.program import Program, observed_in, read_moments
from bnfold.statistics.running import CannotLoad, Runner


def observe(
    model: Any, tensors: Sequence[str], feeds: Iterable[Feed], *, threads: int = 0
) -> dict[str, Moments]:
    """The moments of tensors of a model, over axis 1, from some batches.

    Args:
        model: as the model of ``bnfold.fold``, or a ``Document``. It runs as it is, but for
            what the tensors do not need.
        tensors: names in the main graph; float tensors ``(N, C, *spatial)``.
        feeds: the batches, input -> values in the dtypes of the inputs.
        threads: within an operator; 0 for onnxruntime's own choice.

    Raises:
        ModelError: a name is no tensor of the main graph, onnxruntime cannot run the model, a
            statistic is not finite, or a tensor has one value for each channel of a batch.
        UsageError: there is no onnxruntime.
    """
    document = model if isinstance(model, Document) else load(model)
    return merged_all(moments_of(observing(document, tensors), feeds, threads=threads))


def observing(document: Document, tensors: Sequence[str]) -> Document:
    """The model that gives the statistics of some of its tensors, and nothing else.

    Raises:
        ModelError: a name is no tensor of the main graph.
    """
    index = Index(document)
    types, program = Types(index), Program(document)
    for name in dict.fromkeys(tensors):
        tensor = index.main.tensors.get(name)
        if tensor is None:
            raise ModelError(f"{document.name} has no tensor {name!r} in its main graph")
        nodes, _ = program.statistics(name, types.element_type(tensor))
        program.proto.graph.node.extend(nodes)
    return program.finish()


def moments_of(
    program: Document, feeds: Iterable[Feed], *, threads: int = 0, first: int = 1
) -> Generator[dict[str, Moments], None, None]:
    """The moments of each batch, in order, computed in one child process.

    A model in float64 or bfloat16 that onnxruntime does not take, since it lacks an operator in
    that type, is evaluated in float64 here.

    Args:
        program: of ``observing``, or of ``training_form``.
        feeds: the batches; two of them are in memory at a time.
        threads: within an operator; 0 for onnxruntime's own choice.
        first: the number of the first batch, for messages.

    Raises:
        ModelError, UsageError: as ``observe``.
    """
    require_installed()
    observed = observed_in(program.proto)
    wanted = [output for outputs in observed.values() for output in outputs]
    with (
        on_disk(program) as path,
        Runner(
            path, wanted, threads=threads, name=program.name, room=_room_of(path, program)
        ) as runner,
    ):
        try:
            runner.load()
        except CannotLoad:
            if not has_rare_floats(program):
                raise
        else:
            for number, values in enumerate(runner.over(feeds, first), start=first):
                yield read_moments(values, observed, f"batch {number}")
            return
    yield from evaluated_moments(program, feeds, first=first)


def _room_of(path: Path, program: Document) -> Path | None:
    """The temporary folder that ``on_disk`` made for a model; None where that is in a user's."""
    is_ours = program.is_derived and path.parent.name.startswith("bnfold-")
    return path.parent if is_ours else None


def as_bytes(program: Document) -> bytes:
    """A model of ``observing`` or ``training_form`` as one piece, weights included.

    Raises:
        ModelError: it is above the 2 GB that protobuf can hold.
    """
    try:
        data: bytes = deliver.parsed(program, Rewrite()).SerializeToString()
    except ValueError as error:
        raise ModelError(f"{program.name} is above 2 GB: it cannot be sent as a whole") from error
    return data

"""Models that are run for their statistics alone: mean and variance of each channel as outputs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from bnfold.errors import ModelError
from bnfold.onnxgraph.graph import nodes_in
from bnfold.onnxgraph.load import Document
from bnfold.statistics.moments import Moments

OBSERVED: Final = "bnfold.observed"
"""The key of the metadata that lists the tensors whose statistics a model gives."""

_KINDS: Final = ("mean", "var", "shape")
"""The outputs for each tensor: its mean, its biased variance, and its shape."""


class BadStatistic(ModelError):  # noqa: N818
    """A batch has no finite mean and variance of some tensor.

    Args:
        tensor: its name.
        message: which batch it was, and what is wrong.
    """

    def __init__(self, tensor: str, message: str) -> None:
        super().__init__(message)
        self.tensor = tensor

    def __reduce__(self) -> tuple[type[BadStatistic], tuple[str, str]]:
        return BadStatistic, (self.tensor, str(self))


@dataclass(frozen=True)
class Statistics:
    """The tensors that hold the statistics of one tensor x, seen as ``(N, C, L)``.

    Attributes:
        deviations: ``x - mean``, float64.
        var: biased, float64, ``(1, C, 1)``.
        shape: of x.
    """

    deviations: str
    var: str
    shape: str


class Program:
    """A copy of a model, to which nodes are added that compute statistics.

    Attributes:
        proto: the copy; its nodes may be changed before ``finish``.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self.proto = onnx.ModelProto()
        self.proto.CopyFrom(document.proto)
        del self.proto.graph.value_info[:]
        names = {name for node in nodes_in(self.proto.graph.node) for name in node.output}
        names |= {value.name for value in self.proto.graph.input}
        names |= {tensor.name for tensor in self.proto.graph.initializer}
        self._prefix = "bnfold"
        while any(name.startswith(self._prefix) for name in names):
            self._prefix += "_"
        self._opset = document.opset
        self._observed: list[str] = []
        self._count = 0

    def statistics(self, tensor: str, element_type: int) -> tuple[list[onnx.NodeProto], Statistics]:
        """The nodes that compute the statistics of a tensor over every axis but axis 1.

        The variance is the mean of the squared deviations, so nothing cancels. All sums are of
        float64: the runtime adds one value after the other, so that in float32 the variance of
        65,536 values is off by 1e-5.

        Args:
            tensor: ``(N, C, *spatial)``.
            element_type: its ONNX data type.
        """
        at = len(self._observed)
        self._observed.append(tensor)
        nodes: list[onnx.NodeProto] = []

        def add(op_type: str, *inputs: str, output: str = "", **attributes: Any) -> str:
            name = output or self.fresh()
            nodes.append(helper.make_node(op_type, inputs, [name], **attributes))
            return name

        def mean(of: str, output: str) -> str:
            if self._opset >= 18:
                return add("ReduceMean", of, axes, output=output, keepdims=1)
            return add("ReduceMean", of, output=output, axes=[0, 2], keepdims=1)

        layout = self.constant(nodes, [0, 0, -1])
        axes = self.constant(nodes, [0, 2]) if self._opset >= 18 else ""
        source = tensor
        if element_type != TensorProto.DOUBLE:
            source = add("Cast", tensor, to=TensorProto.DOUBLE)
        flat = add("Reshape", source, layout)
        deviations = add("Sub", flat, mean(flat, self._output(at, "mean")))
        var = mean(add("Mul", deviations, deviations), self._output(at, "var"))
        shape = add("Shape", tensor, output=self._output(at, "shape"))
        return nodes, Statistics(deviations, var, shape)

    def constant(self, nodes: list[onnx.NodeProto], values: Sequence[int]) -> str:
        """A constant of whole numbers, whose node goes to ``nodes``."""
        name = self.fresh()
        value = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
        nodes.append(helper.make_node("Constant", [], [name], value=value))
        return name

    def fresh(self) -> str:
        """A name that no tensor has."""
        self._count += 1
        return f"{self._prefix}_{self._count}"

    def finish(self) -> Document:
        """The model with the statistics as its only outputs, and without what they do not need.

        Raises:
            ModelError: the document has a tensor that cannot be moved.
        """
        graph = self.proto.graph
        del graph.output[:]
        for at in range(len(self._observed)):
            for kind in _KINDS:
                # The runtime finds the type by itself.
                graph.output.append(onnx.ValueInfoProto(name=self._output(at, kind)))
        _prune(graph)
        self.proto.metadata_props.add(
            key=OBSERVED, value=json.dumps([self._prefix, self._observed])
        )
        return self._document.with_skeleton(self.proto.SerializeToString())

    def _output(self, at: int, kind: str) -> str:
        return f"{self._prefix}_{kind}_{at}"


def observed_in(model: onnx.ModelProto) -> Mapping[str, Sequence[str]]:
    """The tensors whose statistics a model gives -> the outputs that hold them.

    Raises:
        ModelError: the model was not made by ``Program``.
    """
    prefix, names = _record(model)
    return {name: [f"{prefix}_{kind}_{at}" for kind in _KINDS] for at, name in enumerate(names)}


def added_prefix(model: onnx.ModelProto) -> str:
    """How the names of all tensors begin that ``Program`` added to a model, and no others.

    Raises:
        ModelError: the model was not made by ``Program``.
    """
    prefix, _ = _record(model)
    return f"{prefix}_"


def _record(model: onnx.ModelProto) -> tuple[str, list[str]]:
    for entry in model.metadata_props:
        if entry.key == OBSERVED:
            prefix, names = json.loads(entry.value)
            return prefix, names
    raise ModelError("the model has no outputs with statistics")


def read_moments(
    values: Mapping[str, npt.NDArray[Any]], observed: Mapping[str, Sequence[str]], where: str
) -> dict[str, Moments]:
    """Tensor -> the moments that one run gave.

    Args:
        where: which batch it was, for messages.

    Raises:
        ModelError: a statistic is NaN or infinite, or a tensor has one value for each channel.
    """
    found: dict[str, Moments] = {}
    for name, (mean, var, shape) in observed.items():
        sizes = [int(size) for size in values[shape]]
        m = int(np.prod([sizes[0], *sizes[2:]]))
        means, variances = (values[output].astype(np.float64).reshape(-1) for output in (mean, var))
        bad = np.flatnonzero(~(np.isfinite(means) & np.isfinite(variances)))
        if bad.size:
            raise BadStatistic(
                name,
                f"{where}: channel {bad[0]} of {name} has mean {means[bad[0]]:g} and variance "
                f"{variances[bad[0]]:g}",
            )
        if m < 2:
            raise BadStatistic(
                name,
                f"{where}: {name} has shape {sizes}, so m = N * H * W = {m} value for each "
                "channel, and one value has no variance: take larger batches",
            )
        found[name] = Moments.of_batch(m, means, variances)
    return found


def _prune(graph: onnx.GraphProto) -> None:
    """Remove nodes and initializers that no output needs."""
    maker = {name: at for at, node in enumerate(graph.node) for name in node.output if name}
    needed: set[int] = set()
    names: set[str] = set()
    waiting = [value.name for value in graph.output]
    while waiting:
        name = waiting.pop()
        if name in names:
            continue
        names.add(name)
        at = maker.get(name)
        if at is not None and at not in needed:
            needed.add(at)
            waiting += read_by(graph.node[at])
    for at in reversed(range(len(graph.node))):
        if at not in needed:
            del graph.node[at]
    lost = set()
    for at in reversed(range(len(graph.initializer))):
        if graph.initializer[at].name not in names:
            lost.add(graph.initializer[at].name)
            del graph.initializer[at]
    for at in reversed(range(len(graph.input))):
        if graph.input[at].name in lost:
            del graph.input[at]
    for at in reversed(range(len(graph.sparse_initializer))):
        if graph.sparse_initializer[at].values.name not in names:
            del graph.sparse_initializer[at]
    del graph.quantization_annotation[:]


def read_by(node: onnx.NodeProto) -> Iterator[str]:
    """The names that a node and the graphs inside of it read, outer ones among them."""
    for inner in nodes_in([node]):
        yield from inner.input
        for attribute in inner.attribute:
            graphs = [attribute.g] if attribute.HasField("g") else attribute.graphs
            for graph in graphs:
                yield from (value.name for value in graph.output)

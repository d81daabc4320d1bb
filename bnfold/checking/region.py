"""One folded region: a linear operator and the steps that it takes up, before and after.

The original side is those nodes as the model has them. The folded side is what the edits put in
their place: its names are resolved as the written model will resolve them, its numbers are taken
from the bytes that will be written.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from bnfold.checking.probes import Probe
from bnfold.checking.steps import Step, step_of
from bnfold.checking.written import Original, RegionError, Written
from bnfold.checking.yardstick import format_of, quanta
from bnfold.folding.decided import FoldPlan
from bnfold.onnxgraph.expressions import is_read_by_value
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.rewrite import NewTensor

Array = npt.NDArray[Any]

_CHANGED = {"Conv": (), "ConvTranspose": (), "Gemm": ("beta", "broadcast"), "MatMul": ()}
"""Attributes that a fold may change; they are evaluated on both sides."""
_CROSSED = ("Identity", "Dropout")


class NotByChannelError(RegionError):
    """A step has a value for each element of another axis: equal ones, so the fold may be right."""


class Bias(NamedTuple):
    """What the operator adds on both sides, in the shape of its output, and the unit of the new."""

    before: Array
    after: Array
    unit: Array


class Region:
    """Both sides of one fold.

    Attributes:
        weight: the values before, in the stored dtype.
        new: what the written operator reads in its place.
        before, after: the nodes behind the operator on both sides.
        units: of the constant of each step in ``after``.
        probe: data for the operator.

    Raises:
        NotByChannelError: only a cluster can be compared.
        RegionError: the written side is not what it has to be.
    """

    def __init__(self, fold: FoldPlan, original: Original, written: Written, opset: int) -> None:
        self._original, self._written, self._opset = original, written, opset
        self._node = node = fold.sinks[0].linear.node
        self._nodes = [node]
        for step in fold.steps:
            self._nodes += [*step.crossed, step.node]
        output = fold.steps[-1].output
        assert output is not None
        self._output = output
        self._protos = [(n, p) for n in self._nodes if (p := written.node(n)) is not None]
        weight = node.input(1)
        if weight is None or self._protos[:1] == [] or self._protos[0][0] is not node:
            raise RegionError(f"{node.label} is gone")
        self._linear = self._protos[0][1]
        self._require_private()
        self._require_same_operator()
        self.weight = original.value(weight)
        self._rank = self._find_rank()
        self.probe = Probe(node.proto, self.weight.shape, self._rank)
        self.new = self._new_weight(self._linear.input[1])
        self.before = self._original_steps()
        self._require_channels()
        self.after: list[Step] = []
        self.units: list[Array] = []
        self._read_written_steps()

    def _require_private(self) -> None:
        """Nothing else reads what the region makes on its way, for that changes."""
        made = {name for _, proto in self._protos for name in proto.output}
        for node in self._nodes:
            for tensor in node.outputs:
                if tensor is None or tensor is self._output:
                    continue
                if tensor.is_output:
                    raise RegionError(f"{tensor.name} is an output of the graph")
                for reader in tensor.readers if len(tensor.readers) > 1 else ():
                    if reader in self._nodes:
                        continue
                    proto = self._written.node(reader)
                    is_read = proto is not None and tensor.name in proto.input
                    if is_read and (tensor.name not in made or is_read_by_value(tensor, reader)):
                        raise RegionError(f"{reader.label} still reads {tensor.name}")

    def _require_same_operator(self) -> None:
        """Only weight, bias and output of the operator change."""
        before, after = self._node.proto, self._linear
        if (
            before.op_type != after.op_type
            or before.domain != after.domain
            or before.input[0] != after.input[0]
        ):
            raise RegionError(f"{self._node.label} becomes another operator, or one of other data")
        changed = _CHANGED[self._node.op_type]
        if before.attribute != after.attribute and _kept(before, changed) != _kept(after, changed):
            raise RegionError(f"an attribute of {self._node.label} changes")

    def _find_rank(self) -> int:
        """The number of axes of the output: only that of a MatMul needs looking up.

        Constants broadcast from the last axis on; only a BatchNormalization, and the ``axis`` of
        opsets before 7, count from the first.
        """
        least = len(self.weight.shape)
        if self._node.op_type != "MatMul":
            return least
        steps = self._nodes[1:]
        ranks = [self._rank_of(t) for node in steps for t in node.inputs if t is not None]
        least = max([2, least, *ranks])
        if self._opset >= 7 and all(node.op_type != "BatchNormalization" for node in steps):
            return least
        known = (self._node.input(0), self._node.outputs[0])
        types = self._original.types
        return max([least, *(types.rank(t) or 0 for t in known if t is not None)])

    def _rank_of(self, tensor: Tensor) -> int:
        return 0 if tensor.initializer is None else len(tensor.initializer.dims)

    def _new_weight(self, name: str) -> NewTensor | Array:
        found = self._written.tensor(name, self._node.scope)
        shape, dtype = self.weight.shape, self.weight.dtype.newbyteorder("=")
        if isinstance(found, Tensor):
            values = self._original.value(found)
            if values.shape != shape or values.dtype != self.weight.dtype:
                raise RegionError(f"the weight becomes {name}, of another shape or dtype")
            return values
        if tuple(found.proto.dims) != shape or (
            found.proto.data_type != helper.np_dtype_to_tensor_dtype(dtype)
        ):
            raise RegionError(f"the weight becomes {name}, of another shape or dtype")
        return found

    def _require_channels(self) -> None:
        """The steps of the model act on the operator's channels, and on nothing else."""
        channels = self.probe.spread(np.ones(self.probe.channels)).shape
        for step in self.before:
            constant = step.constants[0].shape
            if step.op_type == "BatchNormalization":
                constant = (*constant, *[1] * (self._rank - 2))
            if not _fits_into(constant, channels):
                raise NotByChannelError(
                    f"a {step.op_type} of shape {list(constant)} is not by channel"
                )

    def _original_steps(self) -> list[Step]:
        found: list[Step] = []
        data = self._node.outputs[0]
        for node in self._nodes[1:]:
            at = node.inputs.index(data)
            others: list[Array] = []
            if node.op_type not in _CROSSED:
                constants = (t for n, t in enumerate(node.inputs) if n != at and t is not None)
                others = [self._original.value(t) for t in constants]
            step = step_of(node.proto, at, others, self._opset, self._rank)
            if step is not None:
                found.append(step)
            data = node.outputs[0]
        if data is not self._output:
            raise RegionError(f"it does not end in {self._output.name}")
        return found

    def _read_written_steps(self) -> None:
        name = self._linear.output[0]
        for node, proto in self._protos[1:]:
            names = list(proto.input)
            if name not in names:
                raise RegionError(f"{node.label} does not read {name}")
            at = names.index(name)
            others: list[Array] = []
            if proto.op_type not in _CROSSED:
                constants = (n for number, n in enumerate(names) if number != at and n)
                others = [self._read(n, node) for n in constants]
            step = step_of(proto, at, others, self._opset, self._rank)
            if step is not None:
                unit = quanta(others[0]) if step.op_type == "Add" else np.zeros(())
                self.units.append(unit.reshape(step.constants[0].shape) if unit.ndim else unit)
                self.after.append(step)
            name = proto.output[0]
        if name != self._output.name:
            raise RegionError(f"nothing makes {self._output.name} any more")

    def _read(self, name: str, node: Node) -> Array:
        return self._written.array(self._written.tensor(name, node.scope))

    def bias(self) -> Bias:
        """What the operator itself adds.

        Raises:
            RegionError: the written bias does not fit.
        """
        probe, found = self.probe, self.bias_values()
        if self._node.op_type == "Gemm":
            spread = [np.atleast_2d(side) for side in found]
            rows = max(len(side) for side in spread)
            return Bias(*(np.broadcast_to(side, (rows, probe.channels)) for side in spread))
        return spread_out(found, probe)

    def bias_values(self) -> Bias:
        """What the operator adds, as it is stored: a value for each channel, or one for all; of a
        Gemm also one for each row."""
        node = self._node
        before, after, unit = np.zeros(1), np.zeros(1), np.zeros(1)
        tensor, factor = node.input(2), _beta(node.proto)
        if tensor is not None and factor != 0.0:
            before = factor * self._original.value(tensor).astype(np.float64)
            if node.op_type != "Gemm" and before.ndim > 1:
                before = before.reshape(len(before), -1)[:, 0]  # an axis too many
        if len(self._linear.input) > 2 and self._linear.input[2]:
            stored = self._read(self._linear.input[2], node)
            factor = _beta(self._linear)
            self._require_bias(stored)
            after, unit = factor * stored.astype(np.float64), abs(factor) * quanta(stored)
        elif not any(step.op_type == "Add" for step in self.after):
            unit = np.full(1, format_of(self.weight.dtype).zero)
        return Bias(before, after, unit)

    def _require_bias(self, stored: Array) -> None:
        channels = self.probe.channels
        fits = stored.shape == (channels,) or stored.size == channels
        if self._node.op_type == "Gemm":
            is_broadcast = any(a.name == "broadcast" and a.i for a in self._linear.attribute)
            if self._opset < 7 and not is_broadcast and stored.ndim != 2:
                raise RegionError("the written C is not broadcast, as it has to be before opset 7")
            fits = stored.ndim <= 2 and stored.shape[-1:] in ((), (1,), (channels,))
        if not fits or stored.dtype != self.weight.dtype:
            raise RegionError(f"the written bias has shape {list(stored.shape)}, or another dtype")


def spread_out(values: Bias, probe: Probe) -> Bias:
    """The same in the shape of an output."""
    ones = np.ones(probe.channels)
    return Bias(*(probe.spread(side.reshape(-1) * ones) for side in values))


def _fits_into(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether one shape is broadcast to another, and not the other way round."""
    pairs = zip(reversed(shape), reversed(other), strict=False)
    return len(shape) <= len(other) and all(n in (1, m) for n, m in pairs)


def _kept(proto: onnx.NodeProto, changed: tuple[str, ...]) -> list[bytes]:
    return sorted(a.SerializeToString() for a in proto.attribute if a.name not in changed)


def _beta(proto: onnx.NodeProto) -> float:
    if proto.op_type != "Gemm":
        return 1.0
    return next((float(a.f) for a in proto.attribute if a.name == "beta"), 1.0)

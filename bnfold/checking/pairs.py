"""A convolution and the BatchNormalization right behind it: so nearly every fold is.

A model of thousands of small layers has thousands of such pairs, and comparing arrays of a few
numbers costs as much as comparing long ones. So pairs of one kind are compared as one: side by
side, convolutions are one convolution of more groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from bnfold.checking.probes import BLOCK, Probe
from bnfold.checking.region import Bias, spread_out
from bnfold.checking.steps import DEFAULT_EPSILON, Step
from bnfold.checking.written import RegionError, Written
from bnfold.checking.yardstick import quanta
from bnfold.folding.decided import FoldPlan, Plan
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.known import raw_data_of, stored_tensor
from bnfold.onnxgraph.ranges import joined
from bnfold.onnxgraph.tensors import PLAIN_FLOATS

Array = npt.NDArray[Any]

_NORM = "BatchNormalization"


class Kind(NamedTuple):
    """What pairs have in common that can be joined.

    Attributes:
        shape, data_type: of the weight.
        group: of the convolution.
        eps: of the norm, in squared units of its data.
        statistics_type: the data type of its parameters.
        has_bias: whether the convolution has one before.
    """

    shape: tuple[int, ...]
    data_type: int
    group: int
    eps: float
    statistics_type: int
    has_bias: bool


class Pair(NamedTuple):
    """Both sides of one pair, as raw bytes of vectors and weights; nothing is computed yet.

    Attributes:
        fold: what the planner decided.
        weight, new: before and after.
        parameters: gamma, beta, mean and var, one after another.
        bias, new_bias: before (``b""`` for none) and after.
    """

    fold: FoldPlan
    weight: bytes
    new: bytes
    parameters: bytes
    bias: bytes
    new_bias: bytes


class Pairs:
    """Finds out which folds are plain pairs on both sides. It takes nodes from the plan, no number.

    Whatever is odd about a fold makes it none: the long way says what it is, and whether it is
    wrong.
    """

    def __init__(self, plan: Plan, written: Written) -> None:
        self._written = written
        self._uses = Counter(sink.linear.node for fold in plan.folds for sink in fold.sinks)

    def read(self, fold: FoldPlan) -> tuple[Kind, Pair] | None:
        """A fold as a pair, or None where it is not one."""
        if len(fold.steps) != 1 or len(fold.sinks) != 1 or fold.direction != "backward":
            return None
        if fold.passed or fold.shared or fold.crossed or fold.operands or fold.fills:
            return None
        conv, norm = fold.sinks[0].linear.node, fold.steps[0].node
        if conv.op_type != "Conv" or conv.domain or norm.op_type != _NORM or norm.domain:
            return None
        if len(norm.inputs) != 5 or len(norm.outputs) != 1 or self._uses[conv] != 1:
            return None
        (made,), (output,) = conv.outputs, norm.outputs
        if made is None or output is None or made.is_output or made.readers != [norm]:
            return None
        eps = _epsilon(norm)
        if made is not norm.inputs[0] or eps is None or fold.changed:
            return None
        try:
            after = self._convolution(conv, norm, output.name)
            return None if after is None else self._numbers(fold, conv, norm, after, eps)
        except RegionError:
            return None

    def _convolution(self, conv: Node, norm: Node, output: str) -> onnx.NodeProto | None:
        """What is written for both: the convolution alone, which makes what the norm made."""
        protos = self._written.nodes(conv)
        if len(protos) != 1 or self._written.nodes(norm):
            return None
        before, after = conv.proto, protos[0]
        inputs, outputs = after.input, after.output
        is_same = (
            after.op_type == before.op_type
            and after.domain == before.domain
            and after.attribute == before.attribute
            and len(inputs) == 3
            and inputs[0] == before.input[0]
            and len(outputs) == 1
            and outputs[0] == output
        )
        return after if is_same else None

    def _numbers(
        self, fold: FoldPlan, conv: Node, norm: Node, after: onnx.NodeProto, eps: float
    ) -> tuple[Kind, Pair] | None:
        inputs = conv.inputs
        weight = stored_tensor(inputs[1]) if inputs[1] is not None else None
        if weight is None:
            return None
        data_type, shape = weight.data_type, tuple(weight.dims)
        if len(shape) < 3 or data_type not in PLAIN_FLOATS:
            return None
        channels = shape[0]
        data, new = raw_data_of(weight), self._after(after.input[1], conv, data_type, shape)
        new_bias = self._after(after.input[2], conv, data_type, (channels,))
        if data is None or new is None or new_bias is None:
            return None
        bias: bytes | None = b""
        has_bias = len(inputs) > 2 and inputs[2] is not None
        if has_bias:
            bias = _vector(inputs[2], channels, data_type)
        first = norm.inputs[1].initializer if norm.inputs[1] is not None else None
        statistics_type = data_type if first is None else first.data_type
        parameters = [_vector(tensor, channels, statistics_type) for tensor in norm.inputs[1:]]
        if bias is None or None in parameters or statistics_type not in PLAIN_FLOATS:
            return None
        size = PLAIN_FLOATS[data_type].itemsize
        is_whole = len(data) == len(new) and len(new_bias) == size * channels
        if not is_whole or 2 * len(data) > BLOCK * size:
            return None
        kind = Kind(shape, data_type, conv.integer("group", 1), eps, statistics_type, has_bias)
        whole = b"".join(parameters)  # type: ignore[arg-type]
        return kind, Pair(fold, data, new, whole, bias, new_bias)

    def _after(self, name: str, conv: Node, data_type: int, shape: tuple[int, ...]) -> bytes | None:
        """A small constant as it will be written, or None where it is of another kind."""
        found = self._written.tensor(name, conv.scope)
        proto = stored_tensor(found) if isinstance(found, Tensor) else found.proto
        if proto is None or proto.data_type != data_type or tuple(proto.dims) != shape:
            return None
        if isinstance(found, Tensor):
            return raw_data_of(proto)
        # What is not in memory is large.
        return joined(found.data) if all(type(piece) is bytes for piece in found.data) else None


def _vector(tensor: Tensor | None, channels: int, data_type: int) -> bytes | None:
    stored = stored_tensor(tensor) if tensor is not None else None
    if stored is None or stored.data_type != data_type:
        return None
    dims = stored.dims
    return raw_data_of(stored) if len(dims) == 1 and dims[0] == channels else None


def _epsilon(norm: Node) -> float | None:
    """The epsilon of a norm whose other attributes say nothing, or None."""
    eps = DEFAULT_EPSILON
    for attribute in norm.proto.attribute:
        if attribute.ref_attr_name:
            return None
        if attribute.name == "epsilon":
            eps = float(attribute.f)
        elif attribute.name != "momentum":
            return None
    return eps


class Joined:
    """Both sides of many pairs of one kind, in the form of one region; see ``Region``."""

    after: Sequence[Step] = ()
    units: Sequence[Array] = ()

    def __init__(self, kind: Kind, pairs: Sequence[Pair]) -> None:
        dtype, count = PLAIN_FLOATS[kind.data_type], len(pairs)
        channels = kind.shape[0]
        shape = (count * channels, *kind.shape[1:])
        self.weight = _array([pair.weight for pair in pairs], dtype).reshape(shape)
        self.new = _array([pair.new for pair in pairs], dtype).reshape(shape)
        held = _array([pair.parameters for pair in pairs], PLAIN_FLOATS[kind.statistics_type])
        parameters = held.astype(np.float64).reshape(count, 4, channels).swapaxes(0, 1)
        self.before = [Step(_NORM, tuple(parameters.reshape(4, -1)), eps=kind.eps)]
        conv = helper.make_node("Conv", [], [], group=kind.group * count)
        self.probe = Probe(conv, shape, len(shape))
        before = np.zeros(count * channels)
        if kind.has_bias:
            before = _array([pair.bias for pair in pairs], dtype).astype(np.float64)
        after = _array([pair.new_bias for pair in pairs], dtype)
        self._bias = spread_out(Bias(before, after.astype(np.float64), quanta(after)), self.probe)

    def bias(self) -> Bias:
        """What the operators add."""
        return self._bias


def _array(parts: Sequence[bytes], dtype: np.dtype[Any]) -> Array:
    return np.frombuffer(b"".join(parts), dtype)

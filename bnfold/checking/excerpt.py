"""Some nodes of a model as a small model of their own, evaluated in float64."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from bnfold.checking.claims import Slices
from bnfold.reference.evaluator import Evaluator
from bnfold.reference.run import Widen

Array = npt.NDArray[Any]

_FLOATS = frozenset(
    {TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT, TensorProto.DOUBLE}
)
SAMPLERS = frozenset({"GridSample", "RoiAlign"})
"""Operators that take values from places, which are their second input."""
_MOST = 64
"""So many evaluators are kept."""
_NUMBERS = {"Sub": "Add", "Neg": "Identity", "ReduceMin": "ReduceL1", "ReduceMax": "ReduceL1"}
"""What makes the sum of the magnitudes in the place of a difference, or of any one of many."""
_SIGNED = {
    "Gemm": ("alpha", "beta"),
    "LeakyRelu": ("alpha",),
    "Pad": ("value",),
    "BatchNormalization": (),
}
_NORMALISERS = frozenset(
    (
        "GroupNormalization InstanceNormalization LayerNormalization LpNormalization "
        "MeanVarianceNormalization RMSNormalization SimplifiedLayerNormalization"
    ).split()
)


@dataclass(frozen=True)
class Constant:
    """A constant of an excerpt.

    Attributes:
        data_type: the ONNX data type.
        shape: of the values.
        block: gives some of the values, any dtype; called whenever they are needed, so that large
            ones are in memory no longer than that.
    """

    data_type: int
    shape: tuple[int, ...]
    block: Callable[[Slices], Array]

    @classmethod
    def of(cls, array: Array) -> Constant:
        """An array that is in memory, or a view of a file."""
        kind = helper.np_dtype_to_tensor_dtype(array.dtype.newbyteorder("="))
        return cls(int(kind), array.shape, lambda block: array[block])

    def read(self) -> Array:
        """All values."""
        return self.block(tuple(slice(None) for _ in self.shape))

    def part(self, axis: int, indices: slice) -> Constant:
        """Some indices of one axis."""
        whole: Slices = tuple(slice(None) for _ in self.shape)
        block = (*whole[:axis], indices, *whole[axis + 1 :])
        shape = (*self.shape[:axis], indices.stop - indices.start, *self.shape[axis + 1 :])
        return replace(self, shape=shape, block=lambda _: self.block(block))

    @property
    def is_float(self) -> bool:
        """Whether it counts in float64."""
        return self.data_type in _FLOATS


class Evaluators:
    """Evaluators of excerpts: those that are equal but for their constants share one."""

    def __init__(self) -> None:
        self._made: dict[tuple[bytes, ...], Evaluator] = {}
        self._constants: Mapping[str, Constant] = {}

    def of(
        self, excerpt: Excerpt, nodes: list[onnx.NodeProto], given: Collection[str]
    ) -> Evaluator:
        """One for some nodes, which reads the constants of this excerpt until the next call."""
        self._constants = excerpt.constants
        floats = {name: c.data_type for name, c in excerpt.constants.items() if c.is_float}
        key = (*(node.SerializeToString() for node in nodes), repr((floats, *given)).encode())
        found = self._made.get(key)
        if found is None:
            graph = onnx.GraphProto(name="excerpt", node=nodes)
            graph.input.extend(onnx.ValueInfoProto(name=name) for name in given)
            graph.initializer.extend(
                TensorProto(name=name, data_type=kind) for name, kind in floats.items()
            )
            model = onnx.ModelProto(ir_version=8, graph=graph, opset_import=excerpt.imports)
            found = Evaluator(model, read=self._read)
            if len(self._made) >= _MOST:
                self._made.pop(next(iter(self._made)))
            self._made[key] = found
        return found

    def _read(self, proto: onnx.TensorProto) -> Array:
        found = self._constants.get(proto.name)
        return numpy_helper.to_array(proto) if found is None else found.read()


@dataclass
class Excerpt:
    """Nodes, and what they read.

    Attributes:
        imports: the operator sets of the model.
        evaluators: shared with other excerpts.
        nodes: their tensors have names of their own.
        constants: by name.
    """

    imports: Any
    evaluators: Evaluators
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Constant] = field(default_factory=dict)

    def copy(self) -> Excerpt:
        """The same nodes, and constants that may be changed."""
        return replace(self, constants=dict(self.constants))

    @property
    def has_normalisers(self) -> bool:
        """Whether magnitudes say little of a node's terms: it normalises by what it sees, or
        takes them from places that the magnitudes of a grid move.
        """
        return any(node.op_type in _NORMALISERS | SAMPLERS for node in self.nodes)

    def run(self, given: Mapping[str, Array], wanted: Collection[str]) -> dict[str, Array]:
        """The wanted tensors, in float64.

        Raises:
            ModelError: it cannot be evaluated, or not on this data.
        """

        def widen(proto: onnx.TensorProto, stored: Array) -> Array:
            return stored.astype(np.float64, copy=False)

        return self._run(self.nodes, given, wanted, widen)

    def _run(
        self,
        nodes: list[onnx.NodeProto],
        given: Mapping[str, Array],
        wanted: Collection[str],
        widen: Widen,
    ) -> dict[str, Array]:
        # Whole numbers are few; the evaluator would keep those that it reads itself.
        numbers = {name: c.read() for name, c in self.constants.items() if not c.is_float}
        whole = {**numbers, **given}
        found = self.evaluators.of(self, nodes, whole).run(whole, tuple(wanted), widen=widen)
        return {name: _one_array(value) for name, value in found.items()}

    def magnitudes(
        self,
        given: Mapping[str, Array],
        wanted: Collection[str],
        more: Mapping[str, Array] | None = None,
        *,
        unit: float = 2.0**-23,
    ) -> dict[str, Array]:
        """The sum of the magnitudes of all terms of the wanted tensors, whatever they cancel to.

        Args:
            more: what is added to the magnitudes of some constants; the value of a Pad, where it
                is an attribute, then goes up by a unit in the last place.
            unit: of one, for that value.

        Raises:
            ModelError: it cannot be evaluated on this data.
        """
        nodes: list[onnx.NodeProto] = []
        spare = self.copy()
        kept: set[str] = set()
        negative: set[str] = set()
        for node in self.nodes:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.op_type = _NUMBERS.get(node.op_type, node.op_type)
            if node.op_type == "Clip":  # what it cuts off is no magnitude
                copy.op_type = "Identity"
                del copy.input[1:], copy.attribute[:]
            for attribute in copy.attribute:
                if attribute.name in _SIGNED.get(node.op_type, ()):
                    attribute.f = abs(attribute.f)
                    if more is not None and node.op_type == "Pad":
                        attribute.f *= 1 + unit
            if node.op_type == "BatchNormalization":
                # Others may read the same constants otherwise.
                for at, names in ((3, negative), (4, kept)):
                    found = spare.constants.get(node.input[at])
                    if found is not None:
                        copy.input[at] = f"{node.input[at]}|{at}"
                        spare.constants[copy.input[at]] = found
                        names.add(copy.input[at])
            nodes.append(copy)
            if node.op_type in _NORMALISERS or node.op_type == "DequantizeLinear":
                made, copy.output[0] = copy.output[0], f"{copy.output[0]}|signed"
                nodes.append(helper.make_node("Abs", [copy.output[0]], [made]))

        def widen(proto: onnx.TensorProto, stored: Array) -> Array:
            values = stored.astype(np.float64)
            if proto.name in kept:
                return values
            values = np.abs(values)
            if more is not None and proto.name in more:
                values = values + more[proto.name]
            return -values if proto.name in negative else values

        sizes = {
            name: np.abs(value) if value.dtype == np.float64 else value
            for name, value in given.items()
        }
        return spare._run(nodes, sizes, wanted, widen)


def _one_array(value: Any) -> Array:
    """An array as it is, the arrays of a sequence in a row."""
    if not isinstance(value, list):
        return np.asarray(value)
    return np.concatenate([np.ravel(item) for item in value]) if value else np.zeros(0)

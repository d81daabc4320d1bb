"""A graph that grows node by node, with the values of all its tensors in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import TensorProto, defs, helper

from bnfold.errors import BnfoldError
from bnfold.reference import Evaluator
from tests.fuzz.fused import spelled_out
from tests.support_models import DTYPES, Array

T = TypeVar("T")

OPSETS = [*range(7, defs.onnx_opset_version() + 1)]
MICROSOFT = "com.microsoft"
FACTORS = "factors"
"""With what the names of constants begin that are factors of sizes, and so never rounded."""
OF_INTEGERS = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
MOST_VALUES, MOST_AXES, LARGEST = 2000, 6, 1e5
"""Of any tensor: its values, its axes, and how large a value may be on data of size 30."""


class Unfit(Exception):  # noqa: N818 - no error: something else is drawn in its place
    """What was drawn does not fit the graph as it is."""


class Sketch:
    """A graph in the making.

    Args:
        seed: of everything that is drawn.
        dtype: of its floats, a key of ``DTYPES``.

    Attributes:
        opset, ir: versions of the operator set and of the file format.
        is_wild: whether parameters may be huge, NaN or infinite.
        likes: the kind of operator that most of its nodes are of, or ``""``.
        follows: whether a new node mostly reads the newest tensor.
        nodes: in an order in which they can run.
        initializers: stored constants by name.
        overridable: those of them that are graph inputs, too.
        values: of every tensor, on one draw of data; floats as float64, sequences as lists.
        inputs: names of the graph inputs that callers give.
        data: names of the float tensors that further nodes may read, in order.
        shapes_read: outputs of Shape nodes, which become graph outputs.
    """

    def __init__(self, seed: Sequence[int], dtype: str) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = DTYPES[dtype]
        self.code = helper.np_dtype_to_tensor_dtype(self.dtype)
        self.opset = self.pick(OPSETS if dtype != "bfloat16" else OPSETS[6:])
        least = helper.find_min_ir_version_for([helper.make_opsetid("", self.opset)], True)
        self.ir = max(least, self.pick([3, 8, 8, 10] if self.opset < 15 else [8, 10]))
        self.is_wild = self.chance(0.04)
        self.likes = self.pick(["", "", "move", "move", "scale", "join"])
        self.follows = self.chance(0.65)
        self._reach = 0.55 if self.chance(0.8) else 0.3
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, Array] = {}
        self.overridable: list[str] = []
        self.values: dict[str, Any] = {}
        self.inputs: list[str] = []
        self.data: list[str] = []
        self.shapes_read: list[str] = []
        self._count = 0

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return bool(self.rng.random() < probability)

    def whole(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return int(self.rng.integers(low, high + 1)) if high >= low else low

    def pick(self, choices: Sequence[T]) -> T:
        """One of the choices.

        Raises:
            Unfit: there is none.
        """
        if not choices:
            raise Unfit("nothing to choose from")
        return choices[int(self.rng.integers(len(choices)))]

    def some(self, choices: Iterable[int], low: int, high: int) -> list[int]:
        """From ``low`` to ``high`` different ones of the choices, in any order."""
        listed = [int(number) for number in self.rng.permutation([*choices])]
        return listed[: self.whole(low, min(high, len(listed)))]

    def name(self, prefix: str) -> str:
        """A name that no tensor has."""
        self._count += 1
        return f"{prefix}{self._count}"

    def shape(self, tensor: str) -> tuple[int, ...]:
        """The shape that a tensor has on the data that was drawn."""
        return tuple(np.shape(self.values[tensor]))

    def rank(self, tensor: str) -> int:
        """How many axes a tensor has."""
        return len(self.shape(tensor))

    def from_end(self, axis: int, rank: int, since: int = 11) -> int:
        """An axis, now and then counted from the end, where the opset is ``since`` or newer."""
        return axis - rank if self.opset >= since and self.chance(0.2) else axis

    def signed(self, shape: Sequence[int]) -> Array:
        """Values of size 1, of both signs, for a scale: now and then one value, ones or zeros."""
        form, values = self.rng.random(), self.rng.uniform(0.5, 2, shape)
        if form < 0.5 and not (self.likes == "scale" and self.chance(0.7)):
            values = values * self.rng.choice([-1, 1], shape)
        elif 0.85 < form < 0.93:
            values = np.ones(shape) * self.pick([1.0, 2.0, 0.5])
        elif form > 0.97:
            values = np.where(self.rng.random(shape) < 0.3, 0, values)
        return self.stored(self._wild(values, 0.15))

    def shifts(self, shape: Sequence[int]) -> Array:
        """Values of size 5 of both signs, now and then zeros or one value."""
        form, values = self.rng.random(), self.rng.normal(size=shape) * 5
        if form < 0.02 or (self.likes == "scale" and self.chance(0.6)):
            values = values * 0
        elif form < 0.2:
            values = np.full(shape, 3.0)
        return self.stored(self._wild(values, 0.1))

    def weights(self, shape: Sequence[int], summed: float) -> Array:
        """A weight whose products with data of size 1, ``summed`` at a time, are of size 1."""
        return self.stored(self.rng.normal(size=shape) / np.sqrt(max(summed, 1)))

    def stored(self, values: Any) -> Array:
        """Values as the model stores them: of its float dtype."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(np.asarray(values).astype(self.dtype))

    def input(self, shape: Sequence[int]) -> str:
        """A new input of the graph."""
        name = self.name("x")
        self.inputs.append(name)
        self.values[name] = 30 * self.rng.normal(size=shape)
        self.data.append(name)
        return name

    def tensor(self, fits: Callable[[tuple[int, ...]], bool] = lambda shape: True) -> str:
        """A tensor of one axis or more to read, whose shape fits; newer ones are likelier.

        Raises:
            Unfit: none fits.
        """
        found = [name for name in self.data if self.rank(name) and fits(self.shape(name))]
        if not found:
            raise Unfit("no tensor fits")
        if self.follows and found[-1] == self.data[-1] and self.chance(0.93):
            return found[-1]
        return found[-1 - min(int(self.rng.geometric(self._reach)) - 1, len(found) - 1)]

    def node(self, op_type: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node of one output, whose name it returns; see `nodes_of`."""
        return self.split(op_type, inputs, 1, **attributes)[0]

    def aside(self, op_type: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node whose output only the builder reads."""
        made = self.node(op_type, inputs, **attributes)
        self.data = [name for name in self.data if name != made]
        return made

    def split(
        self, op_type: str, inputs: Sequence[str], outputs: int, *, domain: str = "", **given: Any
    ) -> list[str]:
        """Add a node, and return the names of its outputs.

        Raises:
            Unfit: the node cannot be computed, is not defined for the opset or the dtype, or
                gives what is too large, empty or not finite.
        """
        if not domain and not is_defined(op_type, self.opset, self.code):
            raise Unfit(f"{op_type} is not defined for this opset and dtype")
        names = [self.name("t") for _ in range(outputs)]
        node = helper.make_node(
            op_type, inputs, names, f"{names[0]}_{op_type}", domain=domain, **given
        )
        made = self._computed(node)
        self.nodes.append(node)
        for name in names:
            self.values[name] = made[name]
            if isinstance(made[name], np.ndarray) and made[name].dtype.kind == "f":
                self.data.append(name)
        return names

    def _computed(self, node: onnx.NodeProto) -> dict[str, Any]:
        given = {name: self.values[name] for name in node.input if name}
        inputs = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, None) for name in given]
        outputs = [helper.make_tensor_value_info(n, TensorProto.DOUBLE, None) for n in node.output]
        graph = helper.make_graph(spelled_out(node), "node", inputs, outputs)
        imports = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=self.ir)
        try:
            made = Evaluator(model).run(given)
        except BnfoldError as error:
            raise Unfit(f"{node.op_type}: {error}") from error
        for value in made.values():
            if isinstance(value, np.ndarray):
                self._require_handy(value)
        return dict(made)

    def _require_handy(self, value: Array) -> None:
        if not 0 < value.size <= MOST_VALUES or value.ndim > MOST_AXES:
            raise Unfit("too large, or empty")
        if value.dtype.kind == "f" and not self.is_wild and not np.abs(value).max() <= LARGEST:
            raise Unfit("values too large, or not finite")

    def _wild(self, values: Array, probability: float) -> Array:
        if not self.is_wild:
            return values
        if self.chance(probability):
            values = values * 10.0 ** self.rng.integers(-60, 60, np.shape(values))
        if self.chance(0.03):
            odd = self.pick([np.nan, np.inf, -np.inf])
            values = np.where(self.rng.random(np.shape(values)) < 0.3, odd, values)
        return values


@cache
def is_defined(op_type: str, opset: int, code: int) -> bool:
    """Whether an operator of ONNX exists at an opset and takes or makes floats of this dtype."""
    try:
        schema = defs.get_schema(op_type, opset, "")
    except defs.SchemaError:
        return False
    kind = f"tensor({TensorProto.DataType.Name(code).lower()})"
    kind = f"seq({kind})" if op_type == "SequenceAt" else kind
    allowed = [kinds.allowed_type_strs for kinds in schema.type_constraints]
    takes = op_type in OF_INTEGERS or any(kind in kinds for kinds in allowed)
    return takes and not schema.deprecated


Builder = Callable[[Sketch, str], str]
"""Adds a node that reads the tensor, and whatever it needs; returns one of its outputs."""

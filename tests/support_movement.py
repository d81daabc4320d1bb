"""One-node models of operators that move elements, drawn at random, and maps for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from bnfold.algebra.spread import Spread
from bnfold.folding.rules.through import Spreads
from tests.support_models import parsed
from tests.support_through import Array

Generator = np.random.Generator


@dataclass
class Moved:
    """A node and its data.

    Attributes:
        node: the node; data inputs are called x0, x1, ..., outputs y0, y1, ...
        data: the float64 inputs.
        constants: the other inputs, as initializers.
        opset: the version of the standard operators.
        both: whether every map crosses it in both directions.
    """

    node: onnx.NodeProto
    data: list[Array]
    constants: dict[str, Array] = field(default_factory=dict)
    opset: int = 17
    both: bool = True

    def model(self, hidden: Callable[[int, int], bool] = lambda at, axis: False) -> onnx.ModelProto:
        """The model.

        Args:
            hidden: whether the size of an axis of an input is not written.
        """
        inputs = [
            helper.make_tensor_value_info(
                f"x{at}",
                TensorProto.DOUBLE,
                [None if hidden(at, axis) else size for axis, size in enumerate(array.shape)],
            )
            for at, array in enumerate(self.data)
        ]
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.DOUBLE, None)
            for name in self.node.output
            if name
        ]
        graph = helper.make_graph(
            [self.node],
            "g",
            inputs,
            outputs,
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        imports = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, ir_version=8, opset_imports=imports)

    @property
    def feeds(self) -> dict[str, Array]:
        return {f"x{at}": array for at, array in enumerate(self.data)}

    def results(self) -> list[Array]:
        """What the node makes."""
        return computed(self.model(), self.feeds)


def computed(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    """What a model makes, by the reference implementation."""
    found: Any = ReferenceEvaluator(model).run(None, feeds)
    return list(found)


def node(op_type: str, inputs: str, outputs: str = "y0", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs.split(), outputs.split(), **attributes)


def drawn_shape(rng: Generator, least: int = 1, most: int = 4, sizes: int = 4) -> list[int]:
    return [int(n) for n in rng.integers(1, sizes + 1, rng.integers(least, most + 1))]


def drawn_data(rng: Generator, shape: Sequence[int]) -> Array:
    return rng.uniform(-30, 30, tuple(shape))


def drawn_spread(rng: Generator, shape: Sequence[int]) -> Spread:
    """A map of a tensor of that shape: along some of its axes, written with few or many axes."""
    sizes = [size if rng.random() < 0.5 else 1 for size in shape]
    while sizes and sizes[0] == 1 and rng.random() < 0.5:
        del sizes[0]
    scale = rng.uniform(0.5, 2.0, sizes) * rng.choice([-1.0, 1.0], sizes)
    return Spread(scale, rng.normal(size=sizes))


def drawn_spreads(rng: Generator, arrays: Sequence[Array], *, all_of_them: bool = False) -> Spreads:
    """Maps for some tensors, at least one."""
    chosen = [at for at in range(len(arrays)) if all_of_them or rng.random() < 0.7] or [0]
    return {at: drawn_spread(rng, arrays[at].shape) for at in chosen}


def ints(*values: Any) -> Array:
    return np.array(values, dtype=np.int64)


def signed(rng: Generator, axis: int, rank: int) -> int:
    """An axis, counted from the front or from the back."""
    return axis - rank if rng.random() < 0.5 else axis


def one_node(text: str, opset: int = 17) -> onnx.ModelProto:
    """The model of ``inputs | nodes``, with the output y."""
    inputs, _, body = text.partition("|")
    made = parsed(f"agraph ({inputs}) => (double y) {{ {body} }}", opset=opset)
    made.graph.output[0].type.tensor_type.ClearField("shape")
    return made

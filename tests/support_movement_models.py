"""Whole models with operators that move elements, and what has to become of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

import bnfold
from tests.support_models import filled, norm_parameters, op_types, parsed
from tests.support_movement import computed
from tests.support_through import Array

SYMBOLS = {"N": 2, "L": 5, "H": 2, "W": 2}


@dataclass(frozen=True)
class Model:
    """A model and what becomes of it.

    Attributes:
        inputs: of the graph.
        body: its nodes; the last one makes y.
        weights: further initializers.
        left: the operators afterwards, or the code of the reason for which its norm stays.
        channels: of the norm, whose parameters are g, b, m and v.
        text: the outputs, if there are more than y.
    """

    inputs: str
    body: str
    weights: str
    left: str
    channels: int = 4
    outputs: str = "float y"
    opset: int = 17

    def model(self, seed: int = 0) -> onnx.ModelProto:
        """The model in float64, with random parameters and no shapes of outputs."""
        declared = f"{norm_parameters(self.channels)}, {self.weights}".rstrip(", ")
        text = f"agraph ({self.inputs}) => ({self.outputs}) <{declared}> {{ {self.body} }}"
        made = filled(parsed(text, opset=self.opset, dtype="double"), seed)
        for value in made.graph.output:
            value.type.tensor_type.ClearField("shape")
        return made


BN = "BatchNormalization"
NORM = f"{BN} (c, g, b, m, v)"


def whole(*values: int, name: str = "s") -> str:
    """A constant of whole numbers."""
    return f"{name} = Constant <value_ints={list(values)}> ()"


IMAGE, ROWS, WIDE = "float[N,3,5,4] x", "float[N,L,3] x", "float[N,L,6] x"
CONV, LINEAR = "float[4,3,1,1] w", "float[3,4] w"


def fed(model: onnx.ModelProto, seed: int) -> dict[str, Array]:
    """Data of size 30."""
    rng = np.random.default_rng(seed)
    shapes = {
        value.name: [SYMBOLS[d.dim_param] if d.dim_param else d.dim_value for d in
                     value.type.tensor_type.shape.dim]
        for value in model.graph.input
    }  # fmt: skip
    return {name: rng.uniform(-30, 30, shape) for name, shape in shapes.items()}


def check_fold(row: Model) -> None:
    """Check that the norm goes, and that the model computes what it did."""
    for seed in range(2):
        model = row.model(seed)
        result = bnfold.fold(model)
        assert not result.report.kept, [(kept.code, kept.reason) for kept in result.report.kept]
        assert " ".join(op_types(result.model)) == row.left
        feeds = fed(model, seed)
        before, after = computed(model, feeds), computed(result.model, feeds)
        for old, new in zip(before, after, strict=True):
            size = max(1.0, float(np.abs(old).max(initial=0.0)))
            np.testing.assert_allclose(new, old, rtol=0, atol=1e-12 * size)
        again = bnfold.fold(result.model).model
        assert again.SerializeToString() == result.model.SerializeToString()


def check_kept(row: Model) -> None:
    """Check that the norm stays for its reason, and that the model is what it was."""
    model = row.model()
    result = bnfold.fold(model)
    codes = [kept.code for kept in result.report.kept]
    assert codes == [row.left], [kept.reason for kept in result.report.kept]
    assert result.model.SerializeToString() == model.SerializeToString()

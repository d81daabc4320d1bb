"""Prove rules: an operator with maps before it and one with maps behind it are the same function.

The operator itself is computed by the reference implementation of the onnx package, in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx.reference import ReferenceEvaluator

from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.reading import Context
from bnfold.folding.rules.tables import THROUGH
from bnfold.folding.rules.through import Spreads
from bnfold.onnxgraph.constants import Constants
from bnfold.onnxgraph.graph import Node
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.load import load
from bnfold.onnxgraph.types import Types

Array = npt.NDArray[Any]
Run = Callable[[onnx.ModelProto, Mapping[str, Array]], list[Array]]
TOLERANCE = 1e-12


def node_of(model: onnx.ModelProto, op_type: str) -> tuple[Node, Context]:
    """The first node of a type in a model, and what rules may ask about the model."""
    index = Index(load(model))
    types = Types(index)
    context = Context(Constants(index, types), types, index.document.opset)
    return next(node for node in index.nodes if node.op_type == op_type), context


def backward(model: onnx.ModelProto, op_type: str, spreads: Spreads) -> list[Spreads] | Refused:
    """What the rule makes of maps behind the node: every way that it offers, or its refusal."""
    node, context = node_of(model, op_type)
    found = THROUGH[op_type].backward(node, spreads, context)
    if isinstance(found, Refused):
        return found
    return found if isinstance(found, list) else [found]


def forward(model: onnx.ModelProto, op_type: str, spreads: Spreads) -> Spreads | Refused:
    """What the rule makes of maps before the node, or its refusal."""
    node, context = node_of(model, op_type)
    return THROUGH[op_type].forward(node, spreads, context)


def mapped(values: Mapping[str, Array], names: list[str], spreads: Spreads) -> dict[str, Array]:
    """Tensors with their maps applied: ``scale * x + shift``, which keeps their shapes."""
    found = dict(values)
    for at, spread in spreads.items():
        before = found[names[at]]
        found[names[at]] = spread.scale * before + spread.shift
        assert found[names[at]].shape == before.shape, "a map changes the shape of its tensor"
    return found


def require_equal(
    model: onnx.ModelProto,
    op_type: str,
    feeds: Mapping[str, Array],
    before: Spreads,
    after: Spreads,
    *,
    run: Run | None = None,
) -> None:
    """``f(before(x)) == after(f(x))`` for a model whose only node is f, of float64 inputs.

    Args:
        run: computes the outputs where the reference implementation of onnx is known to be wrong.
    """
    node = next(node for node in model.graph.node if node.op_type == op_type)
    outputs = [value.name for value in model.graph.output]
    evaluator = ReferenceEvaluator(model) if run is None else None

    def compute(values: Mapping[str, Array]) -> list[Array]:
        if evaluator is None:
            assert run is not None
            return run(model, values)
        return list(evaluator.run(outputs, dict(values)))

    inner = compute(mapped(feeds, list(node.input), before))
    plain = dict(zip(outputs, compute(feeds), strict=True))
    outer = mapped(plain, list(node.output), after)
    for name, found in zip(outputs, inner, strict=True):
        size = np.abs(outer[name]).max(initial=1.0)
        np.testing.assert_allclose(found, outer[name], rtol=0, atol=TOLERANCE * size)


def random_spread(shape: tuple[int, ...], seed: int, *, positive: bool = False) -> Spread:
    """Scales of both signs, between 1/2 and 2 in size, and shifts of size one."""
    generator = np.random.default_rng(seed)
    scale = generator.uniform(0.5, 2.0, shape)
    if not positive:
        scale *= generator.choice([-1.0, 1.0], shape)
    return Spread(scale, generator.normal(size=shape))

"""Models of one operator that computes, and the proof of its rule in both directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.through import Spreads
from bnfold.reference import evaluate
from tests.support_through import Array, Run, backward, forward, require_equal

DATA = 30.0
"""The size of the data: with small data Clip(0, 6) looks transparent."""


def node_model(
    op_type: str,
    inputs: Sequence[Sequence[Any] | Array | None],
    *,
    opset: int,
    outputs: int = 1,
    output_shape: Sequence[Any] | None = None,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node.

    Args:
        inputs: the shape of data (float64, named x0, x1, ...), the values of a constant, or None
            for one that is left out. A constant of integers keeps its type.
    """
    names, values, constants = [], [], []
    for at, given in enumerate(inputs):
        name = f"x{at}" if given is not None else ""
        names.append(name)
        if isinstance(given, np.ndarray):
            constants.append(numpy_helper.from_array(given, name))
        elif given is not None:
            kind = TensorProto.BOOL if op_type == "Where" and at == 0 else TensorProto.DOUBLE
            values.append(helper.make_tensor_value_info(name, kind, list(given)))
    made = [f"y{at}" for at in range(outputs)]
    node = helper.make_node(op_type, names, made, "node", **attributes)
    shapes = [output_shape, *[None] * (outputs - 1)]
    results = [
        helper.make_tensor_value_info(name, TensorProto.DOUBLE, shape)
        for name, shape in zip(made, shapes, strict=True)
    ]
    graph = helper.make_graph([node], "graph", values, results, constants)
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def drawn(model: onnx.ModelProto, seed: int = 0, unknown: int = 3) -> dict[str, Array]:
    """Data of size 30, or booleans, for each input; axes of unknown size get ``unknown``."""
    generator = np.random.default_rng(seed)
    feeds: dict[str, Array] = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = [dim.dim_value or unknown for dim in kind.shape.dim]
        if kind.elem_type == TensorProto.BOOL:
            feeds[value.name] = generator.integers(0, 2, shape).astype(bool)
        else:
            feeds[value.name] = generator.uniform(-DATA, DATA, shape)
    return feeds


def own(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """The outputs by bnfold's evaluator, where that of onnx is wrong or knows less."""
    return evaluate(model, dict(feeds))


def prove_backward(
    model: onnx.ModelProto, spread: Spread, *, run: Run | None = None, seed: int = 0
) -> list[Spreads]:
    """Every way that the rule offers for a map behind the node is the same function."""
    op_type = model.graph.node[0].op_type
    ways = backward(model, op_type, {0: spread})
    assert not isinstance(ways, Refused), ways.sentence
    assert ways
    for way in ways:
        require_equal(model, op_type, drawn(model, seed), way, {0: spread}, run=run)
    return ways


def prove_forward(
    model: onnx.ModelProto, spreads: Spreads, *, run: Run | None = None, seed: int = 0
) -> Spreads:
    """What the rule makes of maps before the node is the same function."""
    op_type = model.graph.node[0].op_type
    found = forward(model, op_type, spreads)
    assert not isinstance(found, Refused), found.sentence
    require_equal(model, op_type, drawn(model, seed), spreads, found, run=run)
    return found


def prove_both(
    model: onnx.ModelProto, spread: Spread, *, run: Run | None = None, seed: int = 0
) -> None:
    """Both directions of an operator that hands its data's map on as it is."""
    assert len(prove_backward(model, spread, run=run, seed=seed)) == 1
    prove_forward(model, {0: spread}, run=run, seed=seed)


def refusals(model: onnx.ModelProto, spread: Spread, slot: int = 0) -> list[Refused]:
    """The refusals in both directions; there has to be one in each."""
    op_type = model.graph.node[0].op_type
    found = [backward(model, op_type, {0: spread}), forward(model, op_type, {slot: spread})]
    refused = [why for why in found if isinstance(why, Refused)]
    assert len(refused) == 2, found
    return refused


def require_refused(
    model: onnx.ModelProto, spread: Spread, *words: str, code: str = "not-through", slot: int = 0
) -> None:
    """Both directions refuse, with a code and with these words in the sentence."""
    for why in refusals(model, spread, slot):
        assert why.code == code, why.sentence
        for word in words:
            assert word in why.sentence, why.sentence


def channel_spread(
    channels: int,
    spatial: int,
    seed: int,
    *,
    positive: bool = False,
    shifted: bool = True,
    batch: int = 1,
) -> Spread:
    """A map of shape ``(batch, channels, 1, ...)``, or without the first axis if it has size 1.

    Scales are 1/2 to 2 in size, and some are zero; shifts have the size of the data.
    """
    generator = np.random.default_rng(seed)
    shape = (batch, channels, *[1] * spatial)[0 if batch > 1 else 1 :]
    scale = generator.uniform(0.5, 2.0, shape)
    scale = np.where(generator.random(shape) < 0.1, 0.0, scale)
    if not positive:
        scale = scale * generator.choice([-1.0, 1.0], shape)
    shift = generator.uniform(-DATA, DATA, shape) if shifted else np.zeros(shape)
    return Spread(scale, shift)

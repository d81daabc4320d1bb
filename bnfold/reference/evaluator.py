"""What a model computes, in float64, whatever dtypes it stores and computes in."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx

from bnfold.errors import ModelError
from bnfold.reference.call import Array, widened
from bnfold.reference.graph import Body
from bnfold.reference.nodes import function_key, standard_domain, versions_of
from bnfold.reference.run import Run, Widen
from bnfold.reference.step import Library, is_known


class Evaluator:
    """Runs a model, or a part of it, with every float a float64.

    Weights count with the exact values that are stored. Casts between floats round nothing;
    casts to integers, bool, float8 and smaller floats do what they say. Operators that draw
    numbers are functions of the seed and of the name of their first output.

    Args:
        model: its opset may be any; it is not copied and must not change.
        read: the stored values of a tensor; needed for external data.

    Attributes:
        input_names: inputs of the graph that no initializer gives a value.
        output_names: outputs of the graph.
        unknown: ``domain::OpType`` of operators that cannot be computed, sorted; those in
            inner graphs and in functions that are called count.
        nodes: of the main graph, in topological order.

    Raises:
        ModelError: nodes read each other in a cycle.
    """

    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    unknown: tuple[str, ...]
    nodes: tuple[onnx.NodeProto, ...]

    def __init__(
        self,
        model: onnx.ModelProto,
        *,
        read: Callable[[onnx.TensorProto], Array] = onnx.numpy_helper.to_array,
    ) -> None:
        functions = {(standard_domain(f.domain), f.name, f.overload): f for f in model.functions}
        versions = versions_of(model)
        self._read = read
        self._exact: dict[int, Array] = {}
        self._body = Body(model.graph, Library(functions, Body), versions, keeps=False)
        self.nodes = self._body.nodes
        stored = {t.name for t in model.graph.initializer}
        stored |= {t.values.name for t in model.graph.sparse_initializer}
        self.input_names = tuple(n for n in self._body.inputs if n not in stored)
        self.output_names = self._body.outputs
        self.unknown = _unknown(self.nodes, functions, versions)
        self._names = {*self._body.inputs, *self._body.constants, *self._body.makers}

    def run(
        self,
        given: Mapping[str, Array],
        wanted: Sequence[str] | None = None,
        *,
        widen: Widen | None = None,
        seed: int = 0,
    ) -> dict[str, Array]:
        """Tensors of the main graph, computed from others.

        Args:
            given: values by name: of inputs, or of any other tensor, which is then not computed;
                narrower floats are taken as float64. Any shape that the nodes accept.
            wanted: names, by default the outputs. Only what they need is run, and a tensor that
                nothing needs any more is let go.
            widen: float64 values for a constant, given its proto and its stored values (any
                float from float16 to float64, same shape), or None for those values, exactly,
                which are read once for the life of the evaluator.
            seed: of the random operators.

        Returns:
            The wanted tensors by name: floats as float64, others of their dtype, sequences
            as lists. They may be views of each other or of what was given.

        Raises:
            ModelError: a name is no tensor of the graph, something needed is not given, an
                operator is unknown, or a node cannot be computed.
        """
        names = self.output_names if wanted is None else tuple(wanted)
        for name in given:
            if name not in self._names:
                raise ModelError(f"{name!r} is given and is no tensor of the graph")
        values = {name: widened(value) for name, value in given.items()}
        run = Run(seed, self._read, widen, self._exact)
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = self._body.run(values, names, run)
        return dict(zip(names, made, strict=True))


def evaluate(model: onnx.ModelProto, given: Mapping[str, Array]) -> list[Array]:
    """The outputs of a model in their order, as `Evaluator.run` computes them.

    Args:
        model: any.
        given: values by name, of the inputs at least.

    Raises:
        ModelError: as `Evaluator` and `Evaluator.run`.
    """
    evaluator = Evaluator(model)
    made = evaluator.run(given)
    return [made[name] for name in evaluator.output_names]


def _unknown(
    nodes: Sequence[onnx.NodeProto],
    functions: Mapping[tuple[str, str, str], onnx.FunctionProto],
    versions: Mapping[str, int],
) -> tuple[str, ...]:
    found: set[str] = set()
    known: set[tuple[str, str, int]] = set()
    called = set()
    waiting = [(node, versions) for node in nodes]
    while waiting:
        node, imported = waiting.pop()
        key, domain = function_key(node), standard_domain(node.domain)
        if key in functions:
            if key not in called:
                called.add(key)
                inside = dict(imported) | versions_of(functions[key])
                waiting += [(inner, inside) for inner in functions[key].node]
            continue
        kind = (domain, node.op_type, imported.get(domain, 1))
        if kind not in known:
            if is_known(node, imported):
                known.add(kind)
            else:
                found.add(f"{node.domain or 'ai.onnx'}::{node.op_type}")
        for attribute in node.attribute:
            graphs = [attribute.g] if attribute.HasField("g") else attribute.graphs
            waiting += [(inner, imported) for graph in graphs for inner in graph.node]
    return tuple(sorted(found))

"""The training form of a model, in which norms normalise by their own mini-batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from bnfold.folding.rules.batch_norm import used_statistics
from bnfold.folding.rules.tables import BATCH_NORM
from bnfold.onnxgraph.graph import Node, nodes_in
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.load import Document
from bnfold.statistics.norms import BatchNorm, as_inference
from bnfold.statistics.program import Program, Statistics, read_by

Given = Mapping[str, npt.NDArray[Any]]
"""Graph inputs that are the same in every batch -> values."""


def training_form(index: Index, norms: Sequence[BatchNorm]) -> Document:
    """N_tr: norms normalise by their mini-batch, and its statistics are the outputs.

    ``y = (x - mean) / sqrt(var + epsilon) * gamma + beta`` is written in plain operators on
    float64, and rounded once. All other norms, and Dropout, are in inference form.

    Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), Algorithm 2, steps 1 to 5, and Algorithm 1.
    """
    program = Program(index.document)
    _infer_elsewhere(program, index, {norm.node for norm in norms})
    chosen = {norm.node.position: norm for norm in norms}
    made: dict[str, Statistics] = {}
    nodes: list[onnx.NodeProto] = []
    for position, proto in enumerate(program.proto.graph.node):
        norm = chosen.get(position)
        if norm is None:
            nodes.append(proto)
            continue
        name = norm.data.name
        if name not in made:
            more, made[name] = program.statistics(name, norm.element_type)
            nodes += more
        nodes += _normalised(program, norm, made[name])
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del program.proto.graph.node[:]
    program.proto.graph.node.extend(copies)
    return program.finish()


def inference_form(
    index: Index, observed: Sequence[BatchNorm], estimated: Mapping[BatchNorm, tuple[Any, Any]]
) -> tuple[Document, Given]:
    """The model in inference form, with the statistics of what some norms normalise as outputs.

    Args:
        observed: those norms.
        estimated: norms with other statistics than the file has -> mean and variance, shape
            ``(C,)``, as they will be stored.

    Returns:
        The model, and what has to be fed beside the data of each batch.
    """
    program = Program(index.document)
    _infer_elsewhere(program, index, set())
    graph = program.proto.graph
    given: dict[str, npt.NDArray[Any]] = {}
    for norm, values in estimated.items():
        for at, array in zip((3, 4), values, strict=True):
            name = program.fresh()
            given[name] = array
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            graph.input.append(helper.make_tensor_value_info(name, kind, array.shape))
            graph.node[norm.node.position].input[at] = name
    seen: set[str] = set()
    for norm in observed:
        if norm.data.name not in seen:
            seen.add(norm.data.name)
            nodes, _ = program.statistics(norm.data.name, norm.element_type)
            graph.node.extend(nodes)
    document = program.finish()
    kept = {value.name for value in document.proto.graph.input}
    return document, {name: array for name, array in given.items() if name in kept}


def levels(index: Index, norms: Sequence[BatchNorm]) -> list[list[BatchNorm]]:
    """The norms in groups, each of which depends on no norms but those of the groups before."""
    of_node = {norm.node: norm for norm in norms}
    depth: dict[str, int] = {}
    groups: dict[int, list[BatchNorm]] = {}
    for node in index.nodes:
        if node.scope.parent is not None:
            continue
        here = max((depth.get(name, 0) for name in read_by(node.proto)), default=0)
        norm = of_node.get(node)
        if norm is not None:
            groups.setdefault(here, []).append(norm)
            here += 1
        for name in node.proto.output:
            depth[name] = here
    return [groups[level] for level in sorted(groups)]


def _infer_elsewhere(program: Program, index: Index, chosen: Collection[Node]) -> None:
    """Put norms that are not chosen, and every Dropout, in inference form."""
    opset = index.document.opset
    if opset < 7:
        return
    kept = {
        str(node.proto.output[0])
        for node in index.nodes
        if node.op_type == BATCH_NORM and (node in chosen or used_statistics(node))
    }
    for proto in nodes_in(program.proto.graph.node):
        if proto.domain in ("", "ai.onnx") and (
            proto.op_type == "Dropout"
            or (proto.op_type == BATCH_NORM and proto.output and proto.output[0] not in kept)
        ):
            as_inference(proto, opset)


def _normalised(program: Program, norm: BatchNorm, of: Statistics) -> list[onnx.NodeProto]:
    """The nodes that make the output of a norm from the statistics of its batch."""
    nodes: list[onnx.NodeProto] = []
    proto = norm.node.proto

    def add(op_type: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or program.fresh()
        nodes.append(helper.make_node(op_type, inputs, [name], **attributes))
        return name

    along = program.constant(nodes, [1, -1, 1])
    value = helper.make_tensor("", TensorProto.DOUBLE, [], [norm.epsilon])
    root = add("Sqrt", add("Add", of.var, add("Constant", value=value)))
    gamma, beta = (
        add("Reshape", add("Cast", proto.input[at], to=TensorProto.DOUBLE), along) for at in (1, 2)
    )
    flat = add("Add", add("Mul", of.deviations, add("Div", gamma, root)), beta)
    if norm.element_type == TensorProto.DOUBLE:
        add("Reshape", flat, of.shape, output=proto.output[0])
    else:
        add("Cast", add("Reshape", flat, of.shape), output=proto.output[0], to=norm.element_type)
    return nodes

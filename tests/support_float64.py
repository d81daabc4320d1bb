"""What a model computes, in float64: onnx.reference, with the specification where that is wrong.

The stock evaluator normalises by the batch at opsets 7 and 9, knows no ``axis`` of the binary
operators before opset 7, no ``is_test`` of Dropout, and no grouped ConvTranspose.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from tests.support_models import FLOATS, Array, Feeds, graphs, retype

Outputs = list[Array]


def evaluate(model: onnx.ModelProto, feeds: Feeds) -> Outputs:
    """The outputs of ``model`` in float64, all its floats taken at their exact values."""
    return _run(as_float64(model), feeds, _EXACT)


def magnitude(model: onnx.ModelProto, feeds: Feeds) -> Outputs:
    """The outputs with every term of every sum taken at its magnitude.

    A relative error of e in each parameter of one layer changes an output by at most e times this.
    """
    sizes = {k: v if v.dtype == bool else np.abs(v) for k, v in feeds.items()}
    return _run(as_float64(model, magnitudes=True), sizes, _MAGNITUDES)


def differences(
    before: onnx.ModelProto,
    after: onnx.ModelProto,
    feeds: Feeds,
    *,
    epsilon: float,
    roundings: int = 1,
) -> list[tuple[float, float]]:
    """The largest difference of each output, as a multiple of the bound on it, and that bound.

    With u half of the stored dtype's ``epsilon``, a stored parameter p stands for an exact one
    within ``r |p|``, ``r = u / (1 - u)``. An output that goes through ``roundings`` folded layers
    is then off by at most ``((1 + r)**roundings - 1) * magnitude(after)``. The float64 arithmetic
    of the evaluators and of the fold adds at most ``n 2**-53`` of all terms, n their number.
    """
    u = epsilon / 2
    stored = (1 + u / (1 - u)) ** roundings - 1
    terms = sum(
        int(np.prod(t.dims)) + len(g.node) for g in graphs(before.graph) for t in g.initializer
    )
    double = (terms + 16) * 2.0**-53
    found = []
    for old, new, old_size, new_size in zip(
        evaluate(before, feeds),
        evaluate(after, feeds),
        magnitude(before, feeds),
        magnitude(after, feeds),
        strict=True,
    ):
        assert old.shape == new.shape
        assert np.isfinite(old).all()
        bound = stored * new_size + double * (old_size + new_size)
        off = np.abs(old - new)
        assert (off[bound == 0] == 0).all()
        ratio = off[bound > 0] / bound[bound > 0]
        found.append((float(ratio.max(initial=0.0)), float(bound.max(initial=0.0))))
    return found


def as_float64(model: onnx.ModelProto, *, magnitudes: bool = False) -> onnx.ModelProto:
    """``model`` with float64 in place of every float dtype, its nodes in topological order."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for entry in copy.opset_import:
        entry.domain = _short(entry.domain)
    # Inner graphs first: sorting a graph copies its nodes, and with them the graphs inside.
    for holder in [*reversed([*graphs(copy.graph)]), *copy.functions]:
        for node in holder.node:
            node.domain = _short(node.domain)
            _widen_attributes(node, magnitudes=magnitudes)
        _sort(holder)
    retype(copy, FLOATS, np.dtype(np.float64))
    if magnitudes:
        for graph in graphs(copy.graph):
            for tensor in graph.initializer:
                _make_positive(tensor)
    return copy


def _run(model: onnx.ModelProto, feeds: Feeds, ops: list[type[OpRun]]) -> Outputs:
    functions: list[Any] = []
    for proto in model.functions:
        functions.append(ReferenceEvaluator(proto, functions=list(functions), new_ops=ops))
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    evaluator = ReferenceEvaluator(model.graph, opsets=opsets, functions=functions, new_ops=ops)
    outputs = evaluator.run(None, dict(feeds))
    return [np.asarray(value, dtype=np.float64) for value in outputs]


def _short(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _widen_attributes(node: onnx.NodeProto, *, magnitudes: bool) -> None:
    """Constants as float64 tensors; with ``magnitudes``, they and Gemm's factors positive."""
    names = [attribute.name for attribute in node.attribute]
    if node.op_type == "ConstantOfShape" and "value" not in names:
        zero = helper.make_tensor("value", TensorProto.DOUBLE, [1], [0.0])
        node.attribute.append(helper.make_attribute("value", zero))
    for attribute in node.attribute:
        if attribute.name in ("value_float", "value_floats"):
            several = attribute.name == "value_floats"
            values = list(attribute.floats) if several else [attribute.f]
            dims = [len(values)] if several else []
            tensor = helper.make_tensor("value", TensorProto.DOUBLE, dims, values)
            attribute.CopyFrom(helper.make_attribute("value", tensor))
        if magnitudes and attribute.type == onnx.AttributeProto.TENSOR:
            _make_positive(attribute.t)
        if magnitudes and attribute.name in ("alpha", "beta"):
            attribute.f = abs(attribute.f)


def _make_positive(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in FLOATS:
        values = np.abs(onnx.numpy_helper.to_array(tensor))
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))


def _sort(holder: onnx.GraphProto | onnx.FunctionProto) -> None:
    waiting = list(holder.node)
    ordered: list[onnx.NodeProto] = []
    while waiting:
        unmade = {name for node in waiting for name in node.output if name}
        ready = [node for node in waiting if not unmade & _reads(node)]
        assert ready, "the graph has a cycle"
        ordered += ready
        waiting = [node for node in waiting if not any(node is done for done in ready)]
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del holder.node[:]
    holder.node.extend(nodes)


def _reads(node: onnx.NodeProto) -> set[str]:
    inner = [a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    read = {name for graph in inner for sub in graphs(graph) for n in sub.node for name in n.input}
    return read | {v.name for graph in inner for v in graph.output} | set(node.input)


def _channels(vector: Array, rank: int) -> Array:
    return vector.reshape(-1, *[1] * (rank - 2))


class BatchNormalization(OpRun):
    """Inference in every opset."""

    def _run(self, x: Array, *parameters: Array, **attributes: Any) -> tuple[Array, ...]:
        gamma, beta, mean, var = (_channels(p, x.ndim) for p in parameters)
        assert not attributes.get("training_mode")
        assert attributes.get("spatial") in (None, 1)
        return (gamma * (x - mean) / np.sqrt(var + attributes["epsilon"]) + beta,)


class _NormMagnitude(OpRun):
    def _run(self, x: Array, *parameters: Array, **attributes: Any) -> tuple[Array, ...]:
        gamma, beta, mean, var = (_channels(p, x.ndim) for p in parameters)
        return (gamma * (x + mean) / np.sqrt(var + attributes["epsilon"]) + beta,)


class Dropout(OpRun):
    """Inference in every opset."""

    def _run(self, x: Array, *_: Array, **attributes: Any) -> tuple[Array, ...]:
        assert attributes.get("is_test") in (None, 1)
        return x, np.ones(x.shape, dtype=bool)


def _binary(name: str, function: Callable[[Array, Array], Array]) -> type[OpRun]:
    """A binary operator; before opset 7 it broadcasts its second operand from ``axis`` on."""

    def _run(self: OpRun, a: Array, b: Array, **attributes: Any) -> tuple[Array, ...]:
        if self.run_params["opsets"][""] < 7:
            assert attributes.get("broadcast") or a.shape == b.shape
            axis = attributes.get("axis")
            if axis is not None and b.ndim:
                b = b.reshape(*b.shape, *[1] * (a.ndim - axis - b.ndim))
        return (np.asarray(function(a, b)),)

    return type(name, (OpRun,), {"_run": _run})


class Gemm(OpRun):
    """``alpha A' B' + beta C``; before opset 7 C needs ``broadcast`` where its shape differs."""

    def _run(self, a: Array, b: Array, c: Array | None = None, **given: Any) -> tuple[Array, ...]:
        product_ = (a.T if given.get("transA") else a) @ (b.T if given.get("transB") else b)
        y = given.get("alpha", 1.0) * product_
        if c is not None:
            if self.run_params["opsets"][""] < 7:
                assert given.get("broadcast") or c.shape == y.shape
            y = y + given.get("beta", 1.0) * c
        return (y,)


class ConvTranspose(OpRun):
    """The gradient of a convolution: every input value adds a scaled kernel to the output."""

    def _run(self, x: Array, w: Array, b: Array | None = None, **given: Any) -> tuple[Array, ...]:
        group, spatial = given.get("group") or 1, x.ndim - 2
        strides = given.get("strides") or [1] * spatial
        dilations = given.get("dilations") or [1] * spatial
        extra = given.get("output_padding") or [0] * spatial
        full = [
            strides[i] * (x.shape[2 + i] - 1) + dilations[i] * (w.shape[2 + i] - 1) + 1
            for i in range(spatial)
        ]
        y = np.zeros((x.shape[0], w.shape[1] * group, *full))
        rows, columns = w.shape[0] // group, w.shape[1]
        for number, tap in product(range(group), product(*map(range, w.shape[2:]))):
            inputs = slice(number * rows, (number + 1) * rows)
            outputs = slice(number * columns, (number + 1) * columns)
            where = tuple(
                slice(d * k, d * k + s * (n - 1) + 1, s)
                for d, k, s, n in zip(dilations, tap, strides, x.shape[2:], strict=True)
            )
            taps = w.transpose(*range(2, w.ndim), 0, 1)[tap][inputs]
            target = y[:, outputs].transpose(*range(2, y.ndim), 0, 1)[where]
            target += np.einsum("nc...,cm->...nm", x[:, inputs], taps)
        begins, sizes = _cropping(given, x, full, extra, strides)
        for axis, (begin, size) in enumerate(zip(begins, sizes, strict=True), start=2):
            before, after = max(0, -begin), max(0, begin + size - y.shape[axis])
            y = np.pad(y, [(before, after) if i == axis else (0, 0) for i in range(y.ndim)])
            y = np.take(y, np.arange(size) + begin + before, axis=axis)
        return (y if b is None else y + _channels(b, y.ndim),)


def _cropping(
    given: dict[str, Any], x: Array, full: list[int], extra: list[int], strides: list[int]
) -> tuple[list[int], list[int]]:
    """Where the output begins in the full one, and how large it is."""
    spatial, auto_pad = len(full), given.get("auto_pad") or "NOTSET"
    sizes = given.get("output_shape")
    if sizes is None and auto_pad.startswith("SAME"):
        sizes = [strides[i] * x.shape[2 + i] for i in range(spatial)]
    if sizes is None:
        pads = given.get("pads") or [0] * 2 * spatial
        return list(pads[:spatial]), [
            full[i] + extra[i] - pads[i] - pads[spatial + i] for i in range(spatial)
        ]
    total = [full[i] + extra[i] - sizes[i] for i in range(spatial)]
    if auto_pad == "SAME_UPPER":
        return [t // 2 for t in total], list(sizes)
    return [t - t // 2 for t in total], list(sizes)


_COMMON: list[type[OpRun]] = [Dropout, Gemm, ConvTranspose]
_EXACT: list[type[OpRun]] = [
    *_COMMON,
    BatchNormalization,
    _binary("Add", np.add),
    _binary("Sub", np.subtract),
    _binary("Mul", np.multiply),
    _binary("Div", np.divide),
]
_MAGNITUDES: list[type[OpRun]] = [
    *_COMMON,
    type("BatchNormalization", (_NormMagnitude,), {}),
    _binary("Add", np.add),
    _binary("Sub", np.add),
    _binary("Mul", np.multiply),
    _binary("Div", np.divide),
]

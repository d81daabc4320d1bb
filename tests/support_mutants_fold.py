"""A fold written from the paper alone, in float64 with one rounding, that can be made wrong.

Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), Algorithm 2, step 11. Nothing here uses bnfold.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.support_models import Array

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class Norm(NamedTuple):
    """The parameters of a BatchNormalization in float64."""

    gamma: Array
    beta: Array
    mean: Array
    var: Array
    eps: float

    def affine(self) -> tuple[Array, Array]:
        """Scale and shift, Algorithm 2, step 11."""
        scale = self.gamma / np.sqrt(self.var + self.eps)
        return scale, self.beta - scale * self.mean


class Params(NamedTuple):
    """A layer in canonical form: ``(M, C/group, *kernel)``, and ``(M,)`` with Gemm's beta in it."""

    weight: Array
    bias: Array


@dataclass(frozen=True)
class Site:
    """A linear layer and the norm that goes into it.

    Attributes:
        number: of the site in the model.
        params: of the layer before the fold, float64.
        norms: those of all sites.
        forward: whether the norm is in front of the layer.
        gemm_alpha, gemm_beta: Gemm's factors, else 1.
        dtype: what the model stores.
    """

    number: int
    op: str
    params: Params
    norms: tuple[Norm, ...]
    forward: bool
    group: int
    gemm_alpha: float
    gemm_beta: float
    dtype: np.dtype[Any]

    @property
    def norm(self) -> Norm:
        return self.norms[self.number]

    def transposed(self, weight: Array) -> Array:
        """From the canonical layout to ConvTranspose's, ``(C, M/group, *kernel)``, and back."""
        return _swapped(weight, self.group)


Recipe = Callable[[Site], Params]


def applied(site: Site, scale: Array, shift: Array) -> Params:
    """The layer with an affine map behind it, or in front of it where its borders allow that."""
    weight, bias = site.params
    if site.forward:
        wide = weight * scale.reshape(1, -1, *[1] * (weight.ndim - 2))
        taps = weight.sum(tuple(range(2, weight.ndim)))
        return Params(wide, bias + taps @ shift)
    return Params(weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), bias * scale + shift)


def exact(site: Site) -> Params:
    """The right fold, not rounded."""
    return applied(site, *site.norm.affine())


def fold_right(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with every norm folded that can be: float64, each parameter rounded once."""
    return fold(model)


@dataclass(frozen=True)
class Spot:
    """Where a norm and its layer are: ``adder`` is the Add behind a MatMul."""

    layer: str
    norm: str
    adder: str | None = None
    between: tuple[str, ...] = ()
    forward: bool = False


def fold(
    model: onnx.ModelProto, recipe: Recipe = exact, *, blind: Collection[str] = ()
) -> onnx.ModelProto:
    """``model`` with its norms folded as ``recipe`` says.

    ``blind`` names what must not be looked at: ``pads`` of a Conv behind a norm, other ``readers``
    of the tensor before it, or operators between layer and norm, such as ``MaxPool``.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    spots = spots_of(copy.graph, blind)
    found = sites_of(copy.graph, spots)
    for spot, site in zip(spots, found, strict=True):
        _write(copy.graph, spot, site, recipe(site))
    used = {name for node in copy.graph.node for name in node.input}
    tensors = [t for t in copy.graph.initializer if t.name in used]
    tensors = [onnx.TensorProto.FromString(t.SerializeToString()) for t in tensors]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(tensors)
    return copy


def sites(model: onnx.ModelProto) -> list[Site]:
    """What the right fold folds."""
    return sites_of(model.graph, spots_of(model.graph, ()))


def constants_of(graph: onnx.GraphProto) -> dict[str, Array]:
    """Initializers and Constant nodes as arrays."""
    found = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    found[node.output[0]] = numpy_helper.to_array(attribute.t)
    return found


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def readers_of(graph: onnx.GraphProto, name: str) -> list[onnx.NodeProto]:
    return [node for node in graph.node if name in node.input]


def spots_of(graph: onnx.GraphProto, blind: Collection[str]) -> list[Spot]:
    makers = {name: node for node in graph.node for name in node.output}
    outputs = {value.name for value in graph.output}
    constants = constants_of(graph)
    found: list[Spot] = []

    def is_private(name: str) -> bool:
        return "readers" in blind or (len(readers_of(graph, name)) == 1 and name not in outputs)

    for node in graph.node:
        if node.op_type != "BatchNormalization":
            continue
        between: list[str] = []
        name = node.input[0]
        while name in makers and is_private(name) and makers[name].op_type in blind:
            between.append(makers[name].name)
            name = makers[name].input[0]
        maker = makers.get(name)
        if maker is not None and is_private(name):
            adder = None
            if maker.op_type == "Add" and maker.input[1] in constants:
                adder, maker = maker.name, makers.get(maker.input[0], maker)
            if maker.op_type in LINEAR:
                found.append(Spot(maker.name, node.name, adder, tuple(between)))
                continue
        readers = readers_of(graph, node.output[0])
        if len(readers) == 1 and readers[0].op_type == "Conv":
            given = attributes_of(readers[0])
            if ("pads" in blind or not any(given.get("pads", []))) and given.get("group", 1) == 1:
                found.append(Spot(readers[0].name, node.name, forward=True))
    return _one_norm_each(found)


def _one_norm_each(spots: list[Spot]) -> list[Spot]:
    """A layer takes one norm: the one behind it if there are two."""
    behind = {spot.layer for spot in spots if not spot.forward}
    return [spot for spot in spots if not spot.forward or spot.layer not in behind]


def sites_of(graph: onnx.GraphProto, spots: list[Spot]) -> list[Site]:
    constants = constants_of(graph)
    nodes = {node.name: node for node in graph.node}
    norms = tuple(_norm(nodes[spot.norm], constants) for spot in spots)
    found = []
    for number, spot in enumerate(spots):
        node = nodes[spot.layer]
        adder = nodes[spot.adder] if spot.adder else None
        given = attributes_of(node)
        found.append(
            Site(
                number,
                node.op_type,
                params_of(node, adder, constants),
                norms,
                spot.forward,
                given.get("group", 1),
                given.get("alpha", 1.0) if node.op_type == "Gemm" else 1.0,
                given.get("beta", 1.0) if node.op_type == "Gemm" else 1.0,
                constants[node.input[1]].dtype,
            )
        )
    return found


def _norm(node: onnx.NodeProto, constants: dict[str, Array]) -> Norm:
    gamma, beta, mean, var = (constants[name].astype(np.float64) for name in node.input[1:5])
    return Norm(gamma, beta, mean, var, attributes_of(node).get("epsilon", 1e-5))


def adder_of(
    graph: onnx.GraphProto, node: onnx.NodeProto, constants: dict[str, Array]
) -> onnx.NodeProto | None:
    if node.op_type != "MatMul":
        return None
    readers = readers_of(graph, node.output[0])
    if len(readers) == 1 and readers[0].op_type == "Add":
        others = [name for name in readers[0].input if name != node.output[0]]
        if others and others[0] in constants:
            return readers[0]
    return None


def params_of(
    node: onnx.NodeProto, adder: onnx.NodeProto | None, constants: dict[str, Array]
) -> Params:
    given = attributes_of(node)
    weight = constants[node.input[1]].astype(np.float64)
    if node.op_type == "ConvTranspose":
        weight = _swapped(weight, given.get("group", 1))
    elif node.op_type == "MatMul" or (node.op_type == "Gemm" and not given.get("transB")):
        weight = weight.T
    bias = np.zeros(len(weight))
    if len(node.input) > 2 and node.input[2]:
        bias = bias + constants[node.input[2]].astype(np.float64).reshape(-1)
    if node.op_type == "Gemm":
        weight, bias = given.get("alpha", 1.0) * weight, given.get("beta", 1.0) * bias
    if adder is not None:
        (name,) = [name for name in adder.input if name in constants]
        bias = bias + constants[name].astype(np.float64).reshape(-1)
    return Params(weight, bias)


def _swapped(weight: Array, group: int) -> Array:
    """``(C, M/group, ...)`` to ``(M, C/group, ...)`` and back."""
    rows, columns = weight.shape[0] // group, weight.shape[1]
    split = weight.reshape(group, rows, columns, *weight.shape[2:]).swapaxes(1, 2)
    return np.ascontiguousarray(split).reshape(group * columns, rows, *weight.shape[2:])


def _write(graph: onnx.GraphProto, spot: Spot, site: Site, params: Params) -> None:
    nodes = {node.name: node for node in graph.node}
    layer, norm = nodes[spot.layer], nodes[spot.norm]
    weight, bias = params.weight, params.bias
    given = attributes_of(layer)
    if layer.op_type == "ConvTranspose":
        weight = site.transposed(weight)
    elif layer.op_type == "MatMul" or (layer.op_type == "Gemm" and not given.get("transB")):
        weight = weight.T
    store(graph, layer.input[1], weight / site.gemm_alpha, site.dtype)
    holder = layer
    if layer.op_type == "MatMul":
        # The norm's place is taken by an Add where the layer has none.
        holder = nodes[spot.adder] if spot.adder else norm
    if holder is norm:
        norm.op_type = "Add"
        del norm.attribute[:]
        del norm.input[2:]
        store(graph, norm.input[1], bias, site.dtype)
        return
    at = 1 if holder.op_type == "Add" else 2
    if len(holder.input) <= at:
        holder.input.append(f"{norm.name}_bias")
    store(graph, holder.input[at], bias / site.gemm_beta, site.dtype)
    remove(graph, norm)


def store(graph: onnx.GraphProto, name: str, values: Array, dtype: np.dtype[Any]) -> None:
    """Give an initializer other values, rounded once; make it if there is none."""
    with np.errstate(over="ignore", invalid="ignore"):
        tensor = numpy_helper.from_array(np.ascontiguousarray(values).astype(dtype), name)
    for old in graph.initializer:
        if old.name == name:
            old.CopyFrom(tensor)
            return
    graph.initializer.append(tensor)


def remove(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """Take a node out, so that its first input is its output; outputs of the graph keep names."""
    before, after = node.input[0], node.output[0]
    graph.node.remove(node)
    if all(value.name != after for value in graph.output):
        _rename(graph, after, before)
        return
    for maker in graph.node:
        maker.output[:] = [after if name == before else name for name in maker.output]
    _rename(graph, before, after)


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]

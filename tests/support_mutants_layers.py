"""How far the layers of a fold are from the exact one, in units of what is stored."""

from __future__ import annotations

from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import onnx

from tests.support_models import Array
from tests.support_mutants_fold import (
    LINEAR,
    Params,
    adder_of,
    constants_of,
    exact,
    params_of,
    sites,
    spots_of,
)

Layer = tuple[str, Params, Array]


class Distance(NamedTuple):
    """The largest distances from the exact fold.

    Attributes:
        weight, bias: in ulp of the exact value.
        bias_terms: of biases, in ulp of ``|scale| (|bias| + |mean|) + |beta|``: what cancels
            is large there.
    """

    weight: float
    bias: float
    bias_terms: float

    @property
    def most(self) -> float:
        """Of weights and of biases against their terms: any right arithmetic keeps it small."""
        return max(self.weight, self.bias_terms)


def layers(model: onnx.ModelProto) -> list[tuple[str, Params]]:
    """Every linear layer in the order of the nodes, Gemm and MatMul alike as Dense."""
    graph, found = model.graph, []
    constants = constants_of(graph)
    for node in graph.node:
        if node.op_type in LINEAR:
            adder = adder_of(graph, node, constants)
            params = params_of(node, adder, constants)
            kind = node.op_type if "Conv" in node.op_type else "Dense"
            found.append((kind, params))
    return found


def exact_layers(model: onnx.ModelProto) -> list[Layer]:
    """The layers of the right fold, not rounded, and the size of the terms of their biases."""
    spots = spots_of(model.graph, ())
    by_layer = dict(zip([s.layer for s in spots], sites(model), strict=True))
    found = []
    linear = [node.name for node in model.graph.node if node.op_type in LINEAR]
    for name, (kind, params) in zip(linear, layers(model), strict=True):
        if name not in by_layer:
            found.append((kind, params, np.abs(params.bias)))
            continue
        site = by_layer[name]
        scale, _ = site.norm.affine()
        norm = site.norm
        inner = np.abs(site.params.bias) if site.forward else 0.0
        if site.forward:
            taps = np.abs(params.weight).sum(tuple(range(2, params.weight.ndim)))
            terms = inner + taps @ (np.abs(scale * norm.mean) + np.abs(norm.beta))
        else:
            terms = np.abs(scale) * (np.abs(params.bias) + np.abs(norm.mean)) + np.abs(norm.beta)
        found.append((kind, exact(site), terms))
    return found


def distance(
    original: onnx.ModelProto, folded: onnx.ModelProto, *, in_order: bool = True
) -> Distance | None:
    """How far the layers of ``folded`` are from the exact fold of ``original``.

    A norm that is left counts as folded exactly, and zero is as good as a subnormal number. Not
    ``in_order``, each layer is compared with the nearest of its shape. None where the layers are
    others. NaN and infinity are infinitely far.
    """
    right = exact_layers(original)
    with np.errstate(all="ignore"):
        given = exact_layers(_named(folded))
    if sorted(map(_form, right)) != sorted(map(_form, given)):
        return None
    if in_order and list(map(_form, right)) != list(map(_form, given)):
        return None
    dtype = next(site.dtype for site in sites(original))
    worst = [0.0, 0.0, 0.0]
    for at, layer in enumerate(right):
        others = [given[at]] if in_order else [g for g in given if _form(g) == _form(layer)]
        nearest = min((_off(layer, other, dtype) for other in others), key=max)
        worst = [max(pair) for pair in zip(worst, nearest, strict=True)]
    return Distance(*worst)


def _form(layer: Layer) -> tuple[str, tuple[int, ...]]:
    return layer[0], layer[1].weight.shape


def _off(wanted: Layer, found: Layer, dtype: np.dtype[Any]) -> tuple[float, float, float]:
    (_, right, terms), (_, given, _) = wanted, found
    return (
        _ulps(right.weight, given.weight, right.weight, dtype),
        _ulps(right.bias, given.bias, right.bias, dtype),
        _ulps(right.bias, given.bias, terms, dtype),
    )


def _named(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with a name of its own for every node."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for number, node in enumerate(copy.graph.node):
        node.name = f"node_{number}"
    return copy


def _ulps(wanted: Array, found: Array, size: Array, dtype: np.dtype[Any]) -> float:
    info: Any = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    exponent = np.floor(np.log2(np.maximum(np.abs(size), float(info.tiny))))
    with np.errstate(all="ignore"):
        off = np.abs(wanted - found) / 2.0 ** (exponent - info.nmant)
    is_flushed = (found == 0) & (np.abs(wanted) < float(info.tiny))
    off = np.where(is_flushed, 0.0, off)
    return float(np.where(np.isfinite(off), off, np.inf).max(initial=0.0))

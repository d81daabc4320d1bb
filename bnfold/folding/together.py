"""Many small convolutions with a norm right behind each: their new weights computed together.

A model of thousands of small layers has thousands of weights of a few numbers, and arithmetic on
each costs more than on all of one shape together.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bnfold.algebra.affine import Array, Float64Array
from bnfold.algebra.layer import Layer
from bnfold.algebra.rounding import TINY, rounded, smallest_normal
from bnfold.folding.find import Step
from bnfold.folding.plain import plain_route
from bnfold.folding.route import Route
from bnfold.folding.rules.quantised import Dequantised
from bnfold.folding.rules.reading import Linear
from bnfold.folding.survey import Survey
from bnfold.onnxgraph.known import Known, raw_data_of
from bnfold.onnxgraph.tensors import PLAIN_FLOATS
from bnfold.onnxgraph.threads import side_by_side

SMALL = 1 << 12
"""Weights of at most so many bytes are computed together."""
LARGE = 1 << 18
"""Weights of so many elements and more are read side by side."""


@dataclass(frozen=True, eq=False, slots=True)
class Ready:
    """A plain fold, and what the operator stores if it takes up nothing else.

    Attributes:
        route: from the norm into the operator right before it.
        layer: the operator with the norm.
        weight, bias: raw bytes, little endian. No value of them was flushed to zero.
    """

    route: Route
    layer: Layer
    weight: bytes
    bias: bytes

    @property
    def linear(self) -> Linear:
        """The operator."""
        return self.route.sinks[0].linear


def ready_folds(survey: Survey) -> dict[Step, Ready]:
    """The plain folds of which nothing needs to be said, with the numbers of ``push_back`` and
    ``StoredWeight``.

    Those are folds into convolutions of small weights that nothing else reads, each number of
    which can be stored. The others are left out.
    """
    found: dict[tuple[int, tuple[int, ...]], list[tuple[Step, Route]]] = defaultdict(list)
    large: list[Known] = []
    for chain in survey.chains:
        step = chain.steps[0]
        route = plain_route(survey, step) if len(chain.steps) == 1 else None
        if route is None:
            continue
        weight = route.sinks[0].linear.weight
        if _is_small(route.sinks[0].linear):
            found[weight.data_type, weight.shape].append((step, route))
        elif math.prod(weight.shape) >= LARGE:
            large.append(weight)
    _read_side_by_side(large)
    ready: dict[Step, Ready] = {}
    for (data_type, shape), entries in found.items():
        if 0 not in shape:
            ready.update(_computed(data_type, shape, entries))
    return ready


def _read_side_by_side(large: Sequence[Known]) -> None:
    """Find the largest magnitudes of large weights, which planning asks for: that reads all of
    them for the first time, and two threads read faster than one."""
    if len(large) > 1:
        side_by_side(lambda known: known.peak, large, 2)


def _computed(
    data_type: int, shape: tuple[int, ...], entries: list[tuple[Step, Route]]
) -> dict[Step, Ready]:
    """Those of equal weights' shapes, by arrays of (operators, channels, weights of a channel)."""
    dtype = PLAIN_FLOATS[data_type]
    sinks = [route.sinks[0] for _, route in entries]
    raw = b"".join(_raw(sink.linear.weight) for sink in sinks)
    weights = np.frombuffer(raw, dtype).reshape(len(sinks), shape[0], -1)
    scale = _stacked([sink.affine.scale for sink in sinks])
    shift = _stacked([sink.affine.shift for sink in sinks])
    before = _stacked([sink.linear.layer.bias for sink in sinks])
    with np.errstate(all="ignore"):
        biases = before * scale + shift
        exact = weights.astype(np.float64)
        exact *= scale[:, :, None]
    new, is_good = _stored(exact, dtype)
    new_biases, are_good = _stored(biases[:, None, :], dtype)
    is_good &= are_good
    is_good &= ((np.abs(scale) >= TINY) | (scale == 0)).all(axis=1)
    is_good &= (scale != 1).any(axis=1)  # else the weight stays as it is
    # An operator without a bias gets one only if it adds anything.
    is_good &= new_biases.any(axis=(1, 2)) | np.array([s.linear.bias is not None for s in sinks])
    biases.flags.writeable = scale.flags.writeable = False
    ready: dict[Step, Ready] = {}
    for at in np.flatnonzero(is_good):
        step, route = entries[at]
        layer = Layer(scale[at], biases[at])
        ready[step] = Ready(route, layer, new[at].tobytes(), new_biases[at].tobytes())
    return ready


def _stacked(vectors: list[Float64Array]) -> Float64Array:
    return np.concatenate(vectors).reshape(len(vectors), -1)


def _stored(exact: Float64Array, dtype: np.dtype[np.generic]) -> tuple[Array, Array]:
    """Values rounded once, and for each entry of the first axis whether they can be stored so:
    all of them are finite, and none is to become zero."""
    new = rounded(exact, dtype)
    sizes = np.abs(new)
    is_good = np.isfinite(new) & ((sizes >= smallest_normal(dtype)) | (exact == 0))
    return new, np.asarray(is_good.all(axis=(1, 2)))


def _is_small(linear: Linear) -> bool:
    """Whether weight and bias are small, stored, and read by this operator alone."""
    node, weight, bias = linear.node, linear.weight, linear.bias
    if node.op_type != "Conv" or node.domain or linear.shift != "input" or linear.notes:
        return False
    if weight.data_type not in PLAIN_FLOATS or not _is_own(weight, linear):
        return False
    if len(_raw(weight)) > SMALL or node.input(linear.weight_at) is not weight.tensor:
        return False
    if bias is None:
        return node.input(linear.bias_at) is None
    is_vector = bias.shape == (linear.layer.channels,) and bias.data_type == weight.data_type
    return is_vector and node.input(linear.bias_at) is bias.tensor and _is_own(bias, linear)


def _is_own(known: Known, linear: Linear) -> bool:
    """Whether a constant is an initializer with raw data that only this operator reads."""
    tensor, stored = known.tensor, known.stored
    if isinstance(known, Dequantised) or stored is None or stored is not tensor.initializer:
        return False
    if tensor.is_output or tensor.is_pinned or tensor.is_input:
        return False
    return tensor.readers == [linear.node] and raw_data_of(stored) is not None


def _raw(known: Known) -> bytes:
    assert known.stored is not None
    return known.stored.raw_data

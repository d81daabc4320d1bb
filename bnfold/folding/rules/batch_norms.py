"""Many plain BatchNormalizations read at once, with the numbers of ``read_batch_norm``.

A model of thousands of norms has thousands of vectors of a few numbers, and arithmetic on each
costs more than on all of one length together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from onnx import AttributeProto

from bnfold.algebra.affine import Affine, scale_and_shift
from bnfold.algebra.rounding import TINY
from bnfold.folding.rules.batch_norm import CHANNEL_AXIS, DEFAULT_EPSILON
from bnfold.folding.rules.operators import version_of
from bnfold.folding.rules.placed import Placed
from bnfold.folding.rules.reading import Context
from bnfold.onnxgraph.graph import Node
from bnfold.onnxgraph.known import raw_data_of
from bnfold.onnxgraph.tensors import PLAIN_FLOATS

_Kind = tuple[int, int]
"""Number of channels and data type."""


def read_plain_batch_norms(nodes: Iterable[Node], context: Context) -> dict[Node, Placed]:
    """The maps of those norms of which nothing needs to be said, as ``read_batch_norm`` gives them.

    The others are left out: those in training mode, of old opsets, with parameters that are no
    initializers of their own or make no map.
    """
    version = version_of("BatchNormalization", context.opset)
    if version is None or version < 9:
        return {}
    found: dict[_Kind, list[tuple[Node, float, bytes]]] = defaultdict(list)
    for node in nodes:
        epsilon = _plain_epsilon(node)
        held = _parameters(node) if epsilon is not None else None
        if epsilon is not None and held is not None:
            kind, data = held
            found[kind].append((node, epsilon, data))
    placed: dict[Node, Placed] = {}
    for (channels, data_type), entries in found.items():
        data = b"".join(data for _, _, data in entries)
        whole = np.frombuffer(data, PLAIN_FLOATS[data_type]).reshape(-1, 4, channels)
        epsilons = np.array([epsilon for _, epsilon, _ in entries])[:, None]
        gamma, beta, mean, var = whole.astype(np.float64).transpose(1, 0, 2)
        scale, shift, is_good = scale_and_shift(gamma, beta, mean, var, epsilons)
        is_good &= (np.abs(scale) >= TINY) | (gamma == 0)
        scale.flags.writeable = shift.flags.writeable = False
        for at in np.flatnonzero(is_good.all(axis=1)):
            affine = Affine(scale[at], shift[at])
            placed[entries[at][0]] = Placed(affine, CHANNEL_AXIS, 2, is_per_channel=True)
    return placed


def _plain_epsilon(node: Node) -> float | None:
    """The epsilon of a node in inference mode whose attributes are all as they have to be."""
    if node.domain or len(node.outputs) != 1 or len(node.inputs) != 5:
        return None
    epsilon = DEFAULT_EPSILON
    for attribute in node.proto.attribute:
        name = attribute.name
        if attribute.type != AttributeProto.FLOAT or attribute.ref_attr_name:
            return None
        if name == "epsilon":
            epsilon = float(attribute.f)
        elif name != "momentum":
            return None
    return epsilon


def _parameters(node: Node) -> tuple[_Kind, bytes] | None:
    """The parameters one after another, if each is a vector that the file holds by itself."""
    kind: _Kind | None = None
    parts: list[bytes] = []
    for tensor in node.inputs[1:]:
        stored = tensor.initializer if tensor is not None else None
        data = raw_data_of(stored) if stored is not None else None
        if tensor is None or stored is None or tensor.is_input or data is None:
            return None
        dims, data_type = stored.dims, stored.data_type
        if len(dims) != 1 or data_type not in PLAIN_FLOATS:
            return None
        own = (dims[0], data_type)
        if kind not in (None, own) or len(data) != dims[0] * PLAIN_FLOATS[data_type].itemsize:
            return None
        kind = own
        parts.append(data)
    return None if kind is None or kind[0] < 1 else (kind, b"".join(parts))

"""Where norms go: the linear operators of a model, and why some of them get none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

import numpy as np
from onnx import TensorProto

from bnfold.algebra.affine import Float64Array
from bnfold.folding.find import is_only_for, value_readers
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.elementwise import data_position
from bnfold.folding.rules.operators import key_of
from bnfold.folding.rules.reading import FLOATS, Context, Linear
from bnfold.folding.rules.tables import BATCH_NORM, LINEAR
from bnfold.onnxgraph.constants import Constants
from bnfold.onnxgraph.graph import Node, Tensor, nodes_in
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.known import Known
from bnfold.onnxgraph.tensors import type_name
from bnfold.onnxgraph.types import Types
from bnfold.statistics.inserted import LeftOut, Where

OPERATORS: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""The operators that norms are inserted behind."""

OTHERS: Final = frozenset(
    (
        "DeformConv Einsum QLinearConv QLinearMatMul ConvInteger MatMulInteger "
        "com.microsoft::FusedConv com.microsoft::FusedGemm com.microsoft::FusedMatMul"
    ).split()
)
"""Linear operators that are left out."""

_LISTED: Final = OPERATORS | OTHERS

ACTIVATIONS: Final = frozenset(
    (
        "Celu Clip Elu Gelu HardSigmoid HardSwish LeakyRelu Mish PRelu Relu Selu Sigmoid Softplus "
        "Softsign Swish Tanh ThresholdedRelu"
    ).split()
)
"""Operators on single elements that stand behind a linear one."""

_GATES: Final = frozenset({"Sigmoid", "HardSigmoid"})
_PASSED: Final = frozenset({"Identity", "Dropout"})
_LONGEST: Final = 8
"""How many nodes that give what they read are passed in search of a norm."""


@dataclass(frozen=True, eq=False)
class Site:
    """A place for a norm.

    Attributes:
        linear: the operator in canonical form.
        made: the tensor that is normalised; a node of the main graph makes it.
        add: the Add behind the operator that is its bias, or None.
        added: what that adds to each channel, shape ``(C,)``.
        element_type: of the data, an ONNX data type.
    """

    linear: Linear
    made: Tensor
    add: Node | None
    added: Float64Array | None
    element_type: int

    @property
    def node(self) -> Node:
        """The operator."""
        return self.linear.node

    @property
    def maker(self) -> Node:
        """The node right before the norm."""
        assert self.made.producer is not None
        return self.made.producer

    @property
    def channels(self) -> int:
        """C."""
        return self.linear.layer.channels


def find_sites(
    index: Index, where: Where, only: Sequence[str] = (), skip: Sequence[str] = ()
) -> tuple[list[Site], list[LeftOut]]:
    """The places for norms in the order of the data, and the operators that get none.

    Args:
        index: of the model.
        where: on which side of the activation.
        only, skip: shell patterns over the names of operators.
    """
    finder = _Finder(index, where, only, skip)
    sites: list[Site] = []
    left: list[LeftOut] = []
    for node in index.nodes:
        if key_of(node) in _LISTED:
            found = finder.site(node)
            if isinstance(found, Site):
                sites.append(found)
            else:
                left.append(LeftOut(node.label, node.op_type, node.scope.where, *found))
    return sites, [*left, *_in_functions(index)]


_Why = tuple[str, str]
"""A code of ``LEFT_OUT`` and a sentence."""


class _Finder:
    def __init__(
        self, index: Index, where: Where, only: Sequence[str], skip: Sequence[str]
    ) -> None:
        self._where, self._only, self._skip = where, only, skip
        types = Types(index)
        self._context = Context(Constants(index, types), types, index.document.opset)

    def site(self, node: Node) -> Site | _Why:
        """The place behind one operator, or why there is none."""
        label = node.label
        why = self._why_excluded(label)
        if why is not None:
            return "excluded", why
        if node.scope.parent is not None:
            return "inner-graph", f"{label} is in the body of {node.scope.where}"
        if key_of(node) in OTHERS:
            return "other-operator", f"{label} is a {node.op_type}"
        linear = LINEAR[key_of(node)](node, self._context)
        if isinstance(linear, Refused):
            return "unreadable", linear.sentence
        made = node.outputs[0] if node.outputs else None
        if made is None:
            return "unreadable", f"{label} has no output"
        return self._behind(linear, made)

    def _behind(self, linear: Linear, made: Tensor) -> Site | _Why:
        label = linear.node.label
        rank = linear.rank()
        if rank is None:
            return "unknown-rank", f"the rank of {made.name}, which {label} makes, is not known"
        axis = linear.axis if linear.axis >= 0 else rank + linear.axis
        if axis != 1:
            return "channel-axis", f"the channels of {made.name} are on axis {axis} of {rank}"
        add, added = self._bias_behind(made, linear.layer.channels, rank)
        if add is not None:
            assert add.outputs[0] is not None
            made = add.outputs[0]
        norm = _norm_behind(made)
        if norm is not None:
            return "already-normalised", f"{norm.label} stands behind {label}"
        if self._where == "after-activation":
            activated = _activated(made)
            if activated is None:
                return "no-activation", f"no activation alone reads {made.name}"
            made = activated
        shape = self._context.types.shape(made)
        if shape is not None and {*shape[:1], *shape[2:]} == {1}:
            sizes = ", ".join(map(str, shape))
            return "single-value", f"{made.name} is [{sizes}]: one value for each channel"
        found = self._element_type(linear, made)
        if isinstance(found, str):
            return "unsupported-dtype", found
        return Site(linear, made, add, added, found)

    def _why_excluded(self, label: str) -> str | None:
        for pattern in self._skip:
            if fnmatchcase(label, pattern):
                return f"{label} matches --skip {pattern}"
        if self._only and not any(fnmatchcase(label, pattern) for pattern in self._only):
            return f"{label} matches no --only pattern"
        return None

    def _bias_behind(
        self, made: Tensor, channels: int, rank: int
    ) -> tuple[Node, Float64Array] | tuple[None, None]:
        """The Add of one constant for each channel that alone reads a tensor, and the constants."""
        node = _only_reader(made)
        if node is None or key_of(node) != "Add" or node.outputs[0] is None:
            return None, None
        at = data_position(node, self._context)
        constant = node.input(1 - at) if at is not None else None
        if at is None or constant is None or node.inputs[at] is not made:
            return None, None
        known = self._context.constants.value(constant)
        if not isinstance(known, Known) or known.data_type not in FLOATS:
            return None, None
        shape = (1,) * (rank - len(known.shape)) + known.shape
        if len(shape) != rank or any(n != 1 for at, n in enumerate(shape) if at != 1):
            return None, None
        if shape[1] not in (1, channels):
            return None, None
        return node, np.zeros(channels) + np.ravel(known.array).astype(np.float64)

    def _element_type(self, linear: Linear, made: Tensor) -> int | str:
        """The data type of a norm's data, or why there is no norm for it."""
        found = linear.weight.data_type
        if found not in FLOATS:
            found = self._context.types.element_type(made)
        if found not in FLOATS:
            return f"{made.name} is {type_name(found)}, not a float"
        if found == TensorProto.BFLOAT16 and self._context.opset < 14:
            return f"{made.name} is bfloat16, which BatchNormalization takes from opset 14 on"
        return found


def _only_reader(made: Tensor) -> Node | None:
    """The node that alone needs the values of a tensor, if it is in the same graph."""
    readers = value_readers(made)
    if len(readers) != 1 or not is_only_for(readers[0], made):
        return None
    return readers[0]


def _activated(made: Tensor) -> Tensor | None:
    """What the activation that alone reads a tensor makes of it, or None.

    ``x * Sigmoid(x)`` and ``x * HardSigmoid(x)`` are one activation of two nodes.
    """
    node = _only_reader(made)
    if node is not None:
        return node.outputs[0] if _is_activation(node) and node.input(0) is made else None
    readers = value_readers(made)
    gate = next((node for node in readers if key_of(node) in _GATES), None)
    if gate is None or len(readers) != 2 or not _is_activation(gate):
        return None
    opened = gate.outputs[0]
    product = _only_reader(opened) if opened is not None else None
    if product is None or key_of(product) != "Mul" or {*readers} != {gate, product}:
        return None
    is_theirs = not made.is_output and not made.is_pinned and gate.scope is made.scope
    return product.outputs[0] if is_theirs and {*product.inputs} == {made, opened} else None


def _is_activation(node: Node) -> bool:
    return key_of(node) in ACTIVATIONS and len(node.outputs) == 1 and node.outputs[0] is not None


def _norm_behind(made: Tensor) -> Node | None:
    """A BatchNormalization that reads a tensor, or what an activation makes of it."""
    waiting = [(made, 0)]
    while waiting:
        tensor, passed = waiting.pop()
        for node in value_readers(tensor):
            if node.op_type == BATCH_NORM:
                return node
            is_passed = key_of(node) in _PASSED or _is_activation(node)
            behind = node.outputs[0] if is_passed and node.input(0) is tensor else None
            if behind is not None and passed < _LONGEST:
                waiting.append((behind, passed + 1))
    return None


def _in_functions(index: Index) -> Iterator[LeftOut]:
    for function in index.document.proto.functions:
        for proto in nodes_in(function.node):
            if proto.domain in ("", "ai.onnx") and proto.op_type in OPERATORS:
                name = proto.name or next(iter(proto.output), proto.op_type)
                why = f"{name} is in the body of the function {function.name}"
                yield LeftOut(name, proto.op_type, function.name, "function-body", why)

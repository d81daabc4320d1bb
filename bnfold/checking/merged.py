"""The check of merged branches before anything is written: each block by itself, in float64.

Two questions, so that no tolerance hides an error. Do the nodes of the block, evaluated as they
stand in the model, give what one Conv with the exact merged weights gives? And is each weight that
will be written that exact one, rounded once?
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from bnfold.checking.yardstick import quanta
from bnfold.errors import ModelError, VerificationError
from bnfold.folding.branches.kernel import Kernel
from bnfold.folding.branches.merge import Merge, Merged
from bnfold.folding.outcome import RegionsChecked
from bnfold.onnxgraph.constants import Constants
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.known import Unknown
from bnfold.onnxgraph.types import Types
from bnfold.reference.evaluator import Evaluator

Array = npt.NDArray[Any]

CLOSE = 1e-9
"""How far both sides may be apart, relative to the sum of the magnitudes of all terms: float64
rounding is a thousand times below, a wrong tap far above."""
HALF = 0.5 * (1 + 1e-6)
"""Half a unit in the last place, and the rounding of the yardstick itself."""


class MergeError(Exception):
    """What is wrong with a merged block, in words; never leaves this room."""


def check_merged(merged: Merged) -> RegionsChecked:
    """Compare each block with the Conv that takes its place.

    Raises:
        VerificationError: one is not the same function.
    """
    worst = 0.0
    if not merged.merges:
        return RegionsChecked(0, worst)
    # Fresh ones: nothing that the folder evaluated counts.
    constants = Constants(merged.index, Types(merged.index))
    written = _Written(Index(merged.document))
    with np.errstate(all="ignore"):
        for merge in merged.merges:
            exact = merged.exact(merge)
            try:
                conv, stored = written.conv(merge)
                _require_same(merged, merge, exact, conv, constants)
                for values, right in zip(stored, (exact.weight, exact.bias), strict=True):
                    worst = max(worst, _largest(values, right))
            except (MergeError, ModelError) as why:
                raise _failure(merge, why) from None
    return RegionsChecked(len(merged.merges), worst)


def _failure(merge: Merge, why: Exception) -> VerificationError:
    return VerificationError(
        f"the merge of branches into {merge.outcome.into} failed its check: {why}: this is a bug "
        "of bnfold's, and nothing was written; please report it"
    )


class _Written:
    """The new model, as far as the merged Convs go."""

    def __init__(self, index: Index) -> None:
        self._read = index.document.tensors.array
        self._constants = Constants(index, Types(index))
        # New names are unique in the whole model, in whatever graph they are.
        self._named = {
            tensor.name: tensor for scope in index.scopes for tensor in scope.tensors.values()
        }

    def conv(self, merge: Merge) -> tuple[onnx.NodeProto, tuple[Array, Array]]:
        """The Conv of a block, and its weight and bias as they will be written."""
        block = merge.block
        weight = self._named.get(merge.new.weight_name)
        if weight is None or len(weight.readers) != 1:
            raise MergeError(f"{merge.new.weight_name} is not read by one node")
        node = weight.readers[0]
        if node.op_type != "Conv" or list(node.proto.output) != [block.root.name]:
            raise MergeError(f"{node.label} does not make {block.root.name}")
        if node.proto.input[0] != block.origin.name or node.proto.input[1] != weight.name:
            raise MergeError(f"{node.label} does not read {block.origin.name}")
        values = self._values(weight)
        bias = np.zeros(len(values), values.dtype)
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            bias = self._values(node.inputs[2])
        if bias.dtype != values.dtype:
            raise MergeError(f"the bias of {node.label} has another dtype than its weight")
        return node.proto, (values, bias)

    def _values(self, tensor: Tensor) -> Array:
        found = self._constants.value(tensor)
        if isinstance(found, Unknown):
            raise MergeError(found.detail)
        return found.array


def _largest(stored: Array, exact: Array) -> float:
    """The largest difference of stored values from the exact ones, in units in the last place."""
    if stored.shape != exact.shape:
        raise MergeError(f"a written tensor has shape {stored.shape}, not {exact.shape}")
    # Exact zeros that are stored as zeros have no unit to be measured in.
    units = np.abs(stored.astype(np.float64) - exact) / quanta(stored)
    worst = float(units.max(initial=0.0))
    if not worst <= HALF:
        at = np.unravel_index(int(np.argmax(np.where(np.isnan(units), np.inf, units))), units.shape)
        raise MergeError(
            f"channel {at[0]} has {float(stored[at]):.9g} where {exact[at]:.9g} is right"
        )
    return worst


def _require_same(
    merged: Merged, merge: Merge, exact: Kernel, conv: onnx.NodeProto, constants: Constants
) -> None:
    """Evaluate both sides on random data, borders included."""
    block = merge.block
    shape = _probe(merge, exact)
    x = np.random.default_rng(0).normal(size=shape)
    imports = merged.index.document.proto.opset_import
    name, root = block.origin.name, block.root.name
    nodes = [_in_inference(role.node, merged.context.opset) for role in block.roles]
    values = _constants_of(merge, constants)
    before = _evaluated(nodes, values, imports, {name: x}, root)
    inputs = dict(zip(conv.input[1:], (exact.weight, exact.bias), strict=False))
    after = _evaluated([conv], inputs, imports, {name: x}, root)
    if before.shape != after.shape:
        raise MergeError(f"{root} has shape {after.shape} and had {before.shape}")
    terms = exact.reach.reshape(-1, *[1] * (len(shape) - 2)) * max(1.0, float(np.abs(x).max()))
    off = np.abs(after - before) / np.maximum(terms, np.finfo(np.float64).tiny)
    worst = float(off.max(initial=0.0))
    if not worst <= CLOSE:
        channel = int(np.argmax(off.max(axis=tuple(i for i in range(off.ndim) if i != 1))))
        raise MergeError(
            f"channel {channel} of {root} differs by {worst:.3g} of the sum of all magnitudes"
        )


def _probe(merge: Merge, exact: Kernel) -> tuple[int, ...]:
    """A shape of data with outputs at both borders and between them.

    Padding that was read from a size is the same for each size of the same remainder.
    """
    sizes = []
    for axis, stride in enumerate(exact.window.strides):
        size = exact.window.reach(axis) + 1 + 2 * stride
        told = merge.sizes.get(axis)
        if told is not None:
            size = min(told, size + (told - size) % stride)
        sizes.append(size)
    return (1, exact.inputs, *sizes)


def _in_inference(node: Node, opset: int) -> onnx.NodeProto:
    """A node with the one output that counts; a norm as inference reads it."""
    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    del proto.output[1:]
    if node.op_type == "BatchNormalization" and (opset < 7 or opset >= 14):
        name, value = ("is_test", 1) if opset < 7 else ("training_mode", 0)
        kept = [a for a in node.proto.attribute if a.name != name]
        del proto.attribute[:]
        proto.attribute.extend([*kept, helper.make_attribute(name, value)])
    return proto


def _constants_of(merge: Merge, constants: Constants) -> dict[str, Array]:
    made = {merge.block.origin, *(role.output for role in merge.block.roles)}
    found: dict[str, Array] = {}
    for role in merge.block.roles:
        for tensor in role.node.inputs:
            if tensor is None or tensor in made:
                continue
            known = constants.value(tensor)
            if isinstance(known, Unknown):
                raise MergeError(f"{known.detail}, and {role.node.label} reads it")
            found[tensor.name] = known.array
    return found


def _evaluated(
    nodes: list[onnx.NodeProto],
    values: dict[str, Array],
    imports: Any,
    given: dict[str, Array],
    wanted: str,
) -> Array:
    """What some nodes make of data, in float64."""
    graph = onnx.GraphProto(name="block", node=nodes)
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in given)
    graph.output.append(onnx.ValueInfoProto(name=wanted))
    for name, array in values.items():
        kind = helper.np_dtype_to_tensor_dtype(array.dtype.newbyteorder("="))
        graph.initializer.append(TensorProto(name=name, data_type=kind, dims=array.shape))
    model = onnx.ModelProto(ir_version=8, graph=graph, opset_import=imports)
    evaluator = Evaluator(model, read=lambda proto: values[proto.name])
    return evaluator.run(given)[wanted]

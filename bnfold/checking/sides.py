"""Both sides of a cluster as small models: the nodes as they are, and as they will be written.

On the written side each operator has the weight and the bias that the plan claims, in float64 and
not rounded, so that both sides are equal but for the rounding of float64 itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from bnfold.checking.cluster import Cluster
from bnfold.checking.excerpt import Constant, Evaluators, Excerpt
from bnfold.checking.parted import part_large
from bnfold.checking.pledge import Pledge
from bnfold.checking.protos import kept_attributes, nameless, set_inference
from bnfold.checking.spelled import spelled_out
from bnfold.checking.written import Original, RegionError, Written
from bnfold.checking.yardstick import format_of, quanta
from bnfold.folding.decided import Plan
from bnfold.onnxgraph.constants import Constants
from bnfold.onnxgraph.expressions import EVALUATED, is_read_by_value
from bnfold.onnxgraph.graph import Node, Scope, Tensor
from bnfold.onnxgraph.load import Document
from bnfold.onnxgraph.rewrite import NewTensor

Array = npt.NDArray[Any]

_CHANGED = {
    "Conv": ("pads", "auto_pad"),
    "Gemm": ("beta", "broadcast"),
    "FusedGemm": ("beta", "broadcast"),
    "DequantizeLinear": ("axis",),
    "Pad": ("value",),
}
"""Attributes that a fold may change; they are evaluated on both sides."""
_SEQUENCES = frozenset({"SplitToSequence"})
"""What they make cannot be made up."""
_FIXED = EVALUATED | {"DequantizeLinear", "QuantizeLinear"}


@dataclass(frozen=True)
class Need:
    """A tensor that others need: by which names both sides have it.

    Attributes:
        tensor: as the model has it.
        by_value: whether its values are needed, or only its shape.
    """

    tensor: Tensor
    before: str
    after: str
    by_value: bool


class Sides:
    """Both sides of one cluster.

    Args:
        inference: the norms that are read as inference whatever they say.

    Attributes:
        nodes, inside: those of the cluster, and what computes sizes or constants for them.
        types: of the model.
        pledge: what the plan claims of the operators.
        max_ulp: the largest difference of what is stored from that, in units in the last place.
        before, after: the two sides.
        boundary: what both read and neither makes, by name.
        needs: what has to be the same.
        rewritten: constants of the written side that no operator's claim is about.
        fill_unit: the unit in the last place of one, for what borders are filled with.

    Raises:
        RegionError: the written side is not what it has to be.
    """

    def __init__(
        self,
        cluster: Cluster,
        plan: Plan,
        original: Original,
        written: Written,
        constants: Constants,
        inference: Collection[Node],
        document: Document,
        evaluators: Evaluators,
    ) -> None:
        imports = document.proto.opset_import
        self.before, self.after = Excerpt(imports, evaluators), Excerpt(imports, evaluators)
        self.boundary: dict[str, Tensor] = {}
        self.needs: list[Need] = []
        self.rewritten: dict[str, Array] = {}
        fills = [fill for fold in cluster.folds for fill in fold.fills.values()]
        kinds = [helper.tensor_dtype_to_np_dtype(fill.data_type) for fill in fills]
        self.fill_unit = max([2.0**-23, *(format_of(np.dtype(kind)).eps for kind in kinds)])
        self.types = original.types
        self._original, self._written = original, written
        self._constants, self._inference = constants, inference
        self._names: dict[Tensor, str] = {}
        self.nodes = list(cluster.nodes)
        self.inside = set(cluster.nodes)
        self._changing = set(cluster.nodes)
        self._made: dict[tuple[Scope, str], str] = {}
        self._new: dict[NewTensor, str] = {}
        self._sized: dict[Tensor, bool] = {}
        self._read_original()
        self.pledge = Pledge(cluster, plan, written, self._value, original.types, document.opset)
        self._read_written()
        self._find_needs()
        part_large(self.before)
        part_large(self.after)

    def _read_original(self) -> None:
        waiting = list(self.nodes)
        while waiting:
            node = waiting.pop()
            proto = nameless(node.proto)
            if node in self._inference:
                set_inference(proto)
            for at, tensor in enumerate(node.inputs):
                if tensor is None:
                    continue
                proto.input[at] = self._name(tensor)
                maker = tensor.producer
                if maker is None or maker in self.inside:
                    continue
                if self._is_pulled(tensor) or maker.op_type in _SEQUENCES:
                    self.inside.add(maker)
                    self.nodes.append(maker)
                    waiting.append(maker)
            for at, tensor in enumerate(node.outputs[: len(proto.output)]):
                proto.output[at] = "" if tensor is None else self._name(tensor)
            self.before.nodes += spelled_out(proto, self._ranks(node))
        for node in self.nodes:
            for tensor in node.inputs:
                if tensor is not None and tensor.producer not in self.inside:
                    self._enter(tensor)

    def _value(self, tensor: Tensor) -> Array:
        """The values of a constant, or of what a DequantizeLinear makes of constants."""
        if self._is_constant(tensor):
            return self._original.value(tensor)
        name = self._name(tensor)
        return self.before.run({}, [name])[name]

    def default(self, tensor: Tensor) -> Array:
        """The values that an input has if nobody gives it others."""
        return self._original.default(tensor)

    def _evaluated(self, name: str, node: Node) -> tuple[Array, Array]:
        """What a name that a node reads will mean, and the unit of each value."""
        unique = self._after_name(name, node)
        after = self.after.copy()
        if unique in after.constants:
            values = after.constants[unique].read()
            return values, quanta(np.ascontiguousarray(values).reshape(-1)).reshape(values.shape)
        values = after.run({}, [unique])[unique]
        for scale in {n.input[1] for n in after.nodes if n.op_type == "DequantizeLinear"}:
            stored = np.ascontiguousarray(after.constants[scale].read())
            after.constants[scale] = Constant.of(quanta(stored))
        units = after.run({}, [unique])[unique]
        return values, np.abs(units)

    def _ranks(self, node: Node) -> list[int | None]:
        if node.domain == "":
            return []
        return [None if t is None else self.types.rank(t) for t in node.inputs]

    def _name(self, tensor: Tensor) -> str:
        return self._names.setdefault(tensor, f"t{len(self._names)}")

    def _enter(self, tensor: Tensor) -> None:
        name = self._name(tensor)
        if self._is_constant(tensor):
            if name not in self.before.constants:
                self.before.constants[name] = Constant.of(self._original.value(tensor))
        else:
            self.boundary[name] = tensor

    def _is_constant(self, tensor: Tensor) -> bool:
        return self._constants.why_not(tensor) is None

    def _is_pulled(self, tensor: Tensor) -> bool:
        """Whether a tensor is computed from constants and sizes, so that it cannot be made up."""
        if self._is_constant(tensor):
            return False
        found = self._sized.get(tensor)
        if found is None:
            node = tensor.producer
            if node is None or node.domain != "":
                found = False
            elif node.op_type in ("Shape", "Size"):
                found = True
            else:
                found = node.op_type in _FIXED and all(
                    t is None or self._is_constant(t) or self._is_pulled(t) for t in node.inputs
                )
            self._sized[tensor] = found
        return found

    def _read_written(self) -> None:
        for node in self.nodes:
            for name in (n for proto in self._written.nodes(node) for n in proto.output if n):
                if (node.scope, name) in self._made:
                    raise RegionError(f"{name} would be made twice")
                self._made[node.scope, name] = f"w{len(self._made)}"
        plain = [node for node in self.nodes if not self.pledge.is_about(node)]
        for node in plain:
            self._write(node)
        self.max_ulp = self.pledge.require_kept(self._evaluated)
        for node in self.nodes:
            if self.pledge.is_about(node):
                self._write(node)

    def _write(self, node: Node) -> None:
        """Add what stands in the place of a node to the written side."""
        protos = self._written.nodes(node)
        if protos != [node.proto]:
            self._require_same(node, protos)
        for proto in protos:
            copy = nameless(proto)
            if node in self._inference and proto.op_type == "BatchNormalization":
                set_inference(copy)
            for at, name in enumerate(proto.input):
                if name and not self.pledge.covers(node, proto, at):
                    copy.input[at] = self._after_name(name, node)
            for at, name in enumerate(copy.output):
                copy.output[at] = self._made[node.scope, name] if name else ""
            for one in self.pledge.applied(node, proto, copy, self.after.constants):
                self.after.nodes += spelled_out(one, self._ranks(node))

    def _require_same(self, node: Node, protos: list[onnx.NodeProto]) -> None:
        """What stays of a node is the same operator with the same attributes."""
        if not protos or self.pledge.is_host(node):
            return
        # A DequantizeLinear that others need as it was gets a copy, a Conv gets a Pad before it.
        before = node.proto
        after = next((p for p in reversed(protos) if p.op_type == before.op_type), protos[0])
        if before.op_type != after.op_type or before.domain != after.domain:
            raise RegionError(f"{node.label} becomes another operator")
        changed = _CHANGED.get(node.op_type, ())
        if kept_attributes(before, changed) != kept_attributes(after, changed):
            raise RegionError(f"an attribute of {node.label} changes")

    def _after_name(self, name: str, node: Node) -> str:
        """What a name means on the written side, from the inside out."""
        scope: Scope | None = node.scope
        while scope is not None:
            if (scope, name) in self._made:
                return self._made[scope, name]
            if self._written.defines(name, scope):
                break
            scope = scope.parent
        found = self._written.tensor(name, scope or node.scope)
        if isinstance(found, NewTensor):
            unique = self._new.setdefault(found, f"n{len(self._new)}")
            if unique not in self.after.constants:
                self.rewritten[unique] = self._written.array(found)
                self.after.constants[unique] = Constant.of(self.rewritten[unique])
            return unique
        if self._is_constant(found):
            unique = self._name(found)
            if unique not in self.after.constants:
                self.after.constants[unique] = Constant.of(self._original.value(found))
            return unique
        if not self._written.is_made(found):
            raise RegionError(f"{node.label} reads {name}, which nothing makes any more")
        if self._names.get(found) not in self.boundary:
            raise RegionError(f"{node.label} would read {name}, which is none of its data")
        return self._names[found]

    def _find_needs(self) -> None:
        for node in self.nodes:
            for tensor in node.outputs:
                if tensor is not None:
                    self.needs += self._needs_of(tensor)

    def _needs_of(self, tensor: Tensor) -> Iterator[Need]:
        outside = [reader for reader in tensor.readers if reader not in self.inside]
        is_needed = tensor.is_output or tensor.is_pinned
        if not outside and not is_needed:
            return
        node = tensor.producer
        if node is not None and node.op_type in _SEQUENCES and node not in self._changing:
            return
        by_name: dict[str, bool] = {}
        if is_needed:
            by_name[tensor.name] = True
            if (tensor.scope, tensor.name) not in self._made:
                raise RegionError(f"nothing makes {tensor.name} any more")
        if (tensor.scope, tensor.name) in self._made:
            # A name that stays means what it meant.
            by_value = any(is_read_by_value(tensor, reader) for reader in outside)
            by_name[tensor.name] = by_name.get(tensor.name, False) or by_value
        before = self._names[tensor]
        for name, by_value in by_name.items():
            yield Need(tensor, before, self._made[tensor.scope, name], by_value)
        for reader in dict.fromkeys(outside):
            protos = self._written.nodes(reader)
            if not protos:
                continue
            for at, read in enumerate(reader.inputs):
                if read is tensor:
                    name = protos[0].input[at] if at < len(protos[0].input) else ""
                    if name != tensor.name or (tensor.scope, name) not in self._made:
                        after = self._after_name(name, reader) if name else ""
                        yield Need(tensor, before, after, is_read_by_value(tensor, reader))

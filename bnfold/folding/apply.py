"""Write a plan: the only place that turns decisions into edits of a model."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper

from bnfold.algebra.affine import Array
from bnfold.folding.plan import FoldPlan
from bnfold.folding.rules.reading import version_of
from bnfold.folding.store import StoredWeight, dtype_of, is_untouched, stored_bias
from bnfold.onnxgraph.constants import Known
from bnfold.onnxgraph.index import Index, Node, Scope, Tensor
from bnfold.onnxgraph.ranges import Computed
from bnfold.onnxgraph.rewrite import MAIN, NewTensor, Rewrite, without_data
from bnfold.onnxgraph.wire import (
    ATTRIBUTE_TENSOR,
    GRAPH_INITIALIZER,
    GRAPH_INPUT,
    GRAPH_NODE,
    GRAPH_QUANTIZATION,
    GRAPH_VALUE_INFO,
    NODE_ATTRIBUTE,
    Edits,
    delimited,
)


@dataclass
class Applied:
    """The edits of a plan, and what the report says about them.

    Attributes:
        rewrite: what changes in the model.
        nodes_removed: nodes fewer than before.
        weights: the stored weight of each fold that changes it, once each.
        bias_flushed: values of biases that became zero, by fold.
    """

    rewrite: Rewrite = field(default_factory=Rewrite)
    nodes_removed: int = 0
    weights: dict[FoldPlan, StoredWeight] = field(default_factory=dict)
    bias_flushed: dict[FoldPlan, int] = field(default_factory=dict)

    def flushed(self, fold: FoldPlan) -> int:
        """How many values of one fold became zero because they were below the smallest normal."""
        weight = self.weights.get(fold)
        return self.bias_flushed.get(fold, 0) + (weight.flushed if weight is not None else 0)


def apply(index: Index, folds: Iterable[FoldPlan], opset: int) -> Applied:
    """The edits that carry out ``folds``."""
    return _Applier(index, opset).run(list(folds))


class _Applier:
    def __init__(self, index: Index, opset: int) -> None:
        self._index = index
        self._opset = opset
        self._applied = Applied()
        self._edits = self._applied.rewrite.edits
        self._constants_as_nodes = index.document.proto.ir_version < 4
        self._names = index.names()
        self._reads: dict[Tensor, int] = {}
        self._unread: list[Tensor] = []
        self._deleted: set[Node] = set()
        self._kept: set[Node] = set()
        self._new_names: dict[tuple[object, ...], str] = {}
        self._vanished: dict[Scope, set[str]] = defaultdict(set)
        self._users: dict[tuple[object, ...], list[Node]] = defaultdict(list)

    def run(self, folds: list[FoldPlan]) -> Applied:
        for fold in folds:
            node = fold.linear.node
            if not is_untouched(fold.layer):
                self._users[_weight_key(fold)].append(node)
            if fold.linear.has_bias:
                self._users[_bias_key(fold)].append(node)
        for fold in folds:
            self._fold(fold)
        self._sweep()
        for scope, names in self._vanished.items():
            self._forget(scope, names)
        return self._applied

    def _fold(self, fold: FoldPlan) -> None:
        linear, node = fold.linear, fold.linear.node
        self._kept.add(node)
        made = node.outputs[0]
        assert made is not None
        proto = onnx.NodeProto()
        proto.CopyFrom(node.proto)
        if not is_untouched(fold.layer):
            proto.input[1] = self._store_weight(fold)
        dtype = dtype_of(linear.weight)
        bias, flushed = stored_bias(fold.layer, dtype)
        self._applied.bias_flushed[fold] = flushed
        host: Node | None = None
        if linear.has_bias:
            self._store_bias_input(fold, proto, bias)
        elif np.any(bias != 0):
            host = self._store_add(fold, made, bias)
        if host is None:
            proto.output[0] = fold.output.name
            self._vanish(made)
        if proto != node.proto:
            self._replace(node, proto)
        for step in fold.steps:
            for gone in (*step.crossed, step.node):
                if gone is not host:
                    self._delete(gone)
                for output in gone.outputs:
                    if output is not None and output is not fold.output:
                        self._vanish(output)

    def _store_weight(self, fold: FoldPlan) -> str:
        weight, key = fold.linear.weight, _weight_key(fold)
        if key not in self._new_names:
            stored = StoredWeight(fold.linear, fold.layer)
            self._applied.weights[fold] = stored
            data = Computed(stored.size, stored.chunks)
            self._new_names[key] = self._store(
                weight, self._users[key], data, stored.shape, fold, f"{weight.tensor.name}_folded"
            )
        name = self._new_names[key]
        if name != weight.tensor.name:
            self._unread_once(weight.tensor)
        return name

    def _store_bias_input(self, fold: FoldPlan, proto: onnx.NodeProto, bias: Array) -> None:
        """Put the bias into the third input: ``y = layer + bias``; Gemm's beta becomes one."""
        linear = fold.linear
        old = linear.node.input(2)
        if linear.bias is None and not np.any(bias != 0):
            return
        if linear.bias is not None and linear.bias.tensor is old:
            shape = linear.bias.shape
            if (
                int(np.prod(shape)) == bias.size
                and len(shape) <= 2
                and shape[-1:] == bias.shape[-1:]
            ):
                bias = bias.reshape(shape)
        key = _bias_key(fold)
        if linear.bias is None or key not in self._new_names:
            users = self._users[key]
            self._new_names[key] = self._store_small(fold, linear.bias, users, bias)
        name = self._new_names[key]
        while len(proto.input) < 3:
            proto.input.append("")
        proto.input[2] = name
        if old is not None and old.name != name:
            self._unread_once(old)
        if linear.node.op_type == "Gemm":
            _set_beta_to_one(proto)
            version = version_of("Gemm", self._opset)
            if version is not None and version < 7 and bias.ndim < 2:
                _set_integer(proto, "broadcast", 1)

    def _store_add(self, fold: FoldPlan, made: Tensor, bias: Array) -> Node:
        """Put the bias into an Add behind the operator: an Add that is there, or the last step."""
        host = next((s.node for s in fold.steps if s.node.op_type == "Add"), fold.steps[-1].node)
        self._kept.add(host)
        proto = onnx.NodeProto()
        proto.CopyFrom(host.proto)
        step = next(step for step in fold.steps if step.node is host)
        at, constant = 1, None
        if host.op_type == "Add":
            at = 1 - host.inputs.index(step.data)
            old = host.inputs[at]
            assert old is not None
            constant = self._direct(old)
            if constant is not None and constant.shape[-1:] == bias.shape:
                bias = bias.reshape(constant.shape)
        name = self._store_small(fold, constant, [host], bias)
        for tensor in host.inputs:
            if tensor is not None and tensor is not step.data and tensor.name != name:
                self._unread_once(tensor)
        if host.op_type != "Add":
            proto.op_type = "Add"
            del proto.attribute[:]
            del proto.output[1:]
        version = version_of("Add", self._opset)
        if version is not None and version < 7:
            del proto.attribute[:]
            at = 1
            _set_integer(proto, "broadcast", 1)
        del proto.input[:]
        proto.input.extend([made.name, name] if at == 1 else [name, made.name])
        proto.output[0] = fold.output.name
        self._replace(host, proto)
        return host

    def _direct(self, tensor: Tensor) -> Known | None:
        from bnfold.onnxgraph.constants import stored_tensor

        stored = stored_tensor(tensor)
        if stored is None:
            return None
        return Known(tensor, stored, lambda: self._index.document.tensors.array(stored))

    def _store_small(
        self, fold: FoldPlan, known: Known | None, users: list[Node], values: Array
    ) -> str:
        little = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
        if known is not None and known.stored is not None and _is_equal(known.array, values):
            return known.tensor.name
        wish = f"{known.tensor.name}_folded" if known else f"{fold.linear.node.label}_bias"
        data = Computed(len(little), lambda: iter((little,)))
        return self._store(known, users, data, values.shape, fold, wish)

    def _store(
        self,
        known: Known | None,
        users: list[Node],
        data: Computed,
        shape: tuple[int, ...],
        fold: FoldPlan,
        wish: str,
    ) -> str:
        """Store data in place of a constant that only ``users`` read, else under a new name."""
        tensors = self._applied.rewrite.tensors
        if known is not None and known.shape == shape and _is_only_for(known, users):
            assert known.stored is not None
            proto = without_data(known.stored, self._index.document.tensors.mark)
            tensors.append(NewTensor(proto, [data], path=_stored_path(known.tensor)))
            return known.tensor.name
        name = self._fresh(wish)
        element_type = helper.np_dtype_to_tensor_dtype(dtype_of(fold.linear.weight))
        proto = onnx.TensorProto(name=name, data_type=element_type, dims=shape)
        graph = (*MAIN, *fold.linear.node.scope.path)
        tensors.append(NewTensor(proto, [data], graph=graph, as_node=self._constants_as_nodes))
        self._applied.nodes_removed -= self._constants_as_nodes
        return name

    def _fresh(self, wish: str) -> str:
        name, number = wish, 1
        while name in self._names:
            name, number = f"{wish}_{number}", number + 1
        self._names.add(name)
        return name

    def _replace(self, node: Node, proto: onnx.NodeProto) -> None:
        fields = delimited(GRAPH_NODE, [proto.SerializeToString()])
        self._graph(node.scope).replaced[(GRAPH_NODE, node.position)] = fields

    def _delete(self, node: Node) -> None:
        self._deleted.add(node)
        self._applied.nodes_removed += 1
        self._graph(node.scope).replaced[(GRAPH_NODE, node.position)] = []
        for tensor in node.inputs:
            if tensor is not None:
                self._unread_once(tensor)

    def _graph(self, scope: Scope) -> Edits:
        return self._edits.at((*MAIN, *scope.path))

    def _vanish(self, tensor: Tensor) -> None:
        self._vanished[tensor.scope].add(tensor.name)

    def _unread_once(self, tensor: Tensor) -> None:
        left = self._reads.get(tensor, len(tensor.readers)) - 1
        self._reads[tensor] = left
        if left == 0:
            self._unread.append(tensor)

    def _sweep(self) -> None:
        """Delete the constants, and the nodes that computed them, which no node reads any more."""
        while self._unread:
            tensor = self._unread.pop()
            if tensor.is_output or tensor.is_pinned:
                continue
            node = tensor.producer
            if node is None:
                self._delete_initializer(tensor)
            elif not (node in self._deleted or node in self._kept or node.subgraphs):
                if not self._is_unused(node):
                    continue
                self._delete(node)
                for output in node.outputs:
                    if output is not None:
                        self._vanish(output)

    def _is_unused(self, node: Node) -> bool:
        return all(
            t is None
            or (not t.is_output and not t.is_pinned and self._reads.get(t, len(t.readers)) == 0)
            for t in node.outputs
        )

    def _delete_initializer(self, tensor: Tensor) -> None:
        if tensor.initializer is None or (tensor.scope.parent is not None and tensor.is_input):
            return
        graph = self._graph(tensor.scope)
        graph.replaced[(GRAPH_INITIALIZER, tensor.position)] = []
        self._vanish(tensor)
        if tensor.is_input:
            for at, value in enumerate(tensor.scope.graph.input):
                if value.name == tensor.name:
                    graph.replaced[(GRAPH_INPUT, at)] = []

    def _forget(self, scope: Scope, names: set[str]) -> None:
        """Remove the types and annotations of tensors that are gone."""
        graph = self._graph(scope)
        for at, value in enumerate(scope.graph.value_info):
            if value.name in names:
                graph.replaced[(GRAPH_VALUE_INFO, at)] = []
        for at, annotation in enumerate(scope.graph.quantization_annotation):
            if annotation.tensor_name in names:
                graph.replaced[(GRAPH_QUANTIZATION, at)] = []


def _is_equal(array: Array, values: Array) -> bool:
    """Whether two arrays are the same to the bit."""
    return (
        array.shape == values.shape
        and array.dtype == values.dtype
        and array.tobytes() == values.tobytes()
    )


def _weight_key(fold: FoldPlan) -> tuple[object, ...]:
    """Folds with equal keys store the same weight, once."""
    factor = fold.linear.weight_factor(fold.layer.out)
    node = fold.linear.node
    return fold.linear.weight.tensor, node.scope, factor.shape, factor.tobytes()


def _bias_key(fold: FoldPlan) -> tuple[object, ...]:
    """Folds with equal keys store the same bias, once, if they read the same one before."""
    known = fold.linear.bias
    tensor = known.tensor if known is not None else None
    return "bias", tensor, fold.linear.node.scope, fold.layer.bias.shape, fold.layer.bias.tobytes()


def _is_only_for(known: Known, users: list[Node]) -> bool:
    """Whether a stored constant is read by ``users`` alone, so that it can change in place."""
    tensor = known.tensor
    if known.stored is None or tensor.is_output or tensor.is_pinned:
        return False
    return Counter(tensor.readers) == Counter(users)


def _stored_path(tensor: Tensor) -> tuple[tuple[int, int], ...]:
    if tensor.producer is None:
        return (*MAIN, *tensor.scope.path, (GRAPH_INITIALIZER, tensor.position))
    node = tensor.producer
    at = next(i for i, a in enumerate(node.proto.attribute) if a.name == "value")
    return (*MAIN, *node.path, (NODE_ATTRIBUTE, at), (ATTRIBUTE_TENSOR, 0))


def _set_beta_to_one(proto: onnx.NodeProto) -> None:
    for attribute in proto.attribute:
        if attribute.name == "beta" and attribute.f != 1.0:
            attribute.f = 1.0


def _set_integer(proto: onnx.NodeProto, name: str, value: int) -> None:
    for attribute in proto.attribute:
        if attribute.name == name:
            attribute.i = value
            return
    proto.attribute.append(helper.make_attribute(name, value))

"""Write the biases of layers: into the bias input, or into an Add behind the operator."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import helper

from bnfold.algebra.affine import Array
from bnfold.algebra.layer import Layer
from bnfold.folding.find import Step
from bnfold.folding.rules.operators import version_of
from bnfold.folding.rules.quantised import Dequantised
from bnfold.folding.rules.reading import Linear
from bnfold.folding.store import dtype_of, stored_bias
from bnfold.folding.surgery import Surgery
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.known import Known, stored_constant
from bnfold.onnxgraph.tensors import Tensors


class Biases:
    """The biases of one model, while they are written.

    Args:
        layers: every operator that takes up a map, with what it collected.
        hosts: operators without a bias -> the step that stays behind them as an Add.
        proto: gives the node as it will be written, to be changed.

    Attributes:
        behind: operators -> the new Add behind them.
        flushed: operators -> how many values of their bias became zero.
    """

    def __init__(
        self,
        layers: Mapping[Node, tuple[Linear, Layer]],
        hosts: Mapping[Node, Step],
        proto: Callable[[Node], onnx.NodeProto],
        surgery: Surgery,
        tensors: Tensors,
        opset: int,
    ) -> None:
        self.behind: dict[Node, onnx.NodeProto] = {}
        self.flushed: dict[Node, int] = {}
        self._hosts = hosts
        self._proto = proto
        self._surgery = surgery
        self._tensors = tensors
        self._opset = opset
        self._names: dict[tuple[object, ...], str] = {}
        self._users: dict[tuple[object, ...], list[Node]] = defaultdict(list)
        for node, (linear, layer) in layers.items():
            if linear.shift == "input":
                self._users[bias_key(linear, layer)].append(node)

    def store(self, linear: Linear, layer: Layer) -> None:
        """Write the bias of one layer, if anything changes it."""
        node = linear.node
        if _is_as_stored(linear, layer):
            self.flushed[node] = 0
            return
        proto = self._proto(node)
        if isinstance(linear.bias, Dequantised):
            _set_beta_to_one(proto)
            return
        bias, flushed = stored_bias(layer, dtype_of(linear.weight))
        self.flushed[node] = flushed
        if linear.shift == "input":
            self._into_input(linear, layer, proto, bias)
        elif linear.shift == "add" and np.any(bias != 0):
            self._into_add(linear, proto, bias)

    def _into_input(self, linear: Linear, layer: Layer, proto: onnx.NodeProto, bias: Array) -> None:
        """Put the bias into the bias input: ``y = layer + bias``; Gemm's beta becomes one."""
        at = linear.bias_at
        old = linear.node.input(at)
        if linear.bias is None and not np.any(bias != 0):
            return
        if linear.bias_shape is not None:
            bias = bias.reshape(linear.bias_shape)
        elif linear.bias is not None and linear.bias.tensor is old:
            shape = linear.bias.shape
            if (
                int(np.prod(shape)) == bias.size
                and len(shape) <= 2
                and shape[-1:] == bias.shape[-1:]
            ):
                bias = bias.reshape(shape)
        key = bias_key(linear, layer)
        if linear.bias is None or key not in self._names:
            users = self._users[key]
            self._names[key] = self._store_small(linear, linear.bias, users, bias)
        name = self._names[key]
        while len(proto.input) <= at:
            proto.input.append("")
        proto.input[at] = name
        if old is not None and old.name != name:
            self._surgery.unread_once(old)
        _set_beta_to_one(proto)
        if linear.node.op_type == "Gemm":
            version = version_of("Gemm", self._opset)
            if version is not None and version < 7 and bias.ndim < 2:
                _set_integer(proto, "broadcast", 1)

    def _into_add(self, linear: Linear, proto: onnx.NodeProto, bias: Array) -> None:
        """Put the bias into an Add behind the operator: an Add that is there, or a new one."""
        # The channels of the output may be on another axis than the last.
        bias = bias.reshape(*bias.shape, *[1] * (-linear.axis - 1))
        step = self._hosts.get(linear.node)
        made = proto.output[0]
        if step is None:
            name = self._store_small(linear, None, [], bias)
            proto.output[0] = self._surgery.fresh(f"{made}_unbiased")
            label = f"{made}_bias_add"
            self.behind[linear.node] = add_of(proto.output[0], name, made, label, self._opset)
            return
        host = step.node
        self._surgery.kept.add(host)
        written = self._proto(host)
        at, constant = 1, None
        if host.op_type == "Add":
            at = 1 - host.inputs.index(step.data)
            old = host.inputs[at]
            assert old is not None
            constant = stored_constant(old, self._tensors)
            if constant is not None and _without_ones(constant.shape) == _without_ones(bias.shape):
                bias = bias.reshape(constant.shape)
        name = self._store_small(linear, constant, [host], bias)
        for tensor in host.inputs:
            if tensor is not None and tensor is not step.data and tensor.name != name:
                self._surgery.unread_once(tensor)
        if host.op_type != "Add":
            written.op_type = "Add"
            written.domain = ""
            del written.attribute[:]
            del written.output[1:]
        if align_second(written, self._opset):
            at = 1
        del written.input[:]
        written.input.extend([made, name] if at == 1 else [name, made])

    def _store_small(
        self, linear: Linear, known: Known | None, users: list[Node], values: Array
    ) -> str:
        if known is not None and known.stored is not None and _is_equal(known.array, values):
            return known.tensor.name
        wish = f"{known.tensor.name}_folded" if known else f"{linear.node.label}_bias"
        return self._surgery.store_array(known, users, values, linear.node.scope, wish)


def add_of(data: str, constant: str, made: str, label: str, opset: int) -> onnx.NodeProto:
    """A new Add of a constant that is broadcast to its data.

    Args:
        made: name of its output.
        label: name of the node.
    """
    add = helper.make_node("Add", [data, constant], [made], label)
    align_second(add, opset)
    return add


def align_second(add: onnx.NodeProto, opset: int) -> bool:
    """Before opset 7 operands are aligned only on request, and only the second one: whether so."""
    version = version_of("Add", opset)
    if version is None or version >= 7:
        return False
    del add.attribute[:]
    _set_integer(add, "broadcast", 1)
    return True


def _is_as_stored(linear: Linear, layer: Layer) -> bool:
    """Whether a stored bias has one value for each channel and nothing changes them."""
    if linear.shift != "input" or linear.bias is None or linear.node.real("beta", 1.0) != 1.0:
        return False
    if linear.bias.stored is None and not isinstance(linear.bias, Dequantised):
        return False  # computed: it is stored, as those of other operators are
    shape, channels = linear.bias.shape, layer.channels
    is_vector = shape[-1:] == (channels,) and int(np.prod(shape)) == channels
    return is_vector and np.array_equal(layer.bias, linear.layer.bias)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape from its first axis of another size than 1 on."""
    start = next((at for at, size in enumerate(shape) if size != 1), len(shape))
    return shape[start:]


def _is_equal(array: Array, values: Array) -> bool:
    """Whether two arrays are the same to the bit."""
    return (
        array.shape == values.shape
        and array.dtype == values.dtype
        and array.tobytes() == values.tobytes()
    )


def bias_key(linear: Linear, layer: Layer) -> tuple[object, ...]:
    """Operators with equal keys store the same bias, once, if they read the same one before."""
    tensor: Tensor | None = linear.bias.tensor if linear.bias is not None else None
    return "bias", tensor, linear.node.scope, layer.bias.shape, layer.bias.tobytes()


def _set_beta_to_one(proto: onnx.NodeProto) -> None:
    """Of a Gemm or FusedGemm; others have no beta."""
    for attribute in proto.attribute:
        if attribute.name == "beta" and attribute.f != 1.0:
            attribute.f = 1.0


def _set_integer(proto: onnx.NodeProto, name: str, value: int) -> None:
    for attribute in proto.attribute:
        if attribute.name == name:
            attribute.i = value
            return
    proto.attribute.append(helper.make_attribute(name, value))

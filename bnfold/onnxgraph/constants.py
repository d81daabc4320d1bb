"""Which tensors are constant in value, and their values, however the file spells them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import helper

from bnfold.algebra.affine import Array
from bnfold.onnxgraph.expressions import (
    EVALUATED,
    SHAPE_ONLY,
    TAKING,
    TYPE_ONLY,
    constant_of,
    measured_dims,
    result_size,
)
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.known import Known, Unknown, stored_constant, stored_tensor
from bnfold.onnxgraph.repaired import repaired_operators
from bnfold.onnxgraph.types import Types

LIMIT = 1 << 26
"""Constant expressions are evaluated up to this many bytes of result (64 MiB)."""

OVERRIDABLE = "overridable-initializer"
VARIABLE = "not-constant"
TOO_LARGE = "expression-too-large"


class Constants:
    """The constants of one model; each is found, and each expression evaluated, once."""

    def __init__(self, index: Index, types: Types) -> None:
        self._index = index
        self._types = types
        self._overridable_inputs = index.document.proto.ir_version >= 4
        self._status: dict[Tensor, Unknown | None] = {}
        self._values: dict[Tensor, Known | Unknown] = {}
        self._shapes: dict[Node, Array] = {}
        self._evaluators: dict[bytes, Any] = {}
        self._imports = [
            helper.make_opsetid(o.domain, o.version) for o in index.document.proto.opset_import
        ]

    def why_not(self, tensor: Tensor) -> Unknown | None:
        """None if the tensor is constant in value by its form, else why not; evaluates nothing."""
        if tensor in self._status:
            return self._status[tensor]
        initializer = tensor.initializer
        if initializer is not None and not (tensor.is_input or initializer.HasField("segment")):
            return None  # nearly every constant
        waiting = [tensor]
        while waiting:
            top = waiting[-1]
            if top in self._status:
                waiting.pop()
                continue
            found = self._by_itself(top)
            if found is not _BY_INPUTS:
                self._status[waiting.pop()] = found  # type: ignore[assignment]
                continue
            assert top.producer is not None
            open_inputs = [t for t in self._needed(top.producer) if t not in self._status]
            if open_inputs:
                waiting += open_inputs
                continue
            reasons = (self._status[t] for t in self._needed(top.producer))
            self._status[waiting.pop()] = next((r for r in reasons if r is not None), None)
        return self._status[tensor]

    def value(self, tensor: Tensor) -> Known | Unknown:
        """The value of a tensor, or why it has none."""
        found = self._values.get(tensor)
        if found is not None:
            return found
        reason = self.why_not(tensor)
        if reason is not None:
            return reason
        known = stored_constant(tensor, self._index.document.tensors)
        if known is not None:
            self._values[tensor] = known
            return known
        waiting = [tensor]
        while waiting:
            top = waiting[-1]
            if top in self._values:
                waiting.pop()
                continue
            known = stored_constant(top, self._index.document.tensors)
            if known is not None:
                self._values[waiting.pop()] = known
                continue
            assert top.producer is not None
            open_inputs = [t for t in self._needed(top.producer) if t not in self._values]
            if open_inputs:
                waiting += open_inputs
                continue
            self._evaluate(top.producer)
        return self._values[tensor]

    def _by_itself(self, tensor: Tensor) -> Unknown | object | None:
        """Whether a tensor is constant, as far as it can be said without its producer's inputs."""
        if tensor.is_input and tensor.scope.parent is not None:
            return Unknown(VARIABLE, f"{tensor.name} is an input of a subgraph")
        stored = stored_tensor(tensor)
        if stored is not None and stored.HasField("segment"):
            return Unknown(VARIABLE, f"{tensor.name} is only a segment of a tensor")
        if tensor.initializer is not None:
            if tensor.is_input and self._overridable_inputs:
                return Unknown(
                    OVERRIDABLE,
                    f"{tensor.name} is also a graph input, so whoever runs the model may replace "
                    "its value",
                )
            return None
        if tensor.is_sparse:
            return Unknown(VARIABLE, f"{tensor.name} is a sparse initializer")
        node = tensor.producer
        if node is None:
            return Unknown(VARIABLE, f"{tensor.name} is a graph input")
        if node.domain == "" and node.op_type == "Constant":
            if any(
                a.name in ("value", "value_float", "value_floats", "value_int", "value_ints")
                for a in node.proto.attribute
            ):
                return None
            return Unknown(VARIABLE, f"{tensor.name} is a Constant that holds no dense numbers")
        if node.domain != "" or node.op_type not in EVALUATED:
            return Unknown(VARIABLE, f"{tensor.name} is computed by {node.label} ({node.op_type})")
        if node.op_type in SHAPE_ONLY and self._has_static_shape(node):
            return None
        if node.op_type in TAKING and self._takes_static_sizes(node):
            return None
        return _BY_INPUTS

    def _has_static_shape(self, node: Node) -> bool:
        """Whether a Shape or Size is known without the tensor that it measures."""
        if node in self._shapes:
            return True
        measured = node.input(0)
        if measured is None or (measured.is_input and measured.scope.parent is not None):
            return False
        dims = self._types.dims(measured, measured_dims(node))
        if dims is None:
            return False
        wanted = dims[measured_dims(node)]
        if node.op_type == "Size":
            wanted = [math.prod(wanted)]
            self._shapes[node] = np.array(wanted[0], dtype=np.int64)
        else:
            self._shapes[node] = np.array(wanted, dtype=np.int64)
        return True

    def _takes_static_sizes(self, node: Node) -> bool:
        """Whether a Gather or Slice takes only known sizes from a Shape whose others are open."""
        if node in self._shapes:
            return True
        source = node.input(0)
        shape = source.producer if source is not None else None
        measured = shape.input(0) if shape is not None and shape.op_type == "Shape" else None
        if shape is None or shape.domain or measured is None:
            return False
        dims = self._types.shape(measured)
        if dims is None or (measured.is_input and measured.scope.parent is not None):
            return False
        sizes = np.array([d if isinstance(d, int) else -1 for d in dims], dtype=np.int64)
        feeds: list[Array | None] = [sizes[measured_dims(shape)]]
        for tensor in node.inputs[1:]:
            known = stored_constant(tensor, self._index.document.tensors) if tensor else None
            if tensor is not None and (known is None or self._by_itself(tensor) is not None):
                return False
            feeds.append(known.array if known is not None else None)
        try:
            found = np.asarray(self._run(node, feeds)[0])
        except Exception:  # whatever is wrong with it, it is not known
            return False
        if (found < 0).any():
            return False
        self._shapes[node] = found
        return True

    def _needed(self, node: Node) -> list[Tensor]:
        """The inputs whose values a constant expression needs."""
        if node in self._shapes:
            return []
        skipped = TYPE_ONLY.get(node.op_type, frozenset())
        return [t for at, t in enumerate(node.inputs) if t is not None and at not in skipped]

    def _evaluate(self, node: Node) -> None:
        for tensor, value in zip(node.outputs, self._results(node), strict=False):
            if tensor is None:
                continue
            if isinstance(value, Unknown):
                self._values[tensor] = value
            else:
                result = np.asarray(value)
                result.setflags(write=False)
                self._values[tensor] = Known(tensor, None, lambda result=result: result)  # type: ignore[misc]

    def _results(self, node: Node) -> list[Any]:
        if node in self._shapes:
            return [self._shapes[node]]
        failed = [
            self._values[t] for t in self._needed(node) if isinstance(self._values[t], Unknown)
        ]
        if failed:
            return [failed[0]] * len(node.outputs)
        feeds: list[Array | None] = []
        for position, tensor in enumerate(node.inputs):
            if tensor is None or position in TYPE_ONLY.get(node.op_type, ()):
                feeds.append(None)
                continue
            known = self._values[tensor]
            assert isinstance(known, Known)
            feeds.append(known.array)
        label = f"{node.label} ({node.op_type})"
        try:
            with np.errstate(all="ignore"):
                if result_size(node, feeds) > LIMIT // 4:
                    detail = f"the result of {label} is above {LIMIT >> 20} MiB"
                    return [Unknown(TOO_LARGE, detail)] * len(node.outputs)
                return self._run(node, feeds)
        except Exception as error:
            detail = f"{label} cannot be evaluated: {' '.join(str(error).split())[:200]}"
            return [Unknown(VARIABLE, detail)] * len(node.outputs)

    def _run(self, node: Node, feeds: list[Array | None]) -> list[Any]:
        if node.op_type == "Constant":
            return [constant_of(node)]
        proto = onnx.NodeProto(op_type=node.op_type, name="n")
        proto.attribute.extend(node.proto.attribute)
        if node.op_type == "CastLike":
            target = node.inputs[1]
            element_type = self._types.element_type(target) if target is not None else 0
            if not element_type:
                raise ValueError("the element type of its second input is not known")
            proto.op_type = "Cast"
            proto.attribute.append(helper.make_attribute("to", element_type))
        proto.input.extend("" if f is None else f"i{at}" for at, f in enumerate(feeds))
        while proto.input and not proto.input[-1]:
            proto.input.pop()
        proto.output.extend(f"o{at}" if t is not None else "" for at, t in enumerate(node.outputs))
        key = proto.SerializeToString()
        if key not in self._evaluators:
            self._evaluators[key] = self._evaluator(proto)
        given = {f"i{at}": f for at, f in enumerate(feeds) if f is not None}
        found = iter(self._evaluators[key].run(None, given))
        return [next(found) if name else None for name in proto.output]

    def _evaluator(self, proto: onnx.NodeProto) -> Any:
        from onnx.reference import ReferenceEvaluator

        graph = onnx.GraphProto(name="expression", node=[proto])
        graph.input.extend(onnx.ValueInfoProto(name=name) for name in proto.input if name)
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in proto.output if name)
        model = onnx.ModelProto(ir_version=8, graph=graph, opset_import=self._imports)
        return ReferenceEvaluator(model, new_ops=repaired_operators())


_BY_INPUTS = object()

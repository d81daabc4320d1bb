"""Write a plan: the only place that turns decisions into edits of a model."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import onnx

from bnfold.algebra.layer import Layer
from bnfold.folding.biases import Biases
from bnfold.folding.bordering import Around, write_border, write_fill
from bnfold.folding.decided import FoldPlan, Plan
from bnfold.folding.find import Step, value_readers
from bnfold.folding.naming import Names
from bnfold.folding.operands import StoredConstant, store_operands
from bnfold.folding.rescale import rescale
from bnfold.folding.route import Operand
from bnfold.folding.rules.quantised import Dequantised
from bnfold.folding.rules.reading import Inward, Linear
from bnfold.folding.settle import store_biases
from bnfold.folding.store import StoredWeight, dtype_of, stored_bias
from bnfold.folding.surgery import Surgery
from bnfold.folding.together import SMALL, Ready
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.ranges import Computed, Piece, joined
from bnfold.onnxgraph.rewrite import Rewrite


@dataclass
class Applied:
    """The edits of a plan, and what the report says about them.

    Attributes:
        rewrite: what changes in the model.
        nodes_removed: nodes fewer than before.
        weights: the stored weight of each operator that changes its own, once each.
        bias_flushed: values of biases that became zero, by operator.
        operands: the other constants that change.
    """

    rewrite: Rewrite = field(default_factory=Rewrite)
    nodes_removed: int = 0
    weights: dict[Node, StoredWeight] = field(default_factory=dict)
    bias_flushed: dict[Node, int] = field(default_factory=dict)
    operands: dict[Operand, StoredConstant] = field(default_factory=dict)

    def flushed(self, fold: FoldPlan) -> int:
        """How many values of one fold became zero because they were below the smallest normal."""
        total = 0
        for sink in fold.sinks:
            weight = self.weights.get(sink.linear.node)
            total += self.bias_flushed.get(sink.linear.node, 0)
            total += weight.flushed if weight is not None else 0
        return total + sum(c.flushed for c in {self.operands[o] for o in fold.operands})


def apply(index: Index, plan: Plan) -> Applied:
    """The edits that carry out a plan."""
    return _Applier(index, plan).run()


class _Applier:
    def __init__(self, index: Index, plan: Plan) -> None:
        self._index = index
        self._plan = plan
        self._opset = index.document.opset
        self._applied = Applied()
        self._surgery = Surgery(index)
        self._protos: dict[Node, onnx.NodeProto] = {}
        self._hosts: dict[Node, Step] = {}
        self._new_names: dict[tuple[object, ...], str] = {}
        self._users: dict[tuple[object, ...], list[Node]] = defaultdict(list)

    def run(self) -> Applied:
        """Everything that the plan changes: names first, then numbers, then what goes."""
        plan, surgery = self._plan, self._surgery
        for node, linear in plan.linears.items():
            layer = plan.layers[node]
            surgery.kept.add(node)
            if not plan.is_ready(node) and not layer.keeps_weight:
                self._users[_weight_key(linear, layer)].append(node)
        surgery.kept.update(node for fold in plan.folds for node in fold.crossed)
        self._find_hosts()
        names = Names(plan.folds, self._hosts, self._unchanged_hosts(), surgery)
        for node, proto in names.changed():
            self._protos[node] = proto
        for (node, at), name in rescale(plan.linears, plan.layers, surgery).items():
            self._proto(node).input[at] = name
        layers = {
            node: (linear, plan.layers[node])
            for node, linear in plan.linears.items()
            if not plan.is_ready(node)
        }
        tensors = self._index.document.tensors
        biases = Biases(layers, self._hosts, self._proto, surgery, tensors, self._opset)
        for node, linear in plan.linears.items():
            if plan.is_ready(node):
                self._write_ready(node, plan.ready[node])
                continue
            layer = plan.layers[node]
            if not layer.keeps_weight and not isinstance(linear.weight, Dequantised):
                self._proto(node).input[linear.weight_at] = self._store_weight(linear, layer)
            biases.store(linear, layer)
        self._applied.bias_flushed = biases.flushed
        store_biases(plan.stored_biases, surgery, self._proto)
        self._applied.operands = store_operands(plan.operands, surgery, self._proto)
        for fold in plan.folds:
            for node, fill in fold.fills.items():
                write_fill(node, fill, self._proto(node), surgery, self._opset)
        self._delete()
        around = {node: Around(behind=[add]) for node, add in biases.behind.items()}
        for sink in (sink for fold in plan.folds for sink in fold.sinks):
            if sink.border is not None:
                node, layer = sink.linear.node, plan.layers[sink.linear.node]
                around[node] = write_border(
                    sink.linear, layer, sink.border, self._proto(node), surgery, self._opset
                )
        for node, proto in self._protos.items():
            beside = around.get(node, Around())
            written = [*beside.before, proto, *beside.behind]
            if surgery.is_deleted(node):
                continue
            if plan.is_ready(node) or len(written) > 1 or proto != node.proto:
                surgery.replace(node, *written)
        self._applied.rewrite = surgery.finish()
        self._applied.nodes_removed = surgery.nodes_removed
        return self._applied

    def _find_hosts(self) -> None:
        """The nodes that stay as the Add behind an operator that has no bias of its own."""
        gone = {node for fold in self._plan.folds for node in fold.gone}
        gone |= {s.back.node for f in self._plan.folds for s in f.sinks if s.back is not None}
        behind: dict[Tensor, Step] = {}
        past: dict[Tensor, Tensor] = {}
        twins: set[Tensor] = set()
        for fold in self._plan.folds:
            steps = [sink.back for sink in fold.sinks if sink.back is not None]
            if fold.direction == "backward":
                steps += fold.steps
                passed = (t for node in fold.passed for t in node.inputs[:1])
                past.update((t, fold.instead[t]) for t in passed if t in fold.instead)
            for step in steps:
                known = behind.setdefault(step.data, step)
                if known is not step:
                    twins.add(step.data)
                    if step.node.position < known.node.position:
                        behind[step.data] = step
        for node, linear in self._plan.linears.items():
            if linear.shift != "add":
                continue
            made = node.outputs[0]
            bias, _ = stored_bias(self._plan.layers[node], dtype_of(linear.weight))
            if not np.any(bias != 0):
                continue
            # What else reads it needs the shift too, so it cannot come later.
            if made is None or made.is_output or not gone.issuperset(value_readers(made)):
                continue
            line: list[Step] = []
            while made is not None and (made in behind or made in past):
                if made in past:
                    made = past[made]
                else:
                    has_twins = made in twins
                    line.append(behind[made])
                    made = line[-1].output
                    # What reads either of two equal steps may stand before what comes behind one.
                    if has_twins:
                        break
                    # What reads it from outside may stand before what comes behind it.
                    if made is not None and not gone.issuperset(value_readers(made)):
                        break
            if line:
                adds = [step for step in line if step.node.op_type == "Add"]
                self._hosts[node] = adds[0] if adds else line[-1]

    def _unchanged_hosts(self) -> set[Node]:
        """The operators with a host whose own output keeps its values: only the shift changes."""
        forward = [f for f in self._plan.folds if f.direction == "forward"]
        changed = {sink.linear.node for fold in forward for sink in fold.sinks}
        layers = self._plan.layers
        return {n for n in self._hosts if layers[n].keeps_weight and n not in changed}

    def _delete(self) -> None:
        """Remove what goes; a way forward leaves the tensor that its first step reads."""
        hosts = {step.node for step in self._hosts.values()}
        for fold in self._plan.folds:
            for node in fold.gone:
                if node in hosts:
                    continue
                data = [t for t in node.inputs if t in fold.instead or t in fold.instead.values()]
                forward = fold.direction == "forward" and data
                self._surgery.delete(node, but=data[0] if forward else None)
            for sink in fold.sinks:
                if sink.back is not None and sink.back.node not in hosts:
                    self._surgery.delete(sink.back.node)

    def _proto(self, node: Node) -> onnx.NodeProto:
        """The node as it will be written, to be changed."""
        if node not in self._protos:
            proto = onnx.NodeProto()
            proto.CopyFrom(node.proto)
            self._protos[node] = proto
        return self._protos[node]

    def _write_ready(self, node: Node, ready: Ready) -> None:
        """Store what was computed already, in place but for a bias that was not there."""
        linear = ready.linear
        weight, old, at = linear.weight, linear.bias, linear.bias_at
        self._surgery.change(weight, ready.weight)
        if old is not None:
            self._surgery.change(old, ready.bias)
            return
        name = self._surgery.add(
            ready.bias, (ready.layer.channels,), weight.data_type, node.scope, f"{node.label}_bias"
        )
        proto = self._proto(node)
        while len(proto.input) < at:
            proto.input.append("")
        proto.input[at:] = [name]

    def _store_weight(self, linear: Linear, layer: Layer) -> str:
        weight, key = linear.weight, _weight_key(linear, layer)
        if key not in self._new_names:
            stored = StoredWeight(linear, layer)
            self._applied.weights[linear.node] = stored
            data: Piece = Computed(stored.size, stored.chunks)
            if stored.size <= SMALL:
                data = joined([data])
            wish, scope = f"{weight.tensor.name}_folded", linear.node.scope
            self._new_names[key] = self._surgery.store(
                weight, self._users[key], data, stored.shape, weight.data_type, scope, wish
            )
        name = self._new_names[key]
        if name != weight.tensor.name:
            self._surgery.unread_once(weight.tensor)
        return name


def _weight_key(linear: Linear, layer: Layer) -> tuple[object, ...]:
    """Operators with equal keys store the same weight, once."""
    factor = linear.weight_factor(layer.out)
    key: tuple[object, ...] = (
        linear.weight.tensor,
        linear.node.scope,
        factor.shape,
        factor.tobytes(),
    )
    if layer.inner is not None:
        assert isinstance(linear.inward, Inward)
        inner = linear.inward.factor(layer.inner)
        key += (inner.shape, inner.tobytes())
    return key

"""Random blocks of parallel branches: whatever merges, and whatever stays, the values are equal."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from bnfold import reference
from bnfold.checking.merged import check_merged
from bnfold.folding.branches.merge import merge_branches
from bnfold.folding.find import Selection
from bnfold.onnxgraph import deliver
from bnfold.onnxgraph.load import load
from bnfold.onnxgraph.rewrite import Rewrite

KINDS = ["conv", "conv", "conv", "pool", "norm", "plain", "pointwise first", "pointwise last"]


@dataclass
class Build:
    """A graph while it is drawn."""

    draw: st.DrawFn
    axes: int
    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    stored: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]] = field(
        default_factory=dict
    )

    def constant(self, *shape: int, positive: bool = False) -> str:
        name = f"k{len(self.stored)}"
        values = self.rng.uniform(0.5, 2, shape) if positive else self.rng.normal(size=shape)
        self.stored[name] = values
        return name

    def node(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        made = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [made], **attributes))
        return made

    def norm(self, data: str, channels: int) -> str:
        if self.draw(st.booleans()):
            scale, shift, mean = (self.constant(channels) for _ in range(3))
            var = self.constant(channels, positive=True)
            return self.node("BatchNormalization", data, scale, shift, mean, var)
        operator = self.draw(st.sampled_from(["Mul", "Add", "Sub", "Identity"]))
        if operator == "Identity":
            return self.node(operator, data)
        inputs = [data, self.constant(channels, *[1] * self.axes)]
        if self.draw(st.booleans()):
            inputs.reverse()
        return self.node(operator, *inputs)

    def conv(
        self, data: str, channels: tuple[int, int], group: int, kernel: list[int], **more: Any
    ) -> str:
        inputs, outputs = channels
        weight = self.constant(outputs, inputs // group, *kernel)
        bias = [self.constant(outputs)] if self.draw(st.integers(0, 2)) == 0 else []
        return self.node("Conv", data, weight, *bias, group=group, **more)


@st.composite
def blocks(draw: st.DrawFn) -> tuple[list[onnx.NodeProto], Build, list[int]]:
    """Two to four branches of one tensor, mostly such that they fit into one another."""
    axes = draw(st.integers(1, 3))
    build = Build(draw, axes, np.random.default_rng(draw(st.integers(0, 999))))
    channels = draw(st.sampled_from([2, 4]))
    strides = [draw(st.sampled_from([1, 1, 2])) for _ in range(axes)]
    dilations = [draw(st.sampled_from([1, 1, 2])) for _ in range(axes)]
    reach = [draw(st.integers(1, 2)) for _ in range(axes)]
    terms = []
    for _ in range(draw(st.integers(2, 4))):
        kind = draw(st.sampled_from(KINDS))
        before, after, kernel = [], [], []
        for axis in range(axes):
            # Taps at distances from -reach to reach around the input of the same place.
            first = draw(st.integers(-reach[axis], 0))
            last = draw(st.integers(0, reach[axis]))
            # Now and then all of them one further to the front.
            moved = last > 0 and draw(st.integers(0, 19)) == 0
            kernel.append(last - first + 1)
            before.append(-first * dilations[axis] + moved)
            after.append(last * dilations[axis] - moved)
        geometry: dict[str, Any] = {
            "strides": strides,
            "pads": [*before, *after],
            "dilations": dilations,
            "kernel_shape": kernel,
        }
        groups = st.sampled_from([1, 1, 2, channels])
        both = (channels, channels)
        made = "x"
        if kind == "pool":
            if max(dilations) > 1:
                continue
            del geometry["dilations"]
            made = build.node("AveragePool", made, count_include_pad=1, **geometry)
        elif kind == "pointwise first":
            made = build.conv(made, both, draw(groups), [1] * axes)
            made = build.conv(made, both, draw(groups), kernel, **geometry)
        elif kind == "pointwise last":
            made = build.conv(made, both, draw(groups), kernel, **geometry)
            made = build.conv(made, both, draw(groups), [1] * axes)
        elif kind == "conv":
            made = build.conv(made, both, draw(groups), kernel, **geometry)
        for _ in range(draw(st.integers(0, 2)) + (kind == "norm")):
            made = build.norm(made, channels)
        if kind in ("norm", "plain") and set(strides) != {1}:
            continue
        terms.append(made)
    while len(terms) > 1:
        count = draw(st.integers(2, min(3, len(terms))))
        operator = "Sum" if count > 2 else draw(st.sampled_from(["Add", "Sub", "Sum"]))
        made = build.node(operator, *terms[:count])
        if draw(st.integers(0, 3)) == 0:
            made = build.norm(made, channels)
        terms = [*terms[count:], made]
    root = terms[0] if terms else "x"
    build.nodes.append(helper.make_node("Relu", [root], ["y"]))
    size = [draw(st.integers(3, 6)) for _ in range(axes)]
    return build.nodes, build, [draw(st.integers(1, 2)), channels, *size]


@settings(deadline=None, max_examples=300)
@given(blocks(), st.sampled_from([TensorProto.FLOAT, TensorProto.DOUBLE]))
def test_values_never_change(
    block: tuple[list[onnx.NodeProto], Build, list[int]], kind: int
) -> None:
    nodes, build, shape = block
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(v.astype(dtype), n) for n, v in build.stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    merged = merge_branches(load(model), Selection())
    check_merged(merged)
    after = deliver.parsed(merged.document, Rewrite())
    assert len(after.graph.node) <= len(nodes)
    assert sizes(after) <= sizes(model)
    x = {"x": np.random.default_rng(1).normal(size=shape)}
    (new,) = reference.evaluate(after, x)
    (old,) = reference.evaluate(model, x)
    assert new.shape == old.shape
    # Where branches cancel, what is rounded is larger than what is left.
    terms = [float(merged.exact(merge).reach.max()) for merge in merged.merges]
    scale = max([1.0, float(np.abs(old).max()), *terms])
    bound = 1e-6 if kind == TensorProto.FLOAT else 1e-10
    assert float(np.abs(new - old).max()) <= bound * scale


def sizes(model: onnx.ModelProto) -> int:
    """How many weights the convolutions of a model have, with the taps of its poolings."""
    dims = {t.name: t.dims for t in model.graph.initializer}
    convs = [math.prod(dims[n.input[1]]) for n in model.graph.node if n.op_type == "Conv"]
    channels = int(model.graph.input[0].type.tensor_type.shape.dim[1].dim_value)
    return sum(map(int, convs)) + sum(
        channels * int(math.prod(a.ints))
        for n in model.graph.node
        if n.op_type == "AveragePool"
        for a in n.attribute
        if a.name == "kernel_shape"
    )

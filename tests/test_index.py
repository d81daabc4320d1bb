"""The def-use index against an independent oracle, and what it says about graphs that are none."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, event, given, settings
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.onnxgraph.graph import Tensor
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.load import load
from tests.support_graphs import OPSET, graph_model, parsed, weights_of
from tests.support_index_oracle import Name, facts_of, nested_graphs


def model_of(graph: onnx.GraphProto) -> onnx.ModelProto:
    return onnx.ModelProto(ir_version=8, graph=graph, opset_import=OPSET)


@settings(
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(nested_graphs())
def test_index_equals_the_oracle(graph: onnx.GraphProto) -> None:
    facts = facts_of(graph)
    model = model_of(graph)
    if facts.error:
        event("damaged: " + facts.error.split("/")[-1][:5])
        with pytest.raises(bnfold.ModelError) as caught:
            Index(load(model))
        assert "\n" not in str(caught.value)
        return
    event("whole")
    index = Index(load(model))

    def name_of(tensor: Tensor) -> Name:
        return tensor.scope.path, tensor.name

    tensors = [tensor for scope in index.scopes for tensor in scope.tensors.values()]
    assert {name_of(tensor) for tensor in tensors} == facts.defined
    assert {
        name_of(t): t.producer.path for t in tensors if t.producer is not None
    } == facts.producer
    readers = Counter((name_of(t), reader.path) for t in tensors for reader in t.readers)
    assert readers == facts.readers
    assert {name_of(tensor) for tensor in tensors if tensor.is_output} == facts.outputs
    for tensor in tensors:
        inputs = [value.name for value in tensor.scope.graph.input]
        assert tensor.is_input == (tensor.name in inputs)
        held = [t for t in tensor.scope.graph.initializer if t.name == tensor.name]
        assert [tensor.initializer] == (held or [None])

    order = {node.path: at for at, node in enumerate(index.nodes)}
    assert len(order) == len(index.nodes)
    for earlier, later in facts.before:
        assert order[earlier] < order[later]
    for node in index.nodes:
        assert [t.name if t else "" for t in node.inputs] == list(node.proto.input)
        assert [t.name if t else "" for t in node.outputs] == list(node.proto.output)
    assert index.names() == {name for _, name in facts.defined}


HEAD = '<ir_version: 8, opset_import: ["" : 17]>'

# What is wrong -> the graph, and words that the message has to contain.
DAMAGED: dict[str, tuple[str, tuple[str, ...]]] = {
    "a node reads itself": (
        "g (float[1] x) => (float[1] y) { [loop] y = Add (x, y) }",
        ("cycle", "'loop'"),
    ),
    "two nodes wait for each other": (
        "g (float[1] x) => (float[1] y) { [n1] a = Add (x, b) [n2] b = Relu (a) y = Relu (b) }",
        ("cycle", "n"),
    ),
    "a cycle through a captured name": (
        """g (bool q, float[1] x) => (float[1] y) {
            [choose] y = If (q) < then_branch = t () => (float[1] a) { a = Relu (y) },
                                  else_branch = e () => (float[1] b) { b = Relu (x) } >
        }""",
        ("cycle", "'choose'"),
    ),
    "a cycle through the output of a body": (
        """g (bool q, float[1] x) => (float[1] y) {
            [choose] y = If (q) < then_branch = t () => (float[1] z) { a = Relu (x) },
                                  else_branch = e () => (float[1] b) { b = Relu (x) } >
            [after] z = Relu (y)
        }""",
        ("cycle",),
    ),
    "two nodes make one tensor": (
        "g (float[1] x) => (float[1] y) { [n1] y = Relu (x) [n2] y = Abs (x) }",
        ("'y'", "'n1'", "'n2'", "twice"),
    ),
    "one node makes a tensor twice": (
        "g (float[1] x) => (float[1] y) { [n1] y, y = Split (x) }",
        ("'y'", "'n1'", "twice"),
    ),
    "a node makes an input": (
        "g (float[1] x) => (float[1] x) { [n1] x = Relu (x) }",
        ("'x'", "'n1'", "twice"),
    ),
    "a node makes an initializer": (
        "g (float[1] x) => (float[1] w) <float[1] w = {1}> { [n1] w = Relu (x) }",
        ("'w'", "'n1'", "twice"),
    ),
    "nothing makes an input of a node": (
        "g (float[1] x) => (float[1] y) { [n1] y = Add (x, gone) }",
        ("'gone'", "'n1'"),
    ),
    "nothing makes an output": (
        "g (float[1] x) => (float[1] gone) { [n1] y = Relu (x) }",
        ("'gone'",),
    ),
    "a name of one branch is read in the other": (
        """g (bool q, float[1] x) => (float[1] y) {
            y = If (q) < then_branch = t () => (float[1] a) { a = Relu (x) },
                         else_branch = e () => (float[1] b) { [n1] b = Relu (a) } >
        }""",
        ("'a'", "'n1'"),
    ),
    "a name of a body is read outside of it": (
        """g (bool q, float[1] x) => (float[1] z) {
            y = If (q) < then_branch = t () => (float[1] a) { a = Relu (x) },
                         else_branch = e () => (float[1] b) { b = Relu (x) } >
            [n1] z = Relu (a)
        }""",
        ("'a'", "'n1'"),
    ),
    "two initializers of one name": (
        """g (float[1] x) => (float[1] y) <float[1] w = {1}, float[1] w = {2}>
        { y = Add (x, w) }""",
        ("'w'", "two"),
    ),
    "two inputs of one name": (
        "g (float[1] x, float[1] x) => (float[1] y) { y = Relu (x) }",
        ("'x'", "twice"),
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_graph_that_contradicts_itself_is_named(case: str) -> None:
    text, words = DAMAGED[case]
    with pytest.raises(bnfold.ModelError) as caught:
        bnfold.fold(parsed(HEAD + text), name="small.onnx")
    message = str(caught.value)
    assert "\n" not in message
    for word in ("small.onnx", *words):
        assert word in message


def test_an_unsorted_graph_folds_like_the_sorted_one() -> None:
    text = "net (float[1, 3, 6, 6] x) => (float[1, 8, 4, 4] y) {{ {} {} {} }}"
    nodes = ("c = Conv (x, w)", "n = BatchNormalization (c, gamma, beta, mean, var)", "y = Relu(n)")
    plain = bnfold.fold(graph_model(text.format(*nodes), **weights_of(0)))
    mixed = bnfold.fold(graph_model(text.format(*reversed(nodes)), **weights_of(0)))
    assert len(mixed.report.folded) == len(plain.report.folded) == 1
    assert list(mixed.model.graph.initializer) == list(plain.model.graph.initializer)


def test_a_chain_of_100000_nodes_folds() -> None:
    length, every = 100_000, 10_000
    weights = weights_of(0, channels=3)
    nodes, source, norms = [], "x", 0
    for at in range(length // 2):
        op_type = "Identity" if at % 2 else "Relu"
        nodes.append(helper.make_node(op_type, [source], [f"t{at}"]))
        source = f"t{at}"
        if at % every == 0:
            nodes.append(helper.make_node("Conv", [source, "w"], [f"c{at}"], pads=[1, 1, 1, 1]))
            statistics = ["gamma", "beta", "mean", "var"]
            nodes.append(
                helper.make_node("BatchNormalization", [f"c{at}", *statistics], [f"b{at}"])
            )
            source, norms = f"b{at}", norms + 1
    for at in range(length // 2):
        nodes.append(helper.make_node("Identity", [source], [f"i{at}"]))
        source = f"i{at}"
    nodes.append(
        helper.make_node("BatchNormalization", [source, "gamma", "beta", "mean", "var"], ["y"])
    )
    shape = [1, 3, 4, 4]
    graph = helper.make_graph(
        nodes,
        "deep",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    result = bnfold.fold(helper.make_model(graph, opset_imports=OPSET, ir_version=8))
    report = result.report
    assert (len(report.folded), report.batch_norms_after) == (norms, 1)
    assert report.nodes_before - report.nodes_after == norms
    assert len(result.model.graph.node) == report.nodes_after


def test_a_constant_behind_100000_nodes_is_found() -> None:
    values = weights_of(0)
    model = graph_model(
        """net (float[1, 3, 6, 6] x) => (float[1, 8, 4, 4] y) {
            c = Conv (x, w)
            y = BatchNormalization (c, gamma, last, mean, var)
        }""",
        **values,
    )
    source = "beta"
    for at in range(100_000):
        name = "last" if at == 99_999 else f"t{at}"
        model.graph.node.append(helper.make_node("Identity", [source], [name]))
        source = name
    result = bnfold.fold(model)
    assert [node.op_type for node in result.model.graph.node] == ["Conv"]
    bias = numpy_helper.to_array(
        next(t for t in result.model.graph.initializer if t.dims == [8])
    ).astype(np.float64)
    wide = {name: array.astype(np.float64) for name, array in values.items()}
    scale = wide["gamma"] / np.sqrt(wide["var"] + float(np.float32(1e-5)))
    np.testing.assert_allclose(bias, wide["beta"] - scale * wide["mean"], rtol=1e-6, atol=1e-7)

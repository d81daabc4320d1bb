"""The wire format: nothing that an edit does not name changes, and edits mean what they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

import bnfold
from bnfold.onnxgraph.edits import Edits, rewritten
from bnfold.onnxgraph.load import Document, load
from bnfold.onnxgraph.ranges import joined
from bnfold.onnxgraph.rewrite import all_tensors, model_pieces
from bnfold.onnxgraph.wire import delimited
from tests.support_graphs import conv_bn, graph_model, unknown_field, weights_of
from tests.support_random_models import models

Step = tuple[int, int]
Path = tuple[Step, ...]

SLOW = settings(
    deadline=None,
    max_examples=120,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# Field numbers of onnx.proto: where each kind of child lies in its parent.
CHILDREN: dict[type, dict[int, str]] = {
    onnx.ModelProto: {7: "graph", 20: "training_info", 25: "functions"},
    onnx.GraphProto: {1: "node", 5: "initializer", 13: "value_info", 15: "sparse_initializer"},
    onnx.NodeProto: {5: "attribute"},
    onnx.AttributeProto: {5: "t", 6: "g", 10: "tensors", 11: "graphs"},
    onnx.FunctionProto: {7: "node"},
    onnx.TrainingInfoProto: {2: "algorithm"},
}


def first_node(path: Path) -> Path:
    """Stands, among the changes, for a node before all others of a graph."""
    return (*path, (-2, 0))


def last_initializer(path: Path) -> Path:
    """Stands, among the changes, for initializers after all others of a graph."""
    return (*path, (-1, 0))


def children(message: Any) -> list[tuple[Step, Any]]:
    """The messages directly inside of one, each with its field number and position."""
    found: list[tuple[Step, Any]] = []
    for number, name in CHILDREN.get(type(message), {}).items():
        value = getattr(message, name)
        if isinstance(value, (list, tuple)) or hasattr(value, "add"):
            found += [((number, at), item) for at, item in enumerate(value)]
        elif message.HasField(name):
            found.append(((number, 0), value))
    return found


def places(message: Any, path: Path = ()) -> list[tuple[Path, Any]]:
    """Every message at any depth, the outermost first."""
    found: list[tuple[Path, Any]] = []
    for step, child in children(message):
        found.append(((*path, step), child))
        found += places(child, (*path, step))
    return found


def carried_out(message: Any, changes: dict[Path, Any], path: Path = ()) -> Any:
    """A copy of a parsed message with its changes: the plain way."""
    copy = type(message)()
    copy.CopyFrom(message)
    for number, name in CHILDREN.get(type(message), {}).items():
        kept: list[Any] = []
        for (field, at), child in children(message):
            if field == number:
                here = (*path, (field, at))
                if here not in changes:
                    kept.append(carried_out(child, changes, here))
                elif changes[here] is not None:
                    kept.append(changes[here])
        copy.ClearField(name)
        if hasattr(getattr(copy, name), "add"):
            getattr(copy, name).extend(kept)
        elif kept:
            getattr(copy, name).CopyFrom(kept[0])
    for new in changes.get(last_initializer(path), []):
        copy.initializer.append(new)
    if first_node(path) in changes:
        first = [changes[first_node(path)], *copy.node]
        del copy.node[:]
        copy.node.extend(first)
    return copy


def replacement(kind: type) -> Any:
    """Another message of the same kind."""
    if kind is onnx.TensorProto:
        return numpy_helper.from_array(np.arange(1500, dtype=np.float32), "new")
    if kind is onnx.NodeProto:
        return onnx.NodeProto(op_type="New", output=["new"])
    if kind is onnx.ValueInfoProto:
        return onnx.ValueInfoProto(name="new")
    return kind(name="new") if hasattr(kind, "name") else kind()


@SLOW
@given(models())
def test_no_edits_give_the_same_bytes(model: onnx.ModelProto) -> None:
    data = model.SerializeToString()
    document = load(data)
    assert joined(model_pieces(document, Edits())) == data
    assert joined(rewritten(document.model, Edits())) == data
    graph = document.model.child(7, 0)
    assert joined(rewritten(graph, Edits())) == model.graph.SerializeToString()


@SLOW
@given(models())
def test_the_walk_parses_to_the_same_model_but_for_large_tensors(model: onnx.ModelProto) -> None:
    document = load(model)
    found = dict(all_tensors(document.proto))
    whole = dict(all_tensors(model))
    assert found.keys() == whole.keys()
    for path, tensor in whole.items():
        left = found[path]
        assert (left.name, left.dims, left.data_type) == (
            tensor.name,
            tensor.dims,
            tensor.data_type,
        )
        if tensor.data_location != TensorProto.EXTERNAL and tensor.data_type != TensorProto.STRING:
            expected = numpy_helper.to_array(tensor)
            values = document.tensors.array(left)
            assert values.dtype == expected.dtype
            np.testing.assert_array_equal(values, expected)


@SLOW
@given(models(), st.data())
def test_edits_equal_the_same_edits_of_the_parsed_model(
    model: onnx.ModelProto, data: st.DataObject
) -> None:
    every = [p for p in places(model) if p[0] != ((7, 0),)]
    changes: dict[Path, Any] = {}
    edits = Edits()
    for _ in range(data.draw(st.integers(0, 4)) if every else 0):
        path, child = data.draw(st.sampled_from(every))
        new = data.draw(st.sampled_from([None, replacement(type(child))]))
        changes[path] = new
        field = [] if new is None else delimited(path[-1][0], [new.SerializeToString()])
        edits.at(path[:-1]).replaced[path[-1]] = field
    inside = [((7, 0),), *(path for path, m in every if isinstance(m, onnx.GraphProto))]
    for _ in range(data.draw(st.integers(0, 2))):
        path = data.draw(st.sampled_from(inside))
        tensor, node = replacement(onnx.TensorProto), replacement(onnx.NodeProto)
        changes[last_initializer(path)] = [tensor]
        changes[first_node(path)] = node
        edits.at(path).added = delimited(5, [tensor.SerializeToString()])
        edits.at(path).first_nodes = delimited(1, [node.SerializeToString()])
    written = joined(model_pieces(load(model), edits))
    assert onnx.ModelProto.FromString(written) == carried_out(model, changes)


@SLOW
@given(models(), st.integers(0, 3))
def test_a_graph_written_in_parts_is_one_graph(model: onnx.ModelProto, split: int) -> None:
    first, second = onnx.GraphProto(), onnx.GraphProto()
    second.CopyFrom(model.graph)
    nodes = list(second.node)
    del second.node[:]
    first.node.extend(nodes[:split])
    second.node.extend(nodes[split:])
    rest = onnx.ModelProto()
    rest.CopyFrom(model)
    rest.ClearField("graph")
    parts = [joined(delimited(7, [part.SerializeToString()])) for part in (first, second)]
    data = parts[0] + rest.SerializeToString() + parts[1]
    assert onnx.ModelProto.FromString(data) == model
    document = load(data)
    assert joined(model_pieces(document, Edits())) == data
    edits = Edits()
    edits.at(((7, 0),)).added = delimited(1, [onnx.NodeProto(op_type="New").SerializeToString()])
    changed = onnx.ModelProto.FromString(joined(model_pieces(document, edits)))
    model.graph.node.append(onnx.NodeProto(op_type="New"))
    assert changed == model


def test_a_fold_of_a_graph_written_in_parts() -> None:
    model = conv_bn(channels=64)
    expected = bnfold.fold(model).model
    whole, parts = model.graph, []
    for name in ("node", "initializer", "input", "output"):
        part = onnx.GraphProto()
        getattr(part, name).extend(getattr(whole, name))
        parts.append(joined(delimited(7, [part.SerializeToString()])))
    named = onnx.GraphProto(name=whole.name)
    parts.append(joined(delimited(7, [named.SerializeToString()])))
    model.ClearField("graph")
    result = bnfold.fold(b"".join(parts) + model.SerializeToString())
    assert len(result.report.folded) == 1
    assert result.model == expected


def test_unknown_fields_survive_a_fold_at_every_level() -> None:
    model = conv_bn(channels=64)
    opaque = unknown_field(700, b"opaque")
    graph = model.graph
    for message in [model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output]:
        message.MergeFromString(opaque)
    model.opset_import[0].MergeFromString(opaque)
    folded = bnfold.fold(model).model
    assert [node.op_type for node in folded.graph.node] == ["Conv", "Relu"]
    kept = folded.graph
    weight = next(t for t in kept.initializer if t.dims == [64, 3, 3, 3])
    for message in [folded, kept, *kept.node, weight, *kept.input, *kept.output]:
        assert opaque in message.SerializeToString()
        rest = type(message).FromString(message.SerializeToString())
        rest.DiscardUnknownFields()
        assert rest != message
    assert opaque in folded.opset_import[0].SerializeToString()


ENCODINGS: dict[str, tuple[int, Any, str]] = {
    "float32 raw_data": (TensorProto.FLOAT, np.float32, "raw_data"),
    "float32 float_data": (TensorProto.FLOAT, np.float32, "float_data"),
    "float64 raw_data": (TensorProto.DOUBLE, np.float64, "raw_data"),
    "float64 double_data": (TensorProto.DOUBLE, np.float64, "double_data"),
    "float16 raw_data": (TensorProto.FLOAT16, np.float16, "raw_data"),
    "float16 int32_data": (TensorProto.FLOAT16, np.float16, "int32_data"),
}


def encoded(name: str, values: Any, kind: int, field: str) -> onnx.TensorProto:
    """A tensor with its values in one of the fields that may hold them."""
    tensor = onnx.TensorProto(name=name, data_type=kind, dims=values.shape)
    flat = values.reshape(-1)
    if field == "raw_data":
        tensor.raw_data = flat.astype(flat.dtype.newbyteorder("<")).tobytes()
    elif field == "int32_data":
        tensor.int32_data.extend(flat.view(np.uint16).tolist())
    else:
        getattr(tensor, field).extend(flat.tolist())
    return tensor


def test_large_weights_in_every_encoding_are_read_and_written() -> None:
    for case, (kind, dtype, field) in ENCODINGS.items():
        given_values = weights_of(3, channels=64, inputs=9, dtype=dtype)
        name = {1: "float", 10: "float16", 11: "double"}[kind]
        model = graph_model(
            f"""net ({name}[1, 9, 6, 6] x) => ({name}[1, 64, 4, 4] y, {name}[64, 9, 3, 3] z) {{
                c = Conv (x, w)
                y = BatchNormalization (c, gamma, beta, mean, var)
                z = Relu (other)
            }}"""
        )
        for weight, values in given_values.items():
            model.graph.initializer.append(encoded(weight, values, kind, field))
        other = encoded("other", given_values["w"], kind, field)
        model.graph.initializer.append(other)
        result = bnfold.fold(model)
        assert len(result.report.folded) == 1, case
        kept = {t.name: t for t in result.model.graph.initializer}
        assert kept["other"].SerializeToString() == other.SerializeToString(), case
        wide = {n: v.astype(np.float64) for n, v in given_values.items()}
        epsilon = float(np.float32(1e-5))
        scale = wide["gamma"] / np.sqrt(wide["var"] + epsilon)
        folded = next(t for t in kept.values() if t.dims == [64, 9, 3, 3] and t.name != "other")
        expected = (wide["w"] * scale.reshape(-1, 1, 1, 1)).astype(dtype)
        got = numpy_helper.to_array(folded)
        assert got.dtype == expected.dtype, case
        expected[np.abs(expected) < np.finfo(dtype).tiny] = 0
        tolerance = float(np.finfo(dtype).eps)
        np.testing.assert_allclose(
            got.astype(np.float64), expected.astype(np.float64), rtol=tolerance, err_msg=case
        )


def test_a_large_attribute_tensor_in_a_nested_graph_is_left_out_and_read() -> None:
    values = np.arange(3000, dtype=np.float32)
    inner = onnx.GraphProto(name="inner")
    node = inner.node.add(op_type="Constant", output=["c"])
    node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(
        numpy_helper.from_array(values)
    )
    model = graph_model("net (bool q) => (float[3000] y) { y = Identity (k) }", k=values)
    holder = model.graph.node.add(op_type="If", input=["q"], output=["unused"])
    holder.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g.CopyFrom(inner)
    document: Document = load(model)
    assert len(document.payloads) == 2
    assert len(document.skeleton) < 1000
    left = document.proto.graph.node[1].attribute[0].g.node[0].attribute[0].t
    np.testing.assert_array_equal(document.tensors.array(left), values)

"""What a fold does not touch stays, byte for byte, and its argument is never changed."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.folding.find import Selection, find
from bnfold.folding.plan import plan
from bnfold.folding.rules.reading import Context
from bnfold.onnxgraph.constants import Constants
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.load import load
from bnfold.onnxgraph.types import Types
from tests.support_graphs import conv_bn, graph_model, if_bn, plain, unknown_field, weights_of
from tests.support_random_models import models


def decorated() -> onnx.ModelProto:
    """Two Convs with norms and a custom node, with everything that a model can carry."""
    model = graph_model(
        """
        net (float[1, 3, 8, 8] x, float[4] unused, bool q)
            => (float[1, 64, 4, 4] z, float[1, 64, 6, 6] n1, float[2] odd)
        {
            [conv1] c1 = Conv (x, w)
            [norm1] n1 = BatchNormalization (c1, gamma, beta, mean, var)
            [act] a1 = Relu (n1)
            [special] s, odd = my.domain.Special <level = 3> (a1, table)
            [conv2] c2 = Conv (s, w2)
            [norm2] z = BatchNormalization (c2, gamma, beta, mean, var)
        }""",
        **weights_of(1, channels=64),
        w2=weights_of(2, channels=64, inputs=64)["w"],
        table=np.arange(5000, dtype=np.int64),
    )
    graph = model.graph
    model.producer_name, model.producer_version, model.domain = "exporter", "1.2", "org.example"
    model.model_version, model.doc_string = 12, "a model"
    model.opset_import.append(helper.make_opsetid("my.domain", 4))
    model.opset_import.append(helper.make_opsetid("not.used", 1))
    model.metadata_props.add(key="license", value="none")
    graph.doc_string = "a graph"
    graph.metadata_props.add(key="graph", value="g")
    for node in graph.node:
        node.doc_string = f"doc of {node.name}"
        node.metadata_props.add(key="from", value=f"source of {node.name}")
    for tensor in graph.initializer:
        tensor.doc_string = f"doc of {tensor.name}"
        tensor.metadata_props.add(key="from", value=f"source of {tensor.name}")
    for value in [*graph.input, *graph.output]:
        value.doc_string = f"doc of {value.name}"
        value.metadata_props.add(key="layout", value="NCHW")
    for name, dims in {"c1": [1, 64, 6, 6], "a1": [1, 64, 6, 6], "c2": [1, 64, 4, 4]}.items():
        graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))
    sparse = graph.sparse_initializer.add(dims=[1000])
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(3, np.float32), "sparse"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([1, 5, 9]), "sparse_at"))
    annotation = graph.quantization_annotation.add(tensor_name="a1")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="step")
    graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "step"))
    function = model.functions.add(name="Twice", domain="my.domain", doc_string="a function")
    function.input.append("a")
    function.output.append("b")
    function.node.append(helper.make_node("Add", ["a", "a"], ["b"]))
    function.opset_import.append(helper.make_opsetid("", 17))
    training = model.training_info.add()
    training.algorithm.CopyFrom(onnx.GraphProto(name="step", doc_string="a step"))
    training.initialization.CopyFrom(onnx.GraphProto(name="begin"))
    opaque = unknown_field(900, b"opaque")
    for message in [model, graph, function, training, sparse, annotation, *graph.node]:
        message.MergeFromString(opaque)
    return model


FOLDED = bnfold.fold(decorated())
NODES = {node.name: node for node in FOLDED.model.graph.node}


def test_the_decorated_model_folds() -> None:
    assert [norm.norm for norm in FOLDED.report.folded] == ["norm1", "norm2"]
    assert list(NODES) == ["conv1", "act", "special", "conv2"]


MODEL_FIELDS = (
    "ir_version opset_import producer_name producer_version domain model_version doc_string "
    "metadata_props training_info functions configuration"
).split()
GRAPH_FIELDS = (
    "name doc_string input output sparse_initializer quantization_annotation metadata_props"
).split()


# ``configuration`` is younger than the oldest onnx that bnfold works with.
KNOWN_FIELDS = [f for f in MODEL_FIELDS if f in onnx.ModelProto.DESCRIPTOR.fields_by_name]


@pytest.mark.parametrize("field", KNOWN_FIELDS)
def test_field_of_the_model_stays(field: str) -> None:
    assert getattr(FOLDED.model, field) == getattr(decorated(), field)


@pytest.mark.parametrize("field", GRAPH_FIELDS)
def test_field_of_the_graph_stays(field: str) -> None:
    assert getattr(FOLDED.model.graph, field) == getattr(decorated().graph, field)


def test_unknown_fields_stay() -> None:
    opaque = unknown_field(900, b"opaque")
    before, after = decorated(), FOLDED.model
    for message in [
        after,
        after.graph,
        after.functions[0],
        after.training_info[0],
        after.graph.sparse_initializer[0],
        after.graph.quantization_annotation[0],
        *NODES.values(),
    ]:
        assert message.SerializeToString().count(opaque) >= 1
    gone = len(before.graph.node) - len(after.graph.node)
    count = before.SerializeToString().count(opaque)
    assert after.SerializeToString().count(opaque) == count - gone


def test_untouched_nodes_and_initializers_are_byte_identical() -> None:
    before = decorated().graph
    for node in before.node:
        if node.name in ("act", "special"):
            assert NODES[node.name].SerializeToString() == node.SerializeToString()
    after = {tensor.name: tensor for tensor in FOLDED.model.graph.initializer}
    for tensor in before.initializer:
        if tensor.name in ("table", "step"):
            assert after[tensor.name].SerializeToString() == tensor.SerializeToString()


def test_changed_nodes_and_weights_keep_what_is_said_about_them() -> None:
    before = {node.name: node for node in decorated().graph.node}
    for name in ("conv1", "conv2"):
        assert NODES[name].doc_string == before[name].doc_string
        assert NODES[name].metadata_props == before[name].metadata_props
        assert NODES[name].attribute == before[name].attribute
        assert NODES[name].input[0] == before[name].input[0]
    after = {tensor.name: tensor for tensor in FOLDED.model.graph.initializer}
    for node, name in (("conv1", "w"), ("conv2", "w2")):
        weight = after[NODES[node].input[1]]
        assert weight.doc_string == f"doc of {name}"
        assert weight.metadata_props[0].value == f"source of {name}"


def test_value_info_is_that_of_the_tensors_that_exist() -> None:
    before = {value.name: value for value in decorated().graph.value_info}
    after = {value.name: value for value in FOLDED.model.graph.value_info}
    assert list(after) == ["a1"]
    assert after["a1"] == before["a1"]


def test_no_orphan_stays() -> None:
    graph = FOLDED.model.graph
    read = {name for node in graph.node for name in node.input} | {"step"}
    assert {tensor.name for tensor in graph.initializer} <= read


NOTHING_TO_FOLD: dict[str, Callable[[], onnx.ModelProto]] = {
    "no norm": plain,
    "everything excluded": decorated,
    "a norm that stays": lambda: graph_model(
        """net (float[1, 8, 4, 4] x) => (float[1, 8, 4, 4] y) {
            y = BatchNormalization (x, gamma, beta, mean, var)
        }""",
        **weights_of(0),
    ),
}


@pytest.mark.parametrize("case", NOTHING_TO_FOLD)
def test_nothing_to_fold_is_byte_identical(case: str, tmp_path: Path) -> None:
    data = NOTHING_TO_FOLD[case]().SerializeToString()
    source, target = tmp_path / "in.onnx", tmp_path / "out.onnx"
    source.write_bytes(data)
    for argument in (source, str(source), data, onnx.ModelProto.FromString(data)):
        result = bnfold.fold(argument, skip=["*"])
        result.save(target)
        assert target.read_bytes() == data
        assert result.model.SerializeToString() == data
        assert result.report.folded == ()
        target.unlink()


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(models())
def test_any_model_without_a_norm_is_byte_identical_or_refused(model: onnx.ModelProto) -> None:
    data = model.SerializeToString()
    with contextlib.suppress(bnfold.ModelError):
        assert bnfold.fold(data).model.SerializeToString() == data


def test_folding_twice_is_folding_once() -> None:
    for model in (decorated(), conv_bn(channels=64), if_bn()):
        once = bnfold.fold(model).model.SerializeToString()
        again = bnfold.fold(once)
        assert again.report.folded == ()
        assert again.model.SerializeToString() == once


def test_the_same_input_gives_the_same_bytes() -> None:
    data = decorated().SerializeToString()
    first, second = bnfold.fold(data), bnfold.fold(decorated())
    assert first.model.SerializeToString() == second.model.SerializeToString()
    assert first.model.SerializeToString() == FOLDED.model.SerializeToString()


def test_saved_and_in_memory_are_the_same_model(tmp_path: Path) -> None:
    FOLDED.save(tmp_path / "out.onnx")
    assert onnx.load(tmp_path / "out.onnx") == FOLDED.model


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "decorated": decorated,
    "conv": lambda: conv_bn(channels=64),
    "if": if_bn,
}


@pytest.mark.parametrize("case", MODELS)
def test_fold_does_not_change_its_argument(case: str, tmp_path: Path) -> None:
    model = MODELS[case]()
    data = model.SerializeToString()
    path = tmp_path / "in.onnx"
    path.write_bytes(data)
    status = path.stat()
    buffer = bytearray(data)

    class Program:
        model_proto = model

    for argument in (model, data, buffer, path, Program()):
        result = bnfold.fold(argument)
        assert result.report.folded
        assert norms_removed(result.model)
        result.save(tmp_path / "out.onnx")
    assert model.SerializeToString() == data
    assert bytes(buffer) == data
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(data).digest()
    assert path.stat().st_mtime_ns == status.st_mtime_ns


def norms_removed(model: onnx.ModelProto) -> bool:
    return all(node.op_type != "BatchNormalization" for node in model.graph.node)


@pytest.mark.parametrize("case", MODELS)
def test_find_and_plan_write_nothing(case: str) -> None:
    model = MODELS[case]()
    document = load(model)
    parsed = document.proto.SerializeToString()
    index = Index(document)
    types = Types(index)
    found = find(index, Context(Constants(index, types), types, 17))
    assert found
    assert document.proto.SerializeToString() == parsed
    before: Any = {name: list(t.readers) for name, t in index.main.tensors.items()}
    assert plan(index, Selection()).folds
    assert document.proto.SerializeToString() == parsed
    assert {name: list(t.readers) for name, t in index.main.tensors.items()} == before
    assert bytes(document.source.view) == model.SerializeToString()


def test_the_result_does_not_change_when_its_model_is_changed() -> None:
    result = bnfold.fold(conv_bn())
    before = result.model.SerializeToString()
    bnfold.fold(result.model)
    assert result.model.SerializeToString() == before

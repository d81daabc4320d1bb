"""Unusual files: training-mode exports, shared or computed parameters, nothing to estimate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

import bnfold
from bnfold.errors import ModelError
from tests.support_calibrate import (
    BODY,
    Array,
    assert_close,
    cut,
    model,
    parameters,
    samples,
    statistics_of,
    trained,
)

WANTED = trained(model(), [{"x": part} for part in cut(samples(), 32)])


def as_trained(opset: int) -> onnx.ModelProto:
    """The model of ``BODY`` as an exporter writes it in training mode."""
    proto = model(opset=opset)
    for node in proto.graph.node:
        if node.op_type != "BatchNormalization":
            continue
        if opset >= 14:
            node.attribute.append(helper.make_attribute("training_mode", 1))
            node.output.extend([f"{node.output[0]}_mean", f"{node.output[0]}_var"])
        else:
            node.output.extend(f"{node.output[0]}_{at}" for at in range(4))
        for name in node.output[1:]:
            kind = helper.make_tensor_value_info(name, TensorProto.FLOAT, [None])
            proto.graph.value_info.append(kind)
    return proto


@pytest.mark.parametrize(
    ("opset", "mode"),
    [*((o, "batch") for o in (7, 9, 13, 14, 15, 18)), (13, "sequential"), (18, "sequential")],
)
def test_training_exports_become_inference_models(opset: int, mode: str) -> None:
    found = bnfold.calibrate(as_trained(opset), {"x": samples()}, mode=mode)
    plain = bnfold.calibrate(model(opset=opset), {"x": samples()}, mode=mode)
    # Nothing of the training form is left, not even the types of outputs that are gone.
    assert found.model.graph.node == plain.model.graph.node
    assert not found.model.graph.value_info
    assert statistics_of(found.model)["b2"][1].tolist() == (
        statistics_of(plain.model)["b2"][1].tolist()
    )
    assert all(norm.was_training for norm in found.report.norms)
    assert not any(norm.was_training for norm in plain.report.norms)
    # So it can be folded.
    assert bnfold.fold(found.model).report.batch_norms_after == 0


def test_a_norm_that_is_skipped_stays_in_training_mode() -> None:
    found = bnfold.calibrate(as_trained(15), {"x": samples()}, skip=["b2"])
    nodes = [n for n in found.model.graph.node if n.op_type == "BatchNormalization"]
    assert [len(node.output) for node in nodes] == [1, 3]
    assert_close({"b1": statistics_of(found.model)["b1"]}, {"b1": WANTED["b1"]})


def test_a_training_norm_whose_statistics_are_used_is_left_alone() -> None:
    proto = as_trained(15)
    output = helper.make_tensor_value_info("b2_mean", TensorProto.FLOAT, [4])
    proto.graph.output.append(output)
    found = bnfold.calibrate(proto, {"x": samples()})
    assert [(s.norm, s.code) for s in found.report.skipped] == [("b2", "training-mode")]
    assert "b2_mean" in found.report.skipped[0].reason


@pytest.mark.parametrize("opset", [13, 18])
def test_dropout_stays_off_and_is_turned_off(opset: int) -> None:
    text = BODY.replace("r = Relu(b1)", "r0 = Relu(b1)  r, mask = Dropout(r0, ratio, mode)")
    arrays = parameters() | {"ratio": np.float32(0.5).reshape(()), "mode": np.array(True)}
    found = bnfold.calibrate(model(text, arrays, opset=opset), {"x": samples()})
    assert_close(statistics_of(found.model), WANTED)
    assert found.report.dropouts == ("r",)
    dropout = next(n for n in found.model.graph.node if n.op_type == "Dropout")
    assert list(dropout.input) == ["r0", "ratio"]
    assert "mode" not in {t.name for t in found.model.graph.initializer}


def test_statistics_that_norms_share_get_a_tensor_for_each() -> None:
    body = """
        a = BatchNormalization(x, g, b, zeros, ones)
        y = BatchNormalization(a, ones, zeros, zeros, ones)
    """
    arrays: dict[str, Array] = {
        "g": np.array([2, 3, 4], np.float32),
        "b": np.array([1, 2, 3], np.float32),
        "zeros": np.zeros(3, np.float32),
        "ones": np.ones(3, np.float32),
    }
    proto = model(body, arrays, outputs="float[N,3,H,W] y")
    x = samples()
    found = bnfold.calibrate(proto, x).model
    assert_close(statistics_of(found), trained(proto, [{"x": part} for part in cut(x, 32)]))
    kept = {t.name: t for t in found.graph.initializer}
    assert (numpy_helper.to_array(kept["zeros"]) == 0).all()
    assert (numpy_helper.to_array(kept["ones"]) == 1).all()
    onnx.checker.check_model(found, full_check=True)


def test_one_tensor_as_mean_and_variance() -> None:
    body = "y = BatchNormalization(x, one, one, one, one)"
    proto = model(body, {"one": np.ones(3, np.float32)}, outputs="float[N,3,H,W] y")
    x = samples()
    found = bnfold.calibrate(proto, x).model
    assert_close(statistics_of(found), trained(proto, [{"x": part} for part in cut(x, 32)]))


def test_statistics_that_the_graph_computes_become_constants() -> None:
    arrays = parameters()
    arrays["raw"] = arrays.pop("m2")
    proto = model(BODY.replace("d = Conv", "m2 = Identity(raw)  d = Conv"), arrays)
    found = bnfold.calibrate(proto, {"x": samples()}).model
    assert_close(statistics_of(found), WANTED)
    assert "Identity" not in [node.op_type for node in found.graph.node]


def test_constant_nodes_hold_statistics_too() -> None:
    arrays = parameters()
    del arrays["m1"]
    text = "m1 = Constant <value = float[5] {0, 0, 0, 0, 0}> ()" + BODY
    found = bnfold.calibrate(model(text, arrays), {"x": samples()}).model
    assert_close(statistics_of(found), WANTED)
    assert "m1" not in [t.name for t in found.graph.initializer]


def test_computed_gamma_and_beta_stay_what_they_are() -> None:
    arrays = parameters()
    arrays["raw"] = arrays.pop("g1")
    proto = model(BODY.replace("c = Conv", "g1 = Relu(raw)  c = Conv"), arrays)
    found = bnfold.calibrate(proto, {"x": samples()}).model
    assert_close(statistics_of(found), WANTED)
    assert "Relu" in [node.op_type for node in found.graph.node]


def test_ir_version_3_lists_initializers_as_inputs() -> None:
    proto = model(opset=9, ir=3)
    for tensor in proto.graph.initializer:
        kind = helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims)
        proto.graph.input.append(kind)
    found = bnfold.calibrate(proto, {"x": samples()})
    assert_close(statistics_of(found.model), WANTED)
    assert found.model.graph.input == proto.graph.input


def test_statistics_that_a_caller_may_replace_are_left_alone() -> None:
    proto = model()
    proto.graph.input.append(helper.make_tensor_value_info("m2", TensorProto.FLOAT, [4]))
    found = bnfold.calibrate(proto, {"x": samples()})
    assert [(s.norm, s.code) for s in found.report.skipped] == [("b2", "overridable-initializer")]
    assert statistics_of(found.model)["b2"][0].tolist() == [0, 0, 0, 0]


def test_norms_in_bodies_are_left_alone() -> None:
    proto = parser.parse_model("""
        <ir_version: 8, opset_import: ["": 18]>
        g (float[N,3,H,W] x, bool flag) => (float[N,3,H,W] y)
        <float[3] one = {1, 1, 1}> {
            a = BatchNormalization(x, one, one, one, one)
            y = If (flag) <
                then_branch = t () => (float[N,3,H,W] p) {
                    p = BatchNormalization(a, one, one, one, one)
                },
                else_branch = e () => (float[N,3,H,W] q) { q = Relu(a) }
            >
        }
    """)
    x, flag = samples(), np.array(True)
    found = bnfold.calibrate(proto, {"x": x, "flag": flag})
    assert [norm.norm for norm in found.report.norms] == ["a"]
    assert [(s.norm, s.code) for s in found.report.skipped] == [("p", "subgraph")]
    assert found.report.norms[0].batches == 2


FUNCTION = """
    <ir_version: 8, opset_import: ["": 18, "own": 1]>
    g (float[N,3,H,W] x) => (float[N,3,H,W] y)
    <float[3] one = {1, 1, 1}, float[3] two = {2, 2, 2}> {
        a = own.norm(x, one)
        y = own.norm(a, two)
    }
    <domain: "own", opset_import: ["": OPSET]>
    norm (x, p) => (y) { y = BatchNormalization(x, p, p, p, p) }
"""


def test_norms_in_functions_come_out_of_them() -> None:
    x = samples()
    found = bnfold.calibrate(parser.parse_model(FUNCTION.replace("OPSET", "18")), x)
    assert not found.model.functions
    assert found.report.notes == ("functions with norms in them stand in the graph now: own::norm",)
    assert len(found.report.norms) == 2
    feeds = [{"x": part} for part in cut(x, 32)]
    assert_close(statistics_of(found.model), trained(found.model, feeds))
    # A function of another opset cannot be inlined.
    with pytest.raises(ModelError, match=r"y is inside of the function own::norm"):
        bnfold.calibrate(parser.parse_model(FUNCTION.replace("OPSET", "17")), x)


def test_a_norm_behind_an_if_gets_what_it_makes() -> None:
    proto = parser.parse_model("""
        <ir_version: 8, opset_import: ["": 18]>
        g (float[N,3,H,W] x, bool flag) => (float[N,3,H,W] y)
        <float[3] one = {1, 1, 1}, float two = {2}> {
            a = BatchNormalization(x, one, one, one, one)
            b = If (flag) <
                then_branch = t () => (float[N,3,H,W] p) { p = Mul(a, two) },
                else_branch = e () => (float[N,3,H,W] q) { q = Relu(a) }
            >
            y = BatchNormalization(b, one, one, one, one)
        }
    """)
    x, flag = samples(), np.array(True)
    for mode in ("batch", "sequential"):
        found = bnfold.calibrate(proto, {"x": x, "flag": flag}, mode=mode, batch_size=50)
        assert found.report.passes == (1 if mode == "batch" else 2)
        mean, var = statistics_of(found.model)["y"]
        # Twice a normalised tensor of mean 1: mean 2, variance 4.
        assert mean == pytest.approx(np.full(3, 2), abs=1e-5)
        assert var == pytest.approx(np.full(3, 4), rel=1e-3)


def test_without_a_norm_it_points_to_insert() -> None:
    proto = model("c = Conv(x, w)  d = Relu(c)  y = Conv(d, w2)")
    with pytest.raises(ModelError, match="has no BatchNormalization: 'bnfold insert' adds some"):
        bnfold.calibrate(proto, {"x": samples()})


def test_a_folded_model_is_recognised() -> None:
    text = BODY.replace("b1", "bn_1").replace("b2", "bn_2")
    folded = bnfold.fold(model(text)).model
    with pytest.raises(ModelError, match=r"seem to be folded already: calibrate the model as it"):
        bnfold.calibrate(folded, {"x": samples()})


def test_old_opsets_are_refused_with_a_reason() -> None:
    proto = model("y = BatchNormalization <is_test = 1> (x, g, g, g, g)",
                  {"g": np.ones(3, np.float32)}, opset=6, outputs="float[N,3,H,W] y")  # fmt: skip
    with pytest.raises(ModelError, match="of opset 6: convert the model to opset 7 or newer"):
        bnfold.calibrate(proto, samples())


def test_a_name_of_ours_in_the_model_is_no_trouble() -> None:
    text = BODY.replace("r = ", "bnfold_1 = ").replace("(r,", "(bnfold_1,")
    found = bnfold.calibrate(model(text), {"x": samples()})
    assert_close(statistics_of(found.model), WANTED)


def test_external_data_and_large_vectors(tmp_path: Path) -> None:
    # 2,048 channels: the statistics are large tensors, which are not held with the graph.
    generator = np.random.default_rng(0)
    arrays = {
        name: generator.uniform(0.5, 1.5, 2048).astype(np.float32)
        for name in ("g", "b", "m1", "v1", "m2", "v2")
    }
    body = "a = BatchNormalization(x, g, b, m1, v1)  y = BatchNormalization(a, g, b, m2, v2)"
    proto = model(body, arrays, inputs="float[N,2048] x", outputs="float[N,2048] y")
    path = tmp_path / "m.onnx"
    onnx.save(
        onnx.ModelProto.FromString(proto.SerializeToString()),
        path,
        save_as_external_data=True,
        location="m.bin",
        size_threshold=0,
    )
    x = generator.standard_normal((24, 2048)).astype(np.float32)
    feeds = [{"x": part} for part in cut(x, 8)]
    found = bnfold.calibrate(path, x, batch_size=8, mode="sequential")
    found.save(tmp_path / "out.onnx")
    after = onnx.load(tmp_path / "out.onnx")
    other = bnfold.calibrate(proto, x, batch_size=8, mode="sequential")
    assert_close(statistics_of(after), statistics_of(other.model), 1e-12)
    first = trained(proto, feeds)["a"]
    assert_close({"a": statistics_of(after)["a"]}, {"a": first})

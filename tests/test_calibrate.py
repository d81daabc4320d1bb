"""calibrate against Algorithm 1 run layer by layer in float64 on the same batches."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.algebra.rounding import rounded
from bnfold.errors import ModelError, UsageError
from tests.support_calibrate import (
    BODY,
    Array,
    assert_close,
    cut,
    in_sequence,
    model,
    parameters,
    samples,
    statistics_of,
    trained,
)

OPSETS = [7, 8, 9, 13, 14, 15, 17, 18, 21]


@pytest.mark.parametrize(
    ("opset", "estimator"), [*((opset, "paper") for opset in OPSETS), (18, "population")]
)
def test_it_is_algorithm_2(opset: int, estimator: str) -> None:
    # 50 samples in batches of 16: the last one has 2.
    proto, x = model(opset=opset), samples()
    found = bnfold.calibrate(proto, {"x": x}, batch_size=16, estimator=estimator)
    feeds = [{"x": part} for part in cut(x, 16)]
    assert_close(statistics_of(found.model), trained(proto, feeds, estimator))
    assert found.report.batches == 4
    assert found.report.passes == 1


@pytest.mark.parametrize("estimator", ["paper", "population"])
def test_in_sequence_each_norm_gets_what_those_before_it_will_give(estimator: str) -> None:
    proto, x = model(), samples()
    found = bnfold.calibrate(proto, {"x": x}, batch_size=16, estimator=estimator, mode="sequential")
    feeds = [{"x": part} for part in cut(x, 16)]
    wanted = in_sequence(proto, feeds, estimator)
    assert_close(statistics_of(found.model), wanted)
    assert found.report.passes == 2
    # The first norm is the same in both modes, the second is not.
    both = trained(proto, feeds, estimator)
    assert_close({"b1": wanted["b1"]}, {"b1": both["b1"]})
    assert np.abs(wanted["b2"][1] / both["b2"][1] - 1).max() > 1e-3


def test_two_layers_by_hand() -> None:
    # One channel, two batches: 0, 2 and 4, 8. Their means are 1 and 6, their biased variances 1
    # and 4; y of the first norm is x hat, with gamma 3 and beta 1, without epsilon.
    body = """
        b1 = BatchNormalization <epsilon = 0.0> (x, g, b, m1, v1)
        y = BatchNormalization <epsilon = 0.0> (b1, g, b, m2, v2)
    """
    arrays = {
        name: np.array([value], np.float32)
        for name, value in {"g": 3, "b": 1, "m1": 0, "v1": 1, "m2": 0, "v2": 1}.items()
    }
    proto = model(body, arrays, inputs="float[N,1] x", outputs="float[N,1] y")
    batches = [np.array([[0], [2]], np.float32), np.array([[4], [8]], np.float32)]

    def found(**options: Any) -> list[float]:
        after = statistics_of(bnfold.calibrate(proto, batches, **options).model)
        return [float(vector[0]) for norm in ("b1", "y") for vector in after[norm]]

    # (2 * 1 + 2 * 4) / 2 is 5. Every batch becomes -1, 1, so -2, 4: mean 1, variance 2 * 9.
    assert found() == pytest.approx([3.5, 5, 1, 18], rel=1e-6)
    # (x - 3.5) / sqrt(5) * 3 + 1: the mean is 1 again, the variance 9 / 5 of that of x, 5.
    assert found(mode="sequential") == pytest.approx([3.5, 5, 1, 9], rel=1e-6)
    # 0, 2, 4, 8: squared deviations 12.25 + 2.25 + 0.25 + 20.25 = 35; and -2, 4, -2, 4: 36.
    assert found(estimator="population") == pytest.approx([3.5, 35 / 3, 1, 12], rel=1e-6)


def test_a_large_offset_costs_no_digits() -> None:
    body = "y = BatchNormalization(x, g, b, m, v)"
    one = np.ones(3, np.float32)
    proto = model(body, {"g": one, "b": one, "m": one, "v": one}, outputs="float[N,3,H,W] y")
    x = (np.random.default_rng(0).standard_normal((64, 3, 8, 8)) + 1e4).astype(np.float32)
    found = statistics_of(bnfold.calibrate(proto, x, batch_size=64).model)["y"]
    exact = x.astype(np.float64)
    assert np.abs(found[0] - exact.mean((0, 2, 3))).max() < 1e-3  # half an ulp of 1e4 is 5e-4
    wanted = exact.var((0, 2, 3), ddof=1)
    assert np.abs(found[1] / wanted - 1).max() < 1e-6


@pytest.mark.parametrize("rank", [2, 3, 5])
def test_any_number_of_axes(rank: int) -> None:
    dims = ",".join(["N", "3", "H", "W", "D"][:rank])
    one = np.ones(3, np.float32)
    proto = model(
        "y = BatchNormalization(x, g, b, m, v)",
        {"g": one, "b": one, "m": one, "v": one},
        inputs=f"float[{dims}] x",
        outputs=f"float[{dims}] y",
    )
    x = np.random.default_rng(0).standard_normal((12, 3, 2, 4, 3)[:rank]).astype(np.float32)
    found = bnfold.calibrate(proto, x, batch_size=6)
    feeds = [{"x": part} for part in cut(x, 6)]
    assert_close(statistics_of(found.model), trained(proto, feeds))
    assert found.report.norms[0].values == x.size // 3


@pytest.mark.parametrize(
    ("kind", "dtype", "opset", "within"),
    [
        ("float16", np.float16, 13, 4e-3),
        ("float16", np.float16, 15, 4e-3),
    ],
)
def test_other_dtypes(kind: str, dtype: Any, opset: int, within: float) -> None:
    proto = model(arrays=parameters(dtype=dtype), kind=kind, opset=opset)
    x = samples(dtype=dtype)
    found = bnfold.calibrate(proto, {"x": x}, batch_size=16)
    feeds = [{"x": part} for part in cut(x, 16)]
    assert_close(statistics_of(found.model), trained(proto, feeds), within)
    types = {t.name: t.data_type for t in found.model.graph.initializer}
    assert types["m2"] == helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


@pytest.mark.parametrize(
    ("kind", "dtype"), [("double", np.float64), ("bfloat16", ml_dtypes.bfloat16)]
)
@pytest.mark.parametrize("mode", ["batch", "sequential"])
def test_what_onnxruntime_has_no_convolutions_for(kind: str, dtype: Any, mode: str) -> None:
    proto = model(arrays=parameters(dtype=dtype), kind=kind)
    x = samples(dtype=dtype)
    feeds = [{"x": part} for part in cut(x, 16)]
    found = bnfold.calibrate(proto, {"x": x}, batch_size=16, mode=mode)
    wanted = (trained if mode == "batch" else in_sequence)(proto, feeds)
    if kind == "double":
        assert_close(statistics_of(found.model), wanted, 1e-12)
        return
    # In sequence the rounding of the first norm is in the data of the second.
    for norm in ("b1", "b2") if mode == "batch" else ("b1",):
        for vector, exact in zip(statistics_of(found.model)[norm], wanted[norm], strict=True):
            assert vector.tolist() == rounded(exact, ml_dtypes.bfloat16).astype(float).tolist()


def test_a_type_that_does_not_fit_is_the_models_fault() -> None:
    with pytest.raises(ModelError, match="onnxruntime cannot load it"):
        bnfold.calibrate(model(BODY.replace("r = Relu", "r = Absent")), {"x": samples()})


@pytest.mark.parametrize("opset", [13, 18])
def test_float64_is_computed_in_float64(opset: int) -> None:
    body = """
        b1 = BatchNormalization(x, g1, be1, m1, v1)
        d = MatMul(b1, w)
        y = BatchNormalization(d, g1, be1, m2, v2)
    """
    arrays = {name: a for name, a in parameters(dtype=np.float64).items() if a.shape == (5,)}
    generator = np.random.default_rng(0)
    arrays |= {"w": generator.standard_normal((5, 5)), "m2": np.zeros(5), "v2": np.ones(5)}
    proto = model(body, arrays, opset=opset, inputs="double[N,5] x", outputs="double[N,5] y")
    x = generator.standard_normal((40, 5)) + 3
    found = bnfold.calibrate(proto, x, batch_size=16)
    assert_close(statistics_of(found.model), trained(proto, [{"x": p} for p in cut(x, 16)]), 1e-12)


def test_statistics_of_another_dtype_than_the_data() -> None:
    # From opset 15 on float16 data may have float32 statistics.
    arrays = parameters(dtype=np.float16)
    for name in ("m1", "v1", "m2", "v2"):
        arrays[name] = arrays[name].astype(np.float32)
    proto = model(arrays=arrays, kind="float16", opset=15)
    x = samples(dtype=np.float16)
    found = bnfold.calibrate(proto, {"x": x}, batch_size=16)
    assert_close(statistics_of(found.model), trained(proto, [{"x": p} for p in cut(x, 16)]), 4e-3)
    types = {t.name: t.data_type for t in found.model.graph.initializer}
    assert types["m1"] == types["v2"] == TensorProto.FLOAT


def test_bfloat16_statistics_are_rounded_once() -> None:
    arrays: dict[str, Array] = parameters()
    for name in ("m1", "v1", "m2", "v2"):
        arrays[name] = arrays[name].astype(ml_dtypes.bfloat16)
    x = samples()
    exact = bnfold.calibrate(model(), {"x": x}, batch_size=16)
    narrow = bnfold.calibrate(model(arrays=arrays), {"x": x}, batch_size=16)
    for norm, other in zip(exact.report.norms, narrow.report.norms, strict=True):
        wanted = np.asarray(norm.mean_after, np.float32).astype(ml_dtypes.bfloat16)
        assert other.mean_after == wanted.astype(np.float64).tolist()


def test_float16_too_small_for_a_variance_is_said() -> None:
    arrays = parameters(dtype=np.float16)
    arrays["w"] = arrays["w"] * 100
    proto = model(arrays=arrays, kind="float16", opset=13)
    with pytest.raises(ModelError, match=r"channel \d of b1 has variance .* beyond float16"):
        bnfold.calibrate(proto, {"x": samples(dtype=np.float16)})


def test_what_it_does_not_touch_is_byte_for_byte_the_same() -> None:
    proto = model()
    proto.graph.initializer[0].doc_string = "odd"
    proto.metadata_props.add(key="k", value="v")
    found = bnfold.calibrate(proto, {"x": samples()})
    after = found.model
    for tensor in after.graph.initializer:
        if tensor.name in ("m1", "v1", "m2", "v2"):
            old = next(t for t in proto.graph.initializer if t.name == tensor.name)
            assert tensor.raw_data != old.raw_data
            tensor.raw_data = old.raw_data
    assert after.SerializeToString() == proto.SerializeToString()


def test_calibrated_again_nothing_changes() -> None:
    x = samples()
    once = bnfold.calibrate(model(), {"x": x})
    twice = bnfold.calibrate(once.model, {"x": x})
    assert twice.model.SerializeToString() == once.model.SerializeToString()
    assert twice.rewrite.is_empty
    assert twice.report.drift < 1e-6


def test_only_and_skip() -> None:
    proto, x = model(), samples()
    first = bnfold.calibrate(proto, {"x": x}, only=["b1"])
    assert [norm.norm for norm in first.report.norms] == ["b1"]
    assert [(skip.norm, skip.code) for skip in first.report.skipped] == [("b2", "excluded")]
    untouched = statistics_of(first.model)["b2"]
    assert (untouched[0] == 0).all()
    assert (untouched[1] == 1).all()
    # With b1 skipped, b2 sees what b1 gives in inference form, with the statistics of the file.
    second = bnfold.calibrate(proto, {"x": x}, skip=["b1"], batch_size=50)
    alone = onnx.ModelProto()
    alone.CopyFrom(proto)
    wanted = in_sequence(first_as_given(alone), [{"x": x}])
    assert_close({"b2": statistics_of(second.model)["b2"]}, {"b2": wanted["b2"]})
    with pytest.raises(UsageError, match="'b9' matches none of the 2 BatchNormalizations"):
        bnfold.calibrate(proto, {"x": x}, only=["b9"])


def first_as_given(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its first norm written as what it computes with the statistics of the file."""
    scale = numpy_helper.to_array(next(t for t in proto.graph.initializer if t.name == "g1"))
    shift = numpy_helper.to_array(next(t for t in proto.graph.initializer if t.name == "be1"))
    factor = scale.astype(np.float64) / np.sqrt(1 + np.float64(np.float32(0.001)))
    arrays: dict[str, Array] = {
        "s": factor.astype(np.float64).reshape(-1, 1, 1),
        "t": shift.astype(np.float64).reshape(-1, 1, 1),
    }
    for name, array in arrays.items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    node = proto.graph.node[1]
    proto.graph.node.insert(1, helper.make_node("Mul", ["c", "s"], ["scaled"]))
    proto.graph.node.remove(node)
    proto.graph.node.insert(2, helper.make_node("Add", ["scaled", "t"], ["b1"]))
    return proto


def test_norms_of_one_tensor_get_the_same_statistics() -> None:
    body = """
        a = BatchNormalization(x, g, b, m1, v1)
        c = BatchNormalization(x, g, b, m2, v2)
        y = Add(a, c)
    """
    one = np.ones(3, np.float32)
    arrays = dict.fromkeys(("g", "b", "m1", "v1", "m2", "v2"), one)
    proto = model(body, arrays, outputs="float[N,3,H,W] y")
    x = samples()
    found = bnfold.calibrate(proto, x, mode="sequential")
    after = statistics_of(found.model)
    assert (after["a"][0] == after["c"][0]).all()
    assert found.report.passes == 1
    assert_close(after, trained(proto, [{"x": part} for part in cut(x, 32)]))


def test_it_stops_when_the_statistics_move_little() -> None:
    x = np.concatenate([samples(8)] * 40)
    found = bnfold.calibrate(model(), x, batch_size=8, tolerance=1e-3)
    # Equal batches: the second to the fourth move nothing.
    assert found.report.batches == 4
    assert found.report.is_settled
    assert found.report.last_move is not None
    assert found.report.last_move < 1e-3
    assert not bnfold.calibrate(
        model(), samples(64), batch_size=8, tolerance=1e-9
    ).report.is_settled


def test_the_progress_goes_up_and_tells_the_drift() -> None:
    told: list[tuple[float, str]] = []
    bnfold.calibrate(
        model(),
        samples(),
        batch_size=16,
        mode="sequential",
        progress=lambda done, what: told.append((done, what)),
    )
    assert [done for done, _ in told] == pytest.approx([n / 8 for n in range(1, 9)])
    assert told[0][1].startswith("batch 1 of 4: drift ")
    assert "last moved" in told[3][1]


def test_the_report_says_how_far_each_norm_moved() -> None:
    body = "y = BatchNormalization <epsilon = 0.0> (x, g, b, m, v)"
    arrays = {
        "g": np.ones(2, np.float32),
        "b": np.zeros(2, np.float32),
        "m": np.array([1, 5], np.float32),
        "v": np.array([4, 9], np.float32),
    }
    proto = model(body, arrays, inputs="float[N,2] x", outputs="float[N,2] y")
    x = np.array([[0, 5], [2, 11], [4, 8]], np.float32)  # means 2, 8; variances 4, 9
    norm = bnfold.calibrate(proto, x).report.norms[0]
    assert norm.mean_before == [1, 5]
    assert norm.mean_after == [2, 8]
    assert norm.var_after == [4, 9]
    assert (norm.mean_drift, norm.std_drift, norm.worst) == (1.0, 0.0, 1)  # 3 / sqrt(9)
    assert (norm.batches, norm.values, norm.channels) == (1, 3, 2)

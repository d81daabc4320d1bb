"""Norms that go into the scale of a quantised weight: its codes stay, byte for byte."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, defs, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import bnfold
from bnfold.folding.rules.operators import LAST_OPSET
from tests.support_models import constant, filled, op_types, parsed
from tests.support_quantised import Quantised, check_scales, maker, off

INT8, UINT8, INT16 = TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16
INT4, UINT4, INT32 = TensorProto.INT4, TensorProto.UINT4, TensorProto.INT32
FLOAT, FLOAT16, BFLOAT16 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16
NEWEST = min(LAST_OPSET, defs.onnx_opset_version())

MATRIX: dict[str, Any] = {"x": (3, 6), "w": (6, 4)}
ROWS: dict[str, Any] = {"x": (3, 6), "w": (4, 6)}
GEMM = Quantised(op_type="Gemm", **MATRIX)
GEMM_ROWS = Quantised(op_type="Gemm", attributes={"transB": 1}, **ROWS)
MATMUL = Quantised(op_type="MatMul", **MATRIX)
TRANSPOSED = Quantised(op_type="ConvTranspose", w=(3, 4, 2, 2))

FOLDS = {
    "conv of one scale": (Quantised(), 0),
    "conv of one scale, opset 13": (Quantised(opset=13), 0),
    "conv of one scale, opset 21": (Quantised(opset=21), 0),
    "conv of one scale, newest": (Quantised(opset=NEWEST), 0),
    "conv by channel": (Quantised(axis=0), 0),
    "conv by channel, opset 13": (Quantised(axis=0, opset=13), 0),
    "conv by channel, axis from the back": (Quantised(axis=-4), 0),
    "conv of unsigned codes": (Quantised(code=UINT8, bias=FLOAT), 0),
    "conv of int16": (Quantised(code=INT16, opset=21), 0),
    "conv of int4": (Quantised(code=INT4, opset=21), 0),
    "conv of int4, an odd number of channels": (
        Quantised(code=INT4, w=(5, 3, 3, 3), channels=5, opset=21),
        0,
    ),
    "conv of uint4 by channel": (Quantised(code=UINT4, axis=0, opset=21), 0),
    "conv of int32": (Quantised(code=INT32, has_zero=False), 0),
    "conv without a zero point": (Quantised(has_zero=False), 0),
    "conv with a bias": (Quantised(bias=FLOAT, axis=0), 0),
    "depthwise conv": (Quantised(x=(2, 4, 6, 5), w=(4, 1, 3, 3), attributes={"group": 4}), 0),
    "conv of codes that the graph computes": (Quantised(rounds=True), 0),
    "conv of codes that the graph computes by channel": (Quantised(rounds=True, axis=0), 0),
    "transposed conv": (TRANSPOSED, 1),
    "transposed conv by channel": (replace(TRANSPOSED, axis=1, bias=FLOAT), 1),
    "depthwise transposed conv": (
        replace(TRANSPOSED, x=(2, 4, 5, 5), w=(4, 1, 2, 2), attributes={"group": 4}),
        0,
    ),
    "gemm": (GEMM, 1),
    "gemm by column": (replace(GEMM, axis=1, code=UINT8), 1),
    "gemm of rows": (replace(GEMM_ROWS, bias=FLOAT), 0),
    "gemm of rows by row": (replace(GEMM_ROWS, axis=0), 0),
    "gemm of factors": (replace(GEMM, attributes={"alpha": 0.5, "beta": 3.0}, bias=FLOAT), 1),
    "gemm of blocks": (replace(GEMM_ROWS, axis=1, block=4, code=UINT4, opset=21), 1),
    "gemm of whole blocks": (replace(GEMM_ROWS, axis=1, block=3, code=INT4, opset=NEWEST), 1),
    "einsum": (replace(MATMUL, op_type="Einsum", attributes={"equation": "ik,kn->in"}), 1),
    "matmul": (MATMUL, 1),
    "matmul by column": (replace(MATMUL, axis=1), 1),
    "matmul of blocks": (replace(MATMUL, axis=0, block=4, code=INT4, opset=21), 0),
}


@pytest.mark.parametrize("name", FOLDS)
def test_the_scale_takes_up_the_factor(name: str) -> None:
    row, axis = FOLDS[name]
    folded = check_scales(row)
    dequantize = maker(folded, "w_folded")
    stored = next((a.i for a in dequantize.attribute if a.name == "axis"), 1)
    assert stored % len(row.w) == axis
    before = row.model()
    gamma, var = (constant(before, part).astype(np.float64) for part in "gv")
    factor = gamma / np.sqrt(var + float(np.float32(1e-5)))
    old, new = constant(before, "ws"), constant(folded, dequantize.input[1])
    if row.block:
        shape = (-1, 1) if row.op_type == "Gemm" else (1, -1)
        factor = factor.reshape(shape)
    np.testing.assert_array_equal(new, (old.astype(np.float64) * factor).astype(np.float32))


@pytest.mark.parametrize(
    ("dtype", "limit"), [(FLOAT16, 2.0**-10), (BFLOAT16, 2.0**-7)], ids=["float16", "bfloat16"]
)
@pytest.mark.parametrize("opset", [19, 21, NEWEST])
def test_scales_of_other_dtypes_are_rounded_once(dtype: int, limit: float, opset: int) -> None:
    row = replace(GEMM_ROWS, axis=0, dtype=dtype, opset=opset)
    folded = check_scales(row, limit=limit)
    before = row.model()
    gamma, var = (constant(before, part).astype(np.float64) for part in "gv")
    exact = constant(before, "ws") * (gamma / np.sqrt(var + float(np.float32(1e-5))))
    new = constant(folded, "ws")
    assert new.dtype == helper.tensor_dtype_to_np_dtype(dtype)
    assert (np.abs(new.astype(np.float64) - exact) <= limit / 2 * exact).all()


@pytest.mark.parametrize("opset", [10, 12, 13, NEWEST])
@pytest.mark.parametrize("is_listed", [False, True])
def test_one_factor_keeps_one_scale(opset: int, is_listed: bool) -> None:
    model = Quantised(opset=opset).model()
    for tensor in model.graph.initializer:
        if tensor.name in ("g", "v"):
            tensor.CopyFrom(numpy_helper.from_array(np.full(4, 1.5, np.float32), tensor.name))
    if is_listed:
        # The inputs of IR version 3 hold every initializer.
        model.ir_version = 3
        for tensor in model.graph.initializer:
            model.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    folded = bnfold.fold(model).model
    assert [n.op_type for n in folded.graph.node if n.op_type != "Constant"] == [
        "DequantizeLinear",
        "Conv",
    ]
    assert maker(folded, "w_folded").input == maker(model, "w").input
    assert constant(folded, "ws").shape == ()
    assert off(model, folded) < 1e-6


@pytest.mark.parametrize("name", ["conv of one scale", "gemm of rows", "transposed conv"])
def test_onnx_itself_computes_the_same(name: str) -> None:
    row, _ = FOLDS[name]
    model = row.model()
    feeds = {"x": np.random.default_rng(3).normal(size=row.x).astype(np.float32)}
    models = (model, check_scales(row))
    before, after = (np.asarray(ReferenceEvaluator(m).run(["y"], feeds))[0] for m in models)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5 * np.abs(before).max())


def test_the_report_says_where_one_scale_becomes_several() -> None:
    (one,) = bnfold.explain(Quantised().model()).folded
    assert one.notes == ("the one scale of dq becomes 4, along axis 0",)
    (by_channel,) = bnfold.explain(Quantised(axis=0).model()).folded
    assert by_channel.notes == ()
    (ahead,) = bnfold.explain(AHEAD["matmul"].model()).folded
    assert ahead.notes == ("the one scale of dq becomes 6, along axis 0",)
    (bias,) = bnfold.explain(Quantised(bias=INT32, axis=0, has_shift=False).model()).folded
    assert bias.notes == ("the one scale of bias_dq becomes 4, along axis 0",)


def test_a_norm_of_another_axis_stays() -> None:
    row = replace(MATMUL, x=(2, 3, 6), w=(6, 5), channels=3)
    (kept,) = bnfold.explain(row.model()).kept
    assert kept.code == "axis-mismatch"


def test_a_quantised_bias_takes_up_a_scale() -> None:
    for row in (
        Quantised(bias=INT32, has_shift=False),
        replace(GEMM_ROWS, bias=INT32, has_shift=False, attributes={"transB": 1, "beta": 2.0}),
    ):
        folded = check_scales(row)
        dequantize = maker(folded, "bias_folded")
        assert constant(folded, dequantize.input[1]).shape == (4,)
        assert [a.i for a in dequantize.attribute if a.name == "axis"] == [0]


AHEAD = {
    "conv of one scale": Quantised(is_ahead=True, channels=3),
    "conv by input channel": Quantised(is_ahead=True, channels=3, axis=1),
    "depthwise conv": Quantised(
        is_ahead=True, x=(2, 4, 6, 5), w=(4, 1, 3, 3), axis=0, attributes={"group": 4}
    ),
    "gemm": replace(GEMM, is_ahead=True, channels=6, bias=FLOAT, attributes={"alpha": 0.25}),
    "gemm of rows": replace(GEMM_ROWS, is_ahead=True, channels=6, axis=1),
    "gemm without a shift": replace(
        GEMM_ROWS, is_ahead=True, channels=6, bias=INT32, has_shift=False
    ),
    "matmul": replace(MATMUL, is_ahead=True, channels=6),
    "matmul of blocks": replace(
        MATMUL, is_ahead=True, channels=6, axis=1, block=2, opset=21, code=INT4
    ),
    "codes that the graph computes": Quantised(is_ahead=True, channels=3, rounds=True),
}


@pytest.mark.parametrize("name", AHEAD)
def test_a_norm_goes_forward(name: str) -> None:
    check_scales(AHEAD[name])


@pytest.mark.parametrize(
    "row",
    [
        Quantised(),
        replace(GEMM_ROWS, axis=1, block=4, code=UINT4, opset=21),
        AHEAD["gemm"],
        Quantised(bias=INT32, has_shift=False),
        Quantised(rounds=True, axis=0),
    ],
    ids=["conv", "blocks", "forward", "bias", "computed"],
)
def test_verify_tells_right_from_wrong(row: Quantised) -> None:
    model, folded = row.model(), check_scales(row)
    assert bnfold.verify(model, folded, runtime=False).is_same
    wrong = onnx.ModelProto()
    wrong.CopyFrom(folded)
    name = maker(wrong, "w_folded").input[1]
    (scale,) = [t for t in wrong.graph.initializer if t.name == name]
    values = numpy_helper.to_array(scale).copy()
    values.reshape(-1)[-1] *= 1.001
    scale.CopyFrom(numpy_helper.from_array(values, name))
    assert not bnfold.verify(model, wrong, runtime=False).is_same


def test_it_runs_in_onnxruntime_as_well_as_before() -> None:
    pytest.importorskip("onnxruntime")
    row = Quantised(axis=0, bias=FLOAT)
    assert bnfold.verify(row.model(), check_scales(row)).is_same


def test_a_quantised_bias_of_one_value_for_each_row() -> None:
    """It stays what it is where a scale goes forward into a Gemm."""
    text = (
        "agraph (float[5,4] x) => (float[a,b] y) <float[4,3] w, float[4] s, int32[5,1] q = "
        "{1, -2, 3, 4, -5}, float r> { d = DequantizeLinear (q, r)  c = Mul (x, s)  "
        "y = Gemm (c, w, d) }"
    )
    model = filled(parsed(text, opset=13))
    result = bnfold.fold(model)
    assert op_types(result.model) == ["DequantizeLinear", "Gemm"]
    assert result.verify(runtime=False).is_same

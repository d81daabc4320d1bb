"""onnxruntime runs what a fold makes of its own operators, and they are what the tests say."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import bnfold
from tests.support_linear import NORM, by_onnx, data_for, graph, model_of
from tests.support_models import Array, Feeds

ort = pytest.importorskip("onnxruntime")

FUSED = "com.microsoft.Fused"
FLAT = "float[j,k] y"

MODELS = {
    "FusedConv": graph(
        f'z = Conv (x, u)  c = {FUSED}Conv (x, w, "", z)  {NORM}',
        "float[4,3,3,3] w, float[4,3,3,3] u",
        x="float[2,3,6,5] x",
        y="float[i,j,k,l] y",
    ),
    "FusedConv with an activation": graph(
        f'd = Mul (x, s)  c = Add (d, t)  y = {FUSED}Conv <activation = "Relu"> (c, w, b0)',
        "float[4,3,3,3] w, float[4] b0, float[3,1,1] s, float[3,1,1] t",
        x="float[2,3,6,5] x",
        y="float[i,j,k,l] y",
    ),
    "FusedGemm": graph(
        f"c = BatchNormalization (x, g, b, m, v)  "
        f'y = {FUSED}Gemm <activation = "Relu", alpha = 3.0, beta = -0.5, transB = 1> (c, w, k)',
        "float[3,4] w, float[5,3] k",
        x="float[5,4] x",
        y=FLAT,
    ),
    "FusedMatMul": graph(
        f"c = {FUSED}MatMul <alpha = 3.0, transA = 1, transB = 1> (w, x)  {NORM}",
        "float[3,4] w",
        x="float[2,5,3] x",
    ),
    "LayerNormalization": graph(
        "c = LayerNormalization (x, w)  d = Mul (c, s)  y = Add (d, t)",
        "float[4] w, float[4] s, float[4] t",
        x="float[2,3,4] x",
    ),
    "Gather": graph(
        "c = Gather (e, i)  d = Mul (c, s)  y = Add (d, t)",
        "float[6,4] e, float[4] s, float[4] t",
        x="int64[2,5] i",
    ),
}


@pytest.mark.parametrize("text", MODELS.values(), ids=MODELS)
def test_onnxruntime(text: str) -> None:
    model = model_of(text, dtype="float")
    folded = bnfold.fold(model).model
    assert folded != model
    feeds = data_for(model)
    (exact,) = by_onnx(model, feeds)
    for proto in (model, folded):
        found = _run(proto, feeds)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, exact, rtol=0, atol=1e-5 * np.abs(exact).max())


def _run(model: onnx.ModelProto, feeds: Feeds) -> Array:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    given = {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in feeds.items()}
    return np.asarray(session.run(None, given)[0])

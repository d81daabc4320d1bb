"""Norms that weight decay has driven to nothing: what they make is below any normal number."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

import bnfold
from tests.support_models import filled, norm_parameters, parsed


@pytest.mark.parametrize("mean", [0.0, 0.3])
def test_a_fold_that_flushes_whole_channels_is_the_same(mean: float) -> None:
    text = f"""net (float[1,3,8,8] x) => (float[1,8,6,6] y) <float[8,3,3,3] w, {norm_parameters(8)}>
        {{ c = Conv (x, w) y = BatchNormalization (c, g, b, m, v) }}"""
    model = filled(parsed(text))
    tiny = np.array([1e-36, 1e-38, 1e-40, 1e-41], np.float32)
    for tensor in model.graph.initializer:
        if tensor.name in ("g", "b", "m"):
            values = numpy_helper.to_array(tensor).copy()
            values[:4] = {"g": tiny, "b": 0, "m": mean}[tensor.name]
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    result = bnfold.fold(model)
    assert result.report.folded[0].flushed > 50
    assert result.verify(runtime=False).is_same

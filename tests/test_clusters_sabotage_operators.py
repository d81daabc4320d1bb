"""Let maps cross operators that do not let them through: the check of a fold says so."""

from __future__ import annotations

import pytest

import bnfold
from tests.support_clusters_sabotage import crossing, unchanged
from tests.support_models import filled, norm_parameters, parsed

IMAGE = "float[2,3,6,8] x"
AXES = "abcdefg"
WRONG = {
    "Clip": "r = Clip (c, zero)",
    "ThresholdedRelu": "r = ThresholdedRelu <alpha = 0.0> (c)",
    "LpPool": "r = LpPool <kernel_shape = [2,2], pads = [1,1,0,0]> (c)",
    "GlobalLpPool": "r = GlobalLpPool (c)",
    "ReduceL1": "r = ReduceL1 (c, axes)",
    "ReduceL2": "r = ReduceL2 (c, axes)",
    "CumSum": "r = CumSum (c, one)",
    "Trilu": "r = Trilu (c)",
    "CenterCropPad": "r = CenterCropPad <axes = [2,3]> (c, sizes)",
    "GridSample": "r = GridSample (c, grid)",
    "RoiAlign": "r = RoiAlign <output_height = 3, output_width = 3, spatial_scale = 0.1> "
    "(c, rois, images)",
    "GatherND": "r = GatherND <batch_dims = 1> (c, picked)",
    "GatherElements": "r = GatherElements <axis = 1> (c, places)",
    "ReverseSequence": "r = ReverseSequence <time_axis = 1, batch_axis = 0> (c, lengths)",
}
"""What stands between a Conv and a norm of its four channels."""


@pytest.mark.parametrize("op_type", WRONG)
def test_a_map_that_should_not_cross(op_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        f"agraph ({IMAGE}, float[2,5,5,2] grid, float[3,4] rois, int64[3] images, "
        "int64[2,4,4,6] places) => (float[a,b,c,d] y) "
        f"<float[4,3,3,3] w, {norm_parameters(4)}, float zero = {{0}}, int64 one = {{1}}, "
        "int64[2] axes = {2,3}, int64[2] sizes = {7,9}, int64[2] lengths = {4,3}, "
        "int64[2,4,1] picked = {0,3,2,1,3,0,1,2}> "
        f"{{ c = Conv (x, w)  {WRONG[op_type]}  y = BatchNormalization (r, g, b, m, v) }}"
    )
    model = filled(parsed(text, opset=22, ir=10), 1)
    kept = bnfold.fold(model).report
    assert not kept.folded
    crossing(op_type, unchanged, None)(monkeypatch)
    assert bnfold.fold(model, verify=False).report.folded
    with pytest.raises(bnfold.VerificationError, match="failed its check"):
        bnfold.fold(model)

"""Make the fold wrong, one way after another: the check says so, and nothing is written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import bnfold
from bnfold.folding import apply, biases, store, surgery
from bnfold.folding.rules import conv, gemm, matmul
from tests.support_cases import Case
from tests.support_models import constant, with_values
from tests.support_regions import run
from tests.support_sabotage import (
    Patch,
    also_alpha,
    batch_norm,
    bias_off,
    factor,
    flushes,
    forgets,
    input_becomes,
    never,
    one_weight_off,
    output_becomes,
    pushed,
    right_scale,
    right_shift,
    rounds,
    tiled,
    towards_zero,
    without_attribute,
)
from tests.test_cases_fold import conv as convolution
from tests.test_cases_fold import transposed
from tests.test_cases_fold_gemm import gemm as product
from tests.test_cases_fold_gemm import matmul as matrix_product
from tests.test_cases_fold_parameters import graph

CONV = convolution("2,4,6,5", "4,4,3,3", "pads=[1,1,1,1]", bias="bias")
CONV_TRANSPOSE = transposed("1,4,3", "4,4,2", "group=2", channels=8)
GEMM = product("beta=2.0, alpha=0.5", "[4]").replace("[2,3] x", "[2,4] x").replace("[3,4]", "[4,4]")
MATMUL = matrix_product("2,4", "4,4", "d = Mul (c, k)  y = Add (d, l)")
SHARED = graph(
    "c = Conv (x, w)  n = BatchNormalization (c, g, b, m, v)  d = Conv (x, w)  y = Add (n, d)"
)


@dataclass(frozen=True)
class Sabotage:
    """A way to make the fold wrong, and a model that shows it.

    Attributes:
        says: part of the message.
        name: of the norm in the message.
    """

    patch: Patch
    text: str
    says: str
    dtype: str = "float"
    name: str = "y"


WRONG = {
    "epsilon left out": Sabotage(
        batch_norm(lambda g, b, m, v, e: right_scale(g, b, m, v, 0), right_shift), CONV, "weight"
    ),
    "epsilon added to the deviation": Sabotage(
        batch_norm(lambda g, b, m, v, e: g / (np.sqrt(v) + e), right_shift), CONV, "weight"
    ),
    "no root": Sabotage(batch_norm(lambda g, b, m, v, e: g / (v + e), right_shift), CONV, "weight"),
    "mean added": Sabotage(
        batch_norm(right_scale, lambda g, b, m, v, e: b + right_scale(g, b, m, v, e) * m),
        CONV,
        "bias",
    ),
    "mean not scaled": Sabotage(batch_norm(right_scale, lambda g, b, m, v, e: b - m), CONV, "bias"),
    "beta left out": Sabotage(
        batch_norm(right_scale, lambda g, b, m, v, e: -right_scale(g, b, m, v, e) * m),
        CONV,
        "bias",
    ),
    "bias not scaled": Sabotage(
        pushed(lambda old, a: replace(old, out=old.out * a.scale).shifted_out(a.shift)),
        CONV,
        "bias",
    ),
    "shift before scale": Sabotage(
        pushed(lambda old, a: old.shifted_out(a.shift).scaled_out(a.scale)), CONV, "bias"
    ),
    "shift left out": Sabotage(pushed(lambda old, a: old.scaled_out(a.scale)), CONV, "bias"),
    "scale left out": Sabotage(pushed(lambda old, a: old.shifted_out(a.shift)), MATMUL, "weight"),
    "channels backwards": Sabotage(
        pushed(lambda old, a: old.scaled_out(a.scale[::-1]).shifted_out(a.shift)), CONV, "weight"
    ),
    "shifts backwards": Sabotage(
        pushed(lambda old, a: old.scaled_out(a.scale).shifted_out(a.shift[::-1])), CONV, "bias"
    ),
    "input channels of a Conv": Sabotage(
        factor(conv, "conv_factor", lambda scale, rank: scale.reshape(1, -1, *[1] * (rank - 2))),
        CONV,
        "weight",
    ),
    "groups of a ConvTranspose": Sabotage(
        factor(conv, "conv_transpose_factor", tiled), CONV_TRANSPOSE, "weight"
    ),
    "rows of a Gemm": Sabotage(
        factor(gemm, "gemm_factor", lambda scale, *, transposed: scale.reshape(-1, 1)),
        GEMM,
        "weight",
    ),
    "rows of a MatMul": Sabotage(
        factor(matmul, "matmul_factor", lambda scale: scale.reshape(-1, 1)),
        MATMUL,
        "weight",
        name="d",
    ),
    "one weight by two units": Sabotage(one_weight_off(2), CONV, "ulp apart"),
    "one weight of a large layer by two units": Sabotage(
        one_weight_off(2), convolution("1,512,3,3", "300,512,3,3", channels=300), "ulp apart"
    ),
    "rounding towards zero": Sabotage(rounds(towards_zero), CONV, "weight"),
    "rounding to float16": Sabotage(
        rounds(lambda v, dtype: v.astype(np.float16).astype(dtype)), CONV, "weight"
    ),
    "rounding to float16, then to bfloat16": Sabotage(
        rounds(lambda v, dtype: v.astype(np.float16).astype(dtype)), CONV, "weight", "bfloat16"
    ),
    "bias by two units": Sabotage(
        bias_off(lambda bias: bias * np.float32(1 + 2**-22)), CONV, "bias"
    ),
    "bias of one channel": Sabotage(
        bias_off(lambda bias: bias + np.array([0, 1, 0, 0], np.float32)),
        CONV,
        "channel 1 would have a bias",
    ),
    "bias forgotten": Sabotage(bias_off(np.zeros_like), CONV, "bias"),
    "beta applied again": Sabotage(
        lambda patch: patch.setattr(biases, "_set_beta_to_one", never), GEMM, "bias"
    ),
    "alpha becomes one": Sabotage(also_alpha, GEMM, "an attribute of c changes"),
    "the node reads another tensor": Sabotage(input_becomes(1, "bias"), CONV, "the weight becomes"),
    "the node reads a tensor that is gone": Sabotage(input_becomes(2, "g"), CONV, "still read"),
    "the node reads nothing": Sabotage(input_becomes(2, "bais"), CONV, "no tensor 'bais'"),
    "the node reads other data": Sabotage(input_becomes(0, "w"), CONV, "other data"),
    "the node makes another tensor": Sabotage(output_becomes("c"), CONV, "y"),
    "pads get lost": Sabotage(without_attribute("pads"), CONV, "an attribute of c changes"),
    "the shared weight changes for all": Sabotage(
        lambda patch: patch.setattr(
            surgery, "_is_only_for", lambda known, users: known is not None
        ),
        SHARED,
        "others need it as it was",
        name="n",
    ),
    "the shared weight changes for nobody": Sabotage(
        lambda patch: patch.setattr(apply._Applier, "_store_weight", lambda *_: "w"),
        SHARED,
        "weight",
        name="n",
    ),
    "values that matter become zero": Sabotage(flushes(0.3), CONV, "of 0 in place of"),
    "readers of the shape are forgotten": Sabotage(
        forgets("Shape"),
        convolution("1,3,9", "4,3,3")
        .replace("y = Batch", "s = Shape (c)  y = Batch")
        .replace("c] y)", "c] y, int64[3] s)"),
        "s still reads c",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_fold_is_not_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = WRONG[name]
    case = Case(wrong.text, "", dtype=wrong.dtype, opset=22, ir=10)
    source, target = tmp_path / "m.onnx", tmp_path / "out.onnx"
    source.write_bytes(case.model(1).SerializeToString())
    target.write_bytes(b"as it was")
    assert run("fold", source, "-o", tmp_path / "right.onnx", "-q") == 0
    wrong.patch(monkeypatch)
    assert run("fold", source, "-o", target) == 3
    assert target.read_bytes() == b"as it was"
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert wrong.says in err
    assert "this is a bug of bnfold's, and nothing was written; please report it" in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "out.onnx", "right.onnx"]
    with pytest.raises(bnfold.VerificationError):
        bnfold.fold(source)
    assert bnfold.fold(source, verify=False).report.checked is None
    assert run("fold", source, "-o", target, "--no-verify", "-q") == 0


def test_a_float16_channel_must_not_become_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each weight alone is below the smallest normal number; together they are a channel."""
    text = convolution("1,8,9", "3,8,2", channels=3)
    model = Case(text, "", dtype="float16", opset=22, ir=10).model()
    model = with_values(model, w=1, g=[1, 2**-16, 1], b=0, m=0, v=1)
    assert constant(bnfold.fold(model).model, "w").all()
    monkeypatch.setattr(store.StoredWeight, "_needed_subnormals", lambda self: None)
    with pytest.raises(bnfold.VerificationError, match="channel 1 would lose weights"):
        bnfold.fold(model)


def test_a_zero_of_float32_may_stand_for_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest normal number is the limit: not less, and not more."""
    model = Case(convolution("1,3,9", "4,3,3"), "").model()
    model = with_values(model, w=1e-30, g=[1e-9, 1e-7, 1, 1], b=0, m=0, v=1)
    report = bnfold.fold(model).report
    assert report.flushed == 9
    monkeypatch.setattr(store, "flushed", lambda stored, exact: (stored * (abs(exact) > 1e-36), 0))
    with pytest.raises(bnfold.VerificationError, match="channel 1 would have a weight of 0"):
        bnfold.fold(model)


def test_the_message_names_norm_operator_channel_and_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = with_values(Case(CONV, "").model(), w=1, bias=1, g=[1, 2, 3, 4], b=0, m=0, v=1)
    model.graph.node[1].attribute.add(name="epsilon", type=1, f=0.0)
    model.graph.node[0].name, model.graph.node[1].name = "conv_1", "bn_1"
    bias_off(lambda bias: bias + np.array([0, 0, 0.5, 0], np.float32))(monkeypatch)
    with pytest.raises(bnfold.VerificationError) as caught:
        bnfold.fold(model)
    assert str(caught.value) == (
        "the fold of bn_1 into conv_1 failed its check: channel 2 would have a bias of 3.5 in "
        "place of 3, 2.1e+06 ulp apart: this is a bug of bnfold's, and nothing was written; "
        "please report it"
    )

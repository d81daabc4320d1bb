"""Make folds through other operators wrong, one way after another: the check says so."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bnfold
from bnfold import result
from bnfold.checking import cluster, pairs
from bnfold.folding import apply, biases, forward, sharing
from bnfold.folding.rules import conv, gemm
from tests.support_clusters import models
from tests.support_clusters_sabotage import (
    crossing,
    last_name_forgotten,
    node_goes,
    node_loses,
    only_one_reader,
    pushed_forward,
    reversed_parts,
    rolled,
    scale_into_one,
    scale_reversed,
    scales_off,
    shift_into_all,
    shift_into_none,
    summed_wrongly,
    unchanged,
    without_sign,
)
from tests.support_models import filled, norm_parameters, parsed
from tests.support_sabotage import Patch, bias_off, factor, never, one_weight_off

NORM = norm_parameters(4)
BN = "BatchNormalization"


def graph(body: str, declared: str, x: str = "2,4,6,7", outputs: str = "float[a,b,c,d] y") -> str:
    return f"agraph (float[{x}] x) => ({outputs}) <{declared}> {{ {body} }}"


TURNED = graph(
    "c = Conv (x, w)  t = Transpose <perm=[0,2,3,1]> (c)  s = Mul (t, k)  y = Add (s, l)",
    "float[4,4,3,3] w, float[4] k, float[4] l",
)
TURNED_SQUARE = graph(
    f"c = Conv (x, w)  t = Transpose <perm=[0,2,1,3]> (c)  y = {BN} (t, g, b, m, v)",
    f"float[4,4,1,1] w, {NORM}",
    "2,4,4,4",
)
SUM = graph(
    f"c = Conv (x, w)  d = Conv (x, z)  s = Add (c, d)  y = {BN} (s, g, b, m, v)",
    f"float[4,4,1,1] w, float[4,4,1,1] z, {NORM}",
)
JOINED = graph(
    f"c = Conv (x, w)  d = Conv (x, z)  s = Concat <axis=1> (c, d)  y = {BN} (s, g, b, m, v)",
    f"float[2,4,1,1] w, float[2,4,1,1] z, {NORM}",
)
AHEAD = graph(
    f"n = {BN} (x, g, b, m, v)  y = Conv (n, w, b1)", f"float[4,4,3,3] w, float[4] b1, {NORM}"
)
AHEAD_PADDED = AHEAD.replace("Conv (", "Conv <pads=[1,1,1,1]> (")
AHEAD_DEPTHWISE = graph(
    f"n = {BN} (x, g, b, m, v)  y = Conv <group=2> (n, w)", f"float[4,2,3,3] w, {NORM}"
)
AHEAD_OF_TWO = graph(
    f"n = {BN} (x, g, b, m, v)  c = Conv (n, w)  d = Conv (n, z)  y = Mul (c, d)",
    f"float[4,4,1,1] w, float[4,4,1,1] z, {NORM}",
)
AHEAD_GEMM = graph(
    f"n = {BN} (x, g, b, m, v)  y = Gemm <transB=1, alpha=0.5> (n, w, b1)",
    f"float[4,4] w, float[4] b1, {NORM}",
    "3,4",
    "float[p,q] y",
)
AHEAD_MATMUL = graph(
    f"n = {BN} (x, g, b, m, v)  c = MatMul (n, w)  y = Add (c, b1)",
    f"float[4,4] w, float[4] b1, {NORM}",
    "3,4",
    "float[p,q] y",
)
SANDWICH = graph(
    f"n = {BN} (x, g, b, m, v)  c = Conv (n, w, b1)  y = {BN} (c, g2, b2, m2, v2)",
    f"float[4,4,3,3] w, float[4] b1, {NORM}, {norm_parameters(4, '2')}",
)
RELU = graph("c = Conv (x, w)  r = Relu (c)  y = Mul (r, k)", "float[4,4,1,1] w, float[4,1,1] k")
POOL = graph(
    f"c = Conv (x, w)  r = MaxPool <kernel_shape=[2,2]> (c)  y = {BN} (r, g, b, m, v)",
    f"float[4,4,1,1] w, {NORM}",
)
COUNTED = graph(
    "c = Conv (x, w)  r = AveragePool <kernel_shape=[2,2], pads=[1,1,1,1], count_include_pad=1> "
    f"(c)  y = {BN} (r, g, b, m, v)",
    f"float[4,4,1,1] w, {NORM}",
)
CLIP = graph(
    f"c = Conv (x, w)  r = Clip (c, low, high)  y = {BN} (r, g, b, m, v)",
    f"float[4,4,1,1] w, {NORM}, float low = {{0}}, float high = {{6}}",
)
SHARED = graph(
    f"c = Conv (x, w)  t = Transpose <perm=[0,1,3,2]> (c)  y = {BN} (t, g, b, m, v)  z = Abs (c)",
    f"float[4,4,1,1] w, {NORM}",
    outputs="float[a,b,c,d] y, float[e,f,h,i] z",
)
QUANTISED = graph(
    "d = DequantizeLinear <axis=0> (q, s)  c = Conv (x, d)  y = Mul (c, v)",
    "int8[4,4,1,1] q = {1, -2, 3, 4, 5, 6, -7, 8, 9, 10, 11, 12, -13, 14, 15, 16}, "
    "float[4] s = {0.5, 0.25, 0.125, 0.3}, float[4,1,1] v",
)


@dataclass(frozen=True)
class Sabotage:
    """A way to make the fold wrong, and a model that shows it."""

    patch: Patch
    text: str
    dtype: str = "float"


WRONG = {
    "channels rolled by a Transpose": Sabotage(crossing("Transpose", rolled, None), TURNED),
    "a Transpose that turns nothing": Sabotage(
        crossing("Transpose", unchanged, None), TURNED_SQUARE
    ),
    "parts of a Concat exchanged": Sabotage(crossing("Concat", reversed_parts, None), JOINED),
    "a shift into both branches": Sabotage(crossing("Add", shift_into_all, None), SUM),
    "a shift into no branch": Sabotage(crossing("Add", shift_into_none, None), SUM),
    "a scale into one branch": Sabotage(crossing("Add", scale_into_one, None), SUM),
    "a negative scale through Relu": Sabotage(crossing("Relu", unchanged, None), RELU),
    "a sign lost at a Relu": Sabotage(crossing("Relu", without_sign, None), RELU),
    "a shift through Relu": Sabotage(crossing("Relu", unchanged, None), RELU.replace("Mul", "Add")),
    "a negative scale through MaxPool": Sabotage(crossing("MaxPool", unchanged, None), POOL),
    "a shift through counted pads": Sabotage(crossing("AveragePool", unchanged, None), COUNTED),
    "a map through Clip": Sabotage(crossing("Clip", unchanged, None), CLIP),
    "a shift forgotten forward": Sabotage(
        pushed_forward(lambda layer, affine, summed: layer.scaled_in(affine.scale)), AHEAD
    ),
    "a scale forgotten forward": Sabotage(
        pushed_forward(
            lambda layer, affine, summed: layer.shifted_out(layer.out * summed(affine.shift))
        ),
        AHEAD,
    ),
    "a shift forward not scaled": Sabotage(
        pushed_forward(
            lambda layer, affine, summed: layer.shifted_out(summed(affine.shift)).scaled_in(
                affine.scale
            )
        ),
        SANDWICH,
    ),
    "a shift forward scaled twice": Sabotage(
        pushed_forward(
            lambda layer, affine, summed: layer.scaled_in(affine.scale).shifted_out(
                layer.out * summed(affine.scale * affine.shift)
            )
        ),
        AHEAD,
    ),
    "a shift into zero padding": Sabotage(
        lambda patch: patch.setattr(conv, "_uneven", lambda *args, **kwargs: None), AHEAD_PADDED
    ),
    "groups of the input channels": Sabotage(
        factor(
            conv,
            "conv_in_factor",
            lambda scale, out, group, rank: np.tile(
                scale.reshape(group, -1), (out // group, 1)
            ).reshape(out, -1, *[1] * (rank - 2)),
        ),
        AHEAD_DEPTHWISE,
    ),
    "the inner factor of a Gemm turned": Sabotage(
        factor(gemm, "gemm_factor", lambda scale, *, transposed: scale.reshape(-1, 1)), AHEAD_GEMM
    ),
    "alpha forgotten": Sabotage(
        summed_wrongly(lambda linear, values, right: right / linear.node.real("alpha", 1.0)),
        AHEAD_GEMM,
    ),
    "the sum over the weights turned": Sabotage(
        summed_wrongly(lambda linear, values, right: right[::-1].copy()), AHEAD_GEMM
    ),
    "one reader forgotten forward": Sabotage(only_one_reader, AHEAD_OF_TWO),
    "one reader forgotten backward": Sabotage(
        lambda patch: patch.setattr(sharing.Sharing, "why_needed", never), SHARED
    ),
    "a name forgotten": Sabotage(last_name_forgotten, TURNED),
    "a name forgotten forward": Sabotage(last_name_forgotten, AHEAD),
    "a perm lost": Sabotage(node_loses("Transpose", "perm"), TURNED),
    "an operator lost": Sabotage(node_goes("Transpose"), TURNED),
    "one weight by two units": Sabotage(one_weight_off(2), TURNED),
    "one weight by two units forward": Sabotage(one_weight_off(2), AHEAD),
    "a bias by two units": Sabotage(bias_off(lambda b: b * np.float32(1 + 2**-22)), TURNED),
    "one bias forward": Sabotage(
        bias_off(lambda b: b + np.array([0, 1e-3, 0, 0], np.float32)), AHEAD
    ),
    "a bias forgotten behind a MatMul": Sabotage(
        lambda patch: patch.setattr(biases.Biases, "_into_add", never), AHEAD_MATMUL
    ),
    "a bias forgotten": Sabotage(bias_off(np.zeros_like), SUM),
    "a bias by two units in float16": Sabotage(
        bias_off(lambda b: b * np.float16(1 + 2**-9)), TURNED, "float16"
    ),
    "the scales of codes by two units": Sabotage(scales_off, QUANTISED),
    "the scales of codes backwards": Sabotage(scale_reversed, QUANTISED),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_fold_fails(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = WRONG[name]
    model = filled(parsed(wrong.text, dtype=wrong.dtype, opset=22, ir=10), 1)
    checked = bnfold.fold(model).report.checked
    assert checked is not None
    assert checked.unchecked == 0
    wrong.patch(monkeypatch)
    assert bnfold.fold(model, verify=False).report.folded
    with pytest.raises(bnfold.VerificationError, match="failed its check"):
        bnfold.fold(model)


MUTATIONS = {"float": 1e-7, "double": 1e-8, "float16": 1e-6}


@settings(deadline=None, max_examples=100)
@given(models(), st.sampled_from(sorted(MUTATIONS)), st.integers(0, 999))
def test_a_claim_that_is_a_little_wrong_fails(text: str, dtype: str, seed: int) -> None:
    """One factor or bias of one channel is off by less than the weights are rounded by."""
    model = filled(parsed(text, dtype=dtype, opset=22, ir=10), seed)
    generator = np.random.default_rng(seed)
    right = apply.apply

    def wrong(index: Any, plan: Any) -> Any:
        layers = plan.layers
        node = [*layers][generator.integers(len(layers))]
        kinds = ["out", "bias"] + ["inner"] * (layers[node].inner is not None)
        kind = kinds[generator.integers(len(kinds))]
        values = np.array(getattr(layers[node], kind))
        flat = values.reshape(-1)
        at = generator.integers(flat.size)
        flat[at] = flat[at] * (1 + MUTATIONS[dtype]) or 1e-3
        layers[node] = replace(layers[node], **{kind: values})
        return right(index, plan)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "_is_direct", lambda folds, plan: False)
        patch.setattr(pairs.Pairs, "read", lambda self, fold: None)
        # A map behind a convolution is compared with its own rounding, not with claims.
        patch.setattr(forward, "bordered", lambda *_: None)
        if not bnfold.fold(model).report.folded:
            return
        patch.setattr(result, "apply", wrong)
        with pytest.raises(bnfold.VerificationError, match="failed its check"):
            bnfold.fold(model)

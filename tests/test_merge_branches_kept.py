"""Blocks of parallel branches that stay what they are, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import bnfold
from bnfold.folding.find import Selection
from tests.support_branches import bn, branches, merged_of, norm
from tests.support_models import filled, parsed, with_values

K3 = "a = Conv <pads=[1,1,1,1]> (x, w)"
C1 = "c = Conv (x, u)"
W = "float[4,4,3,3] w, float[4,4,1,1] u"


@dataclass(frozen=True)
class Row:
    """A model whose block stays.

    Attributes:
        words: what the reason has to say; none where there is no block at all.
        text: the graph.
    """

    words: tuple[str, ...]
    text: str
    opset: int = 17
    dtype: str = "float"


STAYS = {
    "other stride": Row(
        ("branch c has stride 1, a has 2",),
        branches(
            "a = Conv <pads=[1,1,1,1], strides=[2,2]> (x, w)  c = Conv (x, u)  s = Add (a, c)",
            W,
            "float[2,4,1,1] x",
        ),
    ),
    "other dilation": Row(
        ("dilation", "branch c has dilation 1, a has 2"),
        branches(
            "a = Conv <pads=[2,2,2,2], dilations=[2,2]> (x, w)"
            "  c = Conv <pads=[1,1,1,1]> (x, u)  s = Add (a, c)",
            "float[4,4,3,3] w, float[4,4,3,3] u",
        ),
    ),
    "taps between taps": Row(
        ("taps of branch c fall between those of a", "dilation 2"),
        branches(
            "a = Conv <pads=[1,1,1,1], dilations=[2,2]> (x, w)  c = Conv (x, u)  s = Add (a, c)",
            "float[4,4,2,2] w, float[4,4,1,1] u",
        ),
    ),
    "other output size by padding": Row(
        ("padding of branch c makes another output size than that of a",),
        branches(
            "a = Conv <strides=[2,2]> (x, w)  c = Conv <strides=[2,2]> (x, u)  s = Add (a, c)",
            "float[4,4,3,3] w, float[4,4,2,2] u",
            "float[2,4,H,W] x",
        ),
    ),
    "groups of which none fits": Row(
        ("groups of the branches (2, 3) do not fit",),
        branches(
            "a = Conv <group=2> (x, w)  c = Conv <group=3> (x, u)  s = Add (a, c)",
            "float[6,3,3,3] w, float[6,2,3,3] u",
            "float[2,6,7,6] x",
        ),
    ),
    "depthwise 3x3 and full 1x1": Row(
        ("merged kernel would have 144 weights, its branches have 52",),
        branches(
            f"a = Conv <pads=[1,1,1,1], group=4> (x, w)  {C1}  s = Add (a, c)",
            "float[4,1,3,3] w, float[4,4,1,1] u",
        ),
    ),
    "1x3 and 3x1": Row(
        ("merged kernel would have 144 weights, its branches have 96",),
        branches(
            "a = Conv <pads=[0,1,0,1]> (x, w)  c = Conv <pads=[1,0,1,0]> (x, u)  s = Add (a, c)",
            "float[4,4,1,3] w, float[4,4,3,1] u",
        ),
    ),
    "1x1 and pooling": Row(
        ("merged kernel would have 144 weights, its branches have 52",),
        branches(
            f"{C1}  p = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1> (x)"
            "  s = Add (c, p)",
            "float[4,4,1,1] u",
        ),
    ),
    "pooling without its padding": Row(
        ("p does not count its padding",),
        branches(
            f"{K3}  p = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1]> (x)  s = Add (a, p)",
            "float[4,4,3,3] w",
        ),
    ),
    "pooling with a cut window": Row(
        ("p has ceil_mode=1",),
        branches(
            "p = AveragePool <kernel_shape=[3,3], ceil_mode=1> (x)  a = Conv (x, w)"
            "  s = Add (a, p)",
            "float[4,4,3,3] w",
        ),
    ),
    "maximum pooling": Row(
        (),
        branches(
            f"{K3}  p = MaxPool <kernel_shape=[3,3], pads=[1,1,1,1]> (x)  s = Add (a, p)",
            "float[4,4,3,3] w",
        ),
    ),
    "a norm before padding": Row(
        ("branch e pads with zeros what i shifts",),
        branches(
            f"{bn('i', 'x', '1')}  e = Conv <pads=[1,1,1,1]> (i, w)  s = Add (e, x)",
            f"float[4,4,3,3] w, {norm('1')}",
        ),
    ),
    "1x1 with a bias before padding": Row(
        ("branch e pads with zeros what c shifts",),
        branches(
            f"{K3}  c = Conv (x, u, k)  e = Conv <pads=[1,1,1,1]> (c, t)  s = Add (a, e)",
            f"{W}, float[4] k, float[4,4,3,3] t",
        ),
    ),
    "3x3 before 3x3": Row(
        ("branch e has a kernel on top of that of a",),
        branches(
            f"{K3}  e = Conv <pads=[1,1,1,1]> (a, w)  s = Add (e, x)",
            "float[4,4,3,3] w",
        ),
    ),
    "SAME with a stride, unknown size": Row(
        ("branch a has auto_pad SAME_UPPER", "c has another window"),
        branches(
            'a = Conv <auto_pad="SAME_UPPER", strides=[2,2]> (x, w)'
            "  c = Conv <strides=[2,2]> (x, u)  s = Add (a, c)",
            W,
            "float[2,4,H,W] x",
        ),
    ),
    "read elsewhere": Row(
        ("c, inside of a branch, is also read elsewhere",),
        branches(
            f"{K3}  {C1}  d = Mul (c, k)  t = Tanh (c)  e = Add (a, d)  s = Add (e, t)",
            f"{W}, float[4,1,1] k",
        ),
    ),
    "also an output": Row(
        ("c, inside of a branch, is also an output of the graph",),
        branches(f"{K3}  {C1}  s = Add (a, c)", W).replace("=> (", "=> (float[f,g,h,i] c, "),
    ),
    "read in an inner graph": Row(
        ("c, inside of a branch, is also read elsewhere",),
        branches(
            f"{K3}  {C1}  d = Add (a, c)  s = If (q) <then_branch = yes () => (float[f,g,h,i] t)"
            " {{ t = Add (d, c) }}, else_branch = no () => (float[f,g,h,i] n)"
            " {{ n = Identity (d) }}>".replace("{{", "{").replace("}}", "}"),
            W,
        ).replace("agraph (", "agraph (bool q, "),
    ),
    "channels broadcast": Row(
        ("branch c makes 1 channels of 4, a 4 of 4",),
        branches(f"{K3}  {C1}  s = Add (a, c)", "float[4,4,3,3] w, float[1,4,1,1] u"),
    ),
    "x of other channels": Row(
        ("branch x makes 1 channels of 1, a 4 of 1",),
        branches(f"{K3}  s = Add (a, x)", "float[4,1,3,3] w", "float[2,1,7,6] x"),
    ),
    "a constant for each column": Row(
        ("k of shape [6] is no term for each channel",),
        branches(f"{K3}  s = Sum (a, x, k)", "float[4,4,3,3] w, float[6] k"),
    ),
    "a factor for each column": Row(
        ("d acts on another axis of c than the channels",),
        branches(f"{K3}  {C1}  d = Mul (c, k)  s = Add (a, d)", f"{W}, float[6] k"),
    ),
    "norm that trains": Row(
        ("training_mode=1",),
        branches(
            f"{K3}  {C1}  d = BatchNormalization <training_mode=1> (c, g1, b1, m1, v1)"
            "  s = Add (a, d)",
            f"{W}, {norm('1')}",
        ),
    ),
    "weight of an input": Row(
        (),
        branches(f"{K3}  {C1}  s = Add (a, c)", "float[4,4,1,1] u").replace(
            "agraph (", "agraph (float[4,4,3,3] w, "
        ),
    ),
    "branches of two tensors": Row(
        (),
        branches(f"z = Tanh (x)  {K3}  c = Conv (z, u)  s = Add (a, c)", W),
    ),
    "no Conv": Row((), branches(f"{bn('i', 'x', '1')}  s = Add (x, i)", norm("1"))),
    "one branch": Row((), branches(f"{K3}  s = Sum (a)", "float[4,4,3,3] w")),
    "an old Add that broadcasts": Row(
        (),
        branches(f"{K3}  {C1}  s = Add <broadcast=1> (a, c)", W),
        opset=6,
    ),
    "an activation in between": Row((), branches(f"{K3}  {C1}  d = Relu (c)  s = Add (a, d)", W)),
}


@pytest.mark.parametrize("case", STAYS)
def test_stays(case: str) -> None:
    row = STAYS[case]
    model = filled(parsed(row.text, opset=row.opset, dtype=row.dtype))
    merged, after = merged_of(model)
    assert not merged.merges
    assert after.SerializeToString() == model.SerializeToString()
    reasons = [block.reason for block in merged.unmerged]
    assert len(reasons) == bool(row.words), reasons
    for word in row.words:
        assert word in reasons[0]


NUMBERS: dict[str, tuple[dict[str, float], str, str]] = {
    "beyond float16": ({"w": 60000, "u": 60000}, "float16", "weight of 120000, beyond float16"),
    "bias beyond float16": ({"k": 60000, "l": 60000}, "float16", "bias of 120000, beyond float16"),
    "NaN": ({"w": np.nan}, "float", "not finite"),
    "infinite": ({"l": np.inf}, "float", "not finite"),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_numbers(case: str) -> None:
    values, dtype, words = NUMBERS[case]
    text = branches(
        "a = Conv (x, w, k)  c = Conv (x, u, l)  s = Add (a, c)",
        "float[4,4,3,3] w, float[4,4,3,3] u, float[4] k, float[4] l",
    )
    model = with_values(filled(parsed(text, dtype=dtype)), **values)
    merged, _ = merged_of(model)
    assert [words in block.reason for block in merged.unmerged] == [True]


def test_subnormal_sums_become_zero() -> None:
    text = branches(
        "a = Conv (x, w)  c = Conv (x, u)  s = Sub (a, c)", "float[4,4,1,1] w, float[4,4,1,1] u"
    )
    model = with_values(filled(parsed(text)), w=1.5e-38, u=1e-38)
    merged, _ = merged_of(model)
    assert merged.merges[0].outcome.flushed == 16


NORMED = branches(
    f"[k3] {K3}  [n3] {bn('b', 'a', '1')}  [k1] {C1}  [n1] {bn('d', 'c', '2')}  e = Add (b, d)"
    f"  [last] {bn('s', 'e', '3')}",
    f"{W}, {norm('1')}, {norm('2')}, {norm('3')}",
)
SELECTED = {
    "skip one": (Selection(skip=("n1",)), "n1 matches --skip n1", []),
    "only others": (Selection(only=("n3",)), "matches no --only pattern", []),
    "only all": (Selection(only=("n?", "last")), "", ["n3", "n1", "last"]),
    "skip the last": (Selection(skip=("last",)), "last matches --skip last", ["n3", "n1"]),
}


@pytest.mark.parametrize("case", SELECTED)
def test_norms_that_the_user_keeps(case: str) -> None:
    selection, words, norms = SELECTED[case]
    merged, _ = merged_of(filled(parsed(NORMED)), selection=selection)
    assert [norm.norm for merge in merged.merges for norm in merge.norms] == norms
    assert [words in block.reason for block in merged.unmerged] == [True] * bool(words)


def test_overridable_weights_stay() -> None:
    model = filled(parsed(branches(f"{K3}  {C1}  s = Add (a, c)", W)))
    model.graph.input.extend(
        parsed("g (float[4,4,3,3] w) => (float[4,4,3,3] z) { z = Relu (w) }").graph.input
    )
    merged, _ = merged_of(model)
    assert not merged.merges


def test_off_unless_told() -> None:
    model = filled(parsed(NORMED))
    report = bnfold.fold(model, verify=False).report
    assert (report.merged, report.unmerged) == ((), ())
    assert report.nodes_after > 2


TRAINING = {
    "opset 17": (
        "BatchNormalization <training_mode=1> (c, g1, b1, m1, v1)",
        17,
    ),
    "opset 9": ("BatchNormalization (c, g1, b1, m1, v1)", 9),
    "opset 6": ("BatchNormalization (c, g1, b1, m1, v1)", 6),
}


@pytest.mark.parametrize("case", TRAINING)
def test_training_mode_on_request(case: str) -> None:
    norm_call, opset = TRAINING[case]
    outputs = "d, om, ov, sm, sv" if case == "opset 9" else "d"
    text = branches(f"{K3}  {C1}  {outputs} = {norm_call}  s = Sum (a, d)", f"{W}, {norm('1')}")
    model = filled(parsed(text, opset=opset))
    merged, _ = merged_of(model)
    assert not merged.merges
    merged, after = merged_of(model, assume_inference=True)
    assert [n.op_type for n in after.graph.node] == ["Conv", "Relu"]
    assert [norm.assumed_inference for norm in merged.merges[0].norms] == [True]

"""InstanceNormalization, GroupNormalization and LayerNormalization take up a map behind them."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support_linear import NORM, check_folds, check_kept, graph, model_of
from tests.support_models import constant, with_values

IMAGE = "float[2,4,6,5] x"
MAP = "d = Mul (c, s)  y = Add (d, t)"
WEIGHTS = "float[4] w, float[4] b0"

FOLDS = {
    "InstanceNormalization": (
        graph(f"c = InstanceNormalization (x, w, b0)  {NORM}", WEIGHTS, x=IMAGE),
        "InstanceNormalization",
    ),
    "InstanceNormalization, an epsilon, a chain": (
        graph(
            f"c = InstanceNormalization <epsilon = 0.1> (x, w, b0)  {MAP}",
            f"{WEIGHTS}, float[4,1,1] s, float[4,1,1] t",
            x=IMAGE,
        ),
        "InstanceNormalization",
    ),
    "GroupNormalization": (
        graph(f"c = GroupNormalization <num_groups = 2> (x, w, b0)  {NORM}", WEIGHTS, x=IMAGE),
        "GroupNormalization",
    ),
    "GroupNormalization of a double, behind Identity": (
        graph(
            f"i = GroupNormalization <num_groups = 2, stash_type = 11> (x, w, b0)  "
            f"c = Identity (i)  {NORM}",
            WEIGHTS,
            x=IMAGE,
        ),
        "GroupNormalization",
    ),
    "LayerNormalization": (
        graph(
            f"c = LayerNormalization (x, w, b0)  {MAP}",
            f"{WEIGHTS}, float[4] s, float[4] t",
            x="float[2,3,4] x",
        ),
        "LayerNormalization",
    ),
    "LayerNormalization without a bias": (
        graph(
            f"c = LayerNormalization (x, w)  {MAP}",
            "float[4] w, float[4] s, float[4] t",
            x="float[2,3,4] x",
        ),
        "LayerNormalization",
    ),
    "LayerNormalization without a bias, scaled only": (
        graph("c = LayerNormalization (x, w)  y = Mul (c, s)", "float[4] w, float[4] s", x=IMAGE)
        .replace("[4] w", "[5] w")
        .replace("[4] s", "[5] s"),
        "LayerNormalization",
    ),
    "LayerNormalization over three axes": (
        graph(
            f"c = LayerNormalization <axis = 1> (x, w, b0)  {MAP}",
            "float[1,5] w, float[5] b0, float[5] s, float[5] t",
            x=IMAGE,
        ),
        "LayerNormalization",
    ),
    "LayerNormalization, Transpose, BatchNormalization": (
        graph(
            f"n = LayerNormalization (x, w, b0)  c = Transpose <perm = [0,2,1]> (n)  {NORM}",
            WEIGHTS,
            x="float[2,3,4] x",
        ),
        "LayerNormalization Transpose",
    ),
    "LayerNormalization whose mean is an output": (
        graph(
            f"c, mean = LayerNormalization (x, w, b0)  {MAP}",
            f"{WEIGHTS}, float[4] s, float[4] t",
            x="float[2,3,4] x",
            y="float[j,k,l] y, float[j,k,1] mean",
        ),
        "LayerNormalization",
    ),
    "InstanceNormalization whose bias is computed": (
        graph(
            f"b0 = MatMul (z, h)  c = InstanceNormalization (x, w, b0)  {NORM}",
            "float[4] w, float[3,4] h",
            x=f"{IMAGE}, float[3] z",
        ),
        "MatMul Add InstanceNormalization",
    ),
}

KEPT = {
    "the scale is computed": (
        "weight-not-constant",
        graph(
            f"c = InstanceNormalization (x, w, b0)  {NORM}", "float[4] b0", x=f"{IMAGE}, float[4] w"
        ),
    ),
    "the bias is an input": (
        "weight-not-constant",
        graph(
            f"c = InstanceNormalization (x, w, b0)  {NORM}", "float[4] w", x=f"{IMAGE}, float[4] b0"
        ),
    ),
    "the bias of a LayerNormalization is an input": (
        "weight-not-constant",
        graph(
            f"c = LayerNormalization (x, w, b0)  {MAP}",
            "float[4] w, float[4] s, float[4] t",
            x="float[2,3,4] x, float[4] b0",
        ),
    ),
    "no bias": (
        "malformed-node",
        graph(f"c = InstanceNormalization (x, w)  {NORM}", "float[4] w", x=IMAGE),
    ),
    "a scale of two axes": (
        "axis-mismatch",
        graph(
            f"c = LayerNormalization <axis = 1> (x, w)  {MAP}",
            "float[3,4] w, float[4] s, float[4] t",
            x="float[2,3,4] x",
        ),
    ),
    "a norm of another axis": (
        "axis-mismatch",
        graph(f"c = LayerNormalization (x, w)  {NORM}", "float[4] w", x="float[2,4,4] x"),
    ),
    "a scale of one value": (
        "channel-mismatch",
        graph(
            f"c = LayerNormalization (x, w)  {MAP}",
            "float[1] w, float[4] s, float[4] t",
            x="float[2,3,4] x",
        ),
    ),
    "another number of channels": (
        "channel-mismatch",
        graph(
            f"c = LayerNormalization (x, w, b0)  {MAP}",
            "float[4] w, float[1] b0, float[4] s, float[4] t",
            x="float[2,3,4] x",
        ),
    ),
    "an unknown attribute": (
        "unknown-attribute",
        graph(f"c = InstanceNormalization <axis = 1> (x, w, b0)  {NORM}", WEIGHTS, x=IMAGE),
    ),
    "in front of it": (
        "not-through",
        graph(
            "c = BatchNormalization (x, g, b, m, v)  y = InstanceNormalization (c, w, b0)",
            WEIGHTS,
            x=IMAGE,
        ),
    ),
}

PER_GROUP = graph(
    f"c = GroupNormalization <num_groups = 2> (x, w, b0)  {NORM}",
    "float[2] w, float[2] b0",
    x=IMAGE,
)


@pytest.mark.parametrize(("text", "left"), FOLDS.values(), ids=FOLDS)
def test_folds(text: str, left: str) -> None:
    check_folds(text, left)


@pytest.mark.parametrize(("code", "text"), KEPT.values(), ids=KEPT)
def test_kept(code: str, text: str) -> None:
    check_kept(text, code)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2), st.integers(0, 99), st.booleans())
def test_any_shape(groups: int, size: int, spatial: int, seed: int, grouped: bool) -> None:
    channels = groups * size
    axes = ",".join(["2", str(channels), *["4", "3"][:spatial]])
    kind = f"GroupNormalization <num_groups = {groups}>" if grouped else "InstanceNormalization"
    if spatial == 0:
        kind = f"GroupNormalization <num_groups = {groups}>"
    declared = f"float[{channels}] w, float[{channels}] b0"
    text = graph(
        f"c = {kind} (x, w, b0)  {NORM}", declared, x=f"float[{axes}] x", channels=channels
    )
    check_folds(text, kind.split()[0], seed=seed)


@pytest.mark.parametrize("opset", [6, 12, 17, 22])
def test_opsets(opset: int) -> None:
    text = graph(f"c = InstanceNormalization (x, w, b0)  {MAP}", WEIGHTS, x=IMAGE)
    text = text.replace("b0>", "b0, float[1] s, float[1] t>")
    if opset < 7:
        text = text.replace("Mul (", "Mul <broadcast = 1> (").replace(
            "Add (", "Add <broadcast = 1> ("
        )
    check_folds(text, "InstanceNormalization", opset=opset)


def test_group_normalization_of_opset_18_has_a_scale_for_each_group() -> None:
    """There only a map that is the same within each group folds."""

    def alike(model: onnx.ModelProto) -> onnx.ModelProto:
        pairs = {"g": [2, 2, -3, -3], "b": [1, 1, 2, 2], "m": [0, 0, 5, 5], "v": [1, 1, 4, 4]}
        return with_values(model, **pairs)

    check_kept(PER_GROUP, "channel-mismatch", "4 channels", opset=18)
    check_folds(PER_GROUP, "GroupNormalization", opset=18, change=alike)
    one = PER_GROUP.replace(NORM, "y = Mul (c, s)").replace("b0>", "b0, float[1] s>")
    check_folds(one, "GroupNormalization", opset=18)


def test_numbers_by_hand() -> None:
    """The scale takes the factor, the bias the factor and the shift."""
    text = graph(
        f"c = LayerNormalization (x, w, b0)  {MAP}",
        f"{WEIGHTS}, float[4] s, float[4] t",
        x="float[3,4] x",
    )
    import bnfold

    model = with_values(
        model_of(text), w=[1, 2, 3, 4], b0=[1, 1, 2, 2], s=[2, -1, 4, 0], t=[0, 0, 1, 5]
    )
    folded = bnfold.fold(model).model
    (node,) = folded.graph.node
    assert constant(folded, node.input[1]).tolist() == [2, -2, 12, 0]
    assert constant(folded, node.input[2]).tolist() == [2, -1, 9, 5]

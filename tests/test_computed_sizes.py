"""Shapes that follow from sizes which constant expressions compute, whatever the opset."""

from __future__ import annotations

import onnx
import pytest

import bnfold
from bnfold.onnxgraph.index import Index
from bnfold.onnxgraph.load import load
from bnfold.onnxgraph.types import Types
from tests.support_models import filled, norm_parameters, op_types, parsed

SIZES = {"n": 2, "three": 3, "four": 4, "all": -1, "h": 5}


def shuffled(opset: int, ir: int = 8) -> onnx.ModelProto:
    """A channel shuffle and a norm, with sizes one by one as torch writes them without folding."""
    made = "Unsqueeze <axes = [0]> ({})" if opset < 13 else "Unsqueeze ({}, zero)"
    vectors = " ".join(f"{name}1 = {made.format(name)}" for name in SIZES)
    numbers = ", ".join(f"int64 {name} = {{{size}}}" for name, size in SIZES.items())
    text = f"""
        net (float[2, 3, 5, 5] x) => (float[2, 12, 5, 5] y)
        <{norm_parameters(12)}, float[12, 3, 1, 1] w, {numbers}, int64[1] zero = {{0}}> {{
            {vectors}
            parted = Concat <axis = 0> (n1, three1, four1, h1, h1)
            joined = Concat <axis = 0> (n1, all1, h1, h1)
            c = Conv (x, w)
            p = Reshape (c, parted)
            t = Transpose <perm = [0, 2, 1, 3, 4]> (p)
            j = Reshape (t, joined)
            y = BatchNormalization (j, g, b, m, v)
        }}"""
    return filled(parsed(text, opset=opset, ir=ir))


@pytest.mark.parametrize(("opset", "ir"), [(11, 3), (11, 6), (13, 7), (14, 8), (17, 8)])
def test_a_norm_folds_through_reshapes_of_computed_sizes(opset: int, ir: int) -> None:
    result = bnfold.fold(shuffled(opset, ir))
    assert not result.report.kept
    assert "BatchNormalization" not in op_types(result.model)
    assert result.report.checked is not None
    assert not result.report.checked.unchecked
    assert result.verify(runtime=False).is_same


def shape_of(body: str, opset: int = 13) -> object:
    """What is known of the shape of k."""
    text = f"""
        net (float[2, 3, 6, 4] x, int64[1] given) => (float y)
        <int64[1] two = {{2}}, int64[1] all = {{-1}}, int64[1] zero = {{0}}, float[1] one> {{
            {body} y = Identity (k)
        }}"""
    index = Index(load(filled(parsed(text, opset=opset))))
    return Types(index).shape(index.main.tensors["k"])


HALF = "s = Shape (x) q = Div (s, two)"


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (f"{HALF} k = Expand (one, q)", (1, 1, 3, 2)),
        (f"{HALF} z = ConstantOfShape (q) k = Relu (z)", (1, 1, 3, 2)),
        ("o = Mod (two, two) k = Slice (x, o, two, two)", (2, 3, 2, 4)),
        ("t = Mul (two, two) r = Concat <axis = 0> (t, all) k = Reshape (x, r)", (4, 36)),
        ("a = Sub (two, two) k = Unsqueeze (x, a)", (1, 2, 3, 6, 4)),
        ("t = Sub (two, given) r = Concat <axis = 0> (t, all) k = Reshape (x, r)", None),
    ],
)
def test_shapes_of_computed_sizes(body: str, shape: object) -> None:
    assert shape_of(body) == shape


def test_sizes_that_a_shape_tells_lead_to_further_ones() -> None:
    """Each Reshape takes the shape of what the one before makes, as x.flatten().view_as(x) does."""
    steps = "".join(
        f"f{at} = Concat <axis = 0> (all, two) r{at} = Reshape (k{at}, f{at}) "
        f"s{at} = Shape (k{at}) k{at + 1} = Reshape (r{at}, s{at}) "
        for at in range(20)
    )
    assert shape_of(f"k0 = Relu (x) {steps} k = Relu (k20)") == (2, 3, 6, 4)


def test_the_last_of_many_readers_tells_as_the_first_does() -> None:
    """So the order of the nodes does not count."""
    others = [f"r{at} = Relu (k)" for at in range(9)]
    for at in (0, 5, 9):
        nodes = [*others[:at], "c = MatMul (k, w)", *others[at:]]
        text = f"""net (float[2, 3, M] k) => (float y) <float[4, 5] w> {{
            {" ".join(nodes)} y = Identity (c) }}"""
        index = Index(load(filled(parsed(text))))
        assert Types(index).shape(index.main.tensors["k"]) == (2, 3, 4)

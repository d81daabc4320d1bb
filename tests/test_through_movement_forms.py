"""Operators that move elements: old forms, sequences, unknown sizes, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.through import Spreads
from tests.support_models import filled, parsed
from tests.support_movement import computed, one_node
from tests.support_through import backward, forward, mapped, node_of, random_spread, require_equal


def spread(*shape: int, seed: int = 0) -> Spread:
    return random_spread(shape, seed)


def same(one: Spreads, other: Spreads) -> bool:
    return one.keys() == other.keys() and all(one[at].equals(other[at]) for at in one)


OLD = {
    "Slice": (
        "double[2,5] x | y = Slice <axes=[1], starts=[1], ends=[4]> (x)",
        "double[2,5] x | s = Constant <value_ints=[1]> () e = Constant <value_ints=[4]> () "
        "a = Constant <value_ints=[1]> () y = Slice (x, s, e, a)",
        (5,),
    ),
    "Reshape": (
        "double[2,6] x | y = Reshape <shape=[0,-1,3]> (x)",
        "double[2,6] x | s = Constant <value_ints=[0,-1,3]> () y = Reshape (x, s)",
        (6,),
    ),
    "Tile": (
        "double[2,3] x | n = Constant <value_int=2> () a = Constant <value_int=1> () "
        "y = Tile (x, n, a)",
        "double[2,3] x | n = Constant <value_ints=[1,2]> () y = Tile (x, n)",
        (3,),
    ),
    "Concat": (
        "double[2,3] x | y = Concat (x, x)",
        "double[2,3] x | y = Concat <axis=1> (x, x)",
        (3,),
    ),
}


@pytest.mark.parametrize("kind", OLD)
def test_opset_1(kind: str) -> None:
    """The first version of an operator says the same by other means."""
    old, new, shape = OLD[kind]
    given = {0: spread(*shape)}
    made = forward(one_node(old, 1), kind, given)
    right = forward(one_node(new), kind, given)
    assert not isinstance(made, Refused), made.sentence
    assert not isinstance(right, Refused), right.sentence
    assert same(made, right)
    back, right_back = backward(one_node(old, 1), kind, made), backward(one_node(new), kind, right)
    if kind == "Concat":  # of one map, so its other half is the identity
        assert not isinstance(back, Refused)
        return
    assert not isinstance(back, Refused), back.sentence
    assert not isinstance(right_back, Refused), right_back.sentence
    assert same(back[0], right_back[0])


@pytest.mark.parametrize("form", ["attribute", "input", "equal"])
def test_split_of_opset_1(form: str) -> None:
    """The sizes are an attribute, an input, or equal."""
    text = {
        "attribute": "a, b = Split <axis=1, split=[1,3]> (x)",
        "input": "s = Constant <value_ints=[1,3]> () a, b = Split <axis=1> (x, s)",
        "equal": "a, b = Split <axis=1> (x)",
    }[form]
    made = parsed(f"agraph (double[2,4] x) => (double a, double b) {{ {text} }}", opset=1)
    whole = spread(4)
    found = forward(made, "Split", {0: whole})
    assert not isinstance(found, Refused), found.sentence
    at = 2 if form == "equal" else 1
    assert np.array_equal(found[0].scale, whole.scale[None, :at])
    assert np.array_equal(found[1].shift, whole.shift[None, at:])
    back = backward(made, "Split", {1: found[1]})
    assert not isinstance(back, Refused), back.sentence
    assert np.array_equal(back[0][0].scale[0], [*[1] * at, *whole.scale[at:]])


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("kind", ["DepthToSpace", "SpaceToDepth"])
def test_modes_of_opset_28(kind: str, mode: str) -> None:
    """Both operators have both modes, and they are inverse to each other."""
    other = "SpaceToDepth" if kind == "DepthToSpace" else "DepthToSpace"
    attributes = f'<blocksize=2, mode="{mode}">'
    channels = 8 if kind == "DepthToSpace" else 2
    size = 8 if kind == "DepthToSpace" else 2
    made = one_node(f"double[1,{channels},4,4] x | y = {kind} {attributes} (x)", 28)
    inverse = one_node(
        f"double[1,{10 - channels},{size},{size}] x | y = {other} {attributes} (x)", 28
    )
    given: Spreads = {0: spread(channels, 1, 1)}
    found = forward(made, kind, given)
    assert not isinstance(found, Refused), found.sentence
    there, back = forward(inverse, other, found), backward(made, kind, found)
    assert not isinstance(there, Refused), there.sentence
    assert not isinstance(back, Refused), back.sentence
    assert same(there, given)
    assert same(back[0], given)
    if kind == "DepthToSpace":
        x = np.random.default_rng(1).uniform(-30, 30, (1, 8, 4, 4))
        require_equal(made, kind, {"x": x}, given, found)


RESHAPES = {
    # name: (input, shape, map before, map after or None for a refusal)
    "flatten, batch open": ("N,3,2,2", "0,-1", (3, 1, 1), (12,)),
    "flatten, batch from the right": ("N,3,2,2", "-1,12", (3, 1, 1), (12,)),
    "rows and columns": ("N,L,4", "-1,4", (4,), (4,)),
    "spatial axes merge": ("N,4,H,W", "0,4,-1", (4, 1, 1), (4, 1)),
    "spatial axes merge, copied": ("N,4,H,W", "0,0,-1", (4, 1, 1), (4, 1)),
    "channels part": ("N,4,H,W", "0,2,2,-1,1", (4, 1, 1), (2, 2, 1, 1)),
    "channels part, one size left": ("N,4,H,W", "0,2,2,-1", (4, 1, 1), (2, 2, 1)),
    "copied sizes": ("N,L,6,H", "0,0,2,3,-1", (6, 1), (2, 3, 1)),
    "heads": ("N,L,6", "0,0,2,3", (6,), (2, 3)),
    "heads merge": ("N,L,2,3", "0,0,-1", (2, 3), (6,)),
    "one head axis": ("N,L,2,3", "0,0,6", (2, 1), (6,)),
    "open sizes merge with channels": ("N,3,H,W", "0,-1", (3, 1, 1), None),
    "another size": ("N,3,2,2", "0,-1", (4, 1, 1), None),
    "too many axes": ("3,4", "12", (2, 3, 4), None),
    "ones": ("3,1,4", "3,4,1", (3, 1, 4), (3, 4, 1)),
}


@pytest.mark.parametrize("name", RESHAPES)
def test_reshape(name: str) -> None:
    shape, wanted, before, after = RESHAPES[name]
    text = f"double[{shape}] x | s = Constant <value_ints=[{wanted}]> () y = Reshape (x, s)"
    made = one_node(text)
    given = {0: spread(*before)}
    found = forward(made, "Reshape", given)
    if after is None:
        assert isinstance(found, Refused)
        assert found.code == "not-through"
        return
    assert not isinstance(found, Refused), found.sentence
    assert found[0].equals(Spread(np.ones(after), np.zeros(after))) is False
    x = np.random.default_rng(0).uniform(-30, 30, _sizes(shape))
    require_equal(made, "Reshape", {"x": x}, given, found)
    assert [n for n in found[0].shape if n != 1] == [n for n in after if n != 1]
    back = backward(made, "Reshape", found)
    assert not isinstance(back, Refused), back.sentence
    require_equal(made, "Reshape", {"x": x}, back[0], found)
    assert same(back[0], given)


def _sizes(shape: str) -> list[int]:
    return [int(size) if size.isdigit() else 5 for size in shape.split(",")]


def test_reshape_told_by_a_weight() -> None:
    """Height and width are open, but the Gemm behind knows how many features there are."""
    text = """agraph (double[N,3,H,W] x) => (double[N,2] y) <double[12,2] w> {
        f = Flatten (x)
        y = Gemm (f, w)
    }"""
    made = filled(parsed(text))
    given = spread(3, 1, 1)
    found = forward(made, "Flatten", {0: given})
    assert not isinstance(found, Refused), found.sentence
    assert np.array_equal(found[0].scale.reshape(-1), np.repeat(given.scale.reshape(-1), 4))
    back = backward(made, "Flatten", found)
    assert not isinstance(back, Refused), back.sentence
    assert back[0][0].equals(given)
    uneven = {0: spread(12)}
    refused = backward(made, "Flatten", uneven)
    assert isinstance(refused, Refused)
    assert "not known" in refused.sentence


@pytest.mark.parametrize("opset", [13, 24])
@pytest.mark.parametrize("split", ["2", "list", "1", "none"])
def test_sequences(opset: int, split: str) -> None:
    """A map of the sequence is that of the whole; each part has its share."""
    size = {"2": "s = Constant <value_int=2> ()", "list": "s = Constant <value_ints=[2,3]> ()"}
    text = f"""agraph (double[5,3] x) => (double y) {{
        {size.get(split, "s = Constant <value_int=1> ()")}
        parts = SplitToSequence <axis=0> ({"x" if split == "none" else "x, s"})
        i = Constant <value_int=-1> ()
        y = SequenceAt (parts, i)
    }}"""
    made = parsed(text, opset=opset)
    x = np.random.default_rng(0).uniform(-30, 30, (5, 3))
    first = 2 if split == "list" else 4
    given = spread(5, 1)
    whole = forward(made, "SplitToSequence", {0: given})
    assert not isinstance(whole, Refused), whole.sentence
    part = forward(made, "SequenceAt", whole)
    assert not isinstance(part, Refused), part.sentence
    assert np.array_equal(part[0].scale, given.scale[first:])
    ways = backward(made, "SequenceAt", part)
    assert not isinstance(ways, Refused), ways.sentence
    for way in ways:
        back = backward(made, "SplitToSequence", way)
        assert not isinstance(back, Refused), back.sentence
        inner = computed(made, mapped({"x": x}, ["x"], back[0]))[0]
        outer = mapped({"y": computed(made, {"x": x})[0]}, ["y"], part)["y"]
        np.testing.assert_allclose(inner, outer, rtol=0, atol=1e-12 * 60)
    along = {0: spread(3)}
    ways = backward(made, "SequenceAt", along)
    assert not isinstance(ways, Refused), ways.sentence
    assert same(ways[0], along)
    rest: Spreads = {0: Spread(np.array([[2.0]] * 2 + [[1.0]] * 3), np.zeros((5, 1)))}
    untouched = forward(made, "SequenceAt", rest)
    assert not isinstance(untouched, Refused), untouched.sentence
    assert untouched[0].is_identity


def test_a_map_above_the_limit() -> None:
    """No rule builds an array above it, whatever the node asks for."""
    text = "double[3] x | s = Constant <value_ints=[4000000]> () y = Tile (x, s)"
    found = forward(one_node(text), "Tile", {0: spread(3)})
    assert isinstance(found, Refused)
    assert found.code == "expression-too-large"
    text = "double[3,4000,4000] x | s = Constant <value_ints=[48000000]> () y = Reshape (x, s)"
    found = forward(one_node(text), "Reshape", {0: spread(3, 1, 1)})
    assert isinstance(found, Refused)
    assert found.code == "expression-too-large"
    text = "double[2,9000000] x, double[1,9000000] z | y = Concat <axis=0> (x, z)"
    crossed = forward(one_node(text), "Concat", {0: spread(2, 1)})
    assert not isinstance(crossed, Refused), "only the axis of the Concat gets its full size"


def test_computed_places_along_equal_elements() -> None:
    """Where the map is the same along the axis, it does not matter which elements are taken."""
    made = one_node("double[2,3] x, int64[4,2] i | y = Gather <axis=0> (x, i)")
    given = spread(3)
    found = forward(made, "Gather", {0: given})
    assert not isinstance(found, Refused), found.sentence
    assert found[0].equals(given)
    back = backward(made, "Gather", {0: given})
    assert not isinstance(back, Refused), back.sentence
    assert back[0][0].equals(given)


def test_a_part_that_nothing_reads_may_have_any_map() -> None:
    text = """agraph (double[2,3,4] x) => (double[2,3,2] y) {
        a, b = Split <axis=2> (x)
        y = Identity (a)
    }"""
    given = spread(3, 1)
    made = parsed(text)
    found = backward(made, "Split", {0: given})
    assert not isinstance(found, Refused), found.sentence
    assert found[0][0].equals(given)
    node, _ = node_of(made, "Split")
    assert not node.outputs[1].readers  # type: ignore[union-attr]


def test_one_value_for_a_cut_serves_all_or_the_cut_alone() -> None:
    """Both ways are offered, for other readers of the tensor may want the rest as it was."""
    made = one_node(
        "double[2,5] x | s = Constant <value_ints=[1]> () e = Constant <value_ints=[3]> () "
        "a = Constant <value_ints=[1]> () y = Slice (x, s, e, a)"
    )
    ways = backward(made, "Slice", {0: Spread.one_value(2.0, 1.0)})
    assert not isinstance(ways, Refused), ways.sentence
    assert [way[0].shape for way in ways] == [(1, 1), (1, 5)]
    assert ways[1][0].scale.tolist() == [[1, 2, 2, 1, 1]]

"""Operators that move elements: what a map becomes on the other side, for drawn nodes and maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.through import Spreads
from tests.support_movement import Moved, drawn_spreads
from tests.support_movement_nodes import KINDS
from tests.support_through import backward, forward, require_equal

SEEDS = st.integers(0, 2**32 - 1)
EXAMPLES = settings(max_examples=60, deadline=None)


def drawn(kind: str, seed: int) -> tuple[Moved, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return KINDS[kind](rng), rng


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(SEEDS)
def test_forward(kind: str, seed: int) -> None:
    """Maps of some inputs cross every operator, and become those of the outputs."""
    moved, rng = drawn(kind, seed)
    before = drawn_spreads(rng, moved.data)
    after = forward(moved.model(), kind, before)
    assert not isinstance(after, Refused), after.sentence
    require_equal(moved.model(), kind, moved.feeds, before, after)


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(SEEDS)
def test_backward(kind: str, seed: int) -> None:
    """Maps of some outputs become those of the inputs, in each of the ways that a rule offers.

    An operator that repeats elements may refuse.
    """
    moved, rng = drawn(kind, seed)
    after = drawn_spreads(rng, moved.results())
    ways = backward(moved.model(), kind, after)
    if isinstance(ways, Refused):
        assert not moved.both, ways.sentence
        assert ways.code == "not-through"
        return
    for before in ways:
        require_equal(moved.model(), kind, moved.feeds, before, after)


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(SEEDS)
def test_there_and_back(kind: str, seed: int) -> None:
    """What a map becomes behind an operator can always go back."""
    moved, rng = drawn(kind, seed)
    after = forward(moved.model(), kind, drawn_spreads(rng, moved.data, all_of_them=True))
    assert not isinstance(after, Refused), after.sentence
    ways = backward(moved.model(), kind, after)
    assert not isinstance(ways, Refused), ways.sentence
    for before in ways:
        require_equal(moved.model(), kind, moved.feeds, before, after)


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(SEEDS, st.floats(0, 1))
def test_unknown_sizes(kind: str, seed: int, share: float) -> None:
    """Where sizes are not written, a rule refuses or is still right."""
    moved, rng = drawn(kind, seed)
    hidden = {(at, axis) for at, x in enumerate(moved.data) for axis in range(x.ndim)}
    hidden = {place for place in sorted(hidden) if rng.random() < share}
    model = moved.model(lambda at, axis: (at, axis) in hidden)
    before = drawn_spreads(rng, moved.data)
    found = forward(model, kind, before)
    if not isinstance(found, Refused):
        require_equal(moved.model(), kind, moved.feeds, before, found)
    after = drawn_spreads(rng, moved.results())
    ways = backward(model, kind, after)
    for way in [] if isinstance(ways, Refused) else ways:
        require_equal(moved.model(), kind, moved.feeds, way, after)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"Expand", "Cast", "CastLike"}))
@given(SEEDS)
@settings(max_examples=10, deadline=None)
def test_unknown_rank(kind: str, seed: int) -> None:
    """Without the rank of anything there is no axis to speak of."""
    moved, _ = drawn(kind, seed)
    model = moved.model()
    for value in model.graph.input:
        value.type.tensor_type.ClearField("shape")
    spread: Spreads = {0: Spread(np.full((2, 1), 2.0), np.zeros((2, 1)))}
    for found in (forward(model, kind, spread), backward(model, kind, spread)):
        if isinstance(found, Refused):
            assert found.code in ("unknown-rank", "not-through", "malformed-node")
            continue
        # Some attributes tell the rank: a perm, the number of repeats.
        assert kind in ("Transpose", "Tile", "DepthToSpace", "SpaceToDepth")


@pytest.mark.parametrize("kind", KINDS)
@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_a_map_of_more_axes_than_the_tensor(kind: str, seed: int) -> None:
    """It would change the shape, so it is refused, or left as it is for the next to refuse."""
    moved, rng = drawn(kind, seed)
    shape = (3, *[1] * moved.data[0].ndim)
    spread = Spread(rng.uniform(1, 2, shape), np.zeros(shape))
    found = forward(moved.model(), kind, {0: spread})
    if kind in ("Expand", "Cast", "CastLike"):
        assert not isinstance(found, Refused)
        assert len(found[0].shape) > moved.data[0].ndim
    else:
        assert isinstance(found, Refused)
        assert found.code == "not-through"
    shape = (3, *[1] * moved.results()[0].ndim)
    spread = Spread(rng.uniform(1, 2, shape), np.zeros(shape))
    ways = backward(moved.model(), kind, {0: spread})
    if kind not in ("Cast", "CastLike"):
        assert isinstance(ways, Refused)
        assert ways.code == "not-through"

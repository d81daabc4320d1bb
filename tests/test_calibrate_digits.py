"""Networks trained on digits get their accuracy back: the claims of docs/calibrate.md."""

from __future__ import annotations

import pytest

from tests.support_digits import DAMAGES, measured, networks

DAMAGE = {damage.name.split(":")[0]: damage for damage in DAMAGES}


@pytest.mark.parametrize(
    ("name", "damage", "at_most", "at_least"),
    [
        ("conv_before", "statistics reset to 0 and 1", 75, 97),
        ("mlp_after", "statistics disturbed", 60, 95),
        ("conv_before", "darker", 60, 97),
        ("mlp_after", "brighter", 70, 95),
    ],
)
def test_accuracy_comes_back(name: str, damage: str, at_most: float, at_least: float) -> None:
    """On digits that were held out, in per cent."""
    scores = measured(DAMAGE[damage], networks()[name], seed=0)
    before = scores.pop("before")
    assert before.accuracy < at_most
    assert len(scores) == 4
    for way, after in scores.items():
        assert after.accuracy > at_least, way
        assert after.loss < before.loss, way

"""Small pairs are compared together: nothing is lost by that, and the right fold is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bnfold
from bnfold.checking import pairs, regions
from bnfold.checking.compare import largest_difference
from bnfold.errors import VerificationError
from bnfold.folding import together
from tests.support_models import Array, filled, norm_parameters, parsed

LAYERS = 5


def chain(dtype: str = "float", group: int = 1, epsilons: tuple[float, ...] = (1e-5,)) -> Any:
    """Convolutions of four channels, each with a norm behind it."""
    held = [f"{dtype}[4,{4 // group},3,3] w{at}, {dtype}[4] b{at}" for at in range(LAYERS)]
    body = " ".join(
        f"c{at} = Conv <group={group}, pads=[1,1,1,1]> (r{at}, w{at}, b{at}) "
        f"n{at} = BatchNormalization <epsilon={epsilons[at % len(epsilons)]}> (c{at}, g, b, m, v) "
        f"r{at + 1} = Relu (n{at})"
        for at in range(LAYERS)
    )
    parameters = norm_parameters(4).replace("float", dtype)
    text = f"""net ({dtype}[1,4,5,5] r0) => ({dtype}[1,4,5,5] y)
        <{parameters}, {", ".join(held)}> {{ {body} y = Identity (r{LAYERS}) }}"""
    return filled(parsed(text))


def test_they_are_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    compare = largest_difference

    def noted(region: Any) -> float:
        seen.append(region.weight.shape[0] // 4)
        return compare(region)

    monkeypatch.setattr(regions, "largest_difference", noted)
    report = bnfold.fold(chain()).report
    assert seen == [LAYERS]
    assert report.checked is not None
    assert report.checked.regions == LAYERS
    assert 0 < report.checked.max_ulp <= 0.5


@pytest.mark.parametrize("dtype", ["float", "double", "float16"])
@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("epsilons", [(1e-5,), (1e-5, 1e-3)])
def test_together_is_as_alone(
    dtype: str, group: int, epsilons: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = chain(dtype, group, epsilons)
    together = bnfold.fold(model).report.checked
    monkeypatch.setattr(pairs.Pairs, "read", lambda self, fold: None)
    alone = bnfold.fold(model).report.checked
    assert together is not None
    assert alone is not None
    assert together.regions == alone.regions == LAYERS
    assert together.max_ulp == pytest.approx(alone.max_ulp, rel=1e-3)


@pytest.mark.parametrize("is_weight", [True, False])
@pytest.mark.parametrize("wrong", range(LAYERS))
def test_the_wrong_one_of_many_is_named(
    wrong: int, is_weight: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    right: Any = together.rounded  # type: ignore[attr-defined]
    up = np.float32(np.inf)

    def changed(exact: Array, dtype: Any) -> Array:
        values: Array = right(exact, dtype).copy()
        of_one = values[wrong].reshape(-1)
        if is_weight == (of_one.size > 4):
            of_one[-1] = np.nextafter(np.nextafter(of_one[-1], up), up)
        return values

    model = chain()
    monkeypatch.setattr(together, "rounded", changed)
    with pytest.raises(VerificationError, match=rf"the fold of n{wrong} into c{wrong} failed"):
        bnfold.fold(model)

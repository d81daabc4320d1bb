"""Every wrong fold of the mutation suite is rejected, every right one accepted.

``benchmarks/verify_rates.py`` tries all mutants of all families; here each mutation occurs in some
families. The deep one, of fifty layers, gets a handful, in its first, middle and last layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from zlib import crc32

import onnx
import pytest

from bnfold.checking.outcome import MULTIPLE
from tests.support_mutants import FAMILIES, MUTATIONS, Mutation, case_of, is_real
from tests.support_verify import folded_of, judged

SEED = 0

# One of so many mutations is tried in a family; of those not listed one of four.
SHARE = {"one": 1, "float16": 4, "plain": 16, "residual": 6, "fresh": 5}

# In float16, errors no larger than what a fold in float16 arithmetic costs, which is right: about
# a unit in the last place (1/1000) of each parameter. How large they are, relative to it:
INDISTINGUISHABLE = {
    ("float16", "epsilon-of-keras"),  # epsilon 1e-3 for 1e-5: up to 1/1500 of the scale
    ("float16", "epsilon-of-keras@1"),
    ("float16", "channel-off-by-a-thousandth@2"),  # 1/1000
    # The output that this weight is for is negative on all rows but a few, and Relu hides it.
    ("gemm", "weight-off-by-a-hundredth@2"),
}
DEEP = ("bias-off-by-1e-4", "weight-off-by-a-hundredth")


def is_chosen(family: str, name: str) -> bool:
    if family == "deep":
        return name in DEEP
    known = {(f, mutant.split("@")[0]) for f, mutant in INDISTINGUISHABLE}
    by_chance = crc32(f"{family} {name}".encode()) % SHARE.get(family, 4) == 0
    return (family, name) in known or by_chance or home(name) == family


@cache
def home(name: str) -> str | None:
    """The first family in which a mutation makes a mutant: there it is always tried."""
    mutation = MUTATIONS[name]
    for family in FAMILIES:
        if mutation.families(family) and next(mutants_of(family, name, mutation), None):
            return family
    return None


def mutants_of(
    family: str, name: str, mutation: Mutation
) -> Iterator[tuple[str, onnx.ModelProto, onnx.ModelProto]]:
    case = case_of(family, SEED)
    for place, original, mutant in mutation.make(name, case):
        if is_real(case, mutant, mutation.kind):
            yield f"{name}{place}", original, mutant


@cache
def accepted(family: str) -> tuple[set[str], set[str]]:
    """The names of the mutants that were tried, and of those that were accepted."""
    tried, passed = set(), set()
    for name, mutation in MUTATIONS.items():
        if mutation.families(family) and is_chosen(family, name):
            for label, original, mutant in mutants_of(family, name, mutation):
                tried.add(label)
                if judged(original, mutant).is_same:
                    passed.add(label)
    return tried, passed


@pytest.mark.parametrize("family", list(FAMILIES))
def test_wrong_folds_are_rejected(family: str) -> None:
    tried, passed = accepted(family)
    assert len(tried) >= 6
    known = {name for f, name in INDISTINGUISHABLE if f == family}
    assert passed - known == set(), "accepted, though wrong"
    assert known - passed == set(), "rejected by now: take it off the table"


def test_every_mutation_is_tried() -> None:
    tried = {name.split("@")[0] for family in FAMILIES for name in accepted(family)[0]}
    assert tried == set(MUTATIONS)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_right_folds_are_accepted(family: str, seed: int) -> None:
    case = case_of(family, seed)
    for folded in (case.right, folded_of(case.original)):
        report = judged(case.original, folded)
        assert report.is_same, report.verdict
        assert all(norm.is_same for norm in report.norms)
        assert all(output.units < MULTIPLE for output in report.outputs)

"""The mutants are what they say, without a checker that judges them."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

import numpy as np
import onnx
import pytest

from tests.support_float64 import as_float64, differences, evaluate
from tests.support_mutants import (
    FAMILIES,
    MUTATIONS,
    case_of,
    feeds_of,
    fold_right,
    is_real,
    mutants,
)
from tests.support_mutants_fold import sites
from tests.support_mutants_layers import distance

QUICK = [family for family in FAMILIES if family != "deep"]
by_family = pytest.mark.parametrize("family", list(FAMILIES))
by_quick_family = pytest.mark.parametrize("family", QUICK)

Made = tuple[list[tuple[str, onnx.ModelProto, onnx.ModelProto]], Counter[str]]


@cache
def made(family: str) -> Made:
    dropped: Counter[str] = Counter()
    return list(mutants(family, 0, dropped)), dropped


def mutation_of(name: str) -> str:
    return name.split("@")[0]


def test_there_are_many_mutations_with_names() -> None:
    assert len(MUTATIONS) >= 90
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in MUTATIONS)


def test_every_mutation_makes_a_mutant_somewhere() -> None:
    seen = {mutation_of(name) for family in QUICK for name, _, _ in made(family)[0]}
    assert seen == set(MUTATIONS)


@by_family
@pytest.mark.parametrize("seed", [0, 1])
def test_values_neither_explode_nor_vanish(family: str, seed: int) -> None:
    model = case_of(family, seed).original
    for output in evaluate(model, feeds_of(model, seed)):
        assert 0.05 < output.std() < 20


@by_family
def test_the_right_fold_computes_what_the_model_does(family: str) -> None:
    exact = as_float64(case_of(family, 0).original)
    feeds = feeds_of(exact, 0)
    folded = fold_right(exact)
    for wanted, found in zip(evaluate(exact, feeds), evaluate(folded, feeds), strict=True):
        assert np.abs(wanted - found).max() <= 1e-11 * np.abs(wanted).max()


@by_quick_family
def test_the_right_fold_rounds_each_parameter_once(family: str) -> None:
    case = case_of(family, 0)
    off = distance(case.original, case.right)
    assert off is not None
    assert off.weight <= 0.5 + 1e-6
    assert off.bias <= 0.5 + 1e-6
    (dtype,) = {site.dtype for site in case.sites}
    found = differences(
        case.original,
        case.right,
        feeds_of(case.original, 0),
        epsilon=float(np.finfo(dtype).eps),
        roundings=len(case.sites),
    )
    assert all(ratio <= 1 for ratio, _ in found)


@by_family
@pytest.mark.parametrize("kind", ["values", "graph"])
def test_the_right_fold_is_no_mutant(family: str, kind: str) -> None:
    case = case_of(family, 0)
    assert not is_real(case, case.right, kind)


def test_most_norms_are_folded() -> None:
    left = {
        family: sum(node.op_type == "BatchNormalization" for node in case.right.graph.node)
        for family, case in ((family, case_of(family, 0)) for family in FAMILIES)
    }
    assert {family: count for family, count in left.items() if count} == {
        "residual": 1,
        "forward": 1,
    }
    assert len(sites(case_of("deep", 0).original)) == 50


@by_quick_family
def test_every_mutant_is_a_valid_model(family: str) -> None:
    for name, original, mutant in made(family)[0]:
        for model in (original, mutant):
            try:
                onnx.checker.check_model(model, full_check=True)
            except onnx.checker.ValidationError as error:
                pytest.fail(f"{name}: {error}")


@by_quick_family
def test_mutants_of_values_differ_from_the_right_fold(family: str) -> None:
    right = parameters(case_of(family, 0).right)
    for name, original, mutant in made(family)[0]:
        if MUTATIONS[mutation_of(name)].kind == "values":
            off = distance(original, mutant)
            assert off is None or off.most > 1.5, name
            assert parameters(mutant) != right, name


@by_quick_family
def test_no_mutant_is_the_right_fold(family: str) -> None:
    case = case_of(family, 0)
    for name, original, mutant in made(family)[0]:
        assert mutant != case.right or original != case.original, name


@by_quick_family
def test_what_changes_nothing_is_dropped_and_counted(family: str) -> None:
    found, dropped = made(family)
    assert not dropped.keys() & {name for name, _, _ in found}
    assert len(found) >= 2 * dropped.total() or family == "fresh"


def test_an_epsilon_too_small_for_float16_is_no_mutant() -> None:
    assert "epsilon-left-out" in made("float16")[1]
    assert "epsilon-left-out" in {name for name, _, _ in made("unit-variance")[0]}


def test_mutants_are_the_same_every_time() -> None:
    case_of.cache_clear()
    again = [(name, m.SerializeToString()) for name, _, m in mutants("plain", 0)]
    assert again == [(name, m.SerializeToString()) for name, _, m in made("plain")[0]]
    assert again != [(name, m.SerializeToString()) for name, _, m in mutants("plain", 1)]


def test_the_first_the_middle_and_the_last_layer_of_a_deep_model() -> None:
    case = case_of("deep", 0)
    for name in ("epsilon-left-out", "norm-dropped", "bias-infinite"):
        made_here = MUTATIONS[name].make(name, case)
        assert [n for n, _, _ in made_here if n] == ["@0", "@25", "@49"]


@pytest.mark.parametrize("family", ["one", "gemm"])
def test_making_mutants_leaves_models_alone(family: str) -> None:
    case = case_of(family, 3)
    before = case.original.SerializeToString(), case.right.SerializeToString()
    list(mutants(family, 3))
    assert before == (case.original.SerializeToString(), case.right.SerializeToString())


def parameters(model: onnx.ModelProto) -> list[bytes]:
    return [tensor.SerializeToString() for tensor in model.graph.initializer]

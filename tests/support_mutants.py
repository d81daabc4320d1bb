"""Wrong folds by name, for whatever claims to tell a right fold from a wrong one.

A mutant is dropped, not passed, if it is none: if its layers are the exact fold's within the
rounding of what is stored, or if no input shows a difference.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple
from zlib import crc32

import numpy as np
import onnx

from tests.support_float64 import evaluate
from tests.support_models import Array, Feeds
from tests.support_mutants_defects import DEFECTS
from tests.support_mutants_families import FAMILIES
from tests.support_mutants_fold import Norm, Params, Site, applied, exact, fold, fold_right, sites
from tests.support_mutants_formulas import (
    NORM_FORMULAS,
    Change,
    Rng,
    ScaleShift,
)
from tests.support_mutants_graphs import GRAPH_EDITS, Edit
from tests.support_mutants_interface import INTERFACE_EDITS, half_precision_inside
from tests.support_mutants_layers import distance
from tests.support_mutants_recipes import LAYER_FORMULAS, computed_in_float16

__all__ = ["FAMILIES", "MUTATIONS", "Mutation", "fold_right", "is_real", "mutants"]

Mutant = tuple[str, onnx.ModelProto, onnx.ModelProto]


@dataclass(frozen=True)
class Case:
    """One model of a family and its right fold."""

    family: str
    seed: int
    original: onnx.ModelProto
    right: onnx.ModelProto
    sites: tuple[Site, ...]

    @cached_property
    def shown(self) -> list[tuple[Feeds, list[Array]]]:
        """What the right fold makes of data of several sizes."""
        feeds = [feeds_of(self.right, n, size) for n, size in enumerate((1.0, 30.0, 0.0))]
        return [(data, evaluate(self.right, data)) for data in feeds]

    def rng(self, name: str, place: int = 0) -> Rng:
        return np.random.default_rng([self.seed, place, crc32(f"{self.family} {name}".encode())])


class Mutation(NamedTuple):
    """A way to fold wrongly.

    Attributes:
        make: the mutants of a case: what comes behind the mutation's name, original, mutant.
        kind: ``values`` changes parameters, ``graph`` what is computed from them, ``interface``
            what no comparison of float64 values shows.
        families: that it can apply to; in each of them it need not for every seed.
    """

    make: Callable[[str, Case], Iterator[Mutant]]
    kind: str
    families: Callable[[str], bool]


def _everywhere_and_at_one(change: Change) -> Callable[[str, Case], Iterator[Mutant]]:
    """A mistake of a tool in every layer, and in one."""

    def make(name: str, case: Case) -> Iterator[Mutant]:
        changed = _changed(change, name, case)
        if changed and len(case.sites) > 1:
            yield "", case.original, _wrong(case, changed)
        yield from _at_places(changed, name, case)

    return make


def _at_one(change: Change) -> Callable[[str, Case], Iterator[Mutant]]:
    """A defect in one layer; in ``deep`` in the first, the middle, and the last."""

    def make(name: str, case: Case) -> Iterator[Mutant]:
        yield from _at_places(_changed(change, name, case), name, case)

    return make


def _changed(change: Change, name: str, case: Case) -> dict[int, Params]:
    found = {}
    for site in case.sites:
        params = change(site, case.rng(name, site.number))
        if params is not None:
            found[site.number] = params
    return found


def _at_places(changed: dict[int, Params], name: str, case: Case) -> Iterator[Mutant]:
    places = sorted(changed)
    if not places:
        return
    if case.family == "deep":
        chosen = [places[0], places[len(places) // 2], places[-1]]
    else:
        chosen = [int(case.rng(name).choice(places))]
    for place in chosen:
        yield f"@{place}", case.original, _wrong(case, {place: changed[place]})


def _wrong(case: Case, changed: dict[int, Params]) -> onnx.ModelProto:
    """The fold with other parameters in some layers."""

    def recipe(site: Site) -> Params:
        return changed[site.number] if site.number in changed else exact(site)

    return fold(case.original, recipe)


def _with_norm(formula: Callable[[Norm], ScaleShift]) -> Change:
    def change(site: Site, rng: Rng) -> Params | None:
        with np.errstate(divide="ignore", invalid="ignore"):
            return applied(site, *formula(site.norm))

    return change


def _behind(change: Change) -> Change:
    """Only where the norm is behind the layer."""
    return lambda site, rng: None if site.forward else change(site, rng)


def _edited(edit: Edit) -> Callable[[str, Case], Iterator[Mutant]]:
    def make(name: str, case: Case) -> Iterator[Mutant]:
        mutant = onnx.ModelProto()
        mutant.CopyFrom(case.right)
        if edit(mutant.graph, case.rng(name)):
            yield "", case.original, _with_outputs_of(mutant)

    return make


def _blind(*names: str) -> Callable[[str, Case], Iterator[Mutant]]:
    """A fold that does not see why it must not."""

    def make(name: str, case: Case) -> Iterator[Mutant]:
        mutant = fold(case.original, blind=names)
        if mutant != case.right:
            yield "", case.original, mutant

    return make


def _training_mode(name: str, case: Case) -> Iterator[Mutant]:
    """The original normalises by the batch; the fold takes the running statistics."""
    original = onnx.ModelProto()
    original.CopyFrom(case.original)
    for node in original.graph.node:
        if node.op_type == "BatchNormalization":
            node.attribute.append(onnx.helper.make_attribute("training_mode", 1))
            node.output.extend([f"{node.name}_mean", f"{node.name}_var"])
    if original.opset_import[0].version >= 14:
        yield "", original, case.right


def _with_outputs_of(mutant: onnx.ModelProto) -> onnx.ModelProto:
    """``mutant`` with the output shapes that it has now, where it still has any."""
    try:
        onnx.checker.check_model(mutant, full_check=True)
    except onnx.shape_inference.InferenceError:
        for value in mutant.graph.output:
            for dim in value.type.tensor_type.shape.dim[2:]:
                dim.Clear()
        inferred = onnx.shape_inference.infer_shapes(mutant)
        for value, known in zip(mutant.graph.output, inferred.graph.output, strict=True):
            value.CopyFrom(known)
    return mutant


def _name(function: Callable[..., object]) -> str:
    return function.__name__.replace("_", "-")


def _anywhere(family: str) -> bool:
    return True


def _float32(family: str) -> bool:
    return family != "float16"


# What a model in float16 may do itself.
_FLOAT32_ONLY = {computed_in_float16, half_precision_inside}


def _families(function: Change | Edit) -> Callable[[str], bool]:
    return _float32 if function in _FLOAT32_ONLY else _anywhere


MUTATIONS: dict[str, Mutation] = {
    **{
        _name(formula): Mutation(_everywhere_and_at_one(_with_norm(formula)), "values", _anywhere)
        for formula in NORM_FORMULAS
    },
    **{
        _name(change): Mutation(
            _everywhere_and_at_one(_behind(change)), "values", _families(change)
        )
        for change in LAYER_FORMULAS
    },
    **{_name(change): Mutation(_at_one(change), "values", _anywhere) for change in DEFECTS},
    **{_name(edit): Mutation(_edited(edit), "graph", _families(edit)) for edit in GRAPH_EDITS},
    **{
        _name(edit): Mutation(_edited(edit), "interface", _families(edit))
        for edit in INTERFACE_EDITS
    },
    "moved-across-maxpool": Mutation(_blind("MaxPool"), "graph", lambda f: f == "maxpool"),
    "moved-across-relu": Mutation(_blind("Relu"), "graph", lambda f: f == "forward"),
    "border-ignored": Mutation(_blind("pads"), "graph", lambda f: f == "forward"),
    "other-reader-ignored": Mutation(_blind("readers"), "graph", lambda f: f == "residual"),
    "training-mode": Mutation(_training_mode, "interface", _anywhere),
}


@lru_cache(maxsize=4)
def case_of(family: str, seed: int) -> Case:
    """The model of a family for a seed, with its right fold."""
    original = FAMILIES[family](seed)
    return Case(family, seed, original, fold_right(original), tuple(sites(original)))


def mutants(
    family: str, seed: int, dropped: Counter[str] | None = None
) -> Iterator[tuple[str, onnx.ModelProto, onnx.ModelProto]]:
    """Every wrong fold of a model: its name, the original, the wrong fold.

    The name is that of the mutation, with ``@N`` behind it where only layer N is wrong. What is
    dropped because it is no mutant is counted in ``dropped`` by name. Nobody may change a model.
    """
    case = case_of(family, seed)
    for name, mutation in MUTATIONS.items():
        if not mutation.families(family):
            continue
        for place, original, mutant in mutation.make(name, case):
            if is_real(case, mutant, mutation.kind):
                yield f"{name}{place}", original, mutant
            elif dropped is not None:
                dropped[f"{name}{place}"] += 1


def is_real(case: Case, mutant: onnx.ModelProto, kind: str) -> bool:
    """Whether a mutant computes something else than rounding the exact fold once explains.

    Of kind ``values`` a parameter must be off by more than 1.5 ulp, and some input must show the
    difference to the right fold in float64; of kind ``graph`` some input must show it.
    """
    if kind == "interface":
        return True
    if kind == "values":
        off = distance(case.original, mutant)
        if off is not None and off.most <= 1.5:
            return False
    return is_visible(case, mutant)


def is_visible(case: Case, mutant: onnx.ModelProto) -> bool:
    """Whether one of a few inputs makes the outputs differ by more than float64 explains."""
    for feeds, right in case.shown:
        for wanted, found in zip(right, quietly_evaluated(mutant, feeds), strict=True):
            if wanted.shape != found.shape:
                return True
            if not (np.abs(wanted - found) <= 1e-11 * np.abs(wanted).max()).all():
                return True
    return False


def quietly_evaluated(model: onnx.ModelProto, feeds: Feeds) -> list[Array]:
    """The outputs in float64, NaN and infinity among them."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return evaluate(model, feeds)


def feeds_of(model: onnx.ModelProto, seed: int, size: float = 1.0) -> Feeds:
    """Normal data for the inputs, float64; 2 images or 64 vectors where the batch is free."""
    rng = np.random.default_rng([11, seed])
    found: Feeds = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        batch = dims[0].dim_value or (2 if len(dims) > 2 else 64)
        shape = [batch, *[dim.dim_value for dim in dims[1:]]]
        found[value.name] = size * rng.standard_normal(shape)
    return found

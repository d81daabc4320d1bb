"""A model folded by bnfold and by the other tools, each result checked before it counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

import bnfold
from benchmarks.processes import run
from benchmarks.tools import BNFOLD, TOOLS

DEFAULT_BATCH, DEFAULT_SIZE = 1, 32


@dataclass(frozen=True)
class Fold:
    """What a tool made of a model.

    Attributes:
        tool: its name.
        path: the folded file.
        left: how many norms bnfold finds in it: BatchNormalization and its spellings.
        nodes: of the graph.
        failure: why it does not count, such as ``wrong: ...``; ``""`` where it is right.
    """

    tool: str
    path: Path
    left: int = 0
    nodes: int = 0
    failure: str = ""


@dataclass(frozen=True)
class Options:
    """How to fold.

    Attributes:
        timeout: seconds that a peer may take.
        merge_branches, duplicate: of ``bnfold.fold``.
    """

    timeout: float = 300.0
    merge_branches: bool = False
    duplicate: bool = False


def folded_by(
    tool: str, source: Path, target: Path, options: Options, dims: Mapping[str, int]
) -> Fold:
    """Fold a file, and compare the result with the original by ``bnfold.verify``.

    Args:
        tool: ``bnfold``, which folds in this process, or a peer, which has one of its own.
        source, target: the files.
        options: how to fold.
        dims: sizes of symbolic dimensions.
    """
    if tool == BNFOLD:
        try:
            merges, copies = options.merge_branches, options.duplicate
            bnfold.fold(source, merge_branches=merges, duplicate=copies).save(target)
        except bnfold.BnfoldError as error:
            return Fold(tool, target, failure=f"fails: {error}")
    else:
        failure = run(TOOLS[tool](str(source), str(target)), options.timeout).failure
        if failure:
            return Fold(tool, target, failure=f"fails: {failure}")
    try:
        report = bnfold.verify(source, target, runtime=False, dims=dims)
        failure = "" if report.is_same else f"wrong: {report.verdict}"
    except bnfold.BnfoldError as error:
        failure = f"not checked: {error}"
    if failure:
        return Fold(tool, target, failure=failure)
    return Fold(tool, target, norms_of(target), len(onnx.load(target).graph.node))


def norms_of(path: Path) -> int:
    """How many norms bnfold finds: BatchNormalization and chains of constant arithmetic."""
    return len(bnfold.explain(path).norms)


def tied(folds: Sequence[Fold]) -> list[Fold]:
    """Those of the right folds that leave the fewest norms; none where no fold is right."""
    right = [fold for fold in folds if not fold.failure]
    fewest = min((fold.left for fold in right), default=0)
    return [fold for fold in right if fold.left == fewest]


def best_of(folds: Sequence[Fold], speeds: Mapping[str, float]) -> Fold | None:
    """The peer with the fewest norms left; of several the fastest.

    Args:
        folds: of the peers.
        speeds: tool -> how many times as fast as the original its fold is; 0 where it is missing.
    """
    return max(tied(folds), key=lambda fold: speeds.get(fold.tool, 0.0), default=None)


def feeds_of(model: onnx.ModelProto, sizes: Mapping[str, int]) -> dict[str, Any]:
    """One normal array for each input that has to be given.

    Args:
        sizes: of symbolic dimensions; a first one is 1, any other 32, where nothing is said.
    """
    random = np.random.default_rng(0)
    stored = {tensor.name for tensor in model.graph.initializer}
    found = {}
    for value in model.graph.input:
        if value.name in stored:
            continue
        kind = value.type.tensor_type
        shape = [
            dim.dim_value or sizes.get(dim.dim_param, DEFAULT_SIZE if at else DEFAULT_BATCH)
            for at, dim in enumerate(kind.shape.dim)
        ]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        found[value.name] = random.standard_normal(shape).astype(dtype)
    return found

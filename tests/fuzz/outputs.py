"""Outputs of a model and of its fold, in float64: how far apart are they, and how far may they be?

In float64 outputs have to agree to 1e-9 of the largest tensor. In narrower dtypes the folded
weights were rounded once; there the unit is how far outputs move when every stored constant of
the folded model moves by half a unit in its last place, or a unit of the output where that is
more.

What the oracles cannot tell:

- A model with other sizes than it was drawn with may not run at all; then nothing is compared.
- onnx's evaluator does not know some operators and gets others wrong (windows with ``auto_pad``
  or ``ceil_mode``, Resize with ``antialias``, BatchNormalization of old opsets). It counts only
  where it agrees with `bnfold.reference` on the original; how often it did not is counted. It
  reduces the wrong axes in a GlobalMaxPool of anything but images, and is not asked then.
- Data that is rounded to integers may fall on the other side of a step. The folded model gets
  the original's integers, and its own may be one step off (4 where floats have 16 bits).
- A model whose parameters are huge, NaN or infinite is judged for everything but its outputs.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto

from bnfold.errors import ModelError
from bnfold.reference import Evaluator
from tests import support_float64
from tests.fuzz.fused import without_fused
from tests.fuzz.generate import Drawn
from tests.fuzz.sketch import FACTORS
from tests.support_models import DTYPES, Array, graphs

EXACT = 1e-9
ROUNDINGS, TRIALS = 16.0, 4
"""How many times the movement of one rounding a difference may be, and how often it is tried."""
STEPS = ("QuantizeLinear", "QLinearConv", "QLinearMatMul", "DynamicQuantizeLinear")


def differences(
    drawn: Drawn, folded: onnx.ModelProto, counts: Counter[str], *, flushes: bool, in_onnx: bool
) -> Iterator[str]:
    """Where outputs differ, on every choice of sizes, in words.

    Args:
        counts: comparisons are counted there, and what could not be compared.
        flushes: whether the fold turned values below the smallest normal number into zeros.
        in_onnx: whether onnx's evaluator is asked, too.
    """
    if folded == drawn.model:
        return
    if drawn.is_wild:
        counts["wild parameters: outputs not compared"] += 1
        return
    before, after = without_fused(drawn.model), without_fused(folded)
    is_fine = drawn.dtype in ("double", "float")
    for at in range(len(drawn.shapes)):
        feeds = drawn.feeds(at)
        try:
            old = _tensors(before, feeds)
        except ModelError:
            if at == 0:
                yield "the model as drawn does not run"
            counts["other sizes do not run"] += 1
            continue
        given = _rounded_data(drawn.model, old)
        try:
            yield from _rounded_elsewhere(after, feeds, given, most=1 if is_fine else 4)
            new = Evaluator(after).run(feeds | given, [value.name for value in after.graph.output])
            allowed = _allowed(drawn, after, feeds | given, new, old, flushes)
        except ModelError as error:
            yield f"the folded model does not run: {error}"
            continue
        counts["compared"] += 1
        yield from _different(old, new, allowed)
        if at == 0 and in_onnx:
            yield from _different_in_onnx(before, after, feeds, old, allowed, counts)


def _tensors(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """All tensors of the main graph; sequences are none."""
    names = [name for node in model.graph.node for name in node.output if name]
    made = Evaluator(model).run(feeds, [*dict.fromkeys(names)])
    return {name: value for name, value in made.items() if isinstance(value, np.ndarray)}


def _rounded_data(model: onnx.ModelProto, values: Mapping[str, Array]) -> dict[str, Array]:
    """What the nodes of the main graph that round data make."""
    steps = [node for node in model.graph.node if node.op_type in STEPS]
    return {name: values[name] for node in steps for name in node.output if name}


def _rounded_elsewhere(
    after: onnx.ModelProto, feeds: Mapping[str, Array], given: Mapping[str, Array], most: int
) -> Iterator[str]:
    """Where the folded model rounds data to integers that are more than ``most`` steps off.

    Each is computed from what the original has for all others.
    """
    for name, value in given.items():
        others = {key: codes for key, codes in given.items() if key != name}
        own = Evaluator(after).run({**feeds, **others}, [name])[name]
        if value.dtype.kind == "f":
            continue
        off = int(np.abs(own.astype(np.int64) - value.astype(np.int64)).max(initial=0))
        if off > most:
            yield f"{name} is {off} steps off"


def _allowed(
    drawn: Drawn,
    after: onnx.ModelProto,
    feeds: Mapping[str, Array],
    new: Mapping[str, Array],
    old: Mapping[str, Array],
    flushes: bool,
) -> dict[str, float]:
    """How far each output may be off."""
    allowed = dict.fromkeys(new, EXACT * max(_size(old), _size(new)))
    if drawn.dtype == "double":
        return allowed
    unit = _unit(DTYPES[drawn.dtype])
    for name, value in new.items():
        if value.dtype.kind == "f":
            allowed[name] = max(allowed[name], unit * _size({name: value}))
    for seed in range(TRIALS):
        rng = np.random.default_rng([drawn.seed, seed, 2])

        def moved(
            tensor: TensorProto, stored: Array, rng: np.random.Generator = rng
        ) -> Array | None:
            if tensor.name.startswith(FACTORS):
                return None
            return _moved(stored, DTYPES[drawn.dtype], rng, flushes=flushes)

        other = Evaluator(after).run(feeds, [*new], widen=moved)
        for name, value in new.items():
            if value.dtype.kind == "f":
                with np.errstate(invalid="ignore"):
                    off = other[name] - value
                allowed[name] = max(allowed[name], ROUNDINGS * _largest(off))
    return allowed


def _moved(
    stored: Array, dtype: np.dtype[np.generic], rng: np.random.Generator, *, flushes: bool
) -> Array:
    """Values moved by half a unit in the last place, up or down, and by what a flush may cost.

    Some move by less, so that what two of them do to an output does not cancel in every trial.
    """
    values = stored.astype(np.float64)
    step = np.abs(values) * _unit(dtype) / 2 * rng.uniform(0.5, 1, values.shape)
    if flushes:
        step = np.maximum(step, float(_info(dtype).smallest_normal))
    return np.asarray(values + step * rng.choice([-1.0, 1.0], values.shape))


def _unit(dtype: np.dtype[np.generic]) -> float:
    """One unit in the last place of one."""
    return float(_info(dtype).eps)


def _info(dtype: np.dtype[np.generic]) -> Any:
    return ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]


def _different(
    old: Mapping[str, Array], new: Mapping[str, Array], allowed: Mapping[str, float]
) -> Iterator[str]:
    for name, value in new.items():
        if name not in old:
            continue
        if old[name].shape != value.shape or old[name].dtype != value.dtype:
            yield f"{name} is {value.dtype}{value.shape}, was {old[name].dtype}{old[name].shape}"
        elif value.dtype.kind != "f":
            if (old[name] != value).any():
                yield f"{name} has other integers"
        else:
            with np.errstate(invalid="ignore"):
                off = np.abs(old[name] - value)
            is_same = (old[name] == value) | (np.isnan(old[name]) & np.isnan(value))
            off = np.where(is_same, 0.0, off)
            if not (off <= allowed[name]).all():
                yield f"{name} is off by {off.max():.3g}; {allowed[name]:.3g} is allowed"


def _different_in_onnx(
    before: onnx.ModelProto,
    after: onnx.ModelProto,
    feeds: Mapping[str, Array],
    old: Mapping[str, Array],
    allowed: Mapping[str, float],
    counts: Counter[str],
) -> Iterator[str]:
    """The second oracle, where it agrees with the first on the original."""
    names = [value.name for value in before.graph.output]
    nodes = [node for graph in graphs(before.graph) for node in graph.node]
    if any(node.op_type == "GlobalMaxPool" for node in [*nodes, *_in_functions(before)]):
        counts["onnx.reference is not asked: GlobalMaxPool"] += 1
        return
    try:
        values = _in_onnx(before, feeds)
    except Exception:
        counts["onnx.reference cannot run the original"] += 1
        return
    plain = {name: np.asarray(old[name], np.float64) for name in names if name in old}
    tight = {name: min(allowed[name], 1e3 * EXACT * _size(old)) for name in plain}
    if [*_different(plain, {n: values[n] for n in plain}, tight)]:
        counts["onnx.reference disagrees on the original"] += 1
        return
    try:
        folded = _in_onnx(after, feeds)
    except Exception as error:
        yield f"onnx.reference runs the original alone: {error}"
        return
    counts["compared in onnx.reference"] += 1
    yield from (f"in onnx.reference, {text}" for text in _different(values, folded, allowed))


def _in_functions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for function in model.functions for node in function.node]


def _in_onnx(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        made = support_float64.evaluate(model, dict(feeds))
    return dict(zip([value.name for value in model.graph.output], made, strict=True))


def _size(values: Mapping[str, Array]) -> float:
    """The largest number in some tensors, and one at least."""
    return max([1.0, *(_largest(value) for value in values.values() if value.dtype.kind == "f")])


def _largest(value: Array) -> float:
    """The largest magnitude in a tensor, of what is finite."""
    return float(np.abs(value).max(initial=0, where=np.isfinite(value)))

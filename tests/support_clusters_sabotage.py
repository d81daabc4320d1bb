"""Ways to make folds through other operators wrong, as patches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from bnfold.algebra.affine import Affine
from bnfold.algebra.layer import Layer
from bnfold.algebra.rounding import rounded
from bnfold.algebra.spread import Spread
from bnfold.folding import forward, naming, plan, rescale, store, surgery
from bnfold.folding.find import value_readers
from bnfold.folding.rules.quantised import rescaled
from bnfold.folding.rules.reading import Context, Linear
from bnfold.folding.rules.tables import THROUGH
from bnfold.folding.rules.through import Spreads, Through
from bnfold.onnxgraph.graph import Node
from tests.support_models import Array
from tests.support_sabotage import Patch, never


def crossing(kind: str, back: Callable[..., Any] | None, fore: Callable[..., Any] | None) -> Patch:
    """Another rule for an operator."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        old = THROUGH.get(kind)
        first: Any = back or (old.backward if old else never)
        second: Any = fore or (old.forward if old else never)
        rule = Through(first, second, data=old.data if old else (0,))
        monkeypatch.setitem(THROUGH, kind, rule)

    return patch


def unchanged(node: Node, spreads: Spreads, context: Context) -> Spreads:
    return {0: spreads[0]}


def without_sign(node: Node, spreads: Spreads, context: Context) -> Spreads:
    return {0: Spread(np.abs(spreads[0].scale), spreads[0].shift)}


def rolled(node: Node, spreads: Spreads, context: Context) -> Spreads:
    """A map of channels one place off."""
    found: Any = RIGHT["Transpose"].backward(node, spreads, context)
    spread: Spread = found[0]
    axis = int(np.argmax(spread.shape))
    return {0: spread.moved(lambda values: np.roll(values, 1, axis))}


def reversed_parts(node: Node, spreads: Spreads, context: Context) -> Spreads:
    found: Any = RIGHT["Concat"].backward(node, spreads, context)
    return dict(zip(found, reversed(list(found.values())), strict=True))


def shift_into_all(node: Node, spreads: Spreads, context: Context) -> Spreads:
    return dict.fromkeys(range(len(node.inputs)), spreads[0])


def shift_into_none(node: Node, spreads: Spreads, context: Context) -> Spreads:
    plain = Spread(spreads[0].scale, 0 * spreads[0].shift)
    return dict.fromkeys(range(len(node.inputs)), plain)


def scale_into_one(node: Node, spreads: Spreads, context: Context) -> Spreads:
    return {0: spreads[0], 1: Spread.identity()}


RIGHT = dict(THROUGH)


def pushed_forward(push: Callable[[Layer, Affine, Any], Layer]) -> Patch:
    return lambda patch: patch.setattr(plan, "push_forward", push)


def summed_wrongly(wrong: Callable[[Linear, Array, Array], Array]) -> Patch:
    right = store.summed
    return lambda patch: patch.setattr(
        plan, "summed", lambda linear, values: wrong(linear, values, right(linear, values))
    )


def only_one_reader(patch: pytest.MonkeyPatch) -> None:
    right = value_readers
    patch.setattr(forward, "value_readers", lambda tensor: right(tensor)[:1])


def last_name_forgotten(patch: pytest.MonkeyPatch) -> None:
    right = naming.Names.changed

    def wrong(self: naming.Names) -> Iterator[Any]:
        yield from list(right(self))[:-1]

    patch.setattr(naming.Names, "changed", wrong)


def node_loses(kind: str, attribute: str) -> Patch:
    right = surgery.Surgery.replace

    def wrong(self: surgery.Surgery, node: Any, *protos: Any) -> None:
        for proto in protos:
            if proto.op_type == kind:
                kept = [a for a in proto.attribute if a.name != attribute]
                del proto.attribute[:]
                proto.attribute.extend(kept)
        right(self, node, *protos)

    return lambda patch: patch.setattr(surgery.Surgery, "replace", wrong)


def node_goes(kind: str) -> Patch:
    right = surgery.Surgery.replace

    def wrong(self: surgery.Surgery, node: Any, *protos: Any) -> None:
        right(self, node, *[proto for proto in protos if proto.op_type != kind])

    return lambda patch: patch.setattr(surgery.Surgery, "replace", wrong)


def scales_off(patch: pytest.MonkeyPatch) -> None:
    right = rounded
    patch.setattr(rescale, "rounded", lambda values, dtype: right(values * (1 + 2.0**-22), dtype))


def scale_reversed(patch: pytest.MonkeyPatch) -> None:
    right = rescaled

    def wrong(constant: Any, factors: Array) -> Any:
        return right(constant, factors[::-1])

    patch.setattr(rescale, "rescaled", wrong)

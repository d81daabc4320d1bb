"""Ways to make a fold wrong, as patches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
import pytest

from bnfold.algebra import affine, layer
from bnfold.folding import biases, naming, plan, store, surgery, survey, together
from bnfold.onnxgraph.graph import Node
from tests.support_models import Array

Patch = Callable[[pytest.MonkeyPatch], None]


def by_itself(patch: Patch) -> Patch:
    """Compute each weight by itself, as large ones are, for that is what a patch changes."""

    def sabotage(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(plan, "ready_folds", lambda survey: {})
        patch(monkeypatch)

    return sabotage


def batch_norm(scale: Callable[..., Array], shift: Callable[..., Array]) -> Patch:
    """Read a BatchNormalization wrongly; both are called with gamma, beta, mean, var, eps."""

    def wrong(gamma: Array, beta: Array, mean: Array, var: Array, *, eps: float) -> Any:
        given = (gamma, beta, mean, var, eps)
        return affine.Affine(scale(*given), shift(*given))

    def sabotage(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(affine.Affine, "from_batch_norm", staticmethod(wrong))
        patch.setattr(survey, "read_plain_batch_norms", lambda nodes, context: {})

    return sabotage


def right_scale(gamma: Array, beta: Array, mean: Array, var: Array, eps: float) -> Array:
    return np.asarray(gamma / np.sqrt(var + eps))


def right_shift(gamma: Array, beta: Array, mean: Array, var: Array, eps: float) -> Array:
    return np.asarray(beta - right_scale(gamma, beta, mean, var, eps) * mean)


def pushed(push: Callable[[layer.Layer, affine.Affine], layer.Layer]) -> Patch:
    return by_itself(lambda patch: patch.setattr(plan, "push_back", push))


def rounds(by: Callable[[Array, np.dtype[Any]], Array]) -> Patch:
    def wrong(values: Array, dtype: Any) -> Array:
        return by(values, np.dtype(dtype))

    def sabotage(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(store, "rounded", wrong)
        patch.setattr(together, "rounded", wrong)

    return sabotage


def towards_zero(values: Array, dtype: np.dtype[Any]) -> Array:
    near = values.astype(dtype)
    beyond = np.abs(near.astype(np.float64)) > np.abs(values)
    return np.where(beyond, np.nextafter(near, dtype.type(0)), near)


def one_weight_off(units: int) -> Patch:
    """Change one weight by some units in its last place."""
    right = store.StoredWeight.chunks

    def wrong(self: store.StoredWeight) -> Iterator[memoryview]:
        for number, chunk in enumerate(right(self)):
            changed = bytearray(chunk)
            if number == 0:
                view = np.frombuffer(changed, np.uint32)
                view[len(view) // 2] += units
            yield memoryview(changed)

    return by_itself(lambda patch: patch.setattr(store.StoredWeight, "chunks", wrong))


def bias_off(values: Callable[[Array], Array]) -> Patch:
    right = store.stored_bias

    def wrong(*arguments: Any) -> tuple[Array, int]:
        bias, count = right(*arguments)
        return values(bias), count

    return by_itself(lambda patch: patch.setattr(biases, "stored_bias", wrong))


def node_changed(change: Callable[[onnx.NodeProto], None]) -> Patch:
    right = surgery.Surgery.replace

    def wrong(self: surgery.Surgery, node: Any, proto: onnx.NodeProto) -> None:
        change(proto)
        right(self, node, proto)

    return lambda patch: patch.setattr(surgery.Surgery, "replace", wrong)


def input_becomes(at: int, name: str) -> Patch:
    return node_changed(lambda proto: proto.input.__setitem__(at, name))


def output_becomes(name: str) -> Patch:
    return node_changed(lambda proto: proto.output.__setitem__(0, name))


def without_attribute(name: str) -> Patch:
    def change(proto: onnx.NodeProto) -> None:
        kept = [a for a in proto.attribute if a.name != name]
        del proto.attribute[:]
        proto.attribute.extend(kept)

    return node_changed(change)


def also_alpha(patch: pytest.MonkeyPatch) -> None:
    def wrong(proto: onnx.NodeProto) -> None:
        for attribute in proto.attribute:
            attribute.f = 1.0

    patch.setattr(biases, "_set_beta_to_one", wrong)


def flushes(most: float) -> Patch:
    def wrong(stored: Array, exact: Array) -> tuple[Array, int]:
        small = np.abs(exact) < most
        return np.where(small, stored.dtype.type(0), stored), int(small.sum())

    return by_itself(lambda patch: patch.setattr(store, "flushed", wrong))


def factor(module: Any, name: str, wrong: Callable[..., Array]) -> Patch:
    return by_itself(lambda patch: patch.setattr(module, name, wrong))


def tiled(scale: Array, in_channels: int, group: int, rank: int) -> Array:
    rows = np.tile(scale.reshape(group, -1), (in_channels // group, 1))
    return rows.reshape(*rows.shape, *[1] * (rank - 2))


def forgets(op_type: str) -> Patch:
    """Leave the old names in nodes of a type."""
    right = naming.Names.changed

    def wrong(self: naming.Names) -> Iterator[tuple[Node, onnx.NodeProto]]:
        return (found for found in right(self) if found[0].op_type != op_type)

    return lambda patch: patch.setattr(naming.Names, "changed", wrong)


def never(*arguments: Any) -> None:
    """Leave out what a function of the fold does."""

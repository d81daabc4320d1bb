"""LSTM, GRU and RNN of any direction, layout, activations and lengths of sequences.

Source: ONNX, the operators of these names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from bnfold.reference.call import Array, Call
from bnfold.reference.elementwise import sigmoid

Activation = Callable[[Array], Array]
# One step: what x gives the gates, the states before; gives the states after, the output first.
Cell = Callable[[Array, list[Array]], list[Array]]

# Activations: parameters with their defaults, and the function of a value and these.
ACTIVATIONS: dict[str, tuple[tuple[float, ...], Callable[..., Array]]] = {
    "relu": ((), lambda v: np.maximum(v, 0.0)),
    "tanh": ((), np.tanh),
    "sigmoid": ((), sigmoid),
    "softsign": ((), lambda v: v / (1.0 + np.abs(v))),
    "softplus": ((), lambda v: np.logaddexp(v, 0.0)),
    "affine": ((1.0, 0.0), lambda v, a, b: a * v + b),
    "leakyrelu": ((0.01,), lambda v, a: np.where(v < 0, a * v, v)),
    "thresholdedrelu": ((1.0,), lambda v, a: np.where(v > a, v, 0.0)),
    "scaledtanh": ((1.0, 1.0), lambda v, a, b: a * np.tanh(b * v)),
    "hardsigmoid": ((0.2, 0.5), lambda v, a, b: np.clip(a * v + b, 0.0, 1.0)),
    "elu": ((1.0,), lambda v, a: np.where(v < 0, a * np.expm1(np.minimum(v, 0.0)), v)),
}


def lstm(
    call: Call,
    x: Array,
    w: Array,
    r: Array,
    b: Array | None = None,
    lengths: Array | None = None,
    h: Array | None = None,
    c: Array | None = None,
    p: Array | None = None,
) -> tuple[Array, ...]:
    """All outputs, the last output and the last cell; gates in the order i, o, f, c.

    Args:
        call: of LSTM.
        x: ``(steps, batch, I)``, or with ``layout=1`` ``(batch, steps, I)``.
        w, r: ``(D, 4 H, I)`` and ``(D, 4 H, H)`` for D directions.
        b: ``(D, 8 H)``: those of w, then those of r.
        lengths: ``(batch,)``: of the sequences; None for all steps.
        h, c: ``(D, batch, H)``, or with ``layout=1`` ``(batch, D, H)``: the first states.
        p: ``(D, 3 H)``: peepholes of i, o, f.

    ``clip`` bounds the input of each activation, that of the cell's too.

    Raises:
        ValueError: an activation or a direction that the specification does not name.
    """

    def cell(at: int, act: list[Activation], clip: Activation) -> Cell:
        bias = _sum_of_halves(b, at)
        i_p, o_p, f_p = np.split(p[at], 3) if p is not None else (0.0, 0.0, 0.0)

        def step(gates: Array, states: list[Array]) -> list[Array]:
            last, kept = states
            i, o, f, g = np.split(gates + last @ r[at].T + bias, 4, axis=-1)
            i = act[0](clip(i + i_p * kept))
            f = 1.0 - i if call.get("input_forget", 0) else act[0](clip(f + f_p * kept))
            kept = f * kept + i * act[1](clip(g))
            return [act[0](clip(o + o_p * kept)) * act[2](clip(kept)), kept]

        return step

    return _run(call, x, w, lengths, [h, c], cell, ("sigmoid", "tanh", "tanh"))


def gru(
    call: Call,
    x: Array,
    w: Array,
    r: Array,
    b: Array | None = None,
    lengths: Array | None = None,
    h: Array | None = None,
) -> tuple[Array, ...]:
    """All outputs and the last one; gates in the order z, r, h. Arguments are as of `lstm`."""

    def cell(at: int, act: list[Activation], clip: Activation) -> Cell:
        size = r.shape[-1]
        own, other = np.split(b[at], 2) if b is not None else (np.zeros(3 * size),) * 2

        def step(gates: Array, states: list[Array]) -> list[Array]:
            (last,) = states
            moved = last @ r[at].T
            inputs, recurrent = gates + own, moved + other
            both = inputs[:, : 2 * size] + recurrent[:, : 2 * size]
            z, reset = np.split(act[0](clip(both)), 2, axis=-1)
            if call.get("linear_before_reset", 0):
                inner = reset * recurrent[:, 2 * size :]
            else:
                inner = (reset * last) @ r[at, 2 * size :].T + other[2 * size :]
            new = act[1](clip(inputs[:, 2 * size :] + inner))
            return [(1.0 - z) * new + z * last]

        return step

    return _run(call, x, w, lengths, [h], cell, ("sigmoid", "tanh"))


def rnn(
    call: Call,
    x: Array,
    w: Array,
    r: Array,
    b: Array | None = None,
    lengths: Array | None = None,
    h: Array | None = None,
) -> tuple[Array, ...]:
    """All outputs and the last one. Arguments are as of `lstm`."""

    def cell(at: int, act: list[Activation], clip: Activation) -> Cell:
        bias = _sum_of_halves(b, at)
        return lambda gates, states: [act[0](clip(gates + states[0] @ r[at].T + bias))]

    return _run(call, x, w, lengths, [h], cell, ("tanh",))


def _sum_of_halves(b: Array | None, at: int) -> Any:
    return 0.0 if b is None else np.add(*np.split(b[at], 2))


def _run(
    call: Call,
    x: Array,
    w: Array,
    lengths: Array | None,
    states: list[Array | None],
    cell: Callable[[int, list[Activation], Activation], Cell],
    defaults: tuple[str, ...],
) -> tuple[Array, ...]:
    """All outputs, then each state after the last step of each sequence."""
    turned = bool(call.get("layout", 0))
    if turned:
        x = x.swapaxes(0, 1)
        states = [None if state is None else state.swapaxes(0, 1) for state in states]
    steps, batch = x.shape[:2]
    ends = np.full(batch, steps) if lengths is None else lengths.astype(np.int64)
    ways = _directions(call, w.shape[0])
    hidden = w.shape[1] // {"LSTM": 4, "GRU": 3}.get(call.op_type, 1)
    activations = _activations(call, defaults, len(ways))
    bound = call.get("clip")
    clip: Activation = (lambda v: v) if bound is None else (lambda v: np.clip(v, -bound, bound))
    outputs, last = [], []
    for at, is_reversed in enumerate(ways):
        step = cell(at, activations[at], clip)
        first = [np.zeros((batch, hidden)) if s is None else s[at] for s in states]
        made, final = _along(step, x @ w[at].T, ends, first, is_reversed=is_reversed)
        outputs.append(made)
        last.append(final)
    y = np.stack(outputs, axis=1)
    finals = [np.stack(parts) for parts in zip(*last, strict=True)]
    if turned:
        return y.transpose(2, 0, 1, 3), *(final.swapaxes(0, 1) for final in finals)
    return y, *finals


def _along(
    step: Cell, gates: Array, ends: Array, states: list[Array], *, is_reversed: bool
) -> tuple[Array, list[Array]]:
    """One direction: zeros beyond the end of a sequence, where its states stay what they are."""
    y = np.zeros((*gates.shape[:2], states[0].shape[-1]))
    order = range(len(gates))
    for t in reversed(order) if is_reversed else order:
        goes = (t < ends)[:, None]
        after = step(gates[t], states)
        states = [np.where(goes, new, old) for new, old in zip(after, states, strict=True)]
        y[t] = np.where(goes, states[0], 0.0)
    return y, states


def _directions(call: Call, count: int) -> list[bool]:
    """For each direction whether it begins at the end."""
    found = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    direction = call.get("direction", "forward")
    if direction not in found or len(found[direction]) != count:
        raise ValueError(f"direction {direction!r} with weights of {count}")
    return found[direction]


def _activations(call: Call, defaults: tuple[str, ...], count: int) -> list[list[Activation]]:
    """The functions of each direction; parameters are taken by those that have some, in order."""
    names = call.get("activations") or [*defaults] * count
    if len(names) < len(defaults) * count:
        raise ValueError(f"{len(names)} activations for {count} directions")
    alphas, betas = (iter(call.get(f"activation_{n}") or ()) for n in ("alpha", "beta"))
    functions = [_activation(name, alphas, betas) for name in names]
    size = len(defaults)
    return [functions[at * size : (at + 1) * size] for at in range(count)]


def _activation(name: str, alphas: Iterator[float], betas: Iterator[float]) -> Activation:
    if name.lower() not in ACTIVATIONS:
        raise ValueError(f"activation {name!r} is not in the specification")
    defaults, function = ACTIVATIONS[name.lower()]
    given = [next(found, own) for found, own in zip((alphas, betas), defaults, strict=False)]
    return partial(_with, function, given)


def _with(function: Callable[..., Array], given: list[float], values: Array) -> Array:
    return np.asarray(function(values, *given))

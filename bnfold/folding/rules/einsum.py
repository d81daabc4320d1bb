"""Einsum of data and one constant: ``y[out] = sum of x[data] * w[weight]`` over other labels."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

import numpy as np

from bnfold.algebra.affine import Float64Array
from bnfold.algebra.layer import Layer
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.quantised import read_weight
from bnfold.folding.rules.reading import (
    Context,
    Inward,
    Linear,
    malformed,
    read_version,
)
from bnfold.onnxgraph.graph import Node


def einsum_factor(scale: Float64Array, label: str, labels: str) -> Float64Array:
    """``scale[m] * einsum(x, w) == einsum(x, factor * w)`` for a label m of w and of the output.

    So too ``einsum(scale[k] * x, w)`` for a label k of w and x.

    Args:
        scale: one value for each index of ``label``.
        labels: all labels of w.
    """
    return scale.reshape(*[-1 if at == label else 1 for at in labels])


def read_einsum(node: Node, context: Context) -> Linear | Refused:
    """Einsum of two operands, one of them constant, without repeated labels.

    Its output channels are the last label of the output that the data has not, or else the last
    that both have; its input channels the last label of the data that is summed over.
    """
    version = read_version(node, context)
    if isinstance(version, Refused):
        return version
    parts = _terms(node, context)
    if isinstance(parts, Refused):
        return parts
    terms, output = parts
    constant = [
        at for at, t in enumerate(node.inputs) if t and context.constants.why_not(t) is None
    ]
    at = constant[-1] if constant else 1
    weight = read_weight(node.input(at), node, "operand", context)
    if isinstance(weight, Refused):
        return weight
    labels, data = terms[at], terms[1 - at]
    if len(labels) != len(weight.shape):
        return malformed(node, f"{labels} does not fit a shape {list(weight.shape)}")
    sizes = dict(zip(labels, weight.shape, strict=True))
    shared = [label for label in output if label in sizes]
    if not shared:
        return Refused(
            "axis-mismatch",
            f"no axis of the output of {node.label} is one of its constant operand's",
        )
    out = ([label for label in shared if label not in data] or shared)[-1]
    return Linear(
        node=node,
        weight=weight,
        weight_factor=lambda scale: einsum_factor(scale, out, labels),
        layer=Layer.plain(np.zeros(1), sizes[out]),
        axis=output.index(out) - len(output),
        rank=lambda: len(output),
        bias=None,
        shift="add",
        weight_at=at,
        inward=_inward(node, 1 - at, data, output, sizes, out),
    )


def _inward(
    node: Node, at: int, data: str, output: str, sizes: dict[str, int], out: str
) -> Inward | Refused:
    shared = [label for label in data if label in sizes]
    if not shared:
        return Refused(
            "axis-mismatch",
            f"no axis of the data of {node.label} is one of its constant operand's",
        )
    summed = [label for label in shared if label not in output]
    channel = (summed or shared)[-1]
    # A shift becomes one value for each output channel if every other label is summed over, within
    # the weight. A label of size one may be broadcast, so its sum would be another.
    is_even = (
        set(output) & set(sizes) == {out}
        and out not in data
        and all(label in sizes and sizes[label] != 1 for label in data if label not in output)
    )
    uneven = None
    if not is_even or not summed:
        uneven = Refused(
            "uneven-border",
            f"{node.label} (Einsum) does not make one value for each output channel of a shift "
            "before it",
        )
    labels = "".join(sizes)
    return Inward(
        at=at,
        axis=data.index(channel) - len(data),
        rank=lambda: len(data),
        channels=sizes[channel],
        factor=lambda scale: einsum_factor(scale, channel, labels),
        uneven=uneven,
    )


def _spelled_out(equation: str, node: Node, context: Context) -> str:
    """An equation with labels for the axes of its ellipsis, where only one operand has them."""
    inputs, arrow, output = equation.partition("->")
    terms = inputs.split(",")
    having = [at for at, term in enumerate(terms) if "..." in term]
    tensor = node.input(having[0]) if len(having) == 1 else None
    rank = context.types.rank(tensor) if tensor is not None else None
    if rank is None or not arrow or any(part.count(".") not in (0, 3) for part in (*terms, output)):
        return equation
    free = [label for label in string.ascii_letters if label not in equation]
    count = rank - len(terms[having[0]]) + len("...")
    return equation.replace("...", "".join(free[:count])) if 0 <= count <= len(free) else equation


def _terms(node: Node, context: Context) -> tuple[Sequence[str], str] | Refused:
    """The labels of the two operands, and of the output."""
    found = node.attribute("equation")
    equation = found.s.decode(errors="replace").replace(" ", "") if found is not None else ""
    if "..." in equation:
        equation = _spelled_out(equation, node, context)
    if "." in equation:
        return Refused("axis-mismatch", f"{node.label} (Einsum) has an ellipsis: {equation}")
    match = re.fullmatch(r"([a-zA-Z,]*)(->([a-zA-Z]*))?", equation)
    terms = match.group(1).split(",") if match else []
    if match is None or len(terms) != len(node.inputs):
        return malformed(node, f"its equation is {equation!r}")
    if len(terms) != 2 or None in node.inputs:
        return Refused(
            "weight-not-constant", f"{node.label} (Einsum) has {len(terms)} operands, not two"
        )
    every = "".join(terms)
    output = match.group(3)
    if output is None:
        output = "".join(sorted(label for label in set(every) if every.count(label) == 1))
    if any(len(set(term)) != len(term) for term in (*terms, output)):
        return Refused("axis-mismatch", f"{node.label} (Einsum) repeats a label: {equation}")
    if not set(output) <= set(every):
        return malformed(node, f"its equation is {equation!r}")
    return terms, output

"""Scale what DequantizeLinear makes: say first whether it can be, then write its new scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from bnfold.algebra.affine import Array, Float64Array
from bnfold.algebra.layer import Layer
from bnfold.algebra.rounding import largest, rounded, smallest_normal
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.quantised import Dequantised, Rescaled, rescaled
from bnfold.folding.rules.reading import Inward, Linear
from bnfold.folding.surgery import Surgery
from bnfold.onnxgraph.graph import Node
from bnfold.onnxgraph.known import Known
from bnfold.onnxgraph.tensors import type_name

CLOSE = 2.0**-46
"""Two ways to multiply the same float64 factors differ by less, relatively."""


def weight_factor(linear: Linear, layer: Layer) -> Float64Array:
    """What the whole weight is multiplied by, in a shape that broadcasts to the weight's."""
    factor = linear.weight_factor(layer.out)
    if layer.inner is None:
        return factor
    assert isinstance(linear.inward, Inward)
    return np.asarray(factor * linear.inward.factor(layer.inner))


def bias_factor(linear: Linear, layer: Layer) -> Float64Array:
    """What the stored bias is multiplied by, with the beta of a Gemm, which becomes one.

    It is one factor where the bias has one value for all channels.
    """
    assert linear.bias is not None
    is_gemm = linear.node.op_type in ("Gemm", "FusedGemm")
    factor = layer.out * (linear.node.real("beta", 1.0) if is_gemm else 1.0)
    is_one = linear.bias.shape[-1:] in ((), (1,)) and factor.size != 1
    return factor[:1] if is_one and (factor == factor[0]).all() else factor


def notes_on_scales(linear: Linear, layer: Layer) -> list[str]:
    """What a reader of the report should know about the scales that change."""
    parts: list[tuple[Dequantised, Float64Array]] = []
    if isinstance(linear.weight, Dequantised) and not layer.keeps_weight:
        parts.append((linear.weight, weight_factor(linear, layer)))
    if isinstance(linear.bias, Dequantised):
        parts.append((linear.bias, bias_factor(linear, layer)))
    notes: list[str] = []
    for constant, factor in parts:
        found = rescaled(constant, factor)
        if isinstance(found, Rescaled) and found.widened:
            notes.append(
                f"the one scale of {constant.node.label} becomes {found.scale.size}, along axis "
                f"{found.axis}"
            )
    return notes


def why_not_rescaled(linear: Linear, layer: Layer) -> Refused | None:
    """Why a quantised weight or bias cannot take up its factors, or None where it can."""
    weight, bias = linear.weight, linear.bias
    if isinstance(weight, Dequantised) and not layer.keeps_weight:
        for which, factors in (("", layer.out), ("input ", layer.inner)):
            why = _not_positive(linear, weight, "quantised-weight", which, factors)
            if why is not None:
                return why
        why = _why_not(linear, weight, weight_factor(linear, layer), "weight")
        if why is not None:
            return why
    if isinstance(bias, Dequantised):
        # Before a shift, ``bias`` is the one that was there times the factors.
        exact = linear.layer.bias * layer.out
        off = np.abs(layer.bias - exact) > CLOSE * np.abs(exact)
        if off.any():
            at = int(np.flatnonzero(off.reshape(-1))[0])
            return Refused(
                "quantised-bias",
                f"the bias of {linear.node.label} is quantised ({bias.node.label}), with a scale "
                "that is tied to that of its input times that of its weight, and the norm would "
                f"add {(layer.bias - exact).reshape(-1)[at]:.6g} to channel "
                f"{at % layer.channels} of it",
            )
        factor = bias_factor(linear, layer)
        if not (factor == 1.0).all():
            why = _not_positive(linear, bias, "quantised-bias", "", factor)
            return why or _why_not(linear, bias, factor, "bias")
    return None


def _not_positive(
    linear: Linear, constant: Dequantised, code: str, which: str, factors: Float64Array | None
) -> Refused | None:
    bad = np.flatnonzero(~(factors > 0)) if factors is not None else np.zeros(0, dtype=np.int64)
    if factors is None or not bad.size:
        return None
    return Refused(
        code,
        f"{which}channel {bad[0]} of {linear.node.label} would be multiplied by "
        f"{factors[bad[0]]:.6g}, and the scales of {constant.node.label} (DequantizeLinear) can "
        "only stay above zero",
    )


def _why_not(
    linear: Linear, constant: Dequantised, factor: Float64Array, what: str
) -> Refused | None:
    name = constant.node.label
    found = rescaled(constant, factor)
    if isinstance(found, str):
        return Refused(
            f"quantised-{what}",
            f"the {what} of {linear.node.label} is quantised ({name}), and {found}",
        )
    dtype = _dtype(constant.scale.data_type)
    new = rounded(found.scale, dtype).astype(np.float64)
    bad = ~np.isfinite(new) | ((np.abs(new) < smallest_normal(dtype)) & (found.before != 0))
    if bad.any():
        at = int(np.flatnonzero(bad.reshape(-1))[0])
        return Refused(
            "beyond-dtype",
            f"scale {at} of {name} would be {found.scale.reshape(-1)[at]:.6g}, beyond the normal "
            f"numbers of {dtype.name}",
        )
    return _too_large(constant, found, linear, what)


def _too_large(constant: Dequantised, found: Rescaled, linear: Linear, what: str) -> Refused | None:
    """Why the values, not only the scales, would be beyond the dtype that the node makes."""
    dtype = _dtype(constant.data_type)
    limit, scales = largest(dtype), np.abs(found.scale)
    if _span(constant) * scales.max(initial=0.0) < limit:
        return None
    reached = float(constant.reach.max(initial=0.0) * scales.max(initial=0.0))
    if constant.reach.size == scales.size:
        reached = float((constant.reach.reshape(-1) * scales.reshape(-1)).max(initial=0.0))
    if reached <= limit:
        return None
    return Refused(
        "beyond-dtype",
        f"a {what} of {linear.node.label} would be {reached:.6g}, beyond {dtype.name} (at most "
        f"{limit:.6g})",
    )


def _span(constant: Dequantised) -> float:
    """No code of a dtype is further than this from a zero point; the codes are not read."""
    dtype = _dtype(constant.codes.data_type)
    is_float = type_name(constant.codes.data_type).startswith("float")
    return 2.0**17 if is_float else 2.0 ** (8 * dtype.itemsize)


def _dtype(data_type: int) -> np.dtype[np.generic]:
    return np.dtype(helper.tensor_dtype_to_np_dtype(data_type))


@dataclass
class _Wish:
    """One factor for what a DequantizeLinear makes, and which inputs of which nodes want it."""

    constant: Dequantised
    factor: Float64Array
    users: list[tuple[Node, int]] = field(default_factory=list)


def rescale(
    linears: Mapping[Node, Linear], layers: Mapping[Node, Layer], surgery: Surgery
) -> dict[tuple[Node, int], str]:
    """Write every DequantizeLinear whose constant takes up a factor.

    Returns:
        Operator and position of the input -> the name that it reads from now on.
    """
    rescaling = _Rescaling(surgery)
    for node, linear in linears.items():
        layer, weight, bias = layers[node], linear.weight, linear.bias
        if isinstance(weight, Dequantised) and not layer.keeps_weight:
            rescaling.ask(weight, weight_factor(linear, layer), node, linear.weight_at)
        if isinstance(bias, Dequantised):
            factor = bias_factor(linear, layer)
            if not (factor == 1.0).all():
                rescaling.ask(bias, factor, node, linear.bias_at)
    rescaling.write()
    return rescaling.names


class _Rescaling:
    """The DequantizeLinears of one model that change.

    One whose readers all want the same factor changes in place. Otherwise those that want a factor
    get a copy of it beside the original.
    """

    def __init__(self, surgery: Surgery) -> None:
        self.names: dict[tuple[Node, int], str] = {}
        self._surgery = surgery
        self._wishes: dict[Node, dict[tuple[object, ...], _Wish]] = {}

    def ask(self, constant: Dequantised, factor: Float64Array, user: Node, at: int) -> None:
        """Note that a node will read ``factor * constant``."""
        wishes = self._wishes.setdefault(constant.node, {})
        if constant.between is not None:
            user, at = constant.between, 0
        key = (factor.shape, factor.tobytes())
        wishes.setdefault(key, _Wish(constant, factor)).users.append((user, at))

    def write(self) -> None:
        """Put every DequantizeLinear that was asked for into the model."""
        for node, wishes in self._wishes.items():
            constant = next(iter(wishes.values())).constant
            tensor = constant.tensor
            users = Counter(user for wish in wishes.values() for user, _ in wish.users)
            is_free = users == Counter(tensor.readers) and not tensor.is_output
            is_free = is_free and not tensor.is_pinned
            protos: list[onnx.NodeProto] = [] if is_free else [node.proto]
            for wish in wishes.values():
                protos.append(self._written(node, wish, in_place=is_free and not protos))
            read = {name for proto in protos for name in proto.input}
            for old in (constant.scale, constant.zero):
                if old is not None and old.tensor.name not in read:
                    self._surgery.unread_once(old.tensor)
            self._surgery.kept.add(node)
            self._surgery.replace(node, *protos)

    def _written(self, node: Node, wish: _Wish, *, in_place: bool) -> onnx.NodeProto:
        constant = wish.constant
        found = rescaled(constant, wish.factor)
        assert isinstance(found, Rescaled)
        proto = onnx.NodeProto()
        proto.CopyFrom(node.proto)
        # Other values than before, so another name.
        proto.output[0] = self._surgery.fresh(f"{constant.tensor.name}_folded")
        if in_place:
            self._surgery.vanish(constant.tensor, renamed=proto.output[0])
        elif proto.name:
            proto.name = self._surgery.fresh(f"{proto.name}_folded")
        self.names.update(dict.fromkeys(wish.users, proto.output[0]))
        scale = rounded(np.asarray(found.scale), _dtype(constant.scale.data_type))
        proto.input[1] = self._store(constant, constant.scale, scale, in_place=in_place)
        if found.widened:
            if constant.zero is not None:
                value = np.asarray(constant.zero.array).reshape(-1)[:1]
                wide = np.repeat(value, found.scale.size)
                proto.input[2] = self._store(constant, constant.zero, wide, in_place=in_place)
            kept = [a for a in proto.attribute if a.name != "axis"]
            del proto.attribute[:]
            proto.attribute.extend([*kept, helper.make_attribute("axis", found.axis)])
        return proto

    def _store(self, constant: Dequantised, old: Known, values: Array, *, in_place: bool) -> str:
        """Store a scale or zero point, in place of the old one if only this node reads it."""
        data = bytes(numpy_helper.from_array(np.asarray(values)).raw_data)
        return self._surgery.store(
            old if in_place else None,
            [constant.node],
            data,
            values.shape,
            old.data_type,
            constant.node.scope,
            f"{old.tensor.name}_folded",
        )

"""Pooling, resizing and padding: one builder for each."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz.constants import as_node, initializer, integers
from tests.fuzz.sketch import FACTORS, Builder, Sketch, Unfit
from tests.support_models import Array


def _pooled(op_type: str, dilates_since: int, ceils_since: int = 10) -> Builder:
    def build(sketch: Sketch, x: str) -> str:
        """Pooling with any window, stride, padding and dilation."""
        if sketch.rank(x) < 3:
            raise Unfit("no axis behind the channels")
        spatial = sketch.rank(x) - 2
        kernel = [sketch.whole(1, 3) for _ in range(spatial)]
        attributes: dict[str, Any] = {"kernel_shape": kernel}
        padding = sketch.rng.random()
        if padding < 0.4:
            attributes["pads"] = [sketch.whole(0, taps - 1) for taps in kernel * 2]
        elif padding < 0.55:
            attributes["auto_pad"] = sketch.pick(["VALID", "SAME_UPPER", "SAME_LOWER"])
        if sketch.chance(0.4):
            attributes["strides"] = [sketch.whole(1, 2) for _ in range(spatial)]
        if "auto_pad" not in attributes and sketch.opset >= ceils_since and sketch.chance(0.25):
            attributes["ceil_mode"] = 1
        if "auto_pad" not in attributes and sketch.opset >= dilates_since and sketch.chance(0.2):
            attributes["dilations"] = [sketch.whole(1, 2) for _ in range(spatial)]
        if op_type == "AveragePool" and sketch.chance(0.3):
            attributes["count_include_pad"] = 1
        if op_type == "LpPool" and sketch.chance(0.5):
            attributes["p"] = sketch.whole(1, 3)
        return sketch.node(op_type, [x], **attributes)

    return build


def _global(op_type: str) -> Builder:
    def build(sketch: Sketch, x: str) -> str:
        """Pooling of all that is behind the channels."""
        if sketch.rank(x) < 3:
            raise Unfit("no axis behind the channels")
        return sketch.node(op_type, [x])

    return build


def upsample(sketch: Sketch, x: str) -> str:
    """Upsample, before opset 10: scales as an attribute, then as an input."""
    scales = [max(factor, 1.0) for factor in _factors(sketch, x)]
    mode = _old_mode(sketch, x)
    if sketch.opset < 9:
        return sketch.node("Upsample", [x], mode=mode, scales=scales)
    return sketch.node("Upsample", [x, _float32(sketch, scales)], mode=mode)


def resize(sketch: Sketch, x: str) -> str:
    """Resize by scales or to sizes, in every mode but that of a region."""
    factors = _factors(sketch, x)
    if sketch.opset < 11:
        return sketch.node("Resize", [x, _float32(sketch, factors)], mode=_old_mode(sketch, x))
    attributes = _resize_attributes(sketch)
    sizes = [max(1, int(n * f)) for n, f in zip(sketch.shape(x), factors, strict=True)]
    to_sizes = sketch.chance(0.4)
    if sketch.opset >= 18 and sketch.chance(0.4):
        axes = [at for at, factor in enumerate(factors) if factor != 1] or [sketch.rank(x) - 1]
        attributes["axes"] = axes
        factors, sizes = [factors[at] for at in axes], [sizes[at] for at in axes]
    nothing = "" if sketch.opset >= 13 else initializer(sketch, np.zeros(0, np.float32))
    if to_sizes:
        return sketch.node("Resize", [x, nothing, nothing, integers(sketch, sizes)], **attributes)
    return sketch.node("Resize", [x, nothing, _float32(sketch, factors)], **attributes)


def _resize_attributes(sketch: Sketch) -> dict[str, Any]:
    modes = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
    modes += ["half_pixel_symmetric"] if sketch.opset >= 19 else []
    modes += ["tf_half_pixel_for_nn"] if sketch.opset < 13 else []
    mode = sketch.pick(["nearest", "linear", "cubic"])
    found: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": sketch.pick(modes)}
    if mode == "nearest":
        if sketch.chance(0.5):
            rounds = ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]
            found["nearest_mode"] = sketch.pick(rounds)
        return found
    if mode == "cubic" and sketch.chance(0.3):
        found["cubic_coeff_a"] = -0.5
    if sketch.chance(0.2):
        found["exclude_outside"] = 1
    if sketch.opset >= 18 and sketch.chance(0.15):
        found["antialias"] = 1
    return found


def pad(sketch: Sketch, x: str) -> str:
    """Pad in every mode, now and then by less than nothing; by all axes or by some."""
    rank = sketch.rank(x)
    modes = ["constant", "constant", "constant", "reflect", "edge"]
    mode = sketch.pick(modes + (["wrap"] if sketch.opset >= 19 else []))
    padded = range(2, rank) if rank > 2 and sketch.chance(0.7) else range(rank)
    least = -1 if sketch.chance(0.2) else 0
    pads = [0] * 2 * rank
    for at in (*padded, *(axis + rank for axis in padded)):
        pads[at] = sketch.whole(least, 1) if sketch.chance(0.5) else 0
    value = sketch.pick([0.0, 0.0, 0.0, 1.0, -3.0])
    if sketch.opset < 11:
        given = {"value": value} if sketch.chance(0.5) else {}
        return sketch.node("Pad", [x], mode=mode, pads=pads, **given)
    filling = initializer(sketch, sketch.stored(value)) if sketch.chance(0.6) else ""
    if sketch.opset >= 18 and sketch.chance(0.3):
        axes = [at for at in range(rank) if pads[at] or pads[at + rank]] or [0]
        some = [pads[at] for at in axes] + [pads[at + rank] for at in axes]
        inputs = [x, integers(sketch, some), filling, integers(sketch, axes)]
        return sketch.node("Pad", inputs, mode=mode)
    inputs = [x, integers(sketch, pads), *([filling] if filling else [])]
    return sketch.node("Pad", inputs, mode=mode)


def _factors(sketch: Sketch, x: str) -> list[float]:
    rank = sketch.rank(x)
    axes = [*range(2, rank)] if sketch.chance(0.8) else [sketch.whole(0, rank - 1)]
    factors = [1.0, 2.0, 1.5, 0.5, 3.0]
    return [sketch.pick(factors) if at in axes else 1.0 for at in range(rank)]


def _old_mode(sketch: Sketch, x: str) -> str:
    mode = sketch.pick(["nearest", "linear"])
    if mode == "linear" and sketch.rank(x) not in (2, 4):
        raise Unfit("linear is for images")
    return mode


def _float32(sketch: Sketch, numbers: list[float]) -> str:
    """Factors of sizes, which no fold may round."""
    values: Array = np.array(numbers, np.float32)
    spell = initializer if sketch.chance(0.8) else as_node
    return spell(sketch, values, FACTORS)


WINDOWS: dict[str, Builder] = {
    "AveragePool": _pooled("AveragePool", 19),
    "MaxPool": _pooled("MaxPool", 10),
    "LpPool": _pooled("LpPool", 18, 18),
    "GlobalLpPool": _global("GlobalLpPool"),
    "GlobalAveragePool": _global("GlobalAveragePool"),
    "GlobalMaxPool": _global("GlobalMaxPool"),
    "Resize": resize,
    "Upsample": upsample,
    "Pad": pad,
}

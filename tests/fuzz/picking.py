"""Operators that pick elements at places, add them up along an axis or put zeros in."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.fuzz.constants import initializer, integers
from tests.fuzz.sketch import FACTORS, Builder, Sketch, Unfit


def gather_nd(sketch: Sketch, x: str) -> str:
    """GatherND: of the first axes, or of those behind some axes of a batch."""
    shape = sketch.shape(x)
    first = sketch.whole(0, len(shape) - 1) if sketch.opset >= 12 and sketch.chance(0.5) else 0
    picked = sketch.whole(1, min(2, len(shape) - first))
    sizes = [*shape[:first], *[sketch.whole(1, 3) for _ in range(sketch.whole(0, 2))]]
    places = [sketch.rng.integers(-n, n, sizes) for n in shape[first : first + picked]]
    given = {"batch_dims": first} if first else {}
    return sketch.node("GatherND", [x, integers(sketch, np.stack(places, axis=-1))], **given)


def gather_elements(sketch: Sketch, x: str) -> str:
    """GatherElements along any axis, now and then of fewer elements along another."""
    shape, rank = sketch.shape(x), sketch.rank(x)
    axis = sketch.whole(0, rank - 1)
    sizes = [n if sketch.chance(0.9) else sketch.whole(1, n) for n in shape]
    sizes[axis] = sketch.whole(1, 4)
    places = sketch.rng.integers(-shape[axis], shape[axis], sizes)
    inputs = [x, integers(sketch, places)]
    return sketch.node("GatherElements", inputs, axis=sketch.from_end(axis, rank))


def compress(sketch: Sketch, x: str) -> str:
    """Compress along an axis, or of all elements."""
    rank = sketch.rank(x)
    axis = sketch.whole(0, rank - 1)
    is_flat = sketch.chance(0.15)
    size = int(np.prod(sketch.shape(x))) if is_flat else sketch.shape(x)[axis]
    chosen = sketch.rng.random(size) < 0.7
    chosen[sketch.whole(0, size - 1)] = True
    given = {} if is_flat else {"axis": sketch.from_end(axis, rank)}
    return sketch.node("Compress", [x, initializer(sketch, np.asarray(chosen))], **given)


def reverse_sequence(sketch: Sketch, x: str) -> str:
    """ReverseSequence along the first axis or the second."""
    if sketch.rank(x) < 2:
        raise Unfit("it needs a batch and time")
    time = sketch.whole(0, 1)
    shape = sketch.shape(x)
    lengths = sketch.rng.integers(1, shape[time] + 1, shape[1 - time])
    inputs = [x, integers(sketch, lengths)]
    return sketch.node("ReverseSequence", inputs, time_axis=time, batch_axis=1 - time)


def grid_sample(sketch: Sketch, x: str) -> str:
    """GridSample at places on the image and beyond it."""
    shape = sketch.shape(x)
    spatial = len(shape) - 2
    if spatial not in ((2,) if sketch.opset < 20 else (2, 3)):
        raise Unfit("it reads images")
    names = ["nearest", "bilinear", "bicubic"] if sketch.opset < 20 else ["linear", "nearest"]
    places = [sketch.whole(1, 3) for _ in range(spatial)]
    grid = sketch.rng.uniform(-1.3, 1.3, (shape[0], *places, spatial))
    return sketch.node(
        "GridSample",
        [x, initializer(sketch, sketch.stored(grid), FACTORS)],
        mode=sketch.pick(names),
        padding_mode=sketch.pick(["zeros", "border", "border", "reflection"]),
        align_corners=sketch.whole(0, 1),
    )


def roi_align(sketch: Sketch, x: str) -> str:
    """RoiAlign of regions on the images and beyond them."""
    if sketch.rank(x) != 4:
        raise Unfit("it reads images")
    count, rng = sketch.whole(1, 3), sketch.rng
    corners = rng.uniform(-2, 3, (count, 2))
    regions = np.concatenate([corners, corners + rng.uniform(1, 4, (count, 2))], axis=1)
    images = rng.integers(0, sketch.shape(x)[0], count)
    return sketch.node(
        "RoiAlign",
        [x, initializer(sketch, sketch.stored(regions), FACTORS), integers(sketch, images)],
        mode=sketch.pick(["avg", "max"]),
        output_height=sketch.whole(1, 2),
        output_width=sketch.whole(1, 2),
        sampling_ratio=2,
    )


def cum_sum(sketch: Sketch, x: str) -> str:
    """CumSum along any axis, in both directions."""
    axis = sketch.from_end(sketch.whole(0, sketch.rank(x) - 1), sketch.rank(x))
    flags: dict[str, Any] = {"exclusive": sketch.whole(0, 1), "reverse": sketch.whole(0, 1)}
    given = flags if sketch.chance(0.5) else {}
    return sketch.node("CumSum", [x, initializer(sketch, np.array(axis))], **given)


def trilu(sketch: Sketch, x: str) -> str:
    """Trilu: either half, from any diagonal on."""
    if sketch.rank(x) < 2:
        raise Unfit("it reads matrices")
    inputs = [x]
    if sketch.chance(0.5):
        inputs.append(initializer(sketch, np.array(sketch.whole(-2, 2))))
    return sketch.node("Trilu", inputs, upper=sketch.whole(0, 1))


def center_crop_pad(sketch: Sketch, x: str) -> str:
    """CenterCropPad of some axes or all, mostly to fewer elements."""
    shape, rank = sketch.shape(x), sketch.rank(x)
    axes = sketch.some(range(rank), 1, rank) if sketch.chance(0.8) else [*range(rank)]
    most = 1 if sketch.chance(0.3) else 0
    sizes = [sketch.whole(1, shape[axis] + most) for axis in axes]
    listed = [sketch.from_end(axis, rank) for axis in axes]
    given = {} if axes == [*range(rank)] and sketch.chance(0.5) else {"axes": listed}
    return sketch.node("CenterCropPad", [x, integers(sketch, sizes)], **given)


PICKING: dict[str, Builder] = {
    "GatherND": gather_nd,
    "GatherElements": gather_elements,
    "Compress": compress,
    "ReverseSequence": reverse_sequence,
    "GridSample": grid_sample,
    "RoiAlign": roi_align,
    "CumSum": cum_sum,
    "Trilu": trilu,
    "CenterCropPad": center_crop_pad,
}

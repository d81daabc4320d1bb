"""Operators that move data about: one builder for each."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from tests.fuzz.constants import initializer, integers
from tests.fuzz.sketch import Builder, Sketch, Unfit


def identity(sketch: Sketch, x: str) -> str:
    """Identity."""
    return sketch.node("Identity", [x])


def dropout(sketch: Sketch, x: str) -> str:
    """Dropout in inference."""
    if sketch.opset >= 12 or sketch.chance(0.5):
        return sketch.node("Dropout", [x])
    return sketch.node("Dropout", [x], ratio=0.3)


def transpose(sketch: Sketch, x: str) -> str:
    """Transpose: of any order, often channels to the end or back."""
    rank = sketch.rank(x)
    if sketch.chance(0.15):
        return sketch.node("Transpose", [x])
    order = [int(axis) for axis in sketch.rng.permutation(rank)]
    if rank >= 3 and sketch.chance(0.4):
        order = sketch.pick([[0, *range(2, rank), 1], [0, rank - 1, *range(1, rank - 1)]])
    return sketch.node("Transpose", [x], perm=order)


def squeeze(sketch: Sketch, x: str) -> str:
    """Squeeze of some axes of one, or of all of them."""
    rank, ones = sketch.rank(x), [at for at, size in enumerate(sketch.shape(x)) if size == 1]
    if not ones or rank < 2:
        raise Unfit("nothing to squeeze")
    if sketch.chance(0.15) and len(ones) < rank:
        return sketch.node("Squeeze", [x])
    axes = [sketch.from_end(axis, rank) for axis in sketch.some(ones, 1, rank - 1)]
    return _with_axes(sketch, "Squeeze", x, axes)


def unsqueeze(sketch: Sketch, x: str) -> str:
    """Unsqueeze of one axis or two."""
    rank = sketch.rank(x)
    if rank >= 5:
        raise Unfit("axes enough")
    count = 2 if rank < 4 and sketch.chance(0.3) else 1
    axes = sketch.some(range(rank + count), count, count)
    return _with_axes(
        sketch, "Unsqueeze", x, [sketch.from_end(axis, rank + count) for axis in axes]
    )


def reshape(sketch: Sketch, x: str) -> str:
    """Reshape: axes joined, an axis split, or anything; 0, -1 and computed shapes."""
    shape, rank = list(sketch.shape(x)), sketch.rank(x)
    form = sketch.whole(0, 4)
    if form == 0 and rank > 1:
        at = sketch.whole(0, rank - 2)
        new = [*shape[:at], shape[at] * shape[at + 1], *shape[at + 2 :]]
    elif form == 1 and rank:
        at = sketch.whole(0, rank - 1)
        first = sketch.pick([n for n in range(1, shape[at] + 1) if shape[at] % n == 0])
        new = [*shape[:at], first, shape[at] // first, *shape[at + 1 :]]
    elif form == 2 and rank:
        new = [sketch.pick([shape[0], 0]), -1]
    elif form == 3 and rank > 2:
        new = [shape[0], shape[1], -1]
    else:
        form, new = 4, _any_shape(sketch, int(np.prod(shape)))
    if len(new) > 5:
        raise Unfit("too many axes")
    if -1 not in new and sketch.chance(0.3):
        new[sketch.whole(0, len(new) - 1)] = -1
    if form != 4 and sketch.chance(0.3):
        same = [at for at in range(min(len(new), rank)) if new[at] == shape[at]]
        new = [0 if at in same and sketch.chance(0.6) else size for at, size in enumerate(new)]
    if sketch.chance(0.15):
        return _reshaped_as_computed(sketch, x)
    attributes = {"allowzero": 1} if sketch.opset >= 14 and 0 not in new else {}
    return sketch.node(
        "Reshape", [x, integers(sketch, new)], **(attributes if sketch.chance(0.1) else {})
    )


def _any_shape(sketch: Sketch, size: int) -> list[int]:
    new = []
    for _ in range(sketch.whole(1, 3)):
        new.append(sketch.pick([n for n in range(1, min(size, 7) + 1) if size % n == 0]))
        size //= new[-1]
    new.append(size)
    return [new[int(at)] for at in sketch.rng.permutation(len(new))]


def _reshaped_as_computed(sketch: Sketch, x: str) -> str:
    """To sizes that the graph reads from a shape."""
    sizes = sketch.aside("Shape", [x])
    if sketch.chance(0.5):
        first = sketch.aside("Gather", [sizes, integers(sketch, [0])])
        target = sketch.aside("Concat", [first, integers(sketch, [-1])], axis=0)
        return sketch.node("Reshape", [x, target])
    count = np.size(sketch.values[x])
    other = sketch.tensor(lambda shape: int(np.prod(shape)) == count)
    return sketch.node("Reshape", [other, sizes])


def flatten(sketch: Sketch, x: str) -> str:
    """Flatten at any axis."""
    rank = sketch.rank(x)
    if sketch.chance(0.3):
        return sketch.node("Flatten", [x])
    return sketch.node("Flatten", [x], axis=sketch.whole(-rank if sketch.opset >= 11 else 0, rank))


def slice_(sketch: Sketch, x: str) -> str:
    """Slice of one axis or two, forwards, backwards, with steps, beyond the end."""
    shape, rank = sketch.shape(x), sketch.rank(x)
    axes = sketch.some(range(rank), 1, 2)
    starts, ends, steps = [], [], []
    for axis in axes:
        size = shape[axis]
        start = sketch.whole(0, size - 1)
        end, step = sketch.whole(start + 1, size), 1
        if sketch.opset >= 10 and sketch.chance(0.25):
            step = sketch.pick([2, -1, -2])
        if step < 0:
            start, end = sketch.pick([size - 1, -1]), sketch.pick([-size - 1, -2000])
        elif sketch.chance(0.2):
            end = 2**31 - 1
        elif sketch.chance(0.2) and end < size:
            end -= size
        if step > 0 and sketch.chance(0.3):
            start -= size
        starts.append(start)
        ends.append(end)
        steps.append(step)
    if sketch.opset < 10:
        return sketch.node("Slice", [x], starts=starts, ends=ends, axes=axes)
    axes = [sketch.from_end(axis, rank, 10) for axis in axes]
    inputs = [x, *(integers(sketch, numbers) for numbers in (starts, ends, axes))]
    if steps != [1] * len(steps) or sketch.chance(0.3):
        inputs.append(integers(sketch, steps))
    return sketch.node("Slice", inputs)


def gather(sketch: Sketch, x: str) -> str:
    """Gather of any axis with constant indices; or rows of a constant table."""
    rank = sketch.rank(x)
    axis = sketch.whole(0, rank - 1)
    size = sketch.shape(x)[axis]
    shapes: list[tuple[int, ...]] = [(), (1,), (2,), (size,), (3,), (2, 2)]
    indices = sketch.rng.integers(0, size, sketch.pick(shapes))
    if sketch.chance(0.3):
        indices = sketch.rng.permutation(size)
    if sketch.opset >= 11 and sketch.chance(0.2):
        indices = indices - size
    name = integers(sketch, np.asarray(indices))
    if sketch.chance(0.1):
        table = initializer(sketch, sketch.shifts((size, sketch.whole(1, 4))))
        return sketch.node("Gather", [table, name], axis=0)
    return sketch.node("Gather", [x, name], axis=sketch.from_end(axis, rank))


def split(sketch: Sketch, x: str) -> str:
    """Split of any axis into up to three parts, equal or not."""
    rank = sketch.rank(x)
    axis = _likely_channels(sketch, rank)
    parts = _parts(sketch, sketch.shape(x)[axis])
    attributes: dict[str, Any] = {}
    if axis or sketch.chance(0.5):
        attributes["axis"] = sketch.from_end(axis, rank)
    are_equal = len(set(parts)) == 1
    inputs = [x]
    if sketch.opset < 13:
        if not are_equal or sketch.chance(0.5):
            attributes["split"] = parts
    elif sketch.opset >= 18 and sketch.chance(0.4):
        size, count = sketch.shape(x)[axis], len(parts)
        if -(-size // count) * (count - 1) >= size:
            raise Unfit("the last part would be empty")
        attributes["num_outputs"] = count
    elif sketch.opset >= 18 or not are_equal or sketch.chance(0.5):
        inputs.append(integers(sketch, parts))
    return sketch.pick(sketch.split("Split", inputs, len(parts), **attributes))


def split_to_sequence(sketch: Sketch, x: str) -> str:
    """SplitToSequence, and SequenceAt of one part or two."""
    axis = sketch.whole(0, sketch.rank(x) - 1)
    size, form = sketch.shape(x)[axis], sketch.rng.random()
    inputs: list[str] = [x]
    attributes: dict[str, Any] = {"axis": axis}
    parts = [1] * size
    if form < 0.4:
        parts = _parts(sketch, size)
        inputs.append(integers(sketch, parts))
    elif form < 0.7:
        step = sketch.whole(1, size)
        inputs.append(initializer(sketch, np.array(step)))
        parts = [step] * (size // step) + [size % step] * bool(size % step)
    elif sketch.chance(0.5):
        attributes["keepdims"] = sketch.whole(0, 1)
    sequence = sketch.split("SplitToSequence", inputs, 1, **attributes)[0]
    for _ in range(sketch.whole(1, 2)):
        at = sketch.whole(-len(parts), len(parts) - 1)
        y = sketch.node("SequenceAt", [sequence, initializer(sketch, np.array(at))])
    return y


def expand(sketch: Sketch, x: str) -> str:
    """Expand to sizes that are constant, or read from another tensor."""
    rank = sketch.rank(x)
    if sketch.chance(0.2):
        other = sketch.tensor(lambda shape: len(shape) >= rank)
        return sketch.node("Expand", [x, sketch.aside("Shape", [other])])
    sizes = [sketch.pick([1, 2, 3]) if size == 1 else size for size in sketch.shape(x)]
    if sketch.chance(0.3):
        sizes = [1 if sketch.chance(0.5) else size for size in sizes]
    if rank < 5 and sketch.chance(0.2):
        sizes = [sketch.whole(1, 2), *sizes]
    return sketch.node("Expand", [x, integers(sketch, sizes)])


def tile(sketch: Sketch, x: str) -> str:
    """Tile, most axes once."""
    repeats = [sketch.pick([1, 1, 2]) for _ in sketch.shape(x)]
    return sketch.node("Tile", [x, integers(sketch, repeats)])


def depth_to_space(sketch: Sketch, x: str) -> str:
    """DepthToSpace in blocks of two, in both modes."""
    if sketch.rank(x) != 4 or sketch.shape(x)[1] % 4:
        raise Unfit("no image with a multiple of four channels")
    attributes = {}
    if sketch.opset >= 11 and sketch.chance(0.6):
        attributes["mode"] = sketch.pick(["DCR", "CRD"])
    return sketch.node("DepthToSpace", [x], blocksize=2, **attributes)


def space_to_depth(sketch: Sketch, x: str) -> str:
    """SpaceToDepth in blocks of two."""
    if sketch.rank(x) != 4 or any(size % 2 for size in sketch.shape(x)[2:]):
        raise Unfit("no image of even sizes")
    return sketch.node("SpaceToDepth", [x], blocksize=2)


def cast(sketch: Sketch, x: str) -> str:
    """Cast to the dtype that the data has."""
    return sketch.node("Cast", [x], to=sketch.code)


def cast_like(sketch: Sketch, x: str) -> str:
    """CastLike to the dtype that the data has."""
    return sketch.node("CastLike", [x, initializer(sketch, sketch.stored([0.0]))])


def _with_axes(sketch: Sketch, op_type: str, x: str, axes: list[int]) -> str:
    if sketch.opset < 13:
        return sketch.node(op_type, [x], axes=axes)
    return sketch.node(op_type, [x, integers(sketch, axes)])


def _likely_channels(sketch: Sketch, rank: int) -> int:
    return sketch.whole(0, rank - 1) if sketch.chance(0.5) else min(1, rank - 1)


def _parts(sketch: Sketch, size: int) -> list[int]:
    """Two or three sizes that add up to one; one where there is nothing to part."""
    cuts = sorted(sketch.some(range(1, size), 1, 2)) if size > 1 else []
    ends = [0, *cuts, size]
    return [end - start for start, end in pairwise(ends)]


MOVEMENT: dict[str, Builder] = {
    "Identity": identity,
    "Dropout": dropout,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Reshape": reshape,
    "Flatten": flatten,
    "Slice": slice_,
    "Gather": gather,
    "Split": split,
    "SplitToSequence": split_to_sequence,
    "SequenceAt": split_to_sequence,
    "Expand": expand,
    "Tile": tile,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "Cast": cast,
    "CastLike": cast_like,
}

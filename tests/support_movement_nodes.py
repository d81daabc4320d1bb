"""One-node models of each operator that moves elements, in all its forms, drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto

from tests.support_movement import Generator, Moved, drawn_data, drawn_shape, ints, node, signed
from tests.support_through import Array


def transpose(rng: Generator) -> Moved:
    shape = drawn_shape(rng, 1, 5)
    given: dict[str, Any] = (
        {} if rng.random() < 0.2 else {"perm": rng.permutation(len(shape)).tolist()}
    )
    opset = int(rng.choice([7, 13, 21, 25]))
    return Moved(node("Transpose", "x0", **given), [drawn_data(rng, shape)], opset=opset)


def squeeze(rng: Generator) -> Moved:
    shape = drawn_shape(rng, 1, 4)
    at = sorted(rng.choice(len(shape) + 1, rng.integers(1, 3), replace=True).tolist())
    for place in reversed(at):
        shape.insert(place, 1)
    axes = [axis for axis, size in enumerate(shape) if size == 1]
    axes = [axis for axis in axes if rng.random() < 0.7] or axes[:1]
    axes = [signed(rng, axis, len(shape)) for axis in axes]
    data = [drawn_data(rng, shape)]
    if rng.random() < 0.2:
        return Moved(node("Squeeze", "x0"), data, opset=int(rng.choice([11, 13, 21])))
    return _with_axes("Squeeze", axes, data, int(rng.choice([11, 13, 21, 25])), len(shape))


def unsqueeze(rng: Generator) -> Moved:
    shape = drawn_shape(rng, 1, 3)
    count = int(rng.integers(1, 3))
    rank = len(shape) + count
    axes = rng.choice(rank, count, replace=False).tolist()
    axes = [signed(rng, axis, rank) for axis in axes]
    data = [drawn_data(rng, shape)]
    return _with_axes("Unsqueeze", axes, data, int(rng.choice([7, 11, 13, 21, 25])), rank)


def _with_axes(op_type: str, axes: list[int], data: list[Array], opset: int, rank: int) -> Moved:
    if opset >= 13:
        return Moved(node(op_type, "x0 axes"), data, {"axes": ints(*axes)}, opset)
    # The reference implementation of these versions goes wrong with negative ones of several axes.
    front = [axis % rank for axis in axes] if opset < 11 or len(axes) > 1 else axes
    return Moved(node(op_type, "x0", axes=sorted(front)), data, opset=opset)


def reshape(rng: Generator) -> Moved:
    """Axes merged and split at random."""
    shape = [int(n) for n in rng.choice([1, 2, 3, 4, 6], rng.integers(1, 5))]
    factors = [f for size in shape for f in _factors(size)] if rng.random() < 0.8 else shape
    made: list[int] = []
    for factor in factors:
        if made and rng.random() < 0.5:
            made[-1] *= factor
        else:
            made.append(factor)
    made = made or [1]
    while rng.random() < 0.3:
        made.insert(int(rng.integers(0, len(made) + 1)), 1)
    wanted = list(made)
    for axis in range(min(len(shape), len(made))):
        if made[axis] == shape[axis] and rng.random() < 0.5:
            wanted[axis] = 0
    if rng.random() < 0.5:
        wanted[int(rng.integers(0, len(made)))] = -1
    opset = int(rng.choice([5, 13, 14, 21]))
    constants = {"shape": ints(*wanted)}
    return Moved(node("Reshape", "x0 shape"), [drawn_data(rng, shape)], constants, opset)


def _factors(size: int) -> list[int]:
    return {1: [1], 4: [2, 2], 6: [2, 3]}.get(size, [size])


def flatten(rng: Generator) -> Moved:
    shape = drawn_shape(rng, 1, 4)
    opset = int(rng.choice([9, 11, 13, 21]))
    axis = int(rng.integers(0 if opset < 11 else -len(shape), len(shape) + 1))
    given: dict[str, Any] = {} if rng.random() < 0.2 else {"axis": axis}
    return Moved(node("Flatten", "x0", **given), [drawn_data(rng, shape)], opset=opset)


def slice_(rng: Generator) -> Moved:
    shape = drawn_shape(rng, 1, 4, sizes=6)
    axes = rng.choice(len(shape), rng.integers(1, len(shape) + 1), replace=False).tolist()
    opset = int(rng.choice([9, 10, 11, 13]))
    starts: list[int] = []
    ends: list[int] = []
    steps: list[int] = []
    for axis in axes:
        size = shape[axis]
        step = int(rng.choice([1, 1, 2, 3, -1, -2])) if opset >= 10 else 1
        first, last = sorted(rng.integers(0, size, 2).tolist())
        big = 2**63 - 1 if opset >= 10 else 2**31 - 1
        start, end = (first, last + 1) if step > 0 else (last, first - 1)
        if step < 0 and end < 0:
            end = int(rng.choice([-size - 1, -(2**63)]))
        elif step > 0 and end == size and rng.random() < 0.5:
            end = big
        elif 0 <= end < size and rng.random() < 0.5:
            end -= size
        if rng.random() < 0.5:
            start -= size
        elif start == size - 1 and step < 0 and rng.random() < 0.5:
            start = big
        starts, ends, steps = [*starts, start], [*ends, end], [*steps, step]
    data = [drawn_data(rng, shape)]
    if axes == list(range(len(axes))) and set(steps) == {1} and rng.random() < 0.7:
        if opset < 10:
            return Moved(node("Slice", "x0", starts=starts, ends=ends), data, opset=opset)
        return Moved(
            node("Slice", "x0 starts ends"), data, {"starts": ints(*starts), "ends": ints(*ends)}
        )
    if opset < 10:
        return Moved(node("Slice", "x0", starts=starts, ends=ends, axes=axes), data, opset=opset)
    signs = [signed(rng, axis, len(shape)) for axis in axes] if opset >= 11 else axes
    lists = {"starts": starts, "ends": ends, "axes": signs, "steps": steps}
    constants = {name: ints(*values) for name, values in lists.items()}
    return Moved(node("Slice", "x0 starts ends axes steps"), data, constants, opset)


def split(rng: Generator) -> Moved:
    shape = drawn_shape(rng, 1, 4)
    axis, count = int(rng.integers(0, len(shape))), int(rng.integers(1, 4))
    sizes = rng.integers(1, 4, count).tolist()
    form = str(rng.choice(["attribute", "input", "equal", "num_outputs"]))
    opset = {"attribute": 11, "input": 13, "equal": 13, "num_outputs": 18}[form]
    given: dict[str, Any] = {"axis": signed(rng, axis, len(shape))}
    inputs = "x0"
    constants: dict[str, Array] = {}
    if form == "attribute":
        given["split"] = sizes
    elif form == "input":
        inputs, constants, opset = "x0 split", {"split": ints(*sizes)}, int(rng.choice([13, 18]))
    elif form == "equal":
        sizes, opset = [sizes[0]] * count, int(rng.choice([2, 11, 13]))
    else:
        sizes = [max(sizes)] * (count - 1) + [int(rng.integers(1, max(sizes) + 1))]
        given["num_outputs"] = count
    if opset < 11:
        given["axis"] = axis
    shape[axis] = sum(sizes)
    outputs = " ".join(f"y{at}" for at in range(count))
    return Moved(
        node("Split", inputs, outputs, **given), [drawn_data(rng, shape)], constants, opset
    )


def concat(rng: Generator) -> Moved:
    shape = drawn_shape(rng, 1, 4)
    axis, count = int(rng.integers(0, len(shape))), int(rng.integers(1, 4))
    data = []
    for size in rng.integers(1, 4, count).tolist():
        shape[axis] = size
        data.append(drawn_data(rng, shape))
    opset = int(rng.choice([4, 11, 13]))
    given: dict[str, Any] = {"axis": axis if opset < 11 else signed(rng, axis, len(shape))}
    inputs = " ".join(f"x{at}" for at in range(count))
    return Moved(node("Concat", inputs, **given), data, opset=opset)


def expand(rng: Generator) -> Moved:
    shape = drawn_shape(rng, 1, 3)
    target = [*drawn_shape(rng, 0, 2), *shape] if rng.random() < 0.5 else list(shape)
    more = len(target) - len(shape)
    data_shape = [1 if rng.random() < 0.4 else size for size in shape]
    target = [1 if i >= more and rng.random() < 0.3 else size for i, size in enumerate(target)]
    target = [n if i < more or data_shape[i - more] in (1, n) or n == 1 else data_shape[i - more]
              for i, n in enumerate(target)]  # fmt: skip
    constants = {"shape": ints(*target)}
    opset = int(rng.choice([8, 13]))
    data = [drawn_data(rng, data_shape)]
    return Moved(node("Expand", "x0 shape"), data, constants, opset, both=False)


def tile(rng: Generator) -> Moved:
    shape = drawn_shape(rng, 1, 4)
    repeats = ints(*rng.integers(1, 4, len(shape)))
    opset = int(rng.choice([6, 13]))
    data = [drawn_data(rng, shape)]
    return Moved(node("Tile", "x0 repeats"), data, {"repeats": repeats}, opset, both=False)


def gather(rng: Generator) -> Moved:
    shape = drawn_shape(rng, 1, 4, sizes=6)
    axis = int(rng.integers(0, len(shape)))
    is_unique = rng.random() < 0.5
    indices = rng.permutation(shape[axis])[: rng.integers(1, shape[axis] + 1)]
    if not is_unique:
        indices = rng.integers(0, shape[axis], drawn_shape(rng, 0, 2, sizes=3))
    opset = int(rng.choice([1, 11, 13]))
    if opset >= 11:
        indices = indices - shape[axis] * rng.integers(0, 2, np.shape(indices))
        axis = signed(rng, axis, len(shape))
    dtype = np.int32 if rng.random() < 0.5 else np.int64
    data, constants = [drawn_data(rng, shape)], {"at": np.asarray(indices, dtype=dtype)}
    attributes: dict[str, Any] = {} if axis == 0 and rng.random() < 0.5 else {"axis": axis}
    return Moved(
        node("Gather", "x0 at", **attributes), data, constants, max(opset, 7), both=is_unique
    )


def depth_to_space(rng: Generator) -> Moved:
    block = int(rng.integers(1, 4))
    n, c, h, w = rng.integers(1, 4, 4).tolist()
    opset = int(rng.choice([7, 11, 13]))
    given: dict[str, Any] = {"mode": str(rng.choice(["DCR", "CRD"]))} if opset >= 11 else {}
    data = [drawn_data(rng, (n, c * block * block, h, w))]
    return Moved(node("DepthToSpace", "x0", blocksize=block, **given), data, opset=opset)


def space_to_depth(rng: Generator) -> Moved:
    block = int(rng.integers(1, 4))
    n, c, h, w = rng.integers(1, 4, 4).tolist()
    data = [drawn_data(rng, (n, c, h * block, w * block))]
    return Moved(node("SpaceToDepth", "x0", blocksize=block), data, opset=int(rng.choice([7, 13])))


def cast(rng: Generator) -> Moved:
    opset = int(rng.choice([9, 13, 19, 23]))
    made = node("Cast", "x0", to=TensorProto.DOUBLE)
    return Moved(made, [drawn_data(rng, drawn_shape(rng))], opset=opset)


def cast_like(rng: Generator) -> Moved:
    made, data = node("CastLike", "x0 like"), [drawn_data(rng, drawn_shape(rng))]
    return Moved(made, data, {"like": np.zeros(1)}, int(rng.choice([15, 19, 23])))


KINDS: dict[str, Callable[[Generator], Moved]] = {
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Reshape": reshape,
    "Flatten": flatten,
    "Slice": slice_,
    "Split": split,
    "Concat": concat,
    "Expand": expand,
    "Tile": tile,
    "Gather": gather,
    "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
    "Cast": cast,
    "CastLike": cast_like,
}
"""Operator -> what draws a node of it."""

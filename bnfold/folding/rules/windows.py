"""What the windows of a pool can meet: data, padding, or nothing but padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bnfold.folding.rules.reading import Context
from bnfold.onnxgraph.graph import Node
from bnfold.onnxgraph.types import Dim


@dataclass(frozen=True)
class Windows:
    """The windows of a pool.

    Attributes:
        kernel: taps for each spatial axis.
        may_pad: whether a window may reach beyond the data.
        may_miss: whether a window may have no tap on the data.
    """

    kernel: tuple[int, ...]
    may_pad: bool
    may_miss: bool


def read_windows(node: Node, context: Context) -> Windows | str:
    """The windows of AveragePool or MaxPool, or what contradicts the specification."""
    kernel = _numbers(node, "kernel_shape")
    if not kernel:
        return "it has no kernel_shape"
    rank = len(kernel)
    strides = _numbers(node, "strides") or (1,) * rank
    dilations = _numbers(node, "dilations") or (1,) * rank
    pads = _numbers(node, "pads") or (0,) * 2 * rank
    if not len(strides) == len(dilations) == rank or len(pads) != 2 * rank:
        return f"its attributes do not fit the {rank} axes of its kernel_shape"
    if min(kernel + strides + dilations) < 1 or min(pads) < 0:
        return "its kernel_shape, strides, dilations or pads are too small"
    found = node.attribute("auto_pad")
    auto_pad = found.s.decode() if found is not None else "NOTSET"
    if auto_pad not in ("NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER"):
        return f"its auto_pad is {auto_pad}"
    ceil = node.integer("ceil_mode", 0) != 0
    data = node.input(0)
    single = all(k == 1 for k in kernel)
    if auto_pad.startswith("SAME"):
        # It pads less than a window, and only where the last window would reach beyond.
        needs = [d if k > 1 else 1 for k, d in zip(kernel, dilations, strict=True)]
        may_miss = max(needs) > 1 and not _are_at_least(node, context, needs)
        return Windows(kernel, may_pad=not single, may_miss=may_miss)
    may_pad = any(pads) or (ceil and any(s > 1 for s in strides))
    if not may_pad or data is None:
        return Windows(kernel, may_pad, may_miss=False)
    needs, may_miss = [], False
    for k, s, d, begin, end in zip(
        kernel, strides, dilations, pads[:rank], pads[rank:], strict=True
    ):
        reach = (k - 1) * d + 1
        # With ceil_mode the last window may begin up to a stride later. That it has to begin
        # on the data was not always in the specification.
        last = end + s - 1 if ceil else end
        may_miss = may_miss or begin >= reach or last >= reach
        needs.append(d if k > 1 and (begin or last) else 1)
    if max(needs) > 1 and not may_miss:
        may_miss = not _are_at_least(node, context, needs)
    return Windows(kernel, may_pad, may_miss)


def _are_at_least(node: Node, context: Context, sizes: Sequence[int]) -> bool:
    """Whether the spatial axes of the data are known to be at least so long."""
    data = node.input(0)
    shape = context.types.shape(data) if data is not None else None
    if shape is None or len(shape) != 2 + len(sizes):
        return all(size == 1 for size in sizes)
    spatial: tuple[Dim, ...] = shape[2:]
    return all(
        size == 1 or (isinstance(dim, int) and dim >= size)
        for size, dim in zip(sizes, spatial, strict=True)
    )


def _numbers(node: Node, name: str) -> tuple[int, ...]:
    found = node.attribute(name)
    return () if found is None else tuple(int(value) for value in found.ints)

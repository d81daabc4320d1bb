"""What a block computes: its nodes as one kernel, in float64, from the constants of the model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from bnfold.algebra.affine import Affine, Float64Array
from bnfold.algebra.rounding import TINY
from bnfold.folding.branches.blocks import Block
from bnfold.folding.branches.convs import ReadConv, read_conv
from bnfold.folding.branches.kernel import (
    Kernel,
    convolution,
    followed,
    identity,
    mapped,
    more_work,
    pooling,
    summed,
)
from bnfold.folding.branches.roles import Role
from bnfold.folding.branches.unfit import Unfit
from bnfold.folding.branches.window import read_window
from bnfold.folding.reasons import Refused
from bnfold.folding.rules.batch_norm import read_batch_norm
from bnfold.folding.rules.elementwise import read_elementwise
from bnfold.folding.rules.reading import Context, as_float64, read_constant
from bnfold.onnxgraph.graph import Node, Tensor

CHANNEL_AXIS = 1


@dataclass(eq=False)
class ReadNorm:
    """A norm inside of a block: a BatchNormalization with the arithmetic around it, or a chain.

    Attributes:
        nodes: in the order of the data.
        batch_norm: its BatchNormalization, or None.
        assumed_inference: whether a training-mode norm was read as inference.
    """

    nodes: list[Node]
    batch_norm: Node | None = None
    assumed_inference: bool = False

    @property
    def name(self) -> str:
        """The label of its BatchNormalization, or of its first node."""
        return (self.batch_norm or self.nodes[0]).label

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of all its nodes."""
        return tuple(node.label for node in self.nodes)


@dataclass(eq=False)
class ReadBlock:
    """A block as one convolution.

    Attributes:
        block: its nodes.
        kernel: what it computes.
        host: its Conv with the largest kernel, whose name the merged one keeps.
        norms: those that go with it, in the order of the data.
        sizes: the spatial sizes of the origin that the padding was read from, by axis; what was
            read holds for these alone.
    """

    block: Block
    kernel: Kernel
    host: ReadConv
    norms: list[ReadNorm]
    sizes: dict[int, int] = field(default_factory=dict)


def read_block(block: Block, context: Context) -> ReadBlock | Unfit:
    """Turn the nodes of a block into one kernel, or say why that is not exact.

    ``docs/algebra.md``, equations 40 to 46.
    """
    return _Reader(block, context).run()


class _Reader:
    def __init__(self, block: Block, context: Context) -> None:
        self._block = block
        self._context = context
        self._sizes: dict[int, int] = {}
        self._convs: dict[Node, ReadConv] = {}
        self._kernels: dict[Tensor, Kernel] = {}
        self._norms: list[ReadNorm] = []
        self._norm_of: dict[Tensor, ReadNorm] = {}
        self._most = 0

    def run(self) -> ReadBlock | Unfit:
        block = self._block
        why = self._read_convs()
        if why is not None:
            return why
        first = next(iter(self._convs.values()))
        channels = first.weight.shape[1] * first.group
        self._axes = len(first.kernel)
        why = self._why_broadcast(channels)
        if why is not None:
            return why
        self._kernels[block.origin] = identity(channels, self._axes, block.origin.name)
        for role in block.roles:
            found = _RULES[role.kind](self, role)
            if isinstance(found, Unfit):
                return found
            self._kernels[role.output] = found
        kernel = self._kernels[block.root]
        if kernel.weight.size > kernel.work:
            return more_work(kernel.weight.size, kernel.work)
        if not (np.isfinite(kernel.weight).all() and np.isfinite(kernel.reach).all()):
            return Unfit("a weight, or what the branches make of it, is not finite")
        return ReadBlock(block, kernel, self._host(), self._norms, self._sizes)

    def _why_broadcast(self, channels: int) -> Unfit | None:
        """Why a constant may make more of the origin before a Conv reads it: none reads itself."""
        origin = self._block.origin
        same = {origin}
        for role in self._block.roles:
            if role.kind == "conv" and role.data[0] in same:
                return None
            if role.kind == "through" and role.data[0] in same:
                same.add(role.output)
        shape = self._context.types.shape(origin)
        if shape is not None and len(shape) == self._axes + 2 and shape[CHANNEL_AXIS] == channels:
            return None
        return Unfit(
            f"{origin.name} may have other axes or channels than what the convolutions read"
        )

    def _host(self) -> ReadConv:
        return max(
            self._convs.values(),
            key=lambda conv: (math.prod(conv.kernel), math.prod(conv.weight.shape)),
        )

    def _read_convs(self) -> Unfit | None:
        """Read each Conv, and find how many weights the merged kernel can have at most."""
        widest = 1
        for role in self._block.roles:
            if role.kind != "conv":
                continue
            conv = read_conv(role.node, self._context)
            if isinstance(conv, Refused):
                return Unfit(conv.sentence)
            first = next(iter(self._convs.values()), conv)
            if conv.weight.data_type != first.weight.data_type:
                return Unfit(f"{role.node.label} has weights of another dtype")
            if len(conv.kernel) != len(first.kernel):
                return Unfit(f"{role.node.label} has a kernel of another rank")
            self._convs[role.node] = conv
            shape = conv.weight.shape
            self._most += math.prod(shape)
            widest = max(widest, shape[0], shape[1] * conv.group)
        for role in self._block.roles:
            pooled = role.node.attribute("kernel_shape") if role.kind == "pool" else None
            self._most += 0 if pooled is None else widest * math.prod(pooled.ints)
        return None

    def _conv(self, role: Role) -> Kernel | Unfit:
        conv = self._convs[role.node]
        window = read_window(role.node, conv.kernel, self._size_before(role))
        if isinstance(window, Unfit):
            return window
        name = role.node.label
        kernel = convolution(conv.weight.array, conv.values, conv.group, window, name)
        return followed(self._kernels[role.data[0]], kernel, self._most)

    def _pool(self, role: Role) -> Kernel | Unfit:
        node, before = role.node, self._kernels[role.data[0]]
        shape = node.attribute("kernel_shape")
        if shape is None or len(shape.ints) != self._axes:
            return Unfit(f"{node.label} has no kernel_shape of {self._axes} axes")
        if node.integer("ceil_mode", 0):
            return Unfit(f"{node.label} has ceil_mode=1")
        window = read_window(node, tuple(shape.ints), self._size_before(role))
        if isinstance(window, Unfit):
            return window
        if window.has_pads and not node.integer("count_include_pad", 0):
            return Unfit(f"{node.label} does not count its padding, so its kernel differs there")
        kernel = pooling(before.outputs, window, node.label)
        return followed(before, kernel, self._most)

    def _norm(self, role: Role) -> Kernel | Unfit:
        node, data, kernel = role.node, role.data[0], self._kernels[role.data[0]]
        rule = read_batch_norm if node.op_type == "BatchNormalization" else read_elementwise
        placed = rule(node, data, self._context)
        if isinstance(placed, Refused):
            return Unfit(placed.sentence)
        rank = self._axes + 2
        is_there = placed.axis is None or placed.axis % rank == CHANNEL_AXIS
        if placed.least_rank > rank or not is_there:
            return Unfit(f"{node.label} acts on another axis of {data.name} than the channels")
        if placed.affine.channels not in (1, kernel.outputs):
            return Unfit(
                f"{node.label} has {placed.affine.channels} channels and {data.name} has "
                f"{kernel.outputs}"
            )
        self._note_norm(role, placed.assumed_inference)
        if kernel.names == (self._block.origin.name,):
            kernel = replace(kernel, names=(node.label,))
        found = mapped(kernel, placed.affine.expanded(kernel.outputs))
        if _loses(kernel.weight, found.weight, placed.affine):
            return Unfit(f"{node.label} would bring a weight below the smallest normal float64")
        return found

    def _note_norm(self, role: Role, assumed_inference: bool) -> None:
        node = role.node
        is_batch_norm = node.op_type == "BatchNormalization"
        norm = self._norm_of.get(role.data[0])
        if norm is None or (is_batch_norm and norm.batch_norm is not None):
            norm = ReadNorm([])
            self._norms.append(norm)
        norm.nodes.append(node)
        norm.batch_norm = node if is_batch_norm else norm.batch_norm
        norm.assumed_inference = norm.assumed_inference or assumed_inference
        self._norm_of[role.output] = norm

    def _through(self, role: Role) -> Kernel | Unfit:
        if role.data[0] in self._norm_of:
            self._norm_of[role.output] = self._norm_of[role.data[0]]
        return self._kernels[role.data[0]]

    def _sum(self, role: Role) -> Kernel | Unfit:
        kernels = [self._kernels[tensor] for tensor in role.data]
        found = summed(kernels, list(role.signs), self._size_of, self._most)
        for tensor in role.constants:
            if isinstance(found, Unfit):
                break
            shift = self._constant(role, tensor, found.outputs)
            if isinstance(shift, Unfit):
                return shift
            found = mapped(found, Affine(np.ones(1), shift).expanded(found.outputs))
        return found

    def _constant(self, role: Role, tensor: Tensor, channels: int) -> Float64Array | Unfit:
        """A constant term of a sum, for each channel or for all, as ONNX broadcasts it."""
        known = read_constant(
            tensor, role.node, "constant term", self._context, "statistics-not-constant"
        )
        if isinstance(known, Refused):
            return Unfit(known.sentence)
        shape, rank = known.shape, self._axes + 2
        wide = [axis for axis, size in enumerate(shape) if size != 1]
        at = CHANNEL_AXIS - rank + len(shape)
        is_there = not wide or (wide == [at] and shape[at] == channels)
        if len(shape) > rank or not is_there:
            return Unfit(f"{tensor.name} of shape {list(shape)} is no term for each channel")
        values = as_float64(known).reshape(-1)
        if not np.isfinite(values).all():
            return Unfit(f"{tensor.name} is not finite")
        return values

    def _size_of(self, axis: int) -> int | None:
        """The length of a spatial axis of the origin, where the model says it."""
        place = slice(axis + 2, axis + 3)
        dims = self._context.types.dims(self._block.origin, place)
        if dims is None or len(dims) != self._axes + 2 or dims[axis + 2] < 1:
            return None
        self._sizes[axis] = dims[axis + 2]
        return dims[axis + 2]

    def _size_before(self, role: Role) -> Callable[[int], int | None]:
        """Finds the length of a spatial axis of what a node reads: that of the origin, or None."""
        if self._kernels[role.data[0]].window.is_point:
            return self._size_of
        return lambda axis: None


_RULES: dict[str, Callable[[_Reader, Role], Kernel | Unfit]] = {
    "conv": _Reader._conv,
    "pool": _Reader._pool,
    "norm": _Reader._norm,
    "through": _Reader._through,
    "sum": _Reader._sum,
}


def _loses(before: Float64Array, after: Float64Array, affine: Affine) -> bool:
    """Whether a weight lost digits, or all of them: only float64 models get there."""
    small = (np.abs(after) < TINY) & (np.abs(before) >= TINY)
    if not small.any():
        return False
    rows = small.reshape(len(after), -1).any(axis=1)
    return bool(affine.expanded(len(after)).scale[rows].any())

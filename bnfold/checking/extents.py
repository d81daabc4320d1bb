"""Sizes of made-up data for the boundary of a cluster: small ones first, the model's own last."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.types import Dim, Types

Shapes = dict[str, tuple[int, ...]]

MOST = 1 << 25
"""No more elements than this are made up for one tensor."""
_LEAST, _WIDEST, _LARGEST = 3, 7, 1 << 16
_TRIALS, _IN_ALL = 128, 1 << 27
"""No more trials than this, and no more elements in all of them."""
_BATCHES = (1, 3, 4, 5, 6, 8, 10, 12, 15, 16, 20, 24)
_OPENED = (1, 2, 3, 4, 5, 6, 8)
"""Sizes of axes of which the model says none, where its own others stay."""
_LITTLE = 1 << 18
"""No more elements for one tensor then."""
_TWICE = 6
"""Up to so many tensors are tried twice as large as the others."""
_BY_CHANNEL = frozenset({"BatchNormalization", "InstanceNormalization"})
_WINDOWS = frozenset({"Conv", "ConvTranspose", "FusedConv"})
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})


@dataclass(frozen=True)
class Axis:
    """One axis of a tensor of the boundary.

    Attributes:
        size: what the model says of it.
        is_fixed: whether a weight or parameter needs it like that.
        can_shrink: whether it is likely that any other size would do.
    """

    size: Dim
    is_fixed: bool
    can_shrink: bool


class Extents:
    """What is known of the sizes of a cluster's boundary.

    Args:
        nodes: of the cluster.
        boundary: its tensors by name.
    """

    def __init__(self, nodes: Sequence[Node], boundary: Mapping[str, Tensor], types: Types) -> None:
        self._types, self._nodes = types, nodes
        self._inside = set(nodes)
        channels = self._constant_sizes()
        self._axes = {name: self._axes_of(tensor, channels) for name, tensor in boundary.items()}
        self._reach = self._largest_window()

    def trials(self) -> Iterator[Shapes]:
        """Shapes to try, one after another."""
        seen: set[tuple[tuple[int, ...], ...]] = set()
        made = 0
        for shapes in self._candidates():
            key = tuple(shapes.values())
            if key not in seen and all(math.prod(shape) <= MOST for shape in key):
                seen.add(key)
                made += sum(math.prod(shape) for shape in key)
                if len(seen) > _TRIALS or (made > _IN_ALL and len(seen) > 1):
                    return
                yield shapes

    def own(self) -> Iterator[Shapes]:
        """The model's own sizes, where it says some, and several for those that it does not say."""
        known = [axis.size for axes in self._axes.values() for axis in axes or ()]
        if not any(isinstance(size, int) for size in known):
            return
        yield self._shaped(max(self._reach, 8), spread=True, is_own=True)
        yield from self._opened()

    def _opened(self) -> Iterator[Shapes]:
        for opened in sorted({*_OPENED, *(size for size in self._needs() if size <= _LARGEST)}):
            for batch in (1, 2):
                found = self._shaped(8, spread=True, is_own=True, batch=batch, opened=opened)
                if all(math.prod(shape) <= _LITTLE for shape in found.values()):
                    yield found

    def _candidates(self) -> Iterator[Shapes]:
        least = self._reach
        for spread in (True, False):
            yield self._shaped(least, spread=spread)
        even = max(4, least + least % 2)
        names = list(self._axes)
        for size in (even, 2 * even):
            for spread in (True, False):
                yield self._shaped(size, spread=spread)
        yield self._shaped(even, spread=True, keeps=True)
        for name in names[:_TWICE] if len(names) > 1 else ():
            yield self._shaped(even, spread=True, larger={name})
            yield self._shaped(even, spread=True, larger=set(names) - {name})
        for size in (4 * even, 8 * even):
            yield self._shaped(size, spread=True)
        for size in (8, 16, 32):
            yield self._shaped(size, spread=True, is_own=True)
            yield self._shaped(size, spread=True, is_own=True, batch=1)
        for rank in (3, 2, 5, 1):
            yield self._shaped(even, spread=True, rank=rank)
        for batch in _BATCHES:
            yield self._shaped(even, spread=True, batch=batch)
        yield from self._opened()
        yield from self._filled()

    def _needs(self) -> set[int]:
        """The sizes that products and windows need somewhere."""
        return {size for node in self._nodes for size in self._weight(node)[-2:]}

    def _filled(self) -> Iterator[Shapes]:
        """Two unknown axes of one tensor as factors of what a later product needs of it."""
        needs = self._needs()
        plain = self._shaped(4, spread=True)
        for name, axes in self._axes.items():
            open_axes = [
                at for at, axis in enumerate(axes or ()) if at and not isinstance(axis.size, int)
            ]
            if len(open_axes) not in (1, 2):
                continue
            shape = list(plain[name])
            known = math.prod(size for at, size in enumerate(shape) if at and at not in open_axes)
            for need in sorted(size for size in needs if size % known == 0 and size <= _LARGEST):
                left = need // known
                for first in range(1, left + 1):
                    if left % first == 0 and (len(open_axes) == 2 or first == left):
                        for at, size in zip(open_axes, (first, left // first), strict=False):
                            shape[at] = size
                        yield {**plain, name: tuple(shape)}

    def _shaped(
        self,
        size: int,
        *,
        spread: bool,
        keeps: bool = False,
        is_own: bool = False,
        batch: int = 2,
        larger: set[str] | None = None,
        rank: int = 4,
        opened: int = 0,
    ) -> Shapes:
        """Shapes in which free axes have about one size.

        Args:
            spread: whether axes at different places have different sizes.
            keeps: whether sizes that the model says stay, save for those of a batch.
            is_own: whether those of a batch stay, too.
            batch: where the model does not say its size, or says one.
            larger: tensors whose free axes are twice as large.
            rank: where nothing tells how many axes there are.
            opened: the size of axes of which the model says none, if that is not to follow
                from the others.
        """
        targets = self._targets(size, spread=spread)
        found: Shapes = {}
        for name, axes in self._axes.items():
            known = axes if axes is not None else [Axis(None, False, True)] * rank
            times = 2 if larger and name in larger else 1
            shape: list[int] = []
            for at, axis in enumerate(known):
                back = at - len(known)
                told = axis.size
                if isinstance(told, int) and (axis.is_fixed or is_own):
                    shape.append(told)
                elif at == 0 and not axis.is_fixed and (not isinstance(told, int) or told == 1):
                    shape.append(batch)
                elif isinstance(told, int) and (keeps or not axis.can_shrink):
                    shape.append(told)
                elif isinstance(told, int) and told > 1:
                    shape.append(times * self._shrunk(told, back, targets, spread=spread))
                elif isinstance(told, int):
                    shape.append(told)
                else:
                    shape.append(opened or times * targets[back if spread else -1][0])
            found[name] = tuple(shape)
        return found

    def _targets(self, size: int, *, spread: bool) -> dict[int, tuple[int, int]]:
        """For each axis, from the back: the largest size there is to be, and the one there is."""
        found: dict[int, tuple[int, int]] = {}
        ranks = [len(axes) for axes in self._axes.values() if axes is not None]
        for back in range(-max([5, *ranks]), 0):
            target = size + {-1: 1, -2: 0}.get(back, 2) if spread else size
            sizes = self._free_sizes(back if spread else None)
            if sizes:
                # A whole share of each size keeps their ratios.
                unit = max(sizes) // math.gcd(*sizes)
                whole = -(-target // unit) * unit
                target = whole if whole <= 4 * target else target
                target = min(target, max(sizes))
            found[back] = target, max(sizes, default=0)
        return found

    def _free_sizes(self, back: int | None) -> list[int]:
        return [
            axis.size
            for axes in self._axes.values()
            if axes is not None
            for at, axis in enumerate(axes)
            if isinstance(axis.size, int) and axis.size > 1 and axis.can_shrink
            if back is None or at - len(axes) == back
        ]

    def _shrunk(
        self, told: int, back: int, targets: dict[int, tuple[int, int]], *, spread: bool
    ) -> int:
        target, largest = targets[back if spread else -1]
        return max(1, -(-told * target // largest)) if largest else told

    def _constant_sizes(self) -> set[int]:
        """Every size of a weight or parameter."""
        sizes: set[int] = set()
        for node in self._nodes:
            for tensor in node.inputs:
                if tensor is not None and tensor.initializer is not None:
                    sizes.update(int(dim) for dim in tensor.initializer.dims)
        sizes |= {
            size * node.integer("group", 1)
            for node in self._nodes
            if node.integer("group", 1) > 1
            for size in self._weight(node)[:2]
        }
        return sizes - {1}

    def _weight(self, node: Node, at: int = 1) -> tuple[int, ...]:
        tensor = node.input(at)
        shape = self._types.shape(tensor) if tensor is not None else None
        if shape is None or not all(isinstance(size, int) for size in shape):
            return ()
        return tuple(size for size in shape if isinstance(size, int))

    def _axes_of(self, tensor: Tensor, channels: set[int]) -> list[Axis] | None:
        shape = self._types.shape(tensor)
        needed: dict[int, int] = {}
        rank = None if shape is None else len(shape)
        is_free = False
        for node in tensor.readers:
            if node not in self._inside or node.domain not in ("", "com.microsoft"):
                continue
            is_free = is_free or node.op_type in (
                "MatMul",
                "FusedMatMul",
                "Transpose",
                "Einsum",
                "Gemm",
            )
            if node.input(0) is tensor:
                rank = self._needed_by(node, needed, rank)
        if rank is None:
            return None
        sizes: list[Dim] = [None] * rank if shape is None or len(shape) != rank else list(shape)
        if not sizes:
            return []
        axes = []
        fixed = {at % rank: size for at, size in needed.items() if -rank <= at < rank}
        for at, told in enumerate(sizes):
            if at in fixed:
                axes.append(Axis(fixed[at], True, False))
                continue
            shrinks = at > 1 or at == 0 or is_free
            axes.append(Axis(told, False, shrinks and told not in channels))
        return axes

    def _needed_by(self, node: Node, needed: dict[int, int], rank: int | None) -> int | None:
        """What an operator needs of its data, by axis; the rank, if it tells."""
        weight = self._weight(node)
        if node.op_type in _WINDOWS and len(weight) > 2:
            is_turned = node.op_type == "ConvTranspose"
            needed[1] = weight[0] if is_turned else weight[1] * node.integer("group", 1)
            return len(weight)
        if node.op_type in ("MatMul", "FusedMatMul") and len(weight) > 1:
            needed[-1] = weight[-1 if node.integer("transB", 0) else -2]
            if node.integer("transA", 0):
                needed[-2] = needed.pop(-1)
            return rank if rank is not None else max(2, len(weight))
        if node.op_type in ("Gemm", "FusedGemm") and len(weight) == 2:
            turned = bool(node.integer("transA", 0))
            needed[0 if turned else 1] = weight[1 if node.integer("transB", 0) else 0]
            rows = self._weight(node, 2)
            if len(rows) == 2 and rows[0] > 1:
                needed[1 if turned else 0] = rows[0]
            return 2
        if node.op_type in _RECURRENT and len(weight) == 3:
            needed[2] = weight[2]
            return 3
        if node.op_type in _BY_CHANNEL and len(weight) == 1:
            needed[1] = weight[0]
        if node.op_type == "LayerNormalization":
            needed.update({-at: size for at, size in enumerate(weight[::-1], 1) if size > 1})
        return rank

    def _largest_window(self) -> int:
        """How much data a window needs, so that one at least is whole and all taps are used."""
        # Of a row or two Trilu would leave all.
        least = _LEAST + 2 * any(node.op_type == "Trilu" for node in self._nodes)
        for node in self._nodes:
            kernel = node.attribute("kernel_shape")
            taps = tuple(kernel.ints) if kernel is not None else ()
            if not taps and node.op_type in _WINDOWS:
                taps = self._weight(node)[2:]
            for name in ("dilations",):
                found = node.attribute(name)
                if found is not None and len(found.ints) == len(taps):
                    taps = tuple((k - 1) * d + 1 for k, d in zip(taps, found.ints, strict=True))
            pads = node.attribute("pads")
            around = min(pads.ints, default=0) if pads is not None else 0
            reach = max(taps, default=1)
            least = max(least, min(reach, max(_WIDEST, reach - 2 * around)))
        return least

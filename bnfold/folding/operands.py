"""Constants that take up a map, such as a table or a class token: ``c' = scale c + shift``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import onnx

from bnfold.algebra.affine import Array, Float64Array
from bnfold.algebra.rounding import flushed, largest, rounded
from bnfold.algebra.spread import Spread
from bnfold.folding.reasons import Refused
from bnfold.folding.route import Operand
from bnfold.folding.rules.reading import FLOATS, Context
from bnfold.folding.store import blocks, dtype_of
from bnfold.folding.surgery import Surgery
from bnfold.onnxgraph.graph import Node, Tensor
from bnfold.onnxgraph.known import Known, Unknown
from bnfold.onnxgraph.ranges import Computed
from bnfold.onnxgraph.tensors import type_name

SPARE = 1 << 16
"""A constant of more bytes is not stored a second time."""


def read_operand(tensor: Tensor, context: Context) -> Known | Refused:
    """The values of a constant, of floats, that an operator reads beside its data."""
    found = context.constants.value(tensor)
    if isinstance(found, Unknown):
        return Refused("producer-not-linear", found.detail)
    if found.data_type not in FLOATS:
        name = type_name(found.data_type)
        return Refused("unsupported-dtype", f"{tensor.name} is {name}, not a float")
    return found


def why_not_operand(operand: Operand) -> Refused | None:
    """Why a constant cannot take up a map: another shape, or values beyond the dtype."""
    known, spread = operand.known, operand.spread
    name, shape, dtype = known.tensor.name, known.shape, dtype_of(known)
    ends = zip(reversed(spread.shape), reversed(shape), strict=False)
    if len(spread.shape) > len(shape) or any(one not in (1, other) for one, other in ends):
        return Refused(
            "channel-mismatch",
            f"{name}, which {operand.node.label} reads, has shape {list(shape)}, and the norm "
            f"{list(spread.shape)}",
        )
    for values, exact in StoredConstant(known, spread).pairs():
        bad = ~np.isfinite(rounded(exact, dtype).astype(np.float64)) & np.isfinite(values)
        if bad.any():
            return Refused(
                "beyond-dtype",
                f"{name}, which {operand.node.label} reads, would have a value of "
                f"{exact[bad][0]:.6g}, beyond {dtype.name} (at most {largest(dtype):.6g})",
            )
    return None


def as_if_mapped(
    node: Node, constants: Mapping[int, Tensor], spread: Spread, context: Context
) -> list[Operand] | Refused:
    """``f(s x + t, c) == f(s x + t, s c' + t)`` with ``c' = (c - t) / s``: all c that change.

    Args:
        constants: by their position among the inputs of ``node``.
        spread: s and t.
    """
    operands: list[Operand] = []
    if not spread.scale.all():
        return Refused("not-through", f"{node.label} would divide by a scale of zero")
    for tensor in dict.fromkeys(constants.values()):
        known = read_operand(tensor, context)
        if isinstance(known, Refused):
            return known
        values = known.array.astype(np.float64)
        with np.errstate(all="ignore"):
            try:
                is_same = bool((values * spread.scale + spread.shift == values).all())
            except ValueError:
                is_same = False
        if not is_same:
            inner = spread.inverse()
            more = max(len(inner.shape) - len(known.shape), 0)
            if set(inner.shape[:more]) == {1}:
                inner = inner.moved(lambda v, more=more: v.reshape(v.shape[more:]))  # type: ignore[misc]
            operand = Operand(known, node, inner)
            why = why_not_operand(operand)
            if why is not None:
                return why
            operands.append(operand)
    return operands


def why_stored_twice(route: Sequence[Operand], others: Sequence[Operand]) -> Refused | None:
    """Why a constant should not change: something goes on reading it, and it is large.

    Args:
        route: what would take up a map now.
        others: what takes up one already.
    """
    for operand in route:
        known, node = operand.known, operand.node
        tensor = known.tensor
        same = [o for o in (*route, *others) if o.known.tensor is tensor]
        if any(o.node is node for o in same if o is not operand):
            return Refused("shared-tensor", f"{node.label} takes up another norm already")
        also = [reader for reader in tensor.readers if all(o.node is not reader for o in same)]
        also += [o.node for o in same if not o.spread.equals(operand.spread)]
        size = int(np.prod(known.shape, dtype=np.int64)) * dtype_of(known).itemsize
        if size <= SPARE or not (also or tensor.is_output or tensor.is_pinned):
            continue
        what = also[0].label if also else "the graph's own users"
        return Refused(
            "adds-work",
            f"{tensor.name}, which {node.label} reads, is also needed by {what} as it is, so the "
            f"fold would store it twice, in {size} more bytes",
        )
    return None


class StoredConstant:
    """A constant after it took up a map, computed block by block when its bytes are asked for.

    Attributes:
        dtype: as the model stores it.
        shape: of the constant.
    """

    def __init__(self, known: Known, spread: Spread) -> None:
        self._known = known
        self._spread = spread.of_rank(len(known.shape))
        self._flushed: int | None = None
        self.dtype = dtype_of(known)
        self.shape = known.shape

    @property
    def size(self) -> int:
        """Number of bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def flushed(self) -> int:
        """Values that became zero because they fell below the smallest normal number."""
        if self._flushed is None:
            for _ in self.chunks():
                pass
        assert self._flushed is not None
        return self._flushed

    def pairs(self) -> Iterator[tuple[Array, Float64Array]]:
        """Each block of the constant, and what becomes of it in float64."""
        values = self._known.array
        for block in blocks(self.shape):
            here = tuple(
                part if size > 1 else slice(None)
                for part, size in zip(block, self._spread.shape, strict=True)
            )
            part = values[block].astype(np.float64)
            with np.errstate(all="ignore"):
                exact = part * self._spread.scale[here] + self._spread.shift[here]
            yield part, exact

    def chunks(self) -> Iterator[memoryview]:
        """The raw bytes, little endian, in the order of ONNX's raw data.

        float16 keeps its subnormal values: they are data, of which some are small.
        """
        zeroed = 0
        for _, exact in self.pairs():
            stored, count = rounded(exact, self.dtype), 0
            if self.dtype != np.float16:
                stored, count = flushed(stored, exact)
            zeroed += count
            little = np.ascontiguousarray(stored, dtype=self.dtype.newbyteorder("<"))
            yield little.reshape(-1).view(np.uint8).data
        self._flushed = zeroed


def store_operands(
    operands: Sequence[Operand], surgery: Surgery, proto: Callable[[Node], onnx.NodeProto]
) -> dict[Operand, StoredConstant]:
    """Store constants that took up a map: in place where nothing else reads them, else anew.

    Args:
        proto: the node as it will be written, to be changed.
    """
    groups: dict[tuple[object, ...], list[Operand]] = defaultdict(list)
    for operand in operands:
        scale, shift = operand.spread.scale, operand.spread.shift
        tensor, scope = operand.known.tensor, operand.node.scope
        key = (tensor, scope, scale.shape, scale.tobytes(), shift.tobytes())
        groups[key].append(operand)
    found: dict[Operand, StoredConstant] = {}
    for group in groups.values():
        known, scope = group[0].known, group[0].node.scope
        stored = StoredConstant(known, group[0].spread)
        users = [o.node for o in group for t in o.node.inputs if t is known.tensor]
        data, wish = Computed(stored.size, stored.chunks), f"{known.tensor.name}_folded"
        name = surgery.store(known, users, data, stored.shape, known.data_type, scope, wish)
        for operand in group:
            found[operand] = stored
            for at, read in enumerate(operand.node.inputs):
                if read is known.tensor and name != read.name:
                    proto(operand.node).input[at] = name
                    surgery.unread_once(read)
    return found

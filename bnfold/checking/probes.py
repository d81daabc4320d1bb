"""The probe of a linear operator: data on which every weight is used, in as few places as can be.

Both sides of a fold have the same attributes (``Region`` compares their bytes), so the same
windows slide over the same data whatever the weights are. That is why the probe needs neither
pads nor strides nor dilations: one whole window shows every tap.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from bnfold.checking.written import RegionError
from bnfold.reference.call import Call
from bnfold.reference.convolution import conv, conv_transpose
from bnfold.reference.linear import gemm, matmul

Array = npt.NDArray[Any]

BLOCK = 1 << 15
"""Weights are read in blocks of about this many elements: three of them, in float64, fit into the
cache of a core, and their matrix products are small enough that BLAS starts no threads."""
SAMPLES = 2
"""Dense and sparse. Zero is the bias alone; the impulses, one for each weight, are the weights."""
_SEED = 20150211
_VERSION = 22


@dataclass(frozen=True)
class Part:
    """A block of a weight.

    Attributes:
        lead: where it is among the matrices of a stacked MatMul.
        start, stop: its first axis.
    """

    lead: tuple[int, ...]
    start: int
    stop: int

    def of(self, array: Array) -> Array:
        """The block of an array that has the shape of the weight."""
        return (
            array[self.lead][self.start : self.stop] if self.lead else array[self.start : self.stop]
        )


class Probe:
    """A linear operator without its bias, on the probe.

    Attributes:
        channels: number of output channels M.
        terms: how many products an output sums up.
        axis: of the channels in the output.
        zeros: the shape of an output for one sample.
    """

    def __init__(self, node: onnx.NodeProto, shape: tuple[int, ...], rank: int) -> None:
        kind = node.op_type
        given = {a.name: a for a in node.attribute}
        self.op_type, self.shape = kind, shape
        self.lead: tuple[int, ...] = ()
        self.group = int(given["group"].i) if "group" in given else 1
        self.alpha = float(given["alpha"].f) if kind == "Gemm" and "alpha" in given else 1.0
        self._is_transposed_a = "transA" in given and bool(given["transA"].i)
        is_transposed = kind == "Gemm" and "transB" in given and bool(given["transB"].i)
        self._kernel = shape[2:]
        if kind == "Conv":
            self.channels, self.inputs = shape[0], shape[1] * self.group
            self.stacked, self.axis = 0, 1
            self.terms = math.prod(shape[1:])
        elif kind == "ConvTranspose":
            self.channels, self.inputs = shape[1] * self.group, shape[0]
            self.stacked, self.axis = 1, 1
            self.terms = shape[0] // self.group
        elif kind in ("Gemm", "MatMul"):
            self._kernel, self.lead = (), shape[:-2]
            self.stacked, self.axis = (0, rank - 1) if is_transposed else (1, rank - 1)
            self.channels = shape[-2 if is_transposed else -1]
            self.inputs = self.terms = shape[-1 if is_transposed else -2]
        else:
            raise RegionError(f"a {kind} is no linear operator")
        self._rank = rank
        if kind == "Conv":
            self.data = samples((self.inputs, *self._kernel), is_last=True)
        else:
            self.data = samples((self.inputs,))

    def spread(self, bias: Array) -> Array:
        """A value for each channel in the shape of an output."""
        if self.axis == self._rank - 1:
            return bias.reshape(*[1] * (self._rank - bias.ndim), *bias.shape)
        return bias.reshape(1, -1, *[1] * (self._rank - 2))

    def by_weight(self, factor: Array, part: Part) -> Array:
        """A value for each channel, shape ``(M,)``, at the weights of a block that make it."""
        if self.op_type == "ConvTranspose":
            rows = self.shape[0] // self.group
            taken = factor.reshape(self.group, -1)[np.arange(part.start, part.stop) // rows]
            return taken.reshape(*taken.shape, *[1] * len(self._kernel))
        if self.stacked == 0:
            return factor[part.start : part.stop].reshape(-1, *[1] * (len(self.shape) - 1))
        return factor

    def parts(self) -> Iterator[Part]:
        """Blocks that cover the weight in the order of its elements, none across a group's end."""
        rows, *rest = self.shape[len(self.lead) :]
        if 0 in self.shape:
            return
        if not self.lead and rows * math.prod(rest) <= BLOCK:
            yield Part((), 0, rows)
            return
        step = max(1, BLOCK // max(1, math.prod(rest)))
        of_group = rows // self.group if self.op_type in ("Conv", "ConvTranspose") else rows
        if step >= of_group > 0:
            step -= step % of_group
        for lead in np.ndindex(*self.lead):
            start = 0
            while start < rows:
                stop = min(start + step, rows)
                if step < of_group:
                    stop = min(stop, (start // of_group + 1) * of_group)
                yield Part(lead, start, stop)
                start = stop

    def empty(self) -> Array:
        """Zeros, to add the outputs of the blocks to: (3 weights, groups, M/group, ...)."""
        if self.op_type == "Conv":
            return np.zeros((self.group, 3, self.channels // self.group, SAMPLES))
        if self.op_type == "ConvTranspose":
            shape = (SAMPLES, self.group, 3, self.channels // self.group, *self._kernel)
            return np.zeros(shape)
        return np.zeros((*self.lead, SAMPLES, 3, self.channels))

    def run(self, weights: Array, part: Part, into: Array) -> None:
        """Add to ``into`` what three weights of one block make of the data.

        Args:
            weights: as ``stack`` returns them.
        """
        if self.op_type == "Conv":
            self._run_conv(weights, part, into)
        elif self.op_type == "ConvTranspose":
            self._run_conv_transpose(weights, part, into)
        else:
            self._run_matrix(weights, part, into)

    def stack(self, part: Part) -> tuple[Array, Array]:
        """Room for three weights of one block side by side, and a view of it, one after another."""
        shape = self.shape[len(self.lead) :]
        rows = part.stop - part.start
        if self.op_type == "Conv":
            groups = max(1, rows // (shape[0] // self.group))
            room = np.empty((groups, 3, rows // groups, *shape[1:]))
            return room, room.swapaxes(0, 1)
        if self.stacked == 0:
            room = np.empty((3, rows, *shape[1:]))
            return room, room
        room = np.empty((rows, 3, *shape[1:]))
        return room, room.swapaxes(0, 1)

    def _groups(self, part: Part) -> tuple[int, int, slice]:
        """First group, number of groups, and where in the group a block of less than one is."""
        rows = self.shape[0] // self.group
        first = part.start // rows
        count = max(1, (part.stop - part.start) // rows)
        start = part.start - first * rows
        return first, count, slice(start, start + (part.stop - part.start) // count)

    def _run_conv(self, weights: Array, part: Part, into: Array) -> None:
        first, count, rows = self._groups(part)
        inputs = self.shape[1]
        data = self.data[first * inputs : (first + count) * inputs]
        # Neighbours belong to different samples, so the taps of a window are that far apart.
        *rest, last = self._kernel
        x = data.reshape(1, count * inputs, *rest, last * SAMPLES)
        call = Call("Conv", _VERSION, {"group": count, "dilations": [*(1 for _ in rest), SAMPLES]})
        y = conv(call, x, weights.reshape(-1, *self.shape[1:]))
        into[first : first + count, :, rows] = y.reshape(count, 3, -1, SAMPLES)

    def _run_conv_transpose(self, weights: Array, part: Part, into: Array) -> None:
        first, count, _ = self._groups(part)
        data = self.data[:, part.start : part.stop]
        x = data.reshape(*data.shape, *[1] * len(self._kernel))
        call = Call("ConvTranspose", _VERSION, {"group": count})
        y = conv_transpose(call, x, weights.reshape(len(weights), -1, *self._kernel))
        shape = into[:, first : first + count].shape
        into[:, first : first + count] += y.reshape(shape)

    def _run_matrix(self, weights: Array, part: Part, into: Array) -> None:
        if self.op_type == "Gemm":
            is_rows = self.stacked == 0
            data = self.data if is_rows else self.data[:, part.start : part.stop]
            given = {"alpha": self.alpha, "beta": 1.0, "transB": int(is_rows)}
            given["transA"] = int(self._is_transposed_a)
            matrix = (
                weights.reshape(-1, self.inputs) if is_rows else weights.reshape(len(data.T), -1)
            )
            y = gemm(
                Call("Gemm", _VERSION, given), data.T if self._is_transposed_a else data, matrix
            )
            y = y.reshape(SAMPLES, 3, -1)
            if is_rows:
                into[..., part.start : part.stop] = y
            else:
                into += y
            return
        data = self.data[:, part.start : part.stop]
        y = matmul(Call("MatMul", _VERSION, {}), data, weights.reshape(data.shape[1], -1))
        into[part.lead] += y.reshape(SAMPLES, 3, -1)

    def sides(self, total: Array) -> Array:
        """The outputs for each of the three weights: one axis more in front of an output's."""
        if self.op_type == "Conv":
            ones = [1] * (self._rank - 3)
            taken = total.swapaxes(0, 1).reshape(3, 1, self.channels, SAMPLES, *ones)
        elif self.op_type == "ConvTranspose":
            taken = np.moveaxis(total, 2, 0).reshape(3, SAMPLES, self.channels, *self._kernel)
        else:
            taken = np.moveaxis(total, -2, 0)
            missing = self._rank - (taken.ndim - 1)
            taken = taken.reshape(3, *[1] * missing, *taken.shape[1:])
        return np.asarray(taken)


def _drawn(count: int) -> npt.NDArray[np.uint64]:
    """Random bits, the same each time, 64 of them in a number.

    NumPy's own generators take a while to import, and nothing else in a fold needs them.

    Source: splitmix64, Steele, Lea & Flood 2014 (doi:10.1145/2660193.2660195), figure 19.
    """
    bits = np.arange(_SEED, _SEED + count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    drawn: npt.NDArray[np.uint64] = bits ^ (bits >> np.uint64(31))
    return drawn


@lru_cache(maxsize=16)
def samples(shape: tuple[int, ...], *, is_last: bool = False) -> Array:
    """Dense and sparse data of one shape, nowhere negative, the same each time.

    Returns:
        ``(SAMPLES, *shape)``, or ``(*shape, SAMPLES)``.
    """
    drawn = _drawn(SAMPLES * math.prod(shape)).reshape(SAMPLES, *shape)
    # The upper 53 bits are the number, the lower ones chance of their own.
    found: Array = (drawn >> np.uint64(11)) * 2.0**-53 + 0.5
    found[1] *= drawn[1] & np.uint64(7) == 0
    return np.ascontiguousarray(np.moveaxis(found, 0, -1)) if is_last else found

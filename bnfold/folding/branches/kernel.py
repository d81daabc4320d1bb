"""What a branch computes, as one convolution in float64: NumPy only, knows no graph."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from bnfold.algebra.affine import Affine, Array, Float64Array
from bnfold.folding.branches.unfit import Unfit
from bnfold.folding.branches.window import SizeOf, Window, union


@dataclass(frozen=True, eq=False)
class Kernel:
    """``y[m] = sum of weight[m] * x + bias[m]``: a Conv in canonical form.

    Attributes:
        weight: float64, shape ``(M, C/group, *kernel)``.
        bias: float64, shape ``(M,)``; units of y.
        group: number of groups.
        window: the geometry.
        work: how many weights the operators have that it stands for, which is what they multiply
            for each output.
        reach: float64, shape ``(M,)``: what no sum on the way exceeds for inputs within one.
        names: of the branches that it sums, for reports.
    """

    weight: Float64Array
    bias: Float64Array
    group: int
    window: Window
    work: int
    reach: Float64Array
    names: tuple[str, ...]

    @property
    def outputs(self) -> int:
        """Number of output channels M."""
        return int(self.weight.shape[0])

    @property
    def inputs(self) -> int:
        """Number of input channels C."""
        return int(self.weight.shape[1]) * self.group

    @property
    def is_diagonal(self) -> bool:
        """Whether each output channel is a multiple of the input channel of the same number."""
        return self.window.is_point and self.group == self.outputs == self.inputs


def identity(channels: int, axes: int, name: str) -> Kernel:
    """``y = x``: a depthwise kernel of one tap, ``docs/algebra.md``, equation 43.

    Args:
        channels: C.
        axes: number of spatial axes.
        name: of x.
    """
    ones = np.ones(channels)
    weight = ones.reshape(-1, *[1] * (axes + 1))
    return Kernel(weight, np.zeros(channels), channels, Window.point(axes), 0, ones, (name,))


def convolution(weight: Array, bias: Float64Array, group: int, window: Window, name: str) -> Kernel:
    """The kernel of a Conv.

    Args:
        weight: shape ``(M, C/group, *kernel)``, any float dtype.
        bias: shape ``(M,)``.
    """
    exact = np.asarray(weight).astype(np.float64)
    reach = np.abs(exact).reshape(len(exact), -1).sum(axis=1) + np.abs(bias)
    return Kernel(exact, bias, group, window, exact.size, reach, (name,))


def pooling(channels: int, window: Window, name: str) -> Kernel:
    """The mean of all taps, zeros of the padding among them: equation 44.

    Args:
        channels: C.
    """
    weight = np.full((channels, 1, *window.kernel), 1.0 / math.prod(window.kernel))
    zeros, ones = np.zeros(channels), np.ones(channels)
    return Kernel(weight, zeros, channels, window, weight.size, ones, (name,))


def mapped(kernel: Kernel, affine: Affine) -> Kernel:
    """``affine(kernel(x))``, equation 2: scales the rows of the weight.

    Args:
        affine: of M channels.
    """
    rows = affine.scale.reshape(-1, *[1] * (kernel.weight.ndim - 1))
    return replace(
        kernel,
        weight=kernel.weight * rows,
        bias=kernel.bias * affine.scale + affine.shift,
        reach=kernel.reach * np.abs(affine.scale) + np.abs(affine.shift),
    )


def followed(first: Kernel, second: Kernel, most: int) -> Kernel | Unfit:
    """``second(first(x))`` as one convolution, equation 45.

    Exact where one of the two has one tap, stride 1 and no padding; where that is the first, it
    may add a bias only if the second pads nothing, for the second's zeros stand behind the bias.

    Args:
        most: how many weights the result may have.
    """
    name, before = second.names[0], first.names[0]
    if first.outputs != second.inputs:
        return Unfit(f"{name} reads {second.inputs} channels, and {before} makes {first.outputs}")
    if first.window.is_point:
        if second.window.has_pads and first.bias.any():
            return Unfit(
                f"branch {name} pads with zeros what {before} shifts, and a merged kernel would "
                "pad before the shift"
            )
        window = second.window
    elif second.window.is_point:
        window = first.window
    else:
        return Unfit(f"branch {name} has a kernel on top of that of {before}")
    group = math.gcd(first.group, second.group)
    if not first.is_diagonal and not second.is_diagonal:
        size = second.outputs * (first.inputs // group) * math.prod(window.kernel)
        if size > most:
            return more_work(size, most)
    weight, group = _product(first, second)
    magnitude = np.abs(second.weight).sum(axis=tuple(range(2, second.weight.ndim)))
    return Kernel(
        weight,
        second.bias + _over_channels(second, first.bias),
        group,
        window,
        first.work + second.work,
        np.abs(second.bias) + _over_channels(replace(second, weight=magnitude), first.reach),
        second.names,
    )


def more_work(size: int, work: int) -> Unfit:
    """A merge must not add work.

    Args:
        size: how many weights the merged kernel would have.
        work: how many its branches have.
    """
    return Unfit(f"the merged kernel would have {size:,} weights, its branches have {work:,}")


def _product(first: Kernel, second: Kernel) -> tuple[Float64Array, int]:
    """The weight of two convolutions of which one has one tap, and its groups."""
    if first.is_diagonal:
        factors = first.weight.reshape(second.group, 1, -1)
        rows = second.weight.reshape(
            second.group, -1, second.weight.shape[1], math.prod(second.window.kernel)
        )
        return (rows * factors[..., None]).reshape(second.weight.shape), second.group
    if second.is_diagonal:
        rows = second.weight.reshape(-1, *[1] * (first.weight.ndim - 1))
        return first.weight * rows, first.group
    group = math.gcd(first.group, second.group)
    left, right = _by_group(regrouped(second, group)), _by_group(regrouped(first, group))
    product = np.matmul(left, right)  # (taps, G, M/G, C/G); one of the two has one tap
    kernel = second.window.kernel if first.window.is_point else first.window.kernel
    product = np.moveaxis(product, 0, -1).reshape(second.outputs, first.inputs // group, *kernel)
    return np.ascontiguousarray(product), group


def _by_group(kernel: Kernel) -> Float64Array:
    """The weight as matrices, shape ``(taps, G, M/G, C/G)``."""
    weight = kernel.weight
    rows = weight.reshape(kernel.group, -1, weight.shape[1], math.prod(weight.shape[2:]))
    return np.moveaxis(rows, -1, 0)


def _over_channels(kernel: Kernel, values: Float64Array) -> Float64Array:
    """What a kernel makes of a constant in each input channel, shape ``(C,)``; without padding."""
    taps = kernel.weight.reshape(kernel.group, -1, kernel.weight.shape[1], *kernel.weight.shape[2:])
    rows = taps.reshape(*taps.shape[:3], -1).sum(axis=-1)
    made: Float64Array = np.matmul(rows, values.reshape(kernel.group, -1, 1)).reshape(-1)
    return made


def regrouped(kernel: Kernel, group: int) -> Kernel:
    """The same kernel with fewer groups, zeros between channels that did not meet: equation 46.

    Args:
        group: divides the groups that there are.
    """
    if group == kernel.group:
        return kernel
    parts, own = kernel.group // group, kernel.weight.shape[1]
    rows = kernel.weight.reshape(group, parts, -1, own, *kernel.weight.shape[2:])
    wide = np.zeros((group, parts, rows.shape[2], parts, own, *kernel.weight.shape[2:]))
    for part in range(parts):
        wide[:, part, :, part] = rows[:, part]
    weight = wide.reshape(kernel.outputs, parts * own, *kernel.weight.shape[2:])
    return replace(kernel, weight=weight, group=group)


def summed(kernels: list[Kernel], signs: list[int], size_of: SizeOf, most: int) -> Kernel | Unfit:
    """The signed sum of kernels of one input as one kernel: equations 40 to 42 and 46.

    Args:
        kernels: one or more.
        signs: 1 or -1 for each.
        most: how many weights the result may have.
    """
    first = kernels[0]
    names = [kernel.names[0] for kernel in kernels]
    for kernel, name in zip(kernels, names, strict=True):
        if kernel.outputs != first.outputs or kernel.inputs != first.inputs:
            return Unfit(
                f"branch {name} makes {kernel.outputs} channels of {kernel.inputs}, {names[0]} "
                f"{first.outputs} of {first.inputs}"
            )
    group = math.gcd(*(kernel.group for kernel in kernels))
    if all(kernel.group != group for kernel in kernels):
        groups = ", ".join(str(kernel.group) for kernel in kernels)
        return Unfit(f"the groups of the branches ({groups}) do not fit into one another")
    found = union([kernel.window for kernel in kernels], names, size_of)
    if isinstance(found, Unfit):
        return found
    shape = (first.outputs, first.inputs // group, *found.window.kernel)
    if math.prod(shape) > most:
        return more_work(math.prod(shape), most)
    weight = np.zeros(shape)
    bias, reach = np.zeros(first.outputs), np.zeros(first.outputs)
    for kernel, sign, offsets in zip(kernels, signs, found.offsets, strict=True):
        taps = [slice(at, at + n) for at, n in zip(offsets, kernel.window.kernel, strict=True)]
        place = (slice(None), slice(None), *taps)
        weight[place] += sign * regrouped(kernel, group).weight
        bias += sign * kernel.bias
        reach += kernel.reach
    work = sum(kernel.work for kernel in kernels)
    merged = tuple(name for kernel in kernels for name in kernel.names)
    return Kernel(weight, bias, group, found.window, work, reach, merged)

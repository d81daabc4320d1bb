"""Which inputs meet which taps: the geometry of convolutions, and how several become one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bnfold.folding.branches.unfit import Unfit
from bnfold.onnxgraph.graph import Node

SizeOf = Callable[[int], int | None]
"""Length of a spatial axis of the common input, or None where the model does not say."""

_SAME: Final = ("SAME_UPPER", "SAME_LOWER")


@dataclass(frozen=True)
class Window:
    """The geometry of one Conv or pooling; each tuple has one entry for each spatial axis.

    Output o of an axis meets input ``o * stride - begin + j * dilation`` at tap j.

    Attributes:
        kernel: number of taps.
        strides, dilations: in inputs.
        begins, ends: zeros before and after the input.
        auto: ``SAME_UPPER`` or ``SAME_LOWER`` where ``begins`` and ``ends`` depend on a size that
            the model does not say (they are zero here then), else ``""``.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    auto: str = ""

    @classmethod
    def point(cls, axes: int) -> Window:
        """One tap on each input, without padding: that of the identity."""
        ones, zeros = (1,) * axes, (0,) * axes
        return cls(ones, ones, ones, zeros, zeros)

    @property
    def has_pads(self) -> bool:
        """Whether zeros are, or may be, added around the input."""
        return bool(self.auto) or any(self.begins) or any(self.ends)

    @property
    def is_point(self) -> bool:
        """Whether each output meets the one input of its own place."""
        return not self.has_pads and set(self.kernel) == {1} == set(self.strides)

    def reach(self, axis: int) -> int:
        """Distance from the first tap to the last one, in inputs."""
        return (self.kernel[axis] - 1) * self.dilations[axis]

    def excess(self, axis: int) -> int:
        """What D is longer by where an input of length D makes ``(D + excess - 1) // stride + 1``
        outputs."""
        return self.begins[axis] + self.ends[axis] - self.reach(axis)


@dataclass(frozen=True)
class Union:
    """The window that holds several ones.

    Attributes:
        window: of the merged operator.
        offsets: for each window, its first tap in the merged kernel, axis by axis.
    """

    window: Window
    offsets: tuple[tuple[int, ...], ...]


def read_window(node: Node, kernel: tuple[int, ...], size_of: SizeOf) -> Window | Unfit:
    """The geometry of a Conv or AveragePool.

    Args:
        kernel: number of taps of each axis.
    """
    axes, found = len(kernel), dict[str, tuple[int, ...]]()
    if min(kernel) < 1:
        return Unfit(f"{node.label} has a kernel of shape {list(kernel)}, without taps")
    for name, count, default in (
        ("strides", axes, 1),
        ("dilations", axes, 1),
        ("pads", 2 * axes, 0),
    ):
        attribute = node.attribute(name)
        values = tuple(attribute.ints) if attribute is not None else (default,) * count
        if len(values) != count or min(values, default=default) < default:
            return Unfit(f"{node.label} has {name} {list(values)}, for {axes} spatial axes")
        found[name] = values
    shape = node.attribute("kernel_shape")
    if shape is not None and tuple(shape.ints) != kernel:
        return Unfit(f"{node.label} has kernel_shape {list(shape.ints)}, its weight {list(kernel)}")
    pads, strides, dilations = found["pads"], found["strides"], found["dilations"]
    window = Window(kernel, strides, dilations, pads[:axes], pads[axes:])
    attribute = node.attribute("auto_pad")
    auto = (
        "NOTSET" if attribute is None or not attribute.s else attribute.s.decode("utf-8", "replace")
    )
    if auto == "NOTSET":
        return window
    if any(pads) or auto not in ("VALID", *_SAME):
        return Unfit(f"{node.label} has auto_pad {auto} and pads {list(pads)}")
    return window if auto == "VALID" else _same(window, auto, size_of)


def _same(window: Window, auto: str, size_of: SizeOf) -> Window:
    """SAME padding, as numbers where they follow from what the model says."""
    begins, ends = [], []
    for axis, stride in enumerate(window.strides):
        reach = window.reach(axis)
        if stride == 1 or reach == 0:
            total = reach
        else:
            size = size_of(axis)
            if size is None:
                zeros = (0,) * len(window.kernel)
                return Window(window.kernel, window.strides, window.dilations, zeros, zeros, auto)
            total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
        less, more = total // 2, total - total // 2
        begins.append(less if auto == "SAME_UPPER" else more)
        ends.append(total - begins[-1])
    return Window(window.kernel, window.strides, window.dilations, tuple(begins), tuple(ends))


def union(windows: Sequence[Window], names: Sequence[str], size_of: SizeOf) -> Union | Unfit:
    """The smallest window in which every tap of every window meets the inputs that it met before.

    ``docs/algebra.md``, equations 41 and 42.

    Args:
        windows: two or more, of as many axes.
        names: of the branches, for the sentence of a refusal.
    """
    first = windows[0]
    for window, name in zip(windows, names, strict=True):
        if window.strides != first.strides:
            return Unfit(
                f"branch {name} has stride {_said(window.strides)}, {names[0]} has "
                f"{_said(first.strides)}"
            )
    if any(window.auto for window in windows):
        return _alike(windows, names)
    axes = [_axis_union(windows, names, axis, size_of) for axis in range(len(first.kernel))]
    kernel, dilations, begins, ends, offsets = [], [], [], [], []
    for axis in axes:
        if isinstance(axis, Unfit):
            return axis
        kernel.append(axis.taps)
        dilations.append(axis.dilation)
        begins.append(axis.begin)
        ends.append(axis.end)
        offsets.append(axis.offsets)
    window = Window(tuple(kernel), first.strides, tuple(dilations), tuple(begins), tuple(ends))
    return Union(window, tuple(zip(*offsets, strict=True)))


def _alike(windows: Sequence[Window], names: Sequence[str]) -> Union | Unfit:
    """Windows whose padding depends on an unknown size can only be equal."""
    first = next(window for window in windows if window.auto)
    for window, name in zip(windows, names, strict=True):
        if window != first:
            auto = next(n for w, n in zip(windows, names, strict=True) if w.auto)
            return Unfit(
                f"branch {auto} has auto_pad {first.auto}, whose padding depends on a size that "
                f"the model does not say, and {name} has another window"
            )
    return Union(first, ((0,) * len(first.kernel),) * len(windows))


@dataclass(frozen=True)
class _Axis:
    taps: int
    dilation: int
    begin: int
    end: int
    offsets: tuple[int, ...]


def _axis_union(
    windows: Sequence[Window], names: Sequence[str], axis: int, size_of: SizeOf
) -> _Axis | Unfit:
    # One tap has no distance to another, so it fits any dilation.
    found: dict[int, str] = {}
    for window, name in zip(windows, names, strict=True):
        if window.kernel[axis] > 1:
            found.setdefault(window.dilations[axis], name)
    if len(found) > 1:
        (one, first), (two, second), *_ = found.items()
        return Unfit(f"branch {second} has dilation {two}, {first} has {one}")
    dilation, widest = next(iter(found.items()), (1, names[0]))
    begin = max(window.begins[axis] for window in windows)
    last = max(window.reach(axis) - window.begins[axis] for window in windows)
    excesses = [window.excess(axis) for window in windows]
    if len(set(excesses)) > 1:
        size, stride = size_of(axis), windows[0].strides[axis]
        sizes = {None} if size is None else {(size + e - 1) // stride for e in excesses}
        if size is None or len(sizes) > 1:
            at = next(n for n, e in enumerate(excesses) if e != excesses[0])
            return Unfit(
                f"the padding of branch {names[at]} makes another output size than that of "
                f"{names[0]}"
            )
    offsets = tuple(begin - window.begins[axis] for window in windows)
    for offset, name in zip(offsets, names, strict=True):
        if offset % dilation:
            return Unfit(
                f"the taps of branch {name} fall between those of {widest}, with dilation "
                f"{dilation}"
            )
    return _Axis(
        taps=(begin + last) // dilation + 1,
        dilation=dilation,
        begin=begin,
        end=max(excesses) + last,
        offsets=tuple(offset // dilation for offset in offsets),
    )


def _said(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(set(numbers)) == 1 else str(list(numbers))

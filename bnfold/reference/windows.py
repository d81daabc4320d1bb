"""Where a sliding window lies: sizes and pads of convolution and pooling, and views of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from bnfold.reference.call import Array, Call


@dataclass(frozen=True, slots=True)
class Windows:
    """Sliding windows over the spatial axes, one number for each axis everywhere.

    Attributes:
        kernel, strides, dilations: as the attributes of the operator say.
        begins, ends: padded elements before and after; negative ones crop.
        sizes: spatial shape of the output.
        covers: elements that the windows reach over, pads counted; with ``ceil_mode`` the last
            window may reach beyond the pads.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    sizes: tuple[int, ...]
    covers: tuple[int, ...]

    @property
    def is_pointwise(self) -> bool:
        """Whether every window is one element, at every place, without pads."""
        ones = all(n == 1 for n in self.kernel + self.strides)
        return ones and not any(self.begins) and not any(self.ends)


def windows_of(call: Call, spatial: tuple[int, ...], kernel: tuple[int, ...]) -> Windows:
    """The windows of a Conv or of a pool.

    Args:
        call: with the attributes strides, dilations, pads, auto_pad and ceil_mode, as far as
            the operator has them.
        spatial: spatial shape of the input.
        kernel: spatial shape of the kernel.

    Raises:
        ValueError: numbers of axes differ, a stride or dilation is not positive, a window is
            larger than the padded input, or auto_pad is none that the specification names.

    Source: ONNX, Conv and AveragePool: the formulas for the output shape and pad_shape.
    """
    rank = len(spatial)
    strides = _numbers(call.get("strides"), rank, "strides")
    dilations = _numbers(call.get("dilations"), rank, "dilations")
    if len(kernel) != rank:
        raise ValueError(f"kernel_shape {list(kernel)} does not fit {rank} spatial axes")
    reaches = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    auto_pad, ceil = call.get("auto_pad", "NOTSET"), bool(call.get("ceil_mode", 0))
    begins = ends = (0,) * rank
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        sizes = tuple(-(-n // s) for n, s in zip(spatial, strides, strict=True))
        totals = [
            max((o - 1) * s + r - n, 0)
            for o, s, r, n in zip(sizes, strides, reaches, spatial, strict=True)
        ]
        small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
        begins, ends = (small, large) if auto_pad == "SAME_UPPER" else (large, small)
    elif auto_pad in ("NOTSET", "", "VALID"):
        pads = call.get("pads") or [0] * 2 * rank
        if auto_pad == "VALID":
            pads = [0] * 2 * rank
        if len(pads) != 2 * rank:
            raise ValueError(f"pads {pads} does not fit {rank} spatial axes")
        begins, ends = tuple(pads[:rank]), tuple(pads[rank:])
        sizes = tuple(
            _places(n, b, e, r, s, ceil)
            for n, b, e, r, s in zip(spatial, begins, ends, reaches, strides, strict=True)
        )
    else:
        raise ValueError(f"auto_pad {auto_pad!r} is not one of the specification")
    covers = tuple(
        (o - 1) * s + r if o else 0 for o, s, r in zip(sizes, strides, reaches, strict=True)
    )
    return Windows(kernel, strides, dilations, begins, ends, sizes, covers)


def _places(size: int, begin: int, end: int, reach: int, stride: int, ceil: bool) -> int:
    room = size + begin + end - reach
    if room < 0:
        if room + stride <= 0 or not ceil:
            raise ValueError(f"a window of {reach} does not fit into {size} + {begin} + {end}")
        return 1
    count = (math.ceil(room / stride) if ceil else room // stride) + 1
    # The last window has to begin inside the image or the pads before it.
    return count - 1 if ceil and (count - 1) * stride >= size + begin else count


def _numbers(values: list[int] | None, rank: int, name: str) -> tuple[int, ...]:
    if not values:
        return (1,) * rank
    if len(values) != rank or min(values) < 1:
        raise ValueError(f"{name} {values} does not fit {rank} spatial axes")
    return tuple(values)


def padded(x: Array, windows: Windows, value: Any = 0) -> Array:
    """x with its pads, so that the windows reach neither over its begin nor over its end.

    Args:
        x: ``(N, C, *spatial)``.
        windows: over the spatial axes of x.
        value: of the padded elements, in units of x.

    Returns:
        ``(N, C, *windows.covers)`` or longer at the end; x itself if nothing is to be padded.
    """
    spatial = x.shape[2:]
    ends = [c - b - n for c, b, n in zip(windows.covers, windows.begins, spatial, strict=True)]
    if any(b < 0 for b in windows.begins):
        cropped: Any = (..., *(slice(max(-b, 0), None) for b in windows.begins))
        x = x[cropped]
    if not any(b > 0 for b in windows.begins) and not any(e > 0 for e in ends):
        return x
    begins = [max(b, 0) for b in windows.begins]
    shape = [b + n + max(e, 0) for b, n, e in zip(begins, x.shape[2:], ends, strict=True)]
    y = np.full((*x.shape[:2], *shape), value, dtype=x.dtype)
    inner: Any = (..., *(slice(b, b + n) for b, n in zip(begins, x.shape[2:], strict=True)))
    y[inner] = x
    return y


def window_view(x: Array, windows: Windows) -> Array:
    """All windows of a padded array, without a copy.

    Args:
        x: ``(N, C, *spatial)``, as `padded` returns it.
        windows: over the spatial axes of x.

    Returns:
        A read-only view of shape ``(N, C, *kernel, *sizes)``.
    """
    steps = x.strides[2:]
    taps = tuple(d * b for d, b in zip(windows.dilations, steps, strict=True))
    moves = tuple(s * b for s, b in zip(windows.strides, steps, strict=True))
    return as_strided(
        x,
        (*x.shape[:2], *windows.kernel, *windows.sizes),
        (*x.strides[:2], *taps, *moves),
        writeable=False,
    )


def tap(x: Array, windows: Windows, at: tuple[int, ...]) -> Array:
    """What one element of the kernel meets: a view of shape ``(N, C, *sizes)`` of a padded x."""
    where: Any = tuple(
        slice(k * d, k * d + s * (n - 1) + 1 if n else k * d, s)
        for k, d, s, n in zip(at, windows.dilations, windows.strides, windows.sizes, strict=True)
    )
    inner: Any = (..., *where)
    return np.asarray(x[inner])

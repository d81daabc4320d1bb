"""A picture of a calibration: how far the statistics of each norm moved, channel by channel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from bnfold.report.lines import count
from bnfold.report.picture import (
    BAND,
    BLUE,
    EDGE,
    GREY,
    GRID,
    INK,
    PALE,
    VERMILLION,
    WIDTH,
    Page,
    drawn,
    shortened,
)
from bnfold.statistics.outcome import CalibrateReport, Estimated

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS: Final = 60
"""Of more norms than that, those whose statistics moved most are drawn."""

# Sizes in inches, from the left and from the top.
_GAP, _RIGHT = 0.35, 0.75
_ROW, _LEAST_HEIGHT = 0.21, 0.42
_HEAD = 0.5
_LETTERS, _LETTER = 36, 0.0655
"""Letters of the name of a norm, and the width of one."""
_LINEAR = 1.0
"""Up to so many standard deviations the axis of the means is linear, logarithmic beyond."""

# What a norm is drawn like, by the channel that moved most. The markers differ, too.
_LOOKS: Final = (
    (0.1, GREY, "o", "less than 0.1"),
    (1.0, BLUE, "s", "0.1 to 1"),
    (math.inf, VERMILLION, "D", "1 and more"),
)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Row:
    """What is drawn of a norm.

    Attributes:
        norm: it.
        moved: of the channels whose numbers are finite, new mean - old mean, in new standard
            deviations.
        ratio: of these channels, new standard deviation / old one.
    """

    norm: Estimated
    moved: Floats
    ratio: Floats

    @classmethod
    def of(cls, norm: Estimated) -> _Row:
        """The channels that have a variance, before and after; the others cannot be drawn."""
        mean_before, mean, var_before, var = (
            np.asarray(values, np.float64)
            for values in (norm.mean_before, norm.mean_after, norm.var_before, norm.var_after)
        )
        with np.errstate(all="ignore"):
            moved = (mean - mean_before) / np.sqrt(var)
            ratio = np.sqrt(var / var_before)
        whole = np.isfinite(moved) & np.isfinite(ratio) & (ratio > 0)
        return cls(norm, moved[whole], ratio[whole])

    @property
    def drift(self) -> float:
        """As the report has it."""
        return max(self.norm.mean_drift, self.norm.std_drift)

    @property
    def lost(self) -> int:
        """Channels that cannot be drawn."""
        return self.norm.channels - len(self.moved)


def calibrate_plot(report: CalibrateReport, ending: str) -> bytes:
    """The picture as a file; the same bytes of SVG for the same report and matplotlib.

    Args:
        report: with one norm at least.
        ending: ``.svg`` or ``.png``.
    """
    return drawn(lambda: _figure(report), ending, _title(report))


def _figure(report: CalibrateReport) -> Figure:
    rows = _rows(report)
    inner = max(len(rows) * _ROW, _LEAST_HEIGHT)
    page = Page(_title(report), _summary(report), _caption(report, rows), head=_HEAD, inner=inner)
    names = _names(rows)
    first = EDGE + max(0.6, 0.15 + _LETTER * max(map(len, names)))
    width = (WIDTH - first - _GAP - _RIGHT) / 2
    means, deviations = (page.panel(left, width) for left in (first, first + width + _GAP))
    for axes in (means, deviations):
        axes.set_ylim(len(rows), 0)
    _scale_means(means, rows)
    _scale_deviations(deviations, rows)
    for number, row in enumerate(rows):
        _draw(means, number, row, row.moved)
        _draw(deviations, number, row, row.ratio)
        color = _look(row)[1]
        _beside(means, -0.1 / width, number, names[number], ha="right")
        _beside(
            deviations, 1 + (_RIGHT - EDGE) / width, number, _number(row.drift), color=color,
            weight="bold" if row.drift >= _LOOKS[1][0] else "normal", ha="right",
        )  # fmt: skip
    look = {"size": 7.5, "color": PALE, "va": "bottom"}
    _beside(means, -0.1 / width, -0.5, "norm", ha="right", **look)
    _beside(deviations, 1 + (_RIGHT - EDGE) / width, -0.5, "largest\ndrift", ha="right", **look)
    _beside(means, 0.5, -0.5, "mean", ha="center", **look)
    _beside(deviations, 0.5, -0.5, "standard deviation", ha="center", **look)
    return page.figure


def _rows(report: CalibrateReport) -> list[_Row]:
    rows = [_Row.of(norm) for norm in report.norms]
    if len(rows) <= MOST_ROWS:
        return rows
    far = sorted(range(len(rows)), key=lambda at: -rows[at].drift)[:MOST_ROWS]
    return [rows[at] for at in sorted(far)]


def _names(rows: list[_Row]) -> list[str]:
    """What the rows are called, without the end that exporters give all of them."""
    names = [row.norm.norm for row in rows]
    ends = {name.rpartition("/")[2] for name in names}
    if len(ends) == 1 and len(names) > 1 and all(name.rpartition("/")[0] for name in names):
        names = [name.rpartition("/")[0] for name in names]
    return [shortened(name, _LETTERS) for name in names]


def _draw(axes: Axes, number: int, row: _Row, values: Floats) -> None:
    """All channels as a thin bar, four fifths of them as a thick one, their median as a marker."""
    y = number + 0.5
    if number % 2 == 0:
        axes.axhspan(number, number + 1, color=BAND, lw=0, zorder=0)
    if not len(values):
        return
    _, color, marker, _ = _look(row)
    least, low, middle, high, most = np.quantile(values, (0, 0.1, 0.5, 0.9, 1))
    axes.plot([least, most], [y, y], color=color, lw=1, alpha=0.6, zorder=3)
    axes.plot([low, high], [y, y], color=color, lw=6, alpha=0.35, solid_capstyle="butt", zorder=3)
    axes.plot([middle], [y], color=color, marker=marker, ms=4, mew=0, zorder=4)


def _look(row: _Row) -> tuple[float, str, str, str]:
    return next((look for look in _LOOKS if row.drift < look[0]), _LOOKS[-1])


def _beside(axes: Axes, x: float, number: float, text: str, **look: Any) -> None:
    """Put a text in a row, x in widths of the panel."""
    given: dict[str, Any] = {"va": "center_baseline", "size": 8, "color": INK}
    axes.text(
        x, number + 0.5, text, transform=axes.get_yaxis_transform(), clip_on=False,
        parse_math=False, **given | look,
    )  # fmt: skip


def _scale_means(axes: Axes, rows: list[_Row]) -> None:
    far = max([_LINEAR / 4, *(float(np.abs(row.moved).max()) for row in rows if len(row.moved))])
    if far > 4 * _LINEAR:
        axes.set_xscale("symlog", linthresh=_LINEAR, linscale=0.6)
        decades = math.ceil(math.log10(far))
        step = max(1, math.ceil(decades / 3))
        ends = [10.0**power for power in range(0, decades + 1, step)]
        ticks = [-end for end in reversed(ends)] + [0.0, *ends]
        axes.set_xlim(-(far**1.08), far**1.08)
    else:
        spacing = next(s for s in (0.1, 0.2, 0.5, 1.0, 2.0) if far / s < 3.5)
        last = math.floor(far / spacing)
        ticks = [number * spacing for number in range(-last, last + 1)]
        axes.set_xlim(-1.08 * far, 1.08 * far)
    low, high = axes.get_xlim()
    ticks = [tick for tick in ticks if low <= tick <= high]
    _finish(axes, ticks, [_number(tick, signed=True) for tick in ticks], 0.0)
    axes.set_xlabel("(new - old) / new standard deviation", size=8, color=PALE)


def _scale_deviations(axes: Axes, rows: list[_Row]) -> None:
    """A logarithmic axis: twice is as far from 1 as half."""
    far = max([1.25, *(float(np.exp(np.abs(np.log(r.ratio)).max())) for r in rows if len(r.ratio))])
    axes.set_xscale("log")
    axes.minorticks_off()
    edge = far**1.08
    axes.set_xlim(1 / edge, edge)
    nice = (1.05, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, *(10.0**power for power in range(1, 160)))
    step = next(step for step in nice if math.log(step) >= 0.4 * math.log(edge))
    ticks = [step**power for power in (-2, -1, 0, 1, 2)]
    ticks = [tick for tick in ticks if 1 / edge <= tick <= edge]
    names = [f"1/{_multiple(1 / tick)}" if tick < 1 else _multiple(tick) for tick in ticks]
    _finish(axes, ticks, names, 1.0)
    axes.set_xlabel("new / old", size=8, color=PALE)


def _finish(axes: Axes, ticks: list[float], names: list[str], still: float) -> None:
    axes.minorticks_off()
    axes.set_xticks(ticks, names, size=8, color=INK)
    axes.set_yticks([])
    axes.tick_params(axis="x", length=3, color=PALE)
    axes.grid(axis="x", color=GRID, lw=0.8, zorder=1)
    axes.set_axisbelow(True)
    axes.axvline(still, color=INK, lw=1.0, zorder=2)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(PALE)


def _number(value: float, *, signed: bool = False) -> str:
    """Two significant digits; whole numbers keep theirs."""
    if not math.isfinite(value):
        return "inf" if value > 0 else str(value)
    digits = f"{value:,.0f}" if abs(value) >= 9.95 else f"{value:.2g}"
    if abs(value) >= 1e5 or 0 < abs(value) < 0.001:
        digits = f"{value:.0e}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")
    return f"+{digits}" if signed and value > 0 else digits


def _multiple(value: float) -> str:
    return f"{value:.3g}x".replace("e+0", "e").replace("e+", "e")


def _title(report: CalibrateReport) -> str:
    return f"{shortened(report.model, 48)}: statistics, old and new"


def _summary(report: CalibrateReport) -> str:
    far = sum(max(norm.mean_drift, norm.std_drift) >= _LOOKS[1][0] for norm in report.norms)
    batches = f"{report.batches:,} batch{'' if report.batches == 1 else 'es'}"
    return (
        f"{count(len(report.norms), 'norm')} from {batches} ({report.estimator}, {report.mode}): "
        f"largest drift {_number(report.drift)} standard deviations, "
        f"{count(far, 'norm')} at 1 or more."
    )


def _caption(report: CalibrateReport, rows: list[_Row]) -> list[str]:
    looks = "; ".join(
        f"{shape}: {words}"
        for shape, (_, _, _, words) in zip(("circle", "square", "diamond"), _LOOKS, strict=True)
    )
    lines = [
        "Thin bar: all channels of a norm; thick bar: four fifths of them; marker: the median "
        f"channel. By the largest drift of a channel, {looks}.",
        "Standard deviations are the new ones. "
        "Right of 0 and of 1x: the data has a larger mean, or a larger spread, than the file said.",
    ]
    if len(rows) < len(report.norms):
        lines.append(
            f"The {len(rows):,} of {len(report.norms):,} norms that moved most, in the order "
            "of the graph."
        )
    lost = sum(row.lost for row in rows)
    if lost:
        lines.append(
            f"{count(lost, 'channel')} without a variance, before or after, cannot be drawn."
        )
    if report.data:
        lines.append(f"Data: {report.data}.")
    return lines

"""A picture of a benchmark: the ratio with its interval, for each level and batch size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bnfold.measuring.outcome import BenchReport, Cell, Level
from bnfold.report.bench_words import LEVEL_NAMES, by_level, folded_by_runtime, removed, summary
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
)
from bnfold.report.quantities import Verdict, duration, multiple, verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Sizes in inches, from the left and from the top.
_LEVELS, _BATCHES, _RIGHT = 1.95, 0.75, 2.75
_ROW, _GAP = 0.27, 0.17
_HEAD = 0.55

_LEAST = (0.9, 1.15)
"""Ratios that the axis always has, so that noise does not fill it."""
_LONGEST = 64
"""Letters of a title."""

# The markers differ as well as the colours.
_LOOKS: Final[dict[Verdict, tuple[str, str]]] = {
    "faster": (BLUE, ">"),
    "slower": (VERMILLION, "<"),
    "same": (GREY, "o"),
    "unclear": (GREY, "d"),
}


def bench_plot(report: BenchReport, ending: str) -> bytes:
    """The picture as a file; the same bytes of SVG for the same report and matplotlib.

    Args:
        report: with one cell at least.
        ending: ``.svg`` or ``.png``.
    """
    return drawn(lambda: _figure(report), ending, _title(report))


@dataclass(frozen=True)
class _Columns:
    """Where things are on the page, in inches.

    Attributes:
        left: of the panel.
        has_batches: whether each row has the batch size before it.
        has_norms: whether each level has the norms that onnxruntime folds behind it.
    """

    left: float
    has_batches: bool
    has_norms: bool

    @classmethod
    def of(cls, report: BenchReport) -> _Columns:
        """The columns that a report needs."""
        has_batches = len({cell.batch for cell in report.cells}) > 1
        is_known = any(start.norms_left is not None for start in report.starts)
        left = _LEVELS + has_batches * _BATCHES
        return cls(left, has_batches, is_known and removed(report) > 0)

    @property
    def width(self) -> float:
        """Of the panel."""
        return WIDTH - self.left - _RIGHT

    def write(self, axes: Axes, x: float, y: float, text: str, **look: Any) -> None:
        """Put a text beside the panel: x from the left edge of the page, y as the rows count."""
        given: dict[str, Any] = {
            "ha": "left",
            "va": "center_baseline",
            "clip_on": False,
            "parse_math": False,
        }
        at = (x - self.left) / self.width
        axes.text(at, y, text, transform=axes.get_yaxis_transform(), **given | look)


def _figure(report: BenchReport) -> Figure:
    levels, columns = by_level(report.cells), _Columns.of(report)
    rows = len(report.cells) * _ROW + (len(levels) - 1) * _GAP
    page = Page(_title(report), summary(report), _caption(report), head=_HEAD, inner=rows)
    axes = page.panel(columns.left, columns.width)
    axes.set_ylim(rows, 0)
    _scale(axes, report)
    _heads(axes, columns)
    _rows(axes, columns, report, levels)
    return page.figure


def _rows(
    axes: Axes, columns: _Columns, report: BenchReport, levels: dict[Level, list[Cell]]
) -> None:
    """All rows; the vertical axis is in inches below the top of the panel."""
    folds = {start.level: folded_by_runtime(report, start) for start in report.starts}
    top = 0.0
    for level, cells in levels.items():
        bottom = top + len(cells) * _ROW
        middle = (top + bottom) / 2
        axes.axhspan(top, bottom, color=BAND, lw=0, zorder=0)
        columns.write(axes, EDGE, middle, LEVEL_NAMES[level], size=8.5, color=INK)
        for number, cell in enumerate(cells):
            y = top + (number + 0.5) * _ROW
            _row(axes, cell, y)
            if columns.has_batches:
                batch = f"batch {cell.batch}"
                columns.write(axes, columns.left - 0.1, y, batch, size=8, color=PALE, ha="right")
            times = " \N{RIGHTWARDS ARROW} ".join(
                duration(spread.median) for spread in (cell.original, cell.folded)
            )
            columns.write(axes, WIDTH - _RIGHT + 0.15, y, times, size=8, color=INK)
        if columns.has_norms:
            known = folds.get(level)
            text = "?" if known is None else f"{known:,} of {removed(report):,}"
            columns.write(axes, WIDTH - EDGE, middle, text, size=8, color=INK, ha="right")
        top = bottom + _GAP


def _row(axes: Axes, cell: Cell, y: float) -> None:
    """The interval as a bar, the ratio as a marker and as a number."""
    color, marker = _LOOKS[verdict(cell.ratio)]
    low, high = cell.ratio.low, cell.ratio.high
    is_left = cell.ratio.is_slower  # so that no number stands on the line at 1
    axes.plot([low, high], [y, y], color=color, lw=8, alpha=0.35, solid_capstyle="butt", zorder=3)
    axes.plot([cell.ratio.value], [y], color=color, marker=marker, ms=6, mew=0, zorder=4)
    axes.annotate(
        multiple(cell.ratio),
        (low if is_left else high, y),
        xytext=(-7 if is_left else 7, 0),
        textcoords="offset points",
        ha="right" if is_left else "left",
        va="center_baseline",
        size=8.5,
        color=color,
        weight="bold" if verdict(cell.ratio) in ("faster", "slower") else "normal",
        bbox={"facecolor": BAND, "edgecolor": "none", "pad": 0.8},
        zorder=3,
    )


def _scale(axes: Axes, report: BenchReport) -> None:
    """A logarithmic axis: twice as fast is as far from 1 as half as fast."""
    low = min(_LEAST[0], *(cell.ratio.low for cell in report.cells))
    high = max(_LEAST[1], *(cell.ratio.high for cell in report.cells))
    span = math.log(high / low)
    margin = 0.2 if any(cell.ratio.is_slower for cell in report.cells) else 0.06
    low, high = low * math.exp(-margin * span), high * math.exp(0.2 * span)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.minorticks_off()
    ticks = _ticks(low, high)
    axes.set_xticks(ticks, [f"{tick:g}x" for tick in ticks], size=8.5, color=INK)
    axes.set_yticks([])
    axes.tick_params(axis="x", length=3, color=PALE)
    axes.grid(axis="x", color=GRID, lw=0.8, zorder=1)
    axes.set_axisbelow(True)
    axes.axvline(1.0, color=INK, lw=1.2, zorder=2)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(PALE)
    axes.set_xlabel("time of the original / time of the folded model", size=8.5, color=PALE)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, among them 1: the finest steps of which there are no more than seven."""
    if high / low < 4:
        for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0):
            first, last = math.ceil((low - 1) / step), math.floor((high - 1) / step)
            if last - first < 7:
                return [round(1 + number * step, 10) for number in range(first, last + 1)]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        found = [d * 10.0**decade for decade in decades for d in digits]
        found = [tick for tick in found if low <= tick <= high]
        if len(found) <= 8:
            break
    return found


def _heads(axes: Axes, columns: _Columns) -> None:
    """What stands above the panel and the columns of text beside it."""
    look = {"size": 7.5, "color": PALE, "va": "bottom"}
    columns.write(axes, WIDTH - _RIGHT + 0.15, -0.09, "one run, median:\noriginal, folded", **look)
    if columns.has_norms:
        text = "norms that\nonnxruntime folds"
        columns.write(axes, WIDTH - EDGE, -0.09, text, ha="right", **look)
    for text, side, shift in (
        ("slower \N{LEFTWARDS ARROW}", "right", -5),
        ("\N{RIGHTWARDS ARROW} folded is faster", "left", 5),
    ):
        axes.annotate(
            text,
            (1.0, 0.0),
            xytext=(shift, 6),
            textcoords="offset points",
            ha=side,
            va="bottom",
            size=7.5,
            color=PALE,
            annotation_clip=False,
        )


def _title(report: BenchReport) -> str:
    folded, original = (" ".join(name.split()) for name in (report.folded, report.original))
    whole = f"{folded} against {original}"
    if len(whole) <= _LONGEST:
        return whole
    return folded if len(folded) <= _LONGEST else f"{folded[:20]} ... {folded[-_LONGEST + 25 :]}"


def _caption(report: BenchReport) -> list[str]:
    """How that was measured, and on what."""
    setting = report.setting
    inputs = ", ".join(f"{n} {'x'.join(map(str, s))}" for n, s in setting.inputs.items())
    versions = ", ".join(f"{name} {version}" for name, version in setting.versions.items())
    device = f"{setting.device}; " if setting.device else ""
    return [
        f"Ratio of the medians; bars: 95 % bootstrap interval. Both models ran in turn, "
        f"{setting.duration:g} s a row; seed {setting.seed}.",
        f"{device}{setting.processor}, {count(setting.cores, 'core')}; {setting.system}; "
        f"{setting.provider}, {count(setting.threads, 'thread')}; "
        f"{inputs or 'no inputs'}; {setting.data}.",
        f"{versions}.",
    ]

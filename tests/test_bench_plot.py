"""The picture of a benchmark."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.lines import Line2D

from bnfold.measuring.outcome import LEVELS, BenchReport, Ratio
from bnfold.report.bench_plot import _figure, _ticks, bench_plot
from bnfold.report.bench_words import LEVEL_NAMES
from bnfold.report.quantities import multiple
from tests.support_bench_reports import LONG, REPORTS, SETTING, USUAL, cell, start
from tests.support_pictures import assert_nothing_is_cut_off_or_lies_on_another_text, texts

MANY = replace(
    USUAL,
    original=LONG,
    folded="größe_出力_$x$_" + LONG,
    cells=tuple(
        cell(level, batch, 1e-3 * batch, value * (1 + batch / 100), 0.1)
        for level, value in zip(LEVELS, (40.0, 1.2, 0.5, 1.0), strict=True)
        for batch in (1, 8, 128, 1024)
    ),
    setting=replace(
        SETTING,
        device="NVIDIA H100 80GB HBM3",
        processor="Intel(R) Xeon(R) Platinum 8480C CPU @ 2.00GHz (virtual machine)",
        inputs={f"input_{number}": (1, 3, 224, 224) for number in range(5)},
        versions={f"package_{number}": "1.2.3" for number in range(12)},
    ),
)
DRAWN = {name: report for name, report in REPORTS.items() if report.cells} | {"many": MANY}


def markers(figure: Figure) -> list[Line2D]:
    (axes,) = figure.axes
    return [line for line in axes.lines if line.get_marker() not in ("None", None)]


@pytest.mark.parametrize("case", DRAWN)
def test_svg_is_whole_and_the_same_each_time(case: str) -> None:
    first = bench_plot(DRAWN[case], ".svg")
    assert first == bench_plot(DRAWN[case], ".svg")
    root = ElementTree.fromstring(first)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    _, _, width, height = map(float, root.get("viewBox", "").split())
    assert width == pytest.approx(9 * 72)
    assert 2 * 72 < height < 9 * 72
    assert sum(element.tag.endswith("}path") for element in root.iter()) > 20


@pytest.mark.parametrize("case", DRAWN)
def test_png_is_a_picture(case: str) -> None:
    drawn = bench_plot(DRAWN[case], ".png")
    assert drawn[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", drawn[16:24])
    assert width == 1800
    pixels = imread(io.BytesIO(drawn))
    assert pixels.shape[:2] == (height, width)
    assert pixels[:, :, :3].min() < 0.2
    assert np.all(pixels[[0, -1]] == 1)  # nothing touches the edge
    assert np.all(pixels[:, [0, -1]] == 1)


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("case", DRAWN)
def test_nothing_is_cut_off_or_lies_on_another_text(case: str) -> None:
    assert_nothing_is_cut_off_or_lies_on_another_text(_figure(DRAWN[case]))


@pytest.mark.parametrize("case", DRAWN)
def test_every_ratio_is_drawn_with_its_interval(case: str) -> None:
    report = DRAWN[case]
    figure = _figure(report)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    low, high = axes.get_xlim()
    shown = [float(np.asarray(line.get_xdata())[0]) for line in markers(figure)]
    assert shown == [found.ratio.value for found in report.cells]
    bars = [list(map(float, np.asarray(line.get_xdata()))) for line in axes.lines]
    for found in report.cells:
        assert low < found.ratio.low <= found.ratio.high < high
        assert [found.ratio.low, found.ratio.high] in bars
    assert [1.0, 1.0] in bars
    said = [text.get_text() for text in texts(figure)]
    assert {LEVEL_NAMES[found.level] for found in report.cells} <= set(said)
    assert {multiple(found.ratio) for found in report.cells} <= set(said)


def test_norms_that_onnxruntime_folds_stand_beside_each_level() -> None:
    def said(report: BenchReport) -> list[str]:
        return [text.get_text() for text in texts(_figure(report)) if " of 12" in text.get_text()]

    assert said(USUAL) == ["0 of 12", "12 of 12", "12 of 12", "12 of 12"]
    unknown = replace(USUAL, starts=[start(found.level, None) for found in USUAL.starts])
    assert said(unknown) == []


def test_what_is_faster_differs_by_more_than_a_colour() -> None:
    ratios = {
        "faster": Ratio(2.0, 1.9, 2.1),
        "slower": Ratio(0.5, 0.4, 0.6),
        "same": Ratio(1.0, 0.99, 1.01),
        "unclear": Ratio(1.0, 0.8, 1.2),
    }
    cells = [replace(USUAL.cells[0], ratio=found) for found in ratios.values()]
    shown = {line.get_marker() for line in markers(_figure(replace(USUAL, cells=cells)))}
    assert len(shown) == 4


@pytest.mark.parametrize(
    ("low", "high"),
    [(0.99, 1.01), (0.87, 1.2), (0.5, 1.6), (0.9, 3.5), (0.4, 2.4), (0.2, 80.0), (1e-4, 1e4)],
)
def test_ticks_are_few_and_one_of_them_is_1(low: float, high: float) -> None:
    found = _ticks(low, high)
    assert 1.0 in found
    assert found == sorted(set(found))
    assert 3 <= len(found) <= 9
    assert low <= found[0] <= found[-1] <= high


def test_the_settings_of_matplotlib_do_not_matter_and_stay() -> None:
    plain = bench_plot(USUAL, ".svg")
    with matplotlib.rc_context({"axes.facecolor": "black", "text.usetex": True, "font.size": 30}):
        assert bench_plot(USUAL, ".svg") == plain
        assert matplotlib.rcParams["font.size"] == 30

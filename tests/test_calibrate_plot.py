"""The picture of a calibration."""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Sequence
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from bnfold.report.calibrate_plot import MOST_ROWS, _figure, calibrate_plot
from bnfold.statistics.outcome import CalibrateReport, Estimated
from tests.support_pictures import assert_nothing_is_cut_off_or_lies_on_another_text, texts


def norm(
    name: str, before: Sequence[tuple[float, float]], *after: tuple[float, float]
) -> Estimated:
    """A norm of some channels, each with its mean and its standard deviation."""
    moves = [
        (abs(new[0] - old[0]) / new[1], abs(new[1] - old[1]) / new[1]) if new[1] else (0.0, 0.0)
        for old, new in zip(before, after, strict=True)
    ]
    return Estimated(
        norm=name,
        data=f"{name}_in",
        channels=len(before),
        batches=32,
        values=4096,
        mean_before=[mean for mean, _ in before],
        mean_after=[mean for mean, _ in after],
        var_before=[std**2 for _, std in before],
        var_after=[std**2 for _, std in after],
        mean_drift=max(mean for mean, _ in moves),
        std_drift=max(std for _, std in moves),
    )


def drawn_norm(name: str, channels: int, moved: float, wider: float) -> Estimated:
    """A norm of random channels that move by about so much."""
    random = np.random.default_rng(channels)
    before = [(float(m), float(s)) for m, s in random.uniform(0.5, 2.0, (channels, 2))]
    after = []
    for mean, std in before:
        spread = std * math.exp(wider * random.standard_normal())
        after.append((mean + moved * spread * random.standard_normal(), spread))
    return norm(name, before, *after)


def report(*norms: Estimated, **fields: object) -> CalibrateReport:
    whole = CalibrateReport(
        model="resnet.onnx",
        estimator="paper",
        mode="batch",
        precision="model",
        data="train.npz",
        batches=32,
        merged_batches=0,
        passes=1,
        is_settled=False,
        last_move=0.01,
        norms=norms,
    )
    return replace(whole, **fields)  # type: ignore[arg-type]


KNOWN = report(
    norm("still", [(0.0, 1.0), (3.0, 2.0)], (0.0, 1.0), (3.0, 2.0)),
    norm("moved", [(1.0, 1.0), (1.0, 1.0)], (2.0, 2.0), (0.5, 1.0)),
    norm("far", [(0.0, 1.0), (5.0, 1.0), (1.0, 4.0)], (8.0, 4.0), (5.0, 1.0), (1.0, 1.0)),
)
LOST = report(
    norm("some", [(0.0, 1.0), (0.0, 0.0), (1.0, 1.0)], (0.5, 1.0), (1.0, 1.0), (1.0, 0.0))
)
CASES = {
    "known": KNOWN,
    "lost": LOST,
    "all lost": report(norm("dead", [(0.0, 0.0)], (0.0, 0.0))),
    "one": report(drawn_norm("bn", 1, 0.001, 0.001), batches=1),
    "usual": report(
        *(
            drawn_norm(f"/layer{n}/bn/BatchNormalization", 16 << n, 0.1 * n, 0.05 * n)
            for n in range(5)
        )
    ),
    "far": report(*(drawn_norm(f"bn_{n}", 64, 10.0 ** (n - 3), 10.0 ** (n - 4)) for n in range(7))),
    "many": report(
        *(
            drawn_norm(f"größe_$x$_{n:03}_" + "n" * 50, 1 + n, 0.01 * (n % 90), 0.1)
            for n in range(90)
        ),
        model="/exports/2024/backbone_stage_4/" * 4 + "出力.onnx",
        data="/exports/2024/data/" * 20,
        mode="sequential",
        estimator="population",
    ),
}


def said(figure: Figure) -> list[str]:
    return [text.get_text() for text in texts(figure)]


def medians(axes: Axes) -> list[float]:
    found = [line for line in axes.lines if line.get_marker() not in ("None", None)]
    return [float(np.asarray(line.get_xdata())[0]) for line in found]


def bars(axes: Axes) -> list[list[float]]:
    return [[float(x) for x in np.asarray(line.get_xdata())] for line in axes.lines]


@pytest.mark.parametrize("case", CASES)
def test_svg_is_whole_and_the_same_each_time(case: str) -> None:
    first = calibrate_plot(CASES[case], ".svg")
    assert first == calibrate_plot(CASES[case], ".svg")
    root = ElementTree.fromstring(first)
    _, _, width, height = map(float, root.get("viewBox", "").split())
    assert width == pytest.approx(9 * 72)
    assert 2 * 72 < height < 18 * 72


@pytest.mark.parametrize("case", CASES)
def test_png_is_a_picture(case: str) -> None:
    drawn = calibrate_plot(CASES[case], ".png")
    width, height = struct.unpack(">II", drawn[16:24])
    assert width == 1800
    pixels = imread(io.BytesIO(drawn))
    assert pixels.shape[:2] == (height, width)
    assert np.all(pixels[[0, -1]] == 1)  # nothing touches the edge
    assert np.all(pixels[:, [0, -1]] == 1)


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("case", CASES)
def test_nothing_is_cut_off_or_lies_on_another_text(case: str) -> None:
    assert_nothing_is_cut_off_or_lies_on_another_text(_figure(CASES[case]))


def test_what_moved_is_drawn_in_new_standard_deviations() -> None:
    figure = _figure(KNOWN)
    means, deviations = figure.axes
    assert medians(means) == pytest.approx([0.0, 0.0, 0.0])  # moved: 0.5 and -0.5; far: 2, 0, 0
    assert medians(deviations) == pytest.approx([1.0, 1.5, 1.0])  # far: 4, 1, 1/4
    assert [-0.5, 0.5] in bars(means)
    assert [0.0, 2.0] in bars(means)
    assert [1.0, 2.0] in bars(deviations)
    assert [0.25, 4.0] in bars(deviations)
    assert pytest.approx([-0.4, 0.4]) in bars(means)  # four fifths
    words = said(figure)
    assert [word for word in words if word in ("still", "moved", "far")] == [
        "still",
        "moved",
        "far",
    ]
    assert {"0", "0.5", "3"} <= set(words)  # the largest drifts
    assert (
        "3 norms from 32 batches (paper, batch): largest drift 3 standard deviations, "
        "1 norm at 1 or more."
    ) in words


@pytest.mark.parametrize("case", CASES)
def test_every_channel_is_inside_of_the_axes(case: str) -> None:
    figure = _figure(CASES[case])
    assert len(figure.axes) == 2
    for axes, still in zip(figure.axes, (0.0, 1.0), strict=True):
        low, high = axes.get_xlim()
        assert low < still < high
        assert [still, still] in bars(axes)
        for bar in bars(axes):
            assert low < min(bar) <= max(bar) < high
        ticks = [float(tick) for tick in axes.get_xticks()]
        assert 3 <= len(ticks) <= 9
        assert still in ticks


def test_channels_that_cannot_be_drawn_are_counted() -> None:
    figure = _figure(LOST)
    assert medians(figure.axes[0]) == [0.5]
    assert any("2 channels without a variance" in line for line in said(figure))
    assert not any("without a variance" in line for line in said(_figure(KNOWN)))


def test_of_many_norms_those_that_moved_most_are_drawn_in_their_order() -> None:
    norms = [drawn_norm(f"n{number}", 3, 0.0, 0.0) for number in range(MOST_ROWS + 5)]
    norms[2] = norm("n2", [(0.0, 1.0)], (9.0, 1.0))
    norms[-1] = norm("n-1", [(0.0, 1.0)], (1.0, 1.0))
    words = said(_figure(report(*norms)))
    rows = [word for word in words if re.fullmatch(r"n-?\d+", word)]
    assert len(rows) == MOST_ROWS
    assert rows[:3] == ["n0", "n1", "n2"]
    assert rows[-1] == "n-1"
    assert any(f"The {MOST_ROWS} of {MOST_ROWS + 5} norms" in word for word in words)


def test_how_far_a_norm_moved_differs_by_more_than_a_colour() -> None:
    lines = [line for line in _figure(KNOWN).axes[0].lines if line.get_marker() != "None"]
    assert len({line.get_marker() for line in lines}) == 3
    assert len({line.get_color() for line in lines}) == 3


def test_an_ending_that_all_names_have_is_left_out() -> None:
    words = said(_figure(CASES["usual"]))
    assert "/layer3/bn" in words
    assert not any("BatchNormalization" in word for word in words)


def test_the_settings_of_matplotlib_do_not_matter_and_stay() -> None:
    plain = calibrate_plot(KNOWN, ".svg")
    with matplotlib.rc_context({"axes.facecolor": "black", "text.usetex": True, "font.size": 30}):
        assert calibrate_plot(KNOWN, ".svg") == plain
        assert matplotlib.rcParams["font.size"] == 30

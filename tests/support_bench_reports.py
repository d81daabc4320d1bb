"""Benchmarks as the engine would report them."""

from __future__ import annotations

from dataclasses import replace

from bnfold.measuring.outcome import (
    BenchReport,
    Cell,
    Level,
    Ratio,
    Setting,
    Spent,
    Spread,
    Start,
)

LONG = "/exports/2024/backbone_stage_4_block_2_branch/" * 3 + "folded.onnx"

SETTING = Setting(
    provider="CPUExecutionProvider",
    threads=1,
    duration=2.0,
    seed=0,
    inputs={"x": (1, 3, 64, 64)},
    data="drawn",
    processor="AMD EPYC 7B13",
    cores=2,
    system="Linux 6.1, x86_64",
    versions={"onnxruntime": "1.32.0", "onnx": "1.23.2", "numpy": "2.3.0", "Python": "3.12.1"},
)


def samples(median: float, count: int = 400) -> Spread:
    return Spread(median, 0.97 * median, 1.08 * median, count)


def cell(
    level: Level,
    batch: int | None,
    original: float,
    value: float,
    width: float = 0.02,
    *,
    flushed: Ratio | None = None,
) -> Cell:
    found = Ratio(value, value * (1 - width), value * (1 + width))
    return Cell(level, batch, samples(original), samples(original / value), found, flushed)


def start(
    level: Level,
    left: int | None,
    value: float = 1.0,
    memory: tuple[int | None, int | None] = (12_300_000, 12_100_000),
) -> Start:
    found = Ratio(value, value - 0.04, value + 0.04)
    return Start(level, left, samples(8e-3, 21), samples(8e-3 / value, 21), found, *memory)


def spent(operator: str, original: float, folded: float, nodes: tuple[int, int]) -> Spent:
    return Spent("disable", 1, operator, original, folded, *nodes)


USUAL = BenchReport(
    "unet.onnx",
    "folded.onnx",
    True,
    "same function: differences are 1.6x what rounding the weights once explains",
    norms_before=12,
    norms_after=0,
    nodes_before=41,
    nodes_after=29,
    bytes_before=134_513,
    bytes_after=129_223,
    subnormal_before=0,
    subnormal_after=0,
    setting=SETTING,
    cells=(
        cell("disable", 1, 4.21e-3, 1.85),
        cell("disable", 8, 33.6e-3, 2.10),
        cell("basic", 1, 2.31e-3, 1.001),
        cell("basic", 8, 16.2e-3, 0.998),
        cell("extended", 1, 2.29e-3, 1.003),
        cell("extended", 8, 16.1e-3, 1.002),
        cell("all", 1, 1.62e-3, 1.004),
        cell("all", 8, 12.4e-3, 0.996),
    ),
    starts=(
        start("disable", 12, 1.01),
        start("basic", 0, 1.17),
        start("extended", 0, 1.16),
        start("all", 0, 1.12, (15_300_000, 12_400_000)),
    ),
)

PROFILED = replace(
    USUAL,
    spent=(
        spent("Conv", 2.1e-3, 2.11e-3, (11, 11)),
        spent("BatchNormalization", 1.92e-3, 0.0, (12, 0)),
        spent("Relu", 0.15e-3, 0.15e-3, (10, 10)),
        spent("Concat", 4.2e-5, 4.1e-5, (2, 2)),
    ),
)

SUBNORMAL = replace(
    USUAL,
    subnormal_before=1234,
    subnormal_after=1100,
    cells=(
        cell("disable", 1, 4.21e-3, 1.85, flushed=Ratio(56.3, 50.1, 60.2)),
        cell("all", 1, 1.62e-3, 1.004, flushed=Ratio(1.0, 0.98, 1.03)),
    ),
)

SLOWER = replace(
    USUAL,
    cells=(cell("disable", 1, 4.21e-3, 1.2), cell("all", 1, 1.62e-3, 0.93, 0.01)),
    starts=(start("disable", 12), start("all", 0, 0.9)),
)

LEFT = replace(
    USUAL,
    norms_after=2,
    cells=(
        cell("disable", None, 4.21e-3, 1.2),
        cell("basic", None, 1.62e-3, 1.1),
        cell("all", None, 1.62e-3, 1.0),
    ),
    starts=(
        start("disable", 10, 1.0, (None, None)),
        start("basic", 3, 1.0, (None, None)),
        start("all", 3, 1.0, (None, None)),
    ),
)

UNKNOWN = replace(
    USUAL,
    cells=(cell("all", 1, 1.62e-3, 1.0),),
    starts=(start("all", None, 1.0, (None, None)),),
)

MIXED = replace(
    USUAL,
    cells=(cell("disable", 1, 4.21e-6, 1.001), cell("disable", 8, 33.6e-6, 2.10)),
    starts=(start("disable", 12),),
)

NO_NORMS = replace(
    USUAL,
    norms_before=0,
    norms_after=0,
    nodes_after=41,
    bytes_after=134_513,
    cells=(cell("disable", 1, 4.21e-3, 1.0), cell("all", 1, 1.62e-3, 1.0)),
    starts=(start("disable", 0), start("all", 0)),
)

ONE = replace(
    USUAL,
    folded=LONG,
    norms_before=1,
    cells=(cell("all", None, 1.5, 1.0),),
    starts=(start("all", 0),),
    notes=("the input n was drawn from 0 to 9",),
)

NOISY = replace(
    USUAL,
    cells=(cell("all", 1, 1.62e-3, 1.1, 0.15),),
    starts=(start("all", 0),),
)

UNEQUAL = replace(
    USUAL,
    is_same=False,
    verdict="not the same function: y differs far beyond rounding",
    cells=(),
    starts=(),
)

REPORTS = {
    "usual": USUAL,
    "profiled": PROFILED,
    "subnormal": SUBNORMAL,
    "slower": SLOWER,
    "norms left": LEFT,
    "unknown": UNKNOWN,
    "mixed": MIXED,
    "no norms": NO_NORMS,
    "one cell": ONE,
    "noisy": NOISY,
    "unequal": UNEQUAL,
}

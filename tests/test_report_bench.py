"""The report of a benchmark as text, as Markdown and as JSON."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from markdown_it import MarkdownIt

from bnfold.measuring.notes import notes_on_norms, notes_on_time
from bnfold.measuring.outcome import (
    BenchReport,
    Cell,
    Ratio,
    Setting,
    Spent,
    Spread,
    Start,
)
from bnfold.report import quantities
from bnfold.report.as_json import bench_json, document, dumps, verify_json
from bnfold.report.bench_markdown import bench_markdown
from bnfold.report.bench_rows import MOST_OPERATORS, facts, tables
from bnfold.report.bench_text import bench_text
from bnfold.report.bench_words import heading, meaning, subnormal, summary
from tests.support_bench_reports import (
    LEFT,
    LONG,
    MIXED,
    NO_NORMS,
    NOISY,
    ONE,
    PROFILED,
    REPORTS,
    SLOWER,
    SUBNORMAL,
    UNEQUAL,
    UNKNOWN,
    USUAL,
    cell,
    spent,
    start,
)
from tests.support_reports import SAME

SCHEMA = json.loads((files("bnfold") / "report" / "schema.json").read_text())
DOCS = (Path(__file__).parent.parent / "docs" / "report.md").read_text()
WIDE = 100


def test_text() -> None:
    assert (
        bench_text(replace(PROFILED, cells=USUAL.cells[::6], starts=USUAL.starts[::3]))
        == """\
folded.onnx: 1.85x faster at ORT_DISABLE_ALL, the same at ORT_ENABLE_ALL, where
  onnxruntime folds all 12 norms itself

  time of one run: median (10th-90th percentile)
  level        batch             original               folded               ratio  FOLDED
  DISABLE_ALL      1  4.21 ms (4.08-4.55)  2.28 ms (2.21-2.46)  1.85x [1.81, 1.89]  faster
  ENABLE_ALL       1  1.62 ms (1.57-1.75)  1.61 ms (1.57-1.74)  1.00x [0.98, 1.02]    same

  before the first run: norms that onnxruntime folds itself, creation of a session, memory
  level        norms folded  session before    after               ratio  memory before    after
  DISABLE_ALL       0 of 12         8.00 ms  7.92 ms  1.01x [0.97, 1.05]        12.3 MB  12.1 MB
  ENABLE_ALL       12 of 12         8.00 ms  7.14 ms  1.12x [1.08, 1.16]        15.3 MB  12.4 MB

  where the time of one run goes at ORT_DISABLE_ALL, batch 1
  operator            nodes before  after  time before    after    change
  Conv                          11     11      2.10 ms  2.11 ms  +10.0 us
  BatchNormalization            12      -      1.92 ms        -  -1.92 ms
  Relu                          10     10       150 us   150 us       0 s
  Concat                         2      2      42.0 us  41.0 us  -1.00 us
  all                           35     23      4.21 ms  2.30 ms  -1.91 ms

  what a ratio of 1.00x means here
    ORT_ENABLE_ALL: onnxruntime folds all 12 norms itself whenever it creates a
      session, so neither model runs them, and there is nothing left to gain in
      a run.
    ORT_DISABLE_ALL is nearest to runtimes that do not fold norms while loading:
      FOLDED is 1.85x faster there.
    A session of FOLDED is created faster: 1.12x at ORT_ENABLE_ALL.
    FOLDED takes less memory: 12.4 MB instead of 15.3 MB at ORT_ENABLE_ALL.
    FOLDED has 12 fewer nodes and 5.29 kB less to store.

  original   unet.onnx: 41 nodes, 12 norms, 135 kB
  folded     folded.onnx: 29 nodes, no norms, 129 kB
  compared   same function: differences are 1.6x what rounding the weights once
               explains
  machine    AMD EPYC 7B13, 2 cores for this process; Linux 6.1, x86_64
  versions   onnxruntime 1.32.0, onnx 1.23.2, numpy 2.3.0, Python 3.12.1
  settings   CPUExecutionProvider, 1 thread, 2 s for each cell, seed 0
  inputs     x 1x3x64x64; drawn
  measured   400 samples of either model in each cell, in turn; ratio of the
               medians with a 95 % bootstrap interval"""
    )


def test_text_of_two_functions() -> None:
    text = bench_text(UNEQUAL)
    assert (
        " ".join(text.splitlines()[:2]).split()
        == (
            "folded.onnx: nothing was timed: not the same function: y differs far beyond rounding"
        ).split()
    )
    assert "x faster" not in text
    assert "measured" not in text
    assert "machine    AMD EPYC 7B13" in text


@pytest.mark.parametrize("case", REPORTS)
def test_lines_are_no_wider_than_a_terminal(case: str) -> None:
    wide = [line for line in bench_text(REPORTS[case]).splitlines() if len(line) > WIDE]
    assert all(LONG in line for line in wide)


@pytest.mark.parametrize("case", REPORTS)
def test_the_columns_of_a_table_are_straight(case: str) -> None:
    for block in bench_text(REPORTS[case]).split("\n\n")[1:-1]:
        title, *rows = block.splitlines()
        if title.startswith(("  time of", "  before", "  where")):
            assert len({len(row) for row in rows}) == 1, block


def test_a_long_operator_has_a_line_of_its_own() -> None:
    name = "Fused" * 20
    lines = bench_text(replace(USUAL, spent=(spent(name, 1e-3, 1e-3, (1, 1)),))).splitlines()
    at = lines.index(f"  {name}")
    assert lines[at + 1].split() == ["1", "1", "1.00", "ms", "1.00", "ms", "0", "s"]


SUMMARIES: dict[str, tuple[BenchReport, str]] = {
    "usual": (
        USUAL,
        "1.85x to 2.10x faster at ORT_DISABLE_ALL, the same at ORT_ENABLE_BASIC, "
        "ORT_ENABLE_EXTENDED and ORT_ENABLE_ALL, where onnxruntime folds all 12 norms itself",
    ),
    "slower": (SLOWER, "1.20x faster at ORT_DISABLE_ALL, slower at ORT_ENABLE_ALL (0.93x)"),
    "norms left": (
        LEFT,
        "1.20x faster at ORT_DISABLE_ALL, 1.10x faster at ORT_ENABLE_BASIC, the same at "
        "ORT_ENABLE_ALL, where onnxruntime leaves 3 of 10 norms",
    ),
    "unknown": (UNKNOWN, "the same at ORT_ENABLE_ALL"),
    "mixed": (MIXED, "1.00x to 2.10x at ORT_DISABLE_ALL, depending on the batch size"),
    "no norms": (NO_NORMS, "the same at ORT_DISABLE_ALL and ORT_ENABLE_ALL"),
    "one norm": (ONE, "the same at ORT_ENABLE_ALL, where onnxruntime folds the norm itself"),
    "noisy": (NOISY, "too noisy to tell at ORT_ENABLE_ALL (1.10x)"),
    "two kinds of the same": (
        replace(
            LEFT,
            cells=(cell("disable", None, 1e-3, 1.0), cell("all", None, 1e-3, 1.0)),
            starts=(start("disable", 10), start("all", 0)),
        ),
        "the same at ORT_DISABLE_ALL, where onnxruntime leaves all 10 norms; the same at "
        "ORT_ENABLE_ALL, where onnxruntime folds the same 10 norms itself",
    ),
}


@pytest.mark.parametrize("case", SUMMARIES)
def test_summary(case: str) -> None:
    report, words = SUMMARIES[case]
    assert summary(report) == words


SMALLER = "FOLDED has 12 fewer nodes and 5.29 kB less to store."
MEANINGS: dict[str, tuple[BenchReport, list[str]]] = {
    "slower": (
        SLOWER,
        [
            "ORT_ENABLE_ALL: FOLDED is slower there, beyond noise. --profile shows which operators "
            "take the time.",
            "ORT_DISABLE_ALL is nearest to runtimes that do not fold norms while loading: FOLDED "
            "is 1.20x faster there.",
            "A session of FOLDED is created slower: 0.90x at ORT_ENABLE_ALL.",
            SMALLER,
        ],
    ),
    "slower, with a profile": (
        replace(SLOWER, spent=PROFILED.spent, cells=SLOWER.cells[1:], starts=()),
        ["ORT_ENABLE_ALL: FOLDED is slower there, beyond noise.", SMALLER],
    ),
    "norms left": (
        LEFT,
        [
            "ORT_ENABLE_BASIC: onnxruntime leaves 3 of 10 norms in ORIGINAL; FOLDED does not have "
            "them.",
            "ORT_ENABLE_ALL: onnxruntime leaves 3 of 10 norms in ORIGINAL, at a cost too small to "
            "be seen.",
            "ORT_DISABLE_ALL is nearest to runtimes that do not fold norms while loading: FOLDED "
            "is 1.20x faster there.",
            SMALLER,
        ],
    ),
    "unknown": (
        UNKNOWN,
        [
            "ORT_ENABLE_ALL: no difference beyond noise; how many norms onnxruntime folds itself "
            "there cannot be told.",
            SMALLER,
        ],
    ),
    "mixed": (
        MIXED,
        [
            "ORT_DISABLE_ALL, batch 1: onnxruntime leaves all 12 norms in ORIGINAL, at a cost too "
            "small to be seen.",
            "ORT_DISABLE_ALL is nearest to runtimes that do not fold norms while loading: FOLDED "
            "is 2.10x faster there.",
            SMALLER,
        ],
    ),
    "no norms": (
        NO_NORMS,
        ["ORT_DISABLE_ALL and ORT_ENABLE_ALL: FOLDED has as many norms as ORIGINAL."],
    ),
    "no norms, faster": (
        replace(NO_NORMS, cells=(cell("disable", 1, 1e-3, 1.5),)),
        [
            "ORT_DISABLE_ALL: FOLDED has as many norms as ORIGINAL. That it is faster has another "
            "reason. --profile shows which operators take the time.",
        ],
    ),
    "noisy": (
        NOISY,
        [
            "ORT_ENABLE_ALL: the runs differ too much to tell; a longer --duration or a quieter "
            "machine helps. onnxruntime folds all 12 norms itself there.",
            SMALLER,
        ],
    ),
    "faster though onnxruntime folds": (
        replace(PROFILED, cells=(cell("all", 1, 1e-3, 1.5),), starts=(start("all", 0),)),
        [
            "ORT_ENABLE_ALL: onnxruntime folds all 12 norms itself. FOLDED is faster all the same: "
            "the norms are not why.",
            SMALLER,
        ],
    ),
    "faster by subnormals": (
        replace(
            PROFILED,
            cells=(cell("all", 1, 1e-3, 1.5),),
            starts=(start("all", 0),),
            subnormal_before=3,
        ),
        [
            "ORT_ENABLE_ALL: onnxruntime folds all 12 norms itself. FOLDED is faster all the same: "
            "it stores fewer subnormal numbers.",
            SMALLER,
        ],
    ),
    "one norm": (
        ONE,
        [
            "ORT_ENABLE_ALL: onnxruntime folds the norm itself whenever it creates a session, so "
            "neither model runs it, and there is nothing left to gain in a run.",
            SMALLER,
        ],
    ),
    "different functions": (UNEQUAL, []),
}


@pytest.mark.parametrize("case", MEANINGS)
def test_meaning(case: str) -> None:
    report, words = MEANINGS[case]
    assert meaning(report) == words


def test_1x_is_explained_by_onnxruntime_only_where_that_folds_all() -> None:
    for left, is_said in ((0, True), (1, False), (12, False), (None, False)):
        report = replace(
            USUAL, cells=(cell("all", 1, 1e-3, 1.0),), starts=(start("all", left, 1.0),)
        )
        said = " ".join(meaning(report))
        assert ("nothing left to gain" in said) == is_said
        assert ("folds all 12 norms itself" in summary(report)) == is_said


def test_the_heading_speaks_of_1x_only_where_there_is_one() -> None:
    assert "1.00x" in heading(USUAL)
    assert "1.00x" not in heading(SLOWER)
    assert "1.00x" not in heading(NOISY)


def test_no_note_says_what_a_sentence_says() -> None:
    derived = [*notes_on_norms(SLOWER.starts, 12), *notes_on_time(SLOWER.cells)]
    assert len(derived) == 2
    report = replace(SLOWER, notes=(*derived, "4 threads share 2 cores"))
    for text in (bench_text(report), bench_markdown(report)):
        assert len(re.findall("note: ", text, re.I)) == 1
        assert "4 threads share 2 cores" in text
    assert bench_json(report)["notes"] == [*derived, "4 threads share 2 cores"]


def test_small_differences_of_memory_are_no_gain() -> None:
    def said(*memory: int) -> bool:
        report = replace(USUAL, starts=(start("all", 0, 1.0, memory),))  # type: ignore[arg-type]
        return "less memory" in " ".join(meaning(report))

    assert said(100_000_000, 94_000_000)
    assert not said(100_000_000, 96_000_000)
    assert not said(3_000_000, 2_500_000)
    assert not said(94_000_000, 100_000_000)


def test_subnormal_weights() -> None:
    assert subnormal(USUAL) == []
    assert subnormal(SUBNORMAL) == [
        "ORIGINAL stores 1,234 subnormal weights, FOLDED 1,100: processors can take many times as "
        "long for arithmetic with such numbers.",
        "Flushing subnormal numbers to zero (onnxruntime's session.set_denormal_as_zero) makes "
        "FOLDED 56.3x [50.1, 60.2] as fast at ORT_DISABLE_ALL and 1.00x [0.98, 1.03] at "
        "ORT_ENABLE_ALL.",
    ]
    only_before = replace(USUAL, subnormal_before=1)
    assert subnormal(only_before) == [
        "ORIGINAL stores 1 subnormal weight, FOLDED 0: processors can take many times as long for "
        "arithmetic with such numbers."
    ]
    assert "  warning: ORIGINAL stores 1,234 subnormal weights" in bench_text(SUBNORMAL)
    assert "warning" not in bench_text(USUAL)


def test_columns_without_content_are_left_out() -> None:
    runs, starts = tables(LEFT)
    assert "batch" not in runs.head
    assert "memory before" not in starts.head
    assert "norms folded" in starts.head
    (_, starts) = tables(UNKNOWN)
    assert "norms folded" not in starts.head
    half = replace(USUAL, starts=(start("disable", None), start("all", 0)))
    assert [row[1] for row in tables(half)[1].rows] == ["-", "12 of 12"]


def test_the_profile_lists_the_costliest_operators() -> None:
    rows = tuple(spent(f"Op{n}", 1e-3, 5e-4, (2, 1)) for n in range(MOST_OPERATORS + 3))
    table = tables(replace(USUAL, spent=rows))[-1]
    assert [row[0] for row in table.rows[-2:]] == ["3 other types", "all"]
    assert table.rows[-2][1:] == ("6", "3", "3.00 ms", "1.50 ms", "-1.50 ms")
    assert table.rows[-1][1:] == ("30", "15", "15.0 ms", "7.50 ms", "-7.50 ms")


def test_the_sum_of_a_profile_has_no_time_twice() -> None:
    rows = (spent("If", 3e-3, 3e-3, (1, 1)), spent("Conv", 2e-3, 2e-3, (4, 4)))
    table = tables(replace(USUAL, spent=rows))[-1]
    assert table.rows[-1] == ("all but If", "4", "4", "2.00 ms", "2.00 ms", "0 s")


def test_a_profile_for_each_level_and_batch() -> None:
    rows = [
        Spent(level, batch, "Conv", 1e-3, 1e-3, 1, 1)
        for level in ("disable", "all")
        for batch in (1, 8)
    ]
    titles = [table.title for table in tables(replace(USUAL, spent=rows))[2:]]
    places = [title.partition(" at ")[2] for title in titles]
    assert places == [
        *("ORT_DISABLE_ALL, batch 1", "ORT_DISABLE_ALL, batch 8"),
        *("ORT_ENABLE_ALL, batch 1", "ORT_ENABLE_ALL, batch 8"),
    ]


def test_facts_of_an_accelerator() -> None:
    setting = replace(USUAL.setting, device="NVIDIA H100", threads=8, inputs={}, data="f.npz")
    said = dict(facts(replace(USUAL, setting=setting)))
    assert said["device"] == "NVIDIA H100"
    assert said["inputs"] == "none; f.npz"
    assert "8 threads" in said["settings"]
    assert "device" not in dict(facts(USUAL))


# Times in seconds, sizes in bytes.
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0 s"),
        (4.2e-10, "0.420 ns"),
        (5e-7, "500 ns"),
        (9.994e-7, "999 ns"),
        (9.996e-7, "1.00 us"),
        (1.5e-6, "1.50 us"),
        (0.0123456, "12.3 ms"),
        (0.9999, "1.00 s"),
        (59.96, "60.0 s"),
        (1234.5, "1,234 s"),
    ],
)
def test_durations(value: float, text: str) -> None:
    assert quantities.duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.00 kB"),
        (134_513, "135 kB"),
        (999_999, "1.00 MB"),
        (2_345_678_901, "2.35 GB"),
    ],
)
def test_sizes(value: int, text: str) -> None:
    assert quantities.size(value) == text


@pytest.mark.parametrize(
    ("found", "text", "verdict"),
    [
        (Ratio(1.85, 1.79, 1.92), "1.85x [1.79, 1.92]", "faster"),
        (Ratio(0.93, 0.91, 0.95), "0.93x [0.91, 0.95]", "slower"),
        (Ratio(1.0, 0.98, 1.02), "1.00x [0.98, 1.02]", "same"),
        (Ratio(1.1, 0.95, 1.25), "1.10x [0.95, 1.25]", "unclear"),
        (Ratio(1.004, 1.001, 1.008), "1.004x [1.001, 1.008]", "faster"),
        (Ratio(0.99990, 0.99982, 0.99996), "0.9999x [0.9998, 1.0000]", "slower"),
        (Ratio(0.998, 0.993, 0.9992), "0.998x [0.993, 0.999]", "slower"),
        (Ratio(56.31, 50.1, 60.2), "56.3x [50.1, 60.2]", "faster"),
        (Ratio(1234.0, 999.0, 1300.0), "1,234x [999, 1,300]", "faster"),
        (Ratio(0.0123, 0.012, 0.013), "0.0123x [0.0120, 0.0130]", "slower"),
        (Ratio(9.9, 8.0, 12.0), "9.90x [8.00, 12.0]", "faster"),
    ],
)
def test_ratios(found: Ratio, text: str, verdict: str) -> None:
    assert quantities.ratio(found) == text
    assert quantities.verdict(found) == verdict
    assert text.startswith(quantities.multiple(found))


def test_spreads_have_one_unit() -> None:
    assert quantities.spread(Spread(1.02e-3, 0.98e-3, 12.34e-3, 9)) == "1.02 ms (0.980-12.3)"
    assert quantities.spread(Spread(999.7e-6, 9e-4, 2e-3, 9)) == "1.00 ms (0.900-2.00)"
    assert quantities.spread(Spread(786e-6, 729e-6, 2.864e-3, 9)) == "786 us (729-2,864)"


class _Page(HTMLParser):
    """The tables, and all text, of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.tags: set[str] = set()
        self.text = ""
        self._is_cell = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        self._is_cell = self._is_cell or tag in ("th", "td")
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._is_cell = self._is_cell and tag not in ("th", "td")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._is_cell:
            self.tables[-1][-1][-1] += data


def rendered(report: BenchReport) -> _Page:
    return _Page(
        MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(bench_markdown(report))
    )


@pytest.mark.parametrize("case", REPORTS)
def test_markdown_renders_as_tables(case: str) -> None:
    report = REPORTS[case]
    page = rendered(report)
    wanted = [[list(found.head), *map(list, found.rows)] for found in tables(report)]
    wanted.append([["", ""], *map(list, facts(report))])
    assert page.tables == wanted
    assert {"details", "summary"} <= page.tags
    assert summary(report)[1:] in page.text
    assert all(sentence in page.text for sentence in meaning(report))
    assert all(note in page.text for note in report.notes)
    assert ("blockquote" in page.tags) == bool(subnormal(report))


def test_markdown_takes_any_name() -> None:
    strange = "a|b_c_ _d_ **e** `f` <img> [g](h) [i][j] ~~k~~ \\* &lt; $x$.onnx"
    report = replace(USUAL, folded=strange, spent=(spent(strange, 1e-3, 1e-3, (1, 1)),))
    page = rendered(report)
    assert page.tables[2][1][0] == strange
    assert strange in page.text.splitlines()[0]
    assert page.tags & {"img", "a", "em", "strong", "s", "code"} <= {"strong"}
    assert "\n" not in bench_markdown(replace(USUAL, folded="two\nlines")).split("\n\n")[0]


@pytest.mark.parametrize("case", REPORTS)
def test_json_follows_its_schema(case: str) -> None:
    report = REPORTS[case]
    whole = dumps(document("bench", [bench_json(report)], {"other.onnx": "is empty"}))
    read = json.loads(whole, parse_constant=pytest.fail)
    jsonschema.validate(read, SCHEMA)
    (model,) = read["models"]
    assert model["verdict"] == {"ok": report.is_same, "summary": report.verdict}
    assert model["summary"] == summary(report)
    assert model["meaning"] == meaning(report)
    assert len(model["cells"]) == len(report.cells)
    assert model["norms"] == {"before": report.norms_before, "after": report.norms_after}


WRONG: dict[str, dict[str, Any]] = {
    "an unknown field": {"more": 1},
    "another level": {"cells": [{**bench_json(ONE)["cells"][0], "level": "ORT_ENABLE_ALL"}]},
    "no answer": {"verdict": {"summary": "yes"}},
    "a field of a fold": {"norms": [{"outcome": "kept"}]},
    "a negative time": {"cells": [{**bench_json(ONE)["cells"][0], "original": -1.0}]},
    "no machine": {"setting": {}},
}


@pytest.mark.parametrize("case", WRONG)
def test_the_schema_is_strict(case: str) -> None:
    report = document("bench", [{**bench_json(USUAL), **WRONG[case]}], {})
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(dumps(report)), SCHEMA)


@pytest.mark.parametrize("command", ["fold", "explain", "check", "verify"])
def test_the_entry_of_one_command_is_not_that_of_another(command: str) -> None:
    for report in (
        document(command, [bench_json(USUAL)], {}),
        document("bench", [verify_json(SAME)], {}),
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(json.loads(dumps(report)), SCHEMA)


def test_every_field_is_in_the_schema_and_in_the_docs() -> None:
    kinds = (Spread, Ratio, Cell, Start, Spent, Setting, BenchReport)
    names = {re.sub("_(before|after)$", "", f.name) for kind in kinds for f in fields(kind)}
    section = DOCS.split("\n## bench\n")[1].split("\n## ")[0]
    documented = set(re.findall(r"`(?:models\[\]\.)?\.?([a-z_]+)(?:\[\])?`", section))
    assert names - {"is_same"} <= documented
    for name in ("benchmark", "cell", "start", "spent", "setting", "spread", "ratio"):
        entry = SCHEMA["$defs"][name]
        assert set(entry["required"]) == set(entry["properties"])
        assert set(entry["required"]) <= documented

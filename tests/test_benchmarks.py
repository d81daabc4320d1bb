"""The parts of the benchmarks that need no clock."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
import pytest

import bnfold
from benchmarks import fold_speed, processes, tools
from benchmarks.effect import Effect, models_of
from benchmarks.effect_folds import Fold, Options, best_of, feeds_of, folded_by, tied
from benchmarks.effect_models import KINDS
from benchmarks.effect_rows import HEADER, Cell, Row, findings, row_of, summary
from benchmarks.effect_timing import LEVELS, Pair, Ratio, Timing
from benchmarks.fold_speed_files import FILES, Chain, File, Sparse, norms_in, size_of
from benchmarks.machine import described
from benchmarks.processes import Ended
from tests.support_models import op_types

ROOT = Path(__file__).parent.parent
TRAINED = ("conv_", "mlp_")
"""How the names of the sample models begin that were trained on digits."""
SMALL: dict[str, tuple[File, int]] = {
    "a chain": (Chain(3, 4, 3), 3),
    "large weights elsewhere": (Sparse(3, 512, 1024, channels=4), 2),
}


@pytest.mark.parametrize("name", list(SMALL))
def test_files_are_models_whose_norms_fold(name: str, tmp_path: Path) -> None:
    file, norms = SMALL[name]
    path, out = tmp_path / "in.onnx", tmp_path / "out" / "out.onnx"
    file.write(path)
    out.parent.mkdir()
    onnx.checker.check_model(str(path), full_check=True)
    assert norms_in(path) == norms
    bnfold.fold(path).save(out)
    assert norms_in(out) == 0
    assert bnfold.verify(path, out, runtime=False).is_same


def test_large_weights_take_no_space(tmp_path: Path) -> None:
    file = Sparse(3, 512, 1024, channels=4)
    file.write(tmp_path / "m.onnx")
    data = tmp_path / "m.data"
    assert size_of(tmp_path / "m.onnx") > 3 * 4 * 512 * 1024
    assert data.stat().st_blocks * 512 < 256 * 1024
    big = {t.name: t for t in onnx.load(tmp_path / "m.onnx").graph.initializer}["big1"]
    assert list(big.dims) == [1024, 512]
    assert not any(big.raw_data)


def test_the_files_have_the_sizes_that_their_names_say() -> None:
    weights = {
        name: file.layers * file.channels**2 * file.kernel**2 * 4
        for name, file in FILES.items()
        if isinstance(file, Chain)
    }
    sparse = FILES["8-gb-external"]
    assert isinstance(sparse, Sparse)
    weights["8-gb-external"] = sparse.large * sparse.rows * sparse.columns * 4
    for name, wanted in {"200-mb": 2e8, "1-gb": 1e9, "1.9-gb": 1.9e9, "8-gb-external": 8e9}.items():
        assert weights[name] == pytest.approx(wanted, rel=0.02)
    assert weights["1.9-gb"] < 2**31  # the limit of protobuf
    for name in ("6000-nodes", "30000-nodes", "60000-nodes"):
        chain = FILES[name]
        assert isinstance(chain, Chain)
        assert f"{3 * chain.layers}-nodes" == name


def test_a_process_ends_as_it_ends() -> None:
    python = [sys.executable, "-c"]
    done = processes.run([*python, "print('noise')"], 60)
    assert done.failure == ""
    assert done.wall > 0
    failed = processes.run([*python, "import sys; sys.exit('no | such file')"], 60)
    assert failed.failure == "status 1: no / such file"
    killed = processes.run([*python, "import os; os.kill(os.getpid(), 9)"], 60)
    assert killed.failure == "killed by SIGKILL"
    late = processes.run([*python, "import time; time.sleep(600)"], 0.5)
    assert late.failure == "over 0.5 s"
    assert late.wall < 300


def test_a_failure_is_one_short_line() -> None:
    assert processes.failed(2, "") == "status 2"
    assert processes.failed(2, "a\n\n  b   c \n") == "status 2: b c"
    assert len(processes.failed(2, "x" * 500)) == 80


def test_what_is_installed() -> None:
    assert list(tools.installed(["bnfold", "bnfold --no-verify"])) == list(tools.TOOLS)[:2]
    assert list(tools.installed(["no_such_tool"])) == []
    assert "bnfold 0" in described()


def test_programs_run_in_turn_and_are_counted(tmp_path: Path) -> None:
    output = tmp_path / "out" / "out.onnx"
    Chain(2, 4, 1).write(tmp_path / "model.onnx")
    copy = "import shutil, sys; shutil.copy(*sys.argv[1:])"
    commands = {
        "copies": [sys.executable, "-c", copy, str(tmp_path / "model.onnx"), str(output)],
        "fails": [sys.executable, "-c", "raise SystemExit(3)"],
    }
    results = fold_speed.measured(commands, 2, 60, output)
    assert [len(results[name].runs) for name in commands] == [2, 1]
    assert [results[name].norms_left for name in commands] == [2, None]
    assert results["fails"].failure == "status 3"


def measured(*seconds: float, failure: str = "", left: int | None = 0) -> fold_speed.Measured:
    runs = [Ended(wall, wall / 2, 10 * wall, failure) for wall in seconds]
    return fold_speed.Measured(runs, left)


def test_rows_of_fold_speed() -> None:
    own, about = measured(1, 2, 3), ["f", "8.0", "5"]
    wanted = "| f | 8.0 | 5 | t | 3 | 4.00 | 2.00 | 9.00 | 2.00 | 2.0 | 90 | 7 |"
    assert fold_speed.row(about, "t", measured(4, 2, 9, left=7), own) == wanted
    late = measured(300, failure="over 300 s", left=None)
    wanted = "| f | 8.0 | 5 | t | 1 | over 300 s |  |  | 150.00 |  | 3000 |  |"
    assert fold_speed.row(about, "t", late, own) == wanted
    alone = fold_speed.row(about, "t", measured(1), fold_speed.Measured())
    assert "| 0.50 |  | 10 | 0 |" in alone
    for line in (alone, wanted):
        assert line.count("|") == fold_speed.HEADER.splitlines()[0].count("|")
    assert measured(2 * fold_speed.SLOW + 1).is_enough
    assert not own.is_enough


@pytest.mark.parametrize("name", list(KINDS))
def test_kinds_are_models_with_norms_that_fold(name: str) -> None:
    kind = KINDS[name]
    model = kind.build()
    onnx.checker.check_model(model, full_check=True)
    report = bnfold.explain(model, merge_branches=kind.merges_branches)
    assert report.norms
    kept = {norm.code for norm in report.kept}
    # The norm of the input itself has no operator to go into, unless branches are merged.
    assert kept == ({"producer-not-linear"} if name == "RepVGG" else set())


def fold_of(tool: str, left: int, failure: str = "") -> Fold:
    return Fold(tool, Path(f"{tool}.onnx"), left, 10, failure)


BEST: list[tuple[Sequence[Fold], dict[str, float], str | None]] = [
    ([], {}, None),
    ([fold_of("a", 0, "wrong: far off")], {"a": 1.0}, None),
    ([fold_of("a", 3), fold_of("b", 2)], {"a": 1.0, "b": 2.0}, "b"),
    ([fold_of("a", 2), fold_of("b", 2), fold_of("c", 3)], {"a": 1.0, "b": 2.0}, "b"),
    ([fold_of("a", 0, "wrong: x"), fold_of("b", 2)], {"a": 1.0, "b": 2.0}, "b"),
    ([fold_of("a", 2), fold_of("b", 2)], {}, "a"),
    ([fold_of("a", 2), fold_of("b", 2)], {"b": 1.0}, "b"),
]


@pytest.mark.parametrize(("folds", "speeds", "wanted"), BEST)
def test_the_best_peer(folds: Sequence[Fold], speeds: dict[str, float], wanted: str) -> None:
    best = best_of(folds, speeds)
    assert (best.tool if best is not None else None) == wanted
    assert best is None or best in tied(folds)


def pair(value: float, spread: float = 0.01) -> Pair:
    return Pair(0.002, Ratio(value, value - spread, value + spread))


def test_slower_is_slower_beyond_noise() -> None:
    peer = pair(1.25)
    assert Cell(pair(0.93), peer, pair(1.0)).is_slower
    assert not Cell(pair(0.93), peer, pair(0.95, 0.05)).is_slower
    assert not Cell(pair(0.985, 0.005), peer, pair(1.0)).is_slower
    assert not Cell(pair(1.5), peer, pair(1.0)).is_slower
    assert not Cell(pair(0.93), peer).is_slower
    assert not Cell(Pair(failure="it cannot run")).is_slower


def test_rows_of_the_effect() -> None:
    cells = {level: Cell(pair(1.5), pair(1.25)) for level in LEVELS}
    good = fold_of("a", 1)
    row = Row("m", "g", 4, fold_of("bnfold", 0), [good, fold_of("b", 0, "wrong: x")], good, cells)
    other = {
        **cells,
        "all": Cell(pair(0.5), pair(1.25), pair(1.0)),
        "basic": Cell(Pair(failure="no kernel")),
    }
    lame = Row("n", "g", 2, fold_of("bnfold", 2), [], None, other)
    line = row_of(row)
    assert line.startswith("| g | m | 4 | 0 | a, 1 | 2.000 | 1.50 [1.49, 1.51] | 1.25 [1.24, ")
    for each in (line, row_of(lame)):
        assert each.count("|") == HEADER.splitlines()[0].count("|")
    table = summary([row, lame]).splitlines()
    assert len({each.count("|") for each in table}) == 1
    medians = "1.50 | 1.25 | 1.50 | 1.25 | 1.50 | 1.25 | 1.00 | 1.25"
    assert table[2] == f"| g | 2 | 6 | 2 | 3 | {medians} | 0.50 | 1.25 |"
    assert findings([row, lame]).splitlines() == [
        "b: g m: wrong: x",
        "not timed: g n at basic: no kernel",
        "slower: g n at all: 0.50 [0.49, 0.51], noise 1.00 [0.99, 1.01]",
    ]


def test_inputs_that_are_drawn() -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 4, opset_import: ["" : 13]>
        g (float16[N, 3, L] x, double[2] z, float[3] w) => (float16[N, 3, L] y)
        <float[3] w = {1, 2, 3}> { y = Identity (x) }"""
    )
    feeds = feeds_of(model, {"L": 5})
    assert {name: (v.shape, v.dtype.name) for name, v in feeds.items()} == {
        "x": ((1, 3, 5), "float16"),
        "z": ((2,), "float64"),
    }


def test_wrong_folds_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ROOT / "sample_models" / "torch_mlp.onnx"
    wrong = onnx.load(source)
    for node in wrong.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Abs"
    onnx.save(wrong, tmp_path / "wrong.onnx")

    def copies(file: Path) -> Callable[[str, str], tools.Command]:
        script = "import shutil, sys; shutil.copy(*sys.argv[1:])"
        return lambda _, target: [sys.executable, "-c", script, str(file), target]

    monkeypatch.setitem(tools.TOOLS, "liar", copies(tmp_path / "wrong.onnx"))
    monkeypatch.setitem(tools.TOOLS, "idle", copies(source))
    folds = {
        name: folded_by(name, source, tmp_path / f"{name}.onnx", Options(), {})
        for name in ("bnfold", "liar", "idle")
    }
    assert folds["liar"].failure.startswith("wrong: not the same function")
    assert (folds["bnfold"].failure, folds["bnfold"].left) == ("", 0)
    assert (folds["idle"].failure, folds["idle"].left) == ("", 3)


def test_an_effect_is_measured(tmp_path: Path) -> None:
    source = ROOT / "sample_models" / "torch_mlp.onnx"
    row = Effect(tmp_path, [], 0.002, {}).measure("mlp", "samples", source, Options())
    assert (row.norms, row.own.left, row.own.failure, row.best) == (3, 0, "", None)
    assert list(row.cells) == list(LEVELS)
    for cell in row.cells.values():
        assert cell.own.failure == ""
        assert cell.own.ratio is not None
        assert cell.own.seconds > 0
        assert cell.peer == Pair()


def test_a_model_that_cannot_run_has_no_time(tmp_path: Path) -> None:
    source = ROOT / "sample_models" / "torch_mlp.onnx"
    broken = onnx.load(source)
    broken.graph.node[1].op_type = "NoSuchOperator"
    onnx.save(broken, tmp_path / "broken.onnx")
    (tmp_path / "timing").mkdir()
    timing = Timing(tmp_path / "timing", feeds_of(broken, {}))
    found = timing.pair(source, tmp_path / "broken.onnx", "all", 0.002)
    assert found.ratio is None
    assert "NoSuchOperator" in found.failure


def test_models_to_measure(tmp_path: Path) -> None:
    names = [name for name, *_ in models_of([ROOT / "sample_models"], tmp_path)]
    assert [sum(name.startswith(TRAINED) for name in names), len(names)] == [12, 18]
    built = {name: merges for name, group, _, merges in models_of([], tmp_path) if "here" in group}
    assert list(built) == list(KINDS)
    assert [name for name, merges in built.items() if merges] == ["RepVGG, merged"]
    assert op_types(onnx.load(tmp_path / "built.onnx"))[-1] == "Relu"

"""``bnfold bench`` as a user runs it; what ``bnfold.api.benchmark`` answers is given."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner, Result

from bnfold import api
from bnfold.cli.app import application
from bnfold.errors import BnfoldError, FileError, ModelError, UsageError
from bnfold.measuring.outcome import LEVELS, BenchReport
from bnfold.report.bench_markdown import bench_markdown
from bnfold.report.bench_text import bench_text
from tests.support_bench_reports import SLOWER, UNEQUAL, USUAL

MODELS = ("model.onnx", "folded.onnx")
SCHEMA = json.loads((files("bnfold") / "report" / "schema.json").read_text())
ROOT = Path(__file__).parent.parent


class Engine:
    """Stands where ``bnfold.api.benchmark`` does."""

    def __init__(self) -> None:
        self.answer: BenchReport | BaseException = USUAL
        self.calls: list[tuple[Any, Any, dict[str, Any]]] = []

    def __call__(self, original: Any, folded: Any, **options: Any) -> BenchReport:
        self.calls.append((original, folded, options))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    fake = Engine()
    monkeypatch.setattr(api, "benchmark", fake, raising=False)
    before = signal.getsignal(signal.SIGTERM)
    yield fake
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models with a data file each, and files of data."""
    monkeypatch.chdir(tmp_path)
    for name in MODELS:
        weight = numpy_helper.from_array(np.ones((3, 2, 1, 1), np.float32), "w")
        onnx.external_data_helper.set_external_data(weight, f"{name}.data")
        graph = helper.make_graph(
            [helper.make_node("Conv", ["x", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 4, 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [weight],
        )
        onnx.save(helper.make_model(graph), name)
    np.savez(tmp_path / "feed.npz", x=np.ones((2, 2, 4, 4), np.float32))
    np.save(tmp_path / "x.npy", np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4))
    (tmp_path / "feed.png").write_bytes((tmp_path / "feed.npz").read_bytes())
    (tmp_path / "loose.svg").symlink_to("nowhere")
    (tmp_path / "dir.png").mkdir()
    return tmp_path


def bench(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(application(), ["bench", *map(str, arguments)], input=stdin)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("report", "status"), [(USUAL, 0), (SLOWER, 0), (UNEQUAL, 1)])
def test_the_report_and_the_status(engine: Engine, report: BenchReport, status: int) -> None:
    engine.answer = report
    done = bench(*MODELS)
    assert done.exit_code == status
    assert done.stdout == f"{bench_text(report)}\n"
    assert done.stderr == ""
    assert engine.calls == [
        (
            *map(Path, MODELS),
            {
                "levels": LEVELS,
                "threads": 1,
                "batch": None,
                "dims": {},
                "feeds": None,
                "inputs": {},
                "provider": "cpu",
                "duration": 2.0,
                "profile": False,
                "seed": 0,
                "progress": None,
                "name": MODELS,
            },
        )
    ]
    quiet = bench(*MODELS, "--quiet")
    assert (quiet.exit_code, quiet.output) == (status, "")
    assert bench(*MODELS, "--markdown").stdout == f"{bench_markdown(report)}\n"


def test_every_option_reaches_the_engine(engine: Engine) -> None:
    options = "--threads 2 --provider cuda --duration 0.5 --seed 9 --profile"
    lists = "--level all,disable --level basic --batch 8,1 --batch 32"
    data = "--dim H=4 --dim a=b=1 --input x=x.npy"
    assert bench(*MODELS, *options.split(), *lists.split(), *data.split()).exit_code == 0
    ((_, _, given),) = engine.calls
    inputs = given.pop("inputs")
    assert given == {
        "levels": ("disable", "basic", "all"),
        "threads": 2,
        "batch": [8, 1, 32],
        "dims": {"H": 4, "a=b": 1},
        "feeds": None,
        "provider": "cuda",
        "duration": 0.5,
        "profile": True,
        "seed": 9,
        "progress": None,
        "name": MODELS,
    }
    np.testing.assert_array_equal(inputs["x"].ravel(), np.arange(32))


def test_feeds_reach_the_engine_and_are_named_in_the_report(engine: Engine) -> None:
    done = bench(*MODELS, "--feeds", "feed.npz")
    assert done.exit_code == 0
    ((_, _, given),) = engine.calls
    assert given["feeds"]["x"].shape == (2, 2, 4, 4)
    assert "x 1x3x64x64; feed.npz\n" in done.stdout


def test_the_report_says_which_inputs_are_drawn(engine: Engine) -> None:
    assert "x 1x3x64x64; x.npy\n" in bench(*MODELS, "--input", "x=x.npy").stdout
    setting = replace(USUAL.setting, inputs={"x": (1, 3), "z": ()})
    engine.answer = replace(USUAL, setting=setting)
    done = bench(*MODELS, "--input", "x=x.npy")
    assert "x 1x3, z scalar; x.npy; the other inputs drawn\n" in done.stdout


def test_without_a_second_model(engine: Engine) -> None:
    assert bench("model.onnx").exit_code == 0
    ((original, folded, options),) = engine.calls
    assert (original, folded) == (Path("model.onnx"), None)
    assert options["name"] == ("model.onnx", "model.onnx folded")


@pytest.mark.parametrize("at", [0, 1])
def test_standard_input(engine: Engine, at: int) -> None:
    arguments = list(MODELS)
    arguments[at] = "-"
    assert bench(*arguments, stdin=b"some bytes").exit_code == 0
    ((*models, options),) = engine.calls
    assert models[at] == b"some bytes"
    assert models[1 - at] == Path(MODELS[1 - at])
    assert options["name"][at] == "<stdin>"


def test_standard_input_alone(engine: Engine) -> None:
    assert bench("-", stdin=b"some bytes").exit_code == 0
    ((original, folded, options),) = engine.calls
    assert (original, folded) == (b"some bytes", None)
    assert options["name"] == ("<stdin>", "<stdin> folded")


@pytest.mark.parametrize(("report", "status"), [(USUAL, 0), (UNEQUAL, 1)])
def test_reports_in_files(engine: Engine, folder: Path, report: BenchReport, status: int) -> None:
    engine.answer = report
    done = bench(*MODELS, "--json", "--plot", "p.svg", "--save-report", "r.json")
    assert done.exit_code == status
    whole = json.loads(done.stdout)
    jsonschema.validate(whole, SCHEMA)
    assert whole == json.loads((folder / "r.json").read_text())
    assert whole["command"] == "bench"
    assert whole["errors"] == []
    assert (folder / "p.svg").exists() == (status == 0)  # nothing was timed, nothing is drawn
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("name", ["p.svg", "p.SVG", "p.png"])
def test_plot_replaces_an_older_one(engine: Engine, folder: Path, name: str) -> None:
    (folder / name).write_text("old")
    assert bench(*MODELS, "-q", "--plot", name).exit_code == 0
    drawn = (folder / name).read_bytes()
    if name.endswith("png"):
        assert drawn.startswith(b"\x89PNG\r\n")
    else:
        assert ElementTree.fromstring(drawn).tag.endswith("svg")


def test_a_plot_needs_matplotlib(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = bench(*MODELS, "--plot", "p.svg")
    assert done.exit_code == 2
    assert done.stderr == "bnfold: --plot needs matplotlib: pip install 'bnfold[plot]'\n"
    assert engine.calls == []
    assert bench(*MODELS).exit_code == 0


ENDS: dict[str, tuple[BaseException, int, str]] = {
    "no file": (FileError("cannot read model.onnx: gone"), 2, "cannot read model.onnx: gone"),
    "no model": (ModelError("folded.onnx is empty"), 2, "folded.onnx is empty"),
    "no provider": (UsageError("onnxruntime has no 'tpu'"), 2, "onnxruntime has no 'tpu'"),
    "no memory": (MemoryError(), 2, "not enough memory"),
    "a bug": (ZeroDivisionError("division by zero"), 3, "this is a bug in bnfold"),
    "interrupted": (KeyboardInterrupt(), 130, "interrupted, nothing was left half written"),
}


@pytest.mark.parametrize("case", ENDS)
def test_what_could_not_be_done(engine: Engine, folder: Path, case: str) -> None:
    engine.answer, status, words = ENDS[case]
    before = contents(folder)
    done = bench(*MODELS, "--json", "--plot", "p.svg", "--save-report", "r.json")
    assert done.exit_code == status
    assert words in done.stderr
    if isinstance(engine.answer, BnfoldError):
        assert done.stderr == f"bnfold: {words}\n"
        whole = json.loads(done.stdout)
        jsonschema.validate(whole, SCHEMA)
        assert whole["models"] == []
        assert whole["errors"] == [{"model": "folded.onnx", "message": words}]
        assert json.loads((folder / "r.json").read_text()) == whole
        (folder / "r.json").unlink()
    else:
        assert done.stdout == ""
    assert contents(folder) == before


USAGE: dict[str, tuple[str, str]] = {
    "no model": ("", "ORIGINAL"),
    "three models": (". . link.onnx", "link.onnx"),
    "standard input twice": ("- -", "standard input can be read only once"),
    "no such option": (". . --fast", "--fast"),
    "two forms": (". . --json --markdown", "--json and --markdown contradict each other"),
    "feeds and batch": (". . --feeds feed.npz --batch 2", "--batch is for data that is drawn"),
    "no such level": (". . --level fast", "--level fast: it has to be one of disable, basic"),
    "an empty level": (". . --level all,", "--level : it has to be one of disable, basic"),
    "a level twice": (". . --level all,disable --level all", "--level gives all twice"),
    "no batch": (". . --batch 0", "--batch 0: a size is a whole number from 1 to"),
    "a batch that is none": (". . --batch 1,x", "--batch x: a size is a whole number"),
    "a huge batch": (". . --batch 99999999999", "--batch 99999999999: a size is a whole number"),
    "a batch twice": (". . --batch 1,8,1", "--batch gives 1 twice"),
    "a size without a name": (". . --dim 4", "--dim 4: it has to be NAME=SIZE"),
    "a file without a name": (". . --input x.npy", "--input x.npy: it has to be NAME=FILE.npy"),
    "missing feeds": (". . --feeds no.npz", "cannot read no.npz: No such file"),
    "an array as feeds": (". . --feeds x.npy", "--feeds x.npy: it is an .npy file"),
    "no thread": (". . --threads 0", "--threads"),
    "no time": (". . --duration 0", "--duration 0: it has to be a finite number above 0"),
    "negative time": (". . --duration -1", "--duration -1: it has to be a finite number"),
    "endless": (". . --duration inf", "--duration inf: it has to be a finite number"),
    "time that is none": (". . --duration nan", "--duration nan: it has to be a finite number"),
    "a negative seed": (". . --seed -1", "--seed"),
    "another picture": (". . --plot p.pdf", "--plot p.pdf: the name has to end in .svg or .png"),
    "a picture on stdout": (". . --plot -", "--plot -: the name has to end in .svg or .png"),
    "a picture without an end": (". . --plot png", "--plot png: the name has to end in .svg"),
    "picture over feeds": (
        ". . --feeds feed.png --plot feed.png",
        "would replace the feed feed.png",
    ),
    "report over a model": (". . --save-report model.onnx", "would replace the model model.onnx"),
    "report over the only model": (
        "model.onnx --save-report ./model.onnx",
        "would replace the model model.onnx",
    ),
    "report over a data file": (
        ". . --save-report folded.onnx.data",
        "would replace the data file folded.onnx.data",
    ),
    "two reports in one file": (
        ". . --plot r.svg --save-report dir.png/../r.svg",
        "--plot and --save-report are both",
    ),
    "a picture in no folder": (". . --plot no/p.svg", "the folder no does not exist"),
    "a picture as a folder": (". . --plot dir.png", "it is a folder"),
    "a picture as a link": (". . --plot loose.svg", "it is a symbolic link"),
}


@pytest.mark.parametrize("case", USAGE)
def test_what_cannot_be_done_is_status_2_and_one_line(
    engine: Engine, folder: Path, case: str
) -> None:
    arguments, words = USAGE[case]
    before = contents(folder)
    done = bench(*arguments.replace(". .", " ".join(MODELS)).split(), stdin=b"")
    assert done.exit_code == 2, done.stderr
    assert words in done.stderr
    assert done.stdout == ""
    if done.stderr.startswith("bnfold: "):
        assert done.stderr.count("\n") == 1
    else:
        assert done.stderr.startswith("Usage: ")
    assert engine.calls == []
    assert contents(folder) == before


def test_help_reads_well_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, bnfold.__main__ as m\n"
        "sys.argv = ['bnfold', 'bench', '--help']\n"
        "try:\n    m.main()\nexcept SystemExit:\n    pass\n"
        "heavy = ('numpy', 'onnx', 'google.protobuf', 'matplotlib', 'rich')\n"
        "print([n for n in heavy if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *lines, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    assert max(map(len, lines)) <= 80
    assert not any("..." in line for line in lines)


FAKE = (
    "import sys, time, bnfold.api as a, bnfold.__main__ as m\n"
    "from tests.support_bench_reports import USUAL\n"
    "def fake(*models, progress=None, **options):\n"
    "    if progress:\n"
    "        progress(0.0, 'comparing')\n"
    "        progress(0.5, 'timing [bold]')\n"
    "    {work}\n"
    "    return USUAL\n"
    "a.benchmark = fake\n"
    f"sys.argv = ['bnfold', 'bench', *{MODELS!r}, '--plot', 'p.svg'{{more}}]\n"
    "m.main()"
)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "80"}


def on_terminal(more: str) -> bytes:
    """What a terminal shows on stderr."""
    shown, terminal = pty.openpty()
    try:
        code = FAKE.format(work="pass", more=more)
        subprocess.run(
            [sys.executable, "-c", code],
            stdout=subprocess.DEVNULL,
            stderr=terminal,
            env=ENVIRONMENT,
            check=True,
        )
        os.set_blocking(shown, False)
        try:
            return os.read(shown, 1 << 16)
        except BlockingIOError:
            return b""
    finally:
        os.close(terminal)
        os.close(shown)


def test_a_progress_bar_on_a_terminal() -> None:
    shown = on_terminal("").decode()
    assert "comparing" in shown
    assert "timing [bold]" in shown
    assert " 50%" in shown
    assert on_terminal(", '-q'") == b""


def test_no_progress_bar_on_a_pipe() -> None:
    code = FAKE.format(work="assert progress is None", more="")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=ENVIRONMENT, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_ctrl_c_while_it_works(folder: Path) -> None:
    code = FAKE.format(work="print('working', flush=True); time.sleep(60)", more="")
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"working\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == b"bnfold: interrupted, nothing was left half written\n"
    assert not (folder / "p.svg").exists()

"""The commands as a user runs them: status, stdout, stderr and files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import onnx
import pytest
from onnx import parser

import bnfold

FOLDS = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,2,4,4] x) => (float[1,3,4,4] y)
<float[3,2,1,1] w = {1,2,3,4,5,6}, float[3] s = {1,2,3}, float[3] b = {0,1,2},
 float[3] m = {1,1,1}, float[3] v = {4,4,4}> {
  [conv] c = Conv(x, w)
  [bn] y = BatchNormalization(c, s, b, m, v)
}"""
STAYS = FOLDS.replace("[bn]", "r = Sigmoid(c)\n  [bn]").replace(
    "BatchNormalization(c", "BatchNormalization(r"
)
TRAINS = FOLDS.replace("BatchNormalization(", "BatchNormalization<training_mode=1>(").replace(
    "] y =", "] y, rm, rv ="
)


def run(*arguments: object, stdin: bytes | None = None, cwd: Path | None = None) -> Any:
    command = [sys.executable, "-m", "bnfold", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, cwd=cwd, check=False)


def write(path: Path, text: str = FOLDS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(parser.parse_model(text), path)
    return path


def test_fold_to_a_file(tmp_path: Path) -> None:
    model, out = write(tmp_path / "m.onnx"), tmp_path / "out.onnx"
    done = run("fold", model, "-o", out)
    assert done.returncode == 0
    assert done.stderr == b""
    text = done.stdout.decode()
    assert "1 of 1 batch norm folded" in text
    assert "Conv 1" in text
    assert "nodes      2 -> 1" in text
    assert [n.op_type for n in onnx.load(out).graph.node] == ["Conv"]


def test_fold_in_place_replaces_the_model(tmp_path: Path) -> None:
    model = write(tmp_path / "m.onnx")
    assert run("fold", model, "--in-place", "--quiet").returncode == 0
    assert [n.op_type for n in onnx.load(model).graph.node] == ["Conv"]
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_fold_a_folder(tmp_path: Path, jobs: int) -> None:
    write(tmp_path / "in" / "a.onnx")
    write(tmp_path / "in" / "deep" / "b.onnx", STAYS)
    done = run("fold", tmp_path / "in", "--output-dir", tmp_path / "out", "--jobs", jobs, "--json")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert [m["batch_norms"]["after"] for m in report["models"]] == [0, 1]
    assert (tmp_path / "out" / "deep" / "b.onnx").read_bytes() == (
        tmp_path / "in" / "deep" / "b.onnx"
    ).read_bytes()


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_bad_model_does_not_stop_the_others(tmp_path: Path, jobs: int) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.onnx").write_bytes(b"\x89PNG\r\n")
    write(tmp_path / "in" / "b.onnx")
    done = run("fold", tmp_path / "in", "--output-dir", tmp_path / "out", "-j", jobs, "--json")
    assert done.returncode == 2
    report = json.loads(done.stdout)
    assert [m["model"] for m in report["models"]] == [str(tmp_path / "in" / "b.onnx")]
    assert "a PNG picture" in report["errors"][0]["message"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["b.onnx"]


def test_standard_input_and_output(tmp_path: Path) -> None:
    model = write(tmp_path / "m.onnx")
    done = run("fold", "-", "-o", "-", stdin=model.read_bytes())
    assert done.returncode == 0
    assert [n.op_type for n in onnx.ModelProto.FromString(done.stdout).graph.node] == ["Conv"]
    assert b"1 of 1 batch norm folded" in done.stderr
    explained = run("explain", "-", stdin=model.read_bytes())
    assert b"bn -> conv" in explained.stdout


def test_explain_writes_nothing(tmp_path: Path) -> None:
    model = write(tmp_path / "m.onnx", STAYS)
    before = model.read_bytes()
    done = run("explain", model)
    assert done.returncode == 0
    assert b"bn: stays (producer-not-linear)" in done.stdout
    assert b"To do:" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    assert model.read_bytes() == before


CHECKS: dict[str, tuple[str, list[str], int]] = {
    "foldable": (FOLDS, [], 1),
    "not foldable": (STAYS, [], 0),
    "foldable, allowed by name": (FOLDS, ["--allow", "b*"], 0),
    "foldable, another name allowed": (FOLDS, ["--allow", "c*"], 1),
    "none left": (STAYS, ["--max-left", "0"], 1),
    "one left": (STAYS, ["--max-left", "1"], 0),
    "none left, allowed by code": (STAYS, ["--max-left", "0", "--allow", "producer-not-linear"], 0),
    "none left, another code": (STAYS, ["--max-left", "0", "--allow", "shared-tensor"], 1),
    "training": (TRAINS, [], 0),
    "training, read as inference": (TRAINS, ["--assume-inference"], 1),
}


@pytest.mark.parametrize("case", CHECKS)
def test_check(tmp_path: Path, case: str) -> None:
    text, options, status = CHECKS[case]
    model = write(tmp_path / "m.onnx", text)
    done = run("check", model, *options)
    assert done.returncode == status, done.stderr.decode()
    assert (b": ok: " in done.stdout) == (status == 0)


def test_assume_inference_is_reported(tmp_path: Path) -> None:
    model = write(tmp_path / "m.onnx", TRAINS)
    assert b"training-mode (1)" in run("fold", model, "-o", tmp_path / "a.onnx").stdout
    done = run("fold", model, "-o", tmp_path / "b.onnx", "--assume-inference")
    assert b"1 training-mode norm read as inference: bn" in done.stdout
    assert [n.op_type for n in onnx.load(tmp_path / "b.onnx").graph.node] == ["Conv"]


@pytest.mark.parametrize("command", ["fold", "explain", "check"])
def test_json_follows_its_schema(tmp_path: Path, command: str) -> None:
    schema = json.loads((files("bnfold") / "report" / "schema.json").read_text())
    models = [write(tmp_path / f"{i}.onnx", t) for i, t in enumerate((FOLDS, STAYS, TRAINS))]
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    models.append(tmp_path / "broken.onnx")
    extra = ["--output-dir", tmp_path / "out"] if command == "fold" else []
    done = run(command, *models, "--json", *extra)
    assert done.returncode == 2
    report = json.loads(done.stdout)
    jsonschema.validate(report, schema)
    assert report["command"] == command
    assert len(report["models"]) == 3
    assert len(report["errors"]) == 1


def test_save_report(tmp_path: Path) -> None:
    model = write(tmp_path / "m.onnx")
    saved = tmp_path / "report.json"
    done = run("fold", model, "-o", tmp_path / "o.onnx", "--json", "--save-report", saved)
    assert json.loads(saved.read_text()) == json.loads(done.stdout)
    silent = run("fold", model, "-o", tmp_path / "o.onnx", "-q", "--save-report", saved)
    assert silent.stdout == b""


USAGE: dict[str, tuple[list[str], str]] = {
    "nowhere to write": (["fold", "m.onnx"], "one of -o OUT, --in-place, --output-dir DIR"),
    "two places": (["fold", "m.onnx", "-o", "a", "--in-place"], "one of -o OUT"),
    "two models, one output": (["fold", "m.onnx", "n.onnx", "-o", "a"], "--output-dir"),
    "over its own input": (["fold", "m.onnx", "-o", "m.onnx"], "--in-place"),
    "over its own input by a link": (["fold", "m.onnx", "-o", "link.onnx"], "--in-place"),
    "over another input": (["fold", "m.onnx", "n.onnx", "--output-dir", "."], "is the input"),
    "report over an input": (
        ["fold", "m.onnx", "-o", "o.onnx", "--save-report", "m.onnx"],
        "would replace the model",
    ),
    "report over an output": (
        ["fold", "m.onnx", "-o", "o.onnx", "--save-report", "d/../o.onnx"],
        "would replace the model",
    ),
    "report over a checked model": (
        ["check", "n.onnx", "m.onnx", "--save-report", "m.onnx"],
        "would replace the model",
    ),
    "two in one place": (["fold", "m.onnx", "d/m.onnx", "--output-dir", "o"], "would both become"),
    "stdin in place": (["fold", "-", "--in-place"], "standard input"),
    "no such model": (["explain", "none.onnx"], "none.onnx"),
    "an empty folder": (["check", "empty"], "no *.onnx"),
    "no such folder": (["fold", "m.onnx", "-o", "none/o.onnx", "-q"], "none"),
    "a folder as output": (["fold", "m.onnx", "-o", "d"], "folder"),
    "a device as output": (["fold", "m.onnx", "-o", "/dev/null"], "no regular file"),
    "no such option": (["fold", "m.onnx", "--fast"], "--fast"),
    "no such command": (["melt", "m.onnx"], "melt"),
    "a bad number": (["check", "m.onnx", "--max-left", "-1"], "--max-left"),
}


@pytest.mark.parametrize("case", USAGE)
def test_what_cannot_be_done_is_status_2_and_one_line(tmp_path: Path, case: str) -> None:
    arguments, words = USAGE[case]
    for name in ("m.onnx", "n.onnx", "d/m.onnx"):
        write(tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "link.onnx").symlink_to("m.onnx")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    done = run(*arguments, cwd=tmp_path, stdin=b"")
    message = done.stderr.decode()
    assert done.returncode == 2, message
    assert words in message
    assert "Traceback" not in message
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_help_reads_well_and_imports_nothing_heavy() -> None:
    for arguments in (["--help"], ["fold", "--help"], ["explain", "--help"], ["check", "-h"]):
        done = run(*arguments)
        assert done.returncode == 0
        lines = done.stdout.decode().splitlines()
        assert max(map(len, lines)) <= 80
        assert not any("..." in line and "MODEL..." not in line for line in lines[8:])
    code = (
        "import sys, bnfold.__main__ as m\n"
        "sys.argv = ['bnfold', '--help']\n"
        "try:\n    m.main()\nexcept SystemExit:\n    pass\n"
        "print([n for n in ('numpy', 'onnx', 'google.protobuf') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.decode().splitlines()[-1] == "[]"


IDLE = (
    "concurrent.futures",
    "multiprocessing",
    "numpy.random",
    "onnx.reference",
    "onnxruntime",
    "pydantic",
    "bnfold.checking.outcome",
    "bnfold.checking.sides",
    "bnfold.cli.verify",
    "bnfold.measuring.outcome",
    "bnfold.reference.evaluator",
    "bnfold.report",
    "bnfold.statistics.inserted",
    "bnfold.statistics.outcome",
)
"""What the fold of a small plain model has no use for, and takes a while to import."""


@pytest.mark.parametrize("more", [[], ["--only", "b*", "--skip", "c"]], ids=["plain", "options"])
def test_a_small_fold_imports_no_more_than_it_uses(tmp_path: Path, more: list[str]) -> None:
    model, out = write(tmp_path / "m.onnx"), tmp_path / "o.onnx"
    command = ["bnfold", "fold", str(model), "-o", str(out), "-q", *more]
    code = (
        "import sys, bnfold.__main__ as m\n"
        f"sys.argv = {command!r}\n"
        "try:\n    m.main()\nexcept SystemExit:\n    pass\n"
        f"print([n for n in {IDLE!r} if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert out.exists(), done.stderr.decode()
    assert done.stdout.decode().splitlines()[-1] == "[]"


def test_a_pattern_that_matches_nothing_is_said(tmp_path: Path) -> None:
    model = write(tmp_path / "m.onnx")
    done = run("fold", model, "-o", tmp_path / "o.onnx", "--skip", "bm", "--only", "b?")
    assert done.returncode == 0
    assert done.stderr == b"bnfold: note: the pattern 'bm' matches no norm\n"


def test_names_that_the_terminal_cannot_show(tmp_path: Path) -> None:
    model = parser.parse_model(FOLDS)
    model.graph.node[1].name = "größe"
    strange = tmp_path / os.fsdecode(b"caf\xe9.onnx")
    strange.write_bytes(model.SerializeToString())
    saved = tmp_path / "r.json"
    done = subprocess.run(
        [sys.executable, "-m", "bnfold", "check", strange, "--save-report", saved],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert done.returncode == 1, done.stderr.decode()
    assert b"gr\\xf6\\xdfe -> conv" in done.stdout
    assert json.loads(saved.read_text())["models"][0]["norms"][0]["norm"] == "größe"


def test_version() -> None:
    done = run("--version")
    assert done.stdout.decode() == f"bnfold {bnfold.__version__}\n"


def test_a_bug_is_status_3_never_1(tmp_path: Path) -> None:
    model = write(tmp_path / "m.onnx")
    code = (
        "import sys, bnfold.api, bnfold.__main__ as m\n"
        "bnfold.api.plan = lambda *a, **k: 1 / 0\n"
        f"sys.argv = ['bnfold', 'explain', {str(model)!r}]\n"
        "m.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 3
    assert b"ZeroDivisionError" in done.stderr
    assert b"bug in bnfold" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    model = write(tmp_path / "m.onnx")
    out = tmp_path / "out"
    out.mkdir()
    target = out / "o.onnx"
    target.write_bytes(b"old")
    code = (
        "import sys, time, bnfold.onnxgraph.save as s, bnfold.__main__ as m\n"
        "def slow(handle, pieces):\n"
        "    print('writing', flush=True)\n    time.sleep(60)\n"
        "s._write = slow\n"
        f"sys.argv = ['bnfold', 'fold', {str(model)!r}, '-o', {str(target)!r}]\n"
        "m.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == (130 if number == signal.SIGINT else 143), errors.decode()
    assert b"Traceback" not in errors
    assert [p.name for p in out.iterdir()] == ["o.onnx"]
    assert target.read_bytes() == b"old"


def test_a_worker_is_stopped_while_something_is_taken_down(tmp_path: Path) -> None:
    """Python drops what a signal raises in a destructor."""
    code = (
        "import os, signal, time\n"
        "from bnfold.cli.batch import _interruptible\n"
        "class Held:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        print('taken down', flush=True)\n"
        "def work(entry):\n"
        "    Held()\n"
        "    time.sleep(60)\n"
        "_interruptible(work, None)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (143, b"taken down\n", b"")


def test_a_batch_is_interrupted_with_its_workers(tmp_path: Path) -> None:
    for number in range(40):
        write(tmp_path / "in" / f"{number}.onnx")
    command = [sys.executable, "-m", "bnfold", "fold", str(tmp_path / "in")]
    process = subprocess.Popen(
        [*command, "--output-dir", str(tmp_path / "out"), "--jobs", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    out = tmp_path / "out"
    while not (out.is_dir() and list(out.glob("*.onnx"))) and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (0, 130), errors.decode()
    assert b"Traceback" not in errors, errors.decode()
    assert [p.name for p in out.iterdir() if p.suffix != ".onnx"] == []
    for path in out.iterdir():
        onnx.checker.check_model(onnx.load(path))

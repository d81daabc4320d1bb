"""``bnfold verify`` as a user runs it; what ``bnfold.api.verify`` answers is given."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
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
from bnfold.checking.outcome import VerifyReport
from bnfold.cli.app import application
from bnfold.errors import BnfoldError, FileError, ModelError, UsageError
from bnfold.report.verify_text import verify_text
from tests.support_reports import DIFFERENT, SAME

MODELS = ("model.onnx", "folded.onnx")
SCHEMA = json.loads((files("bnfold") / "report" / "schema.json").read_text())


class Engine:
    """Stands where ``bnfold.api.verify`` does: keeps how it was called, answers as it is told."""

    def __init__(self) -> None:
        self.answer: VerifyReport | BaseException = SAME
        self.calls: list[tuple[Any, Any, dict[str, Any]]] = []

    def __call__(self, original: Any, folded: Any, **options: Any) -> VerifyReport:
        self.calls.append((original, folded, options))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    @property
    def options(self) -> dict[str, Any]:
        ((_, _, options),) = self.calls
        return options


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    fake = Engine()
    monkeypatch.setattr(api, "verify", fake)
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
    for size in (1, 2):
        np.savez(tmp_path / f"feed_{size}.npz", x=np.full((size, 2, 4, 4), size, np.float32))
    np.save(tmp_path / "x.npy", np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4))
    (tmp_path / "link.onnx").symlink_to("model.onnx")
    (tmp_path / "loose").symlink_to("nowhere")
    (tmp_path / "dir").mkdir()
    return tmp_path


def verify(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(application(), ["verify", *map(str, arguments)], input=stdin)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("report", "status"), [(SAME, 0), (DIFFERENT, 1)])
def test_the_report_and_the_status(engine: Engine, report: VerifyReport, status: int) -> None:
    engine.answer = report
    done = verify(*MODELS)
    assert done.exit_code == status
    assert done.stdout == f"{verify_text(report)}\n"
    assert done.stderr == ""
    assert engine.calls == [
        (
            *map(Path, MODELS),
            {
                "feeds": None,
                "inputs": {},
                "dims": {},
                "trials": 1,
                "seed": 0,
                "max_ulp_noise": VerifyReport.multiple,
                "rtol": None,
                "atol": None,
                "runtime": True,
                "name": MODELS,
            },
        )
    ]
    quiet = verify(*MODELS, "--quiet")
    assert (quiet.exit_code, quiet.output) == (status, "")


def test_every_option_reaches_the_engine(engine: Engine) -> None:
    options = "--max-ulp-noise 2 --rtol 1e-3 --atol 0 --trials 3 --seed 9 --no-runtime"
    data = "--dim N=4 --dim a=b=1 --feeds feed_1.npz --feeds feed_2.npz --input x=x.npy"
    assert verify(*MODELS, *options.split(), *data.split()).exit_code == 0
    given = engine.options
    plain = {key: given[key] for key in ("max_ulp_noise", "rtol", "atol", "trials", "seed")}
    assert plain == {"max_ulp_noise": 2.0, "rtol": 1e-3, "atol": 0.0, "trials": 3, "seed": 9}
    assert given["runtime"] is False
    assert given["dims"] == {"N": 4, "a=b": 1}
    assert [set(feed) for feed in given["feeds"]] == [{"x"}, {"x"}]
    assert [feed["x"].shape[0] for feed in given["feeds"]] == [1, 2]
    assert given["inputs"].keys() == {"x"}
    np.testing.assert_array_equal(given["inputs"]["x"].ravel(), np.arange(32))


@pytest.mark.parametrize("at", [0, 1])
def test_standard_input(engine: Engine, at: int) -> None:
    arguments = list(MODELS)
    arguments[at] = "-"
    assert verify(*arguments, stdin=b"some bytes").exit_code == 0
    ((*models, options),) = engine.calls
    assert models[at] == b"some bytes"
    assert models[1 - at] == Path(MODELS[1 - at])
    assert options["name"][at] == "<stdin>"


@pytest.mark.parametrize(("report", "status"), [(SAME, 0), (DIFFERENT, 1)])
def test_reports_in_files(engine: Engine, folder: Path, report: VerifyReport, status: int) -> None:
    engine.answer = report
    done = verify(*MODELS, "--json", "--junit", "j.xml", "--save-report", "r.json")
    assert done.exit_code == status
    whole = json.loads(done.stdout)
    jsonschema.validate(whole, SCHEMA)
    assert whole == json.loads((folder / "r.json").read_text())
    assert whole["command"] == "verify"
    assert whole["errors"] == []
    root = ElementTree.parse(folder / "j.xml").getroot()
    assert (root.get("failures") == "0") == (status == 0)
    assert not list(folder.glob(".*"))


def test_a_report_may_replace_an_older_one(engine: Engine, folder: Path) -> None:
    (folder / "j.xml").write_text("old")
    assert verify(*MODELS, "-q", "--junit", "j.xml").exit_code == 0
    assert (folder / "j.xml").read_text().startswith("<?xml")


ENDS: dict[str, tuple[BaseException, int, str]] = {
    "no file": (FileError("cannot read model.onnx: gone"), 2, "cannot read model.onnx: gone"),
    "no model": (ModelError("folded.onnx is empty"), 2, "folded.onnx is empty"),
    "no such input": (UsageError("no input is called z"), 2, "no input is called z"),
    "no memory": (MemoryError(), 2, "not enough memory"),
    "a bug": (ZeroDivisionError("division by zero"), 3, "this is a bug in bnfold"),
}


@pytest.mark.parametrize("case", ENDS)
def test_what_could_not_be_done_is_an_error_in_every_report(
    engine: Engine, folder: Path, case: str
) -> None:
    engine.answer, status, words = ENDS[case]
    done = verify(*MODELS, "--json", "--junit", "j.xml", "--save-report", "r.json")
    assert done.exit_code == status
    assert words in done.stderr
    (suite,) = ElementTree.parse(folder / "j.xml").getroot()
    assert (suite.get("tests"), suite.get("errors")) == ("1", "1")
    error = suite.find("testcase/error")
    assert error is not None
    assert str(engine.answer) in error.get("message", "")
    if isinstance(engine.answer, BnfoldError):
        assert done.stderr == f"bnfold: {words}\n"
        whole = json.loads(done.stdout)
        jsonschema.validate(whole, SCHEMA)
        assert whole["models"] == []
        assert whole["errors"] == [{"model": "folded.onnx", "message": words}]
        assert json.loads((folder / "r.json").read_text()) == whole
    else:
        assert done.stdout == ""
        assert not (folder / "r.json").exists()


def test_interrupted(engine: Engine, folder: Path) -> None:
    engine.answer = KeyboardInterrupt()
    before = contents(folder)
    done = verify(*MODELS, "--junit", "j.xml", "--save-report", "r.json")
    assert done.exit_code == 130
    assert done.stdout == ""
    assert contents(folder) == before


USAGE: dict[str, tuple[str, str]] = {
    "one model": ("model.onnx", "FOLDED"),
    "three models": ("model.onnx folded.onnx link.onnx", "link.onnx"),
    "standard input twice": ("- -", "standard input can be read only once"),
    "no such option": (". . --fast", "--fast"),
    "a size without a name": (". . --dim 4", "--dim 4: it has to be NAME=SIZE"),
    "a file without a name": (". . --input x.npy", "--input x.npy: it has to be NAME=FILE.npy"),
    "missing feeds": (". . --feeds no.npz", "cannot read no.npz: No such file"),
    "negative noise": (". . --max-ulp-noise -1", "--max-ulp-noise -1: it has to be a finite"),
    "noise that is none": (". . --max-ulp-noise nan", "--max-ulp-noise nan: it has to be a finite"),
    "endless noise": (". . --max-ulp-noise inf", "--max-ulp-noise inf: it has to be a finite"),
    "a negative rtol": (". . --rtol -0.5", "--rtol -0.5: it has to be a finite number"),
    "a negative atol": (". . --atol=-1e-9", "--atol -1e-09: it has to be a finite number"),
    "an atol that is no number": (". . --atol x", "--atol"),
    "a negative number of trials": (". . --trials -1", "--trials"),
    "a negative seed": (". . --seed -1", "--seed"),
    "JUnit over a model": (". . --junit folded.onnx", "would replace the model folded.onnx"),
    "report over a model": (". . --save-report model.onnx", "would replace the model model.onnx"),
    "report over a model by a link": (
        "link.onnx folded.onnx --save-report model.onnx",
        "would replace the model link.onnx",
    ),
    "JUnit over a data file": (
        ". . --junit folded.onnx.data",
        "would replace the data file folded.onnx.data",
    ),
    "report over a data file": (
        ". . --save-report dir/../model.onnx.data",
        "would replace the data file model.onnx.data",
    ),
    "JUnit over feeds": (
        ". . --feeds feed_1.npz --junit feed_1.npz",
        "would replace the feed feed_1.npz",
    ),
    "report over an array": (
        ". . --input x=x.npy --save-report ./x.npy",
        "would replace the feed x.npy",
    ),
    "two reports in one file": (
        ". . --junit r --save-report dir/../r",
        "--junit and --save-report are both",
    ),
    "a report in no folder": (". . --junit no/j.xml", "the folder no does not exist"),
    "a report as a folder": (". . --save-report dir", "it is a folder"),
    "a report as a link": (". . --junit loose", "it is a symbolic link"),
}


@pytest.mark.parametrize("case", USAGE)
def test_what_cannot_be_done_is_status_2_and_one_line(
    engine: Engine, folder: Path, case: str
) -> None:
    arguments, words = USAGE[case]
    before = contents(folder)
    done = verify(*arguments.replace(". .", " ".join(MODELS)).split(), stdin=b"")
    assert done.exit_code == 2, done.stderr
    assert words in done.stderr
    assert done.stdout == ""
    if done.stderr.startswith("bnfold: "):
        assert done.stderr.count("\n") == 1
    else:
        assert done.stderr.startswith("Usage: ")
    assert engine.calls == []
    assert contents(folder) == before


def test_bad_data_is_an_error_in_the_junit_file(engine: Engine, folder: Path) -> None:
    done = verify(*MODELS, "--input", "x=no.npy", "--junit", "j.xml")
    assert done.exit_code == 2
    (suite,) = ElementTree.parse(folder / "j.xml").getroot()
    error = suite.find("testcase/error")
    assert error is not None
    assert "cannot read no.npy" in error.get("message", "")
    assert engine.calls == []


def test_a_damaged_model_is_said_by_the_engine(engine: Engine, folder: Path) -> None:
    (folder / "j.xml").write_text("old")
    (folder / "folded.onnx").write_bytes(b"\x89PNG")
    assert verify(*MODELS, "--junit", "j.xml").exit_code == 0
    assert len(engine.calls) == 1


def test_help_reads_well_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, bnfold.__main__ as m\n"
        "sys.argv = ['bnfold', 'verify', '--help']\n"
        "try:\n    m.main()\nexcept SystemExit:\n    pass\n"
        "print([n for n in ('numpy', 'onnx', 'google.protobuf') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *lines, heavy = done.stdout.splitlines()
    assert heavy == "[]"
    assert max(map(len, lines)) <= 80
    assert not any("..." in line for line in lines)


def test_the_default_of_the_yardstick_is_one_number() -> None:
    default = inspect.signature(api.verify).parameters["max_ulp_noise"].default
    assert default == VerifyReport.multiple
    docs = (Path(__file__).parent.parent / "docs" / "commands.md").read_text()
    assert f"same function; {default:g} unless told" in docs


def test_ctrl_c_while_it_works(folder: Path) -> None:
    code = (
        "import sys, time, bnfold.api as a, bnfold.__main__ as m\n"
        "def slow(*models, **options):\n"
        "    print('working', flush=True)\n    time.sleep(60)\n"
        "a.verify = slow\n"
        f"sys.argv = ['bnfold', 'verify', *{MODELS!r}, '--junit', 'j.xml']\n"
        "m.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"working\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == b"bnfold: interrupted, nothing was left half written\n"
    assert not (folder / "j.xml").exists()

"""``bnfold insert``: its options, its reports, and what it leaves alone when something is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest

import bnfold
from bnfold.report.insert_text import insert_text
from tests.support_graphs import conv_bn, externalised, norms_in, snapshot
from tests.support_insert import ALL_OPERATORS, CONV, model_of, with_norms
from tests.test_cli import run

SCHEMA = Path(__file__).parent.parent / "bnfold" / "report" / "schema.json"


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """A folder with ``m.onnx`` and ``x.npy``."""
    (tmp_path / "m.onnx").write_bytes(model_of(CONV).SerializeToString())
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.normal(size=(8, 3, 6, 6)).astype(np.float32))
    return tmp_path


def test_a_model_with_norms_is_written_and_reported(room: Path) -> None:
    out = room / "o.onnx"
    done = run("insert", room / "m.onnx", "--data", room / "x.npy", "-o", out)
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    text = done.stdout.decode()
    assert text.startswith(
        f"{room / 'm.onnx'}: batch norms inserted behind 1 of 1 linear operator\n"
    )
    assert "exactly in 1 of 1" in text
    assert "written to" in text
    assert norms_in(onnx.load(out)) == 1
    assert bnfold.verify(room / "m.onnx", out, runtime=False).is_same


def test_json_follows_the_schema(room: Path) -> None:
    saved = room / "r.json"
    done = run(
        *("insert", room / "m.onnx", "--data", room / "x.npy", "-o", room / "o.onnx", "--json"),
        *("--save-report", saved, "--where", "after-activation", "--estimator", "population"),
        *("--batch-size", "4", "--batches", "1", "--shuffle", "--seed", "3", "--drop-last"),
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    jsonschema.validate(told, json.loads(SCHEMA.read_text()))
    assert told == json.loads(saved.read_text())
    model = told["models"][0]
    assert (model["where"], model["estimator"]) == ("after-activation", "population")
    assert (model["batches"], model["norms"][0]["values"]) == (1, 4 * 16)
    assert model["norms"][0]["tensor"] == "y"
    assert model["nodes"] == {"before": 2, "after": 3}
    assert model["bytes"]["after"] == (room / "o.onnx").stat().st_size


def test_what_is_left_out_follows_the_schema_too(room: Path) -> None:
    (room / "m.onnx").write_bytes(conv_bn().SerializeToString())
    done = run("insert", room / "m.onnx", "--data", room / "x.npy", "-o", room / "o", "--json")
    told = json.loads(done.stdout)
    jsonschema.validate(told, json.loads(SCHEMA.read_text()))
    assert told["models"][0]["left_out"][0]["code"] == "already-normalised"
    assert (room / "o").read_bytes() == (room / "m.onnx").read_bytes()


def test_standard_streams(room: Path) -> None:
    import subprocess
    import sys

    command = [
        sys.executable,
        "-m",
        "bnfold",
        "insert",
        "-",
        "--data",
        str(room / "x.npy"),
        "-o",
        "-",
    ]
    done = subprocess.run(
        command, input=(room / "m.onnx").read_bytes(), capture_output=True, check=True
    )
    assert norms_in(onnx.ModelProto.FromString(done.stdout)) == 1
    assert b"batch norms inserted behind 1 of 1" in done.stderr


def test_in_place_and_quiet(room: Path) -> None:
    done = run("insert", room / "m.onnx", "--data", room / "x.npy", "--in-place", "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert norms_in(onnx.load(room / "m.onnx")) == 1


def test_a_pattern_that_matches_nothing_is_said(room: Path) -> None:
    done = run(
        *("insert", room / "m.onnx", "--data", room / "x.npy", "-o", room / "o.onnx"),
        *("--only", "c", "--only", "d*", "--skip", "e"),
    )
    assert done.returncode == 0
    assert done.stderr.decode().splitlines() == [
        "bnfold: note: the pattern 'd*' matches no linear operator",
        "bnfold: note: the pattern 'e' matches no linear operator",
    ]


def test_a_module_as_data(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (room / "feeds.py").write_text(
        "import numpy as np\n\n\ndef batches():\n"
        "    for seed in range(2):\n"
        "        yield {'x': np.full((2, 3, 6, 6), seed, np.float32)}\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{room}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    done = run("insert", room / "m.onnx", "--data", "feeds:batches", "-o", room / "o.onnx")
    assert done.returncode == 0, done.stderr
    assert b"of 2 batches" in done.stdout


WRONG = {
    "no place": ("insert m.onnx --data x.npy", "say where the result goes"),
    "two places": ("insert m.onnx --data x.npy -o o.onnx --in-place", "say where the result goes"),
    "the input": ("insert m.onnx --data x.npy -o m.onnx", "use --in-place to replace it"),
    "the data": ("insert m.onnx --data x.npy -o x.npy", "x.npy would replace the data"),
    "a report in place of the data": (
        "insert m.onnx --data x.npy -o o.onnx --save-report x.npy",
        "would replace the feed x.npy",
    ),
    "a report in place of the model": (
        "insert m.onnx --data x.npy -o o.onnx --save-report m.onnx",
        "would replace the model m.onnx",
    ),
    "stdin in place": ("insert - --data x.npy --in-place", "cannot be replaced in place"),
    "no data file": ("insert m.onnx --data y.npy -o o.onnx", "y.npy"),
    "no model": ("insert n.onnx --data x.npy -o o.onnx", "n.onnx"),
    "another shape": ("insert m.onnx --data bad.npy -o o.onnx", "bad.npy"),
    "NaN in the middle": ("insert m.onnx --data nan.npy -o o.onnx --batch-size 2", "batch 2"),
    "NaN in place": ("insert m.onnx --data nan.npy --in-place --batch-size 2", "batch 2"),
    "a folder that is missing": ("insert m.onnx --data x.npy -o no/o.onnx", "no/o.onnx"),
    "a report in a missing folder": (
        "insert m.onnx --data nan.npy -o o.onnx --save-report no/r.json",
        "no/r.json",
    ),
    "a bias behind the activation": (
        "insert m.onnx --data x.npy -o o.onnx --remove-bias --where after-activation",
        "makes no bias redundant",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_and_nothing_is_written(
    room: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, words = WRONG[case]
    nan = np.zeros((8, 3, 6, 6), np.float32)
    nan[3, 1, 2, 2] = np.nan
    np.save(room / "nan.npy", nan)
    np.save(room / "bad.npy", np.zeros((8, 5, 6, 6), np.float32))
    before = snapshot(room)
    monkeypatch.chdir(room)
    done = run(*command.split())
    assert done.returncode == 2
    lines = done.stderr.decode().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("bnfold: ")
    assert words in lines[0]
    assert snapshot(room) == before


def test_several_models_are_refused(room: Path) -> None:
    (room / "n.onnx").write_bytes((room / "m.onnx").read_bytes())
    done = run("insert", room, "--data", room / "x.npy", "-o", room / "o.onnx")
    assert done.returncode == 2
    assert b"insert takes one model" in done.stderr


def test_external_data_and_embedded(room: Path) -> None:
    model = externalised(model_of(CONV), room, {"w": ("w.data", 0)})
    (room / "m.onnx").write_bytes(model.SerializeToString())
    words = ("insert", room / "m.onnx", "--data", room / "x.npy")
    assert run(*words, "-o", "-").returncode == 2
    assert run(*words, "-o", room / "o.onnx", "--embed", "-q").returncode == 0
    assert not any(t.external_data for t in onnx.load(room / "o.onnx").graph.initializer)
    assert bnfold.verify(room / "m.onnx", room / "o.onnx", runtime=False).is_same


def test_the_text_counts_and_names() -> None:
    result = with_norms(model_of(ALL_OPERATORS), remove_bias=True, skip=("z",))
    lines = insert_text(result.report, "o.onnx").splitlines()
    assert lines[0] == "m.onnx: batch norms inserted behind 3 of 4 linear operators"
    assert "  behind     Conv 1, ConvTranspose 1, MatMul 1; before the activation" in lines
    assert "  biases     removed 2" in lines
    assert "  dead       3 channels with the same value everywhere" in lines
    assert lines[lines.index("  left out 1 (excluded)") + 1] == "    z matches --skip z"
    assert all(len(line) <= 80 for line in lines)

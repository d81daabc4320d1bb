"""``bnfold calibrate`` as its users see it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from typer.testing import CliRunner, Result

import bnfold
from bnfold.cli.app import application
from tests.support_calibrate import assert_close, model, samples, statistics_of

SCHEMA = json.loads((files("bnfold") / "report" / "schema.json").read_text())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``m.onnx``, and ``d.npz`` with 50 samples and labels."""
    onnx.save(model(), tmp_path / "m.onnx")
    np.savez(tmp_path / "d.npz", x=samples(), labels=np.arange(50))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: Any, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(application(), ["calibrate", *map(str, arguments)], input=stdin)


def test_it_writes_what_the_function_makes(folder: Path) -> None:
    done = run("m.onnx", "--data", "d.npz", "-o", "o.onnx", "--batch-size", 16)
    assert done.exit_code == 0, done.stderr
    wanted = bnfold.calibrate("m.onnx", "d.npz", batch_size=16)
    assert (folder / "o.onnx").read_bytes() == wanted.model.SerializeToString()
    assert done.stdout.startswith("m.onnx: 2 norms estimated from 4 batches\n  data       d.npz\n")
    assert "estimator  paper, mode batch" in done.stdout
    rows = re.findall(r"^  (b\d) +(\d) +(\S+ -> \S+) +(\S+ -> \S+) +(\S+)$", done.stdout, re.M)
    assert [row[:2] for row in rows] == [("b1", "5"), ("b2", "4")]
    for (_, _, mean, var, drift), norm in zip(rows, wanted.report.norms, strict=True):
        at = norm.worst
        assert mean == f"{norm.mean_before[at]:.4g} -> {norm.mean_after[at]:.4g}"
        assert var == f"{norm.var_before[at]:.4g} -> {norm.var_after[at]:.4g}"
        assert float(drift) == pytest.approx(max(norm.mean_drift, norm.std_drift), rel=5e-3)
    assert done.stdout.rstrip().endswith("written to o.onnx")
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_every_option_reaches_the_function(folder: Path) -> None:
    options = ["--estimator", "population", "--mode", "sequential", "--batch-size", 8]
    options += ["--batches", 5, "--shuffle", "--seed", 3, "--drop-last", "--skip", "b2"]
    options += ["--only", "b*", "--threads", 1, "--tolerance", 1e-9]
    done = run("m.onnx", "--data", "d.npz", "-o", "o.onnx", "--json", *options)
    assert done.exit_code == 0, done.stderr
    (entry,) = json.loads(done.stdout)["models"]
    wanted = bnfold.calibrate(
        "m.onnx",
        "d.npz",
        estimator="population",
        mode="sequential",
        batch_size=8,
        batches=5,
        shuffle=True,
        seed=3,
        drop_last=True,
        skip=["b2"],
        only=["b*"],
    )
    assert entry["norms"][0]["mean"]["after"] == wanted.report.norms[0].mean_after
    assert entry["skipped"] == [
        {"norm": "b2", "code": "excluded", "reason": "b2 matches --skip b2"}
    ]
    assert (entry["batches"], entry["is_settled"]) == (5, False)


def test_json_is_what_the_schema_says(folder: Path) -> None:
    done = run("m.onnx", "--data", "d.npz", "-o", "o.onnx", "--json", "--save-report", "r.json")
    report = json.loads(done.stdout)
    jsonschema.validate(report, SCHEMA)
    assert json.loads((folder / "r.json").read_text()) == report
    assert report["command"] == "calibrate"
    (entry,) = report["models"]
    assert entry["output"] == "o.onnx"
    wrong = json.loads(json.dumps(report))
    wrong["models"][0]["norms"][0]["mean"]["after"][0] = "much"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, SCHEMA)


def test_statistics_that_are_not_finite_are_json_too(folder: Path) -> None:
    proto = model()
    for tensor in proto.graph.initializer:
        if tensor.name in ("m1", "v2"):
            values = np.full(tensor.dims, np.nan if tensor.name == "m1" else -1, np.float32)
            tensor.raw_data = values.tobytes()
    onnx.save(proto, "m.onnx")
    done = run("m.onnx", "--data", "d.npz", "-o", "o.onnx", "--json")
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    jsonschema.validate(report, SCHEMA)
    norms = report["models"][0]["norms"]
    assert norms[0]["mean"]["before"] == ["nan"] * 5
    assert norms[0]["mean_drift"] == report["models"][0]["drift"] == "inf"
    # A damaged model is repaired by this: what it holds now is what a sound one gets.
    sound = bnfold.calibrate(model(), "d.npz")
    assert_close(statistics_of(onnx.load("o.onnx")), statistics_of(sound.model), 1e-12)
    assert "nan -> " in run("m.onnx", "--data", "d.npz", "-o", "o.onnx").stdout


def test_shards_are_saved_and_merged(folder: Path) -> None:
    x = samples()
    for number, part in enumerate((x[:32], x[32:])):
        np.save(f"{number}.npy", part)
        done = run("m.onnx", "--data", f"{number}.npy", "--batch-size", 16, "-o", "o.onnx", "-q",
                   "--save-stats", f"{number}.json")  # fmt: skip
        assert (done.exit_code, done.stdout) == (0, "")
    done = run("m.onnx", "-o", "o.onnx", "--merge-stats", "0.json", "--merge-stats", "1.json")
    assert done.exit_code == 0, done.stderr
    assert "data       4 batches of saved statistics" in done.stdout
    wanted = bnfold.calibrate("m.onnx", "d.npz", batch_size=16)
    assert_close(statistics_of(onnx.load("o.onnx")), statistics_of(wanted.model), 2e-7)


def test_a_run_goes_on_in_the_file_it_comes_from(folder: Path) -> None:
    more = ["--save-stats", "s.json", "--batch-size", 8]
    run("m.onnx", "--data", "d.npz", "-o", "o.onnx", "--batches", 2, *more)
    done = run("m.onnx", "--data", "d.npz", "-o", "o.onnx", "--merge-stats", "s.json", *more)
    assert done.exit_code == 0, done.stderr
    assert "data       d.npz; 2 batches of saved statistics" in done.stdout
    assert "2 norms estimated from 7 batches" in done.stdout


def test_a_run_that_has_settled_says_so(folder: Path) -> None:
    done = run("m.onnx", "--data", "d.npz", "-o", "o.onnx", "--batch-size", 4, "--tolerance", 1)
    text = " ".join(done.stdout.split())
    assert "2 norms estimated from 4 batches" in text
    assert "standard deviations, the third below the tolerance" in text


def test_streams(folder: Path) -> None:
    done = run("-", "--data", "d.npz", "-o", "-", stdin=(folder / "m.onnx").read_bytes())
    assert done.exit_code == 0, done.stderr
    wanted = bnfold.calibrate("m.onnx", "d.npz")
    assert done.stdout_bytes == wanted.model.SerializeToString()
    assert done.stderr.startswith("<stdin>: 2 norms estimated")
    assert "written to <stdout>" in done.stderr


def test_in_place_and_with_external_data(folder: Path) -> None:
    done = run("m.onnx", "--data", "d.npz", "--in-place", "--external-data")
    assert done.exit_code == 0, done.stderr
    wanted = bnfold.calibrate(model(), "d.npz")
    assert_close(statistics_of(onnx.load("m.onnx")), statistics_of(wanted.model), 1e-12)


def test_a_function_gives_batches(folder: Path) -> None:
    (folder / "bnfold_cli_feeds.py").write_text(
        "import numpy as np\n"
        "def batches():\n"
        "    x = np.load('d.npz')['x']\n"
        "    for at in range(0, len(x), 16):\n"
        "        yield x[at:at + 16], 'labels'\n"
    )
    done = run("m.onnx", "--data", "bnfold_cli_feeds:batches", "-o", "o.onnx")
    assert done.exit_code == 0, done.stderr
    wanted = bnfold.calibrate("m.onnx", "d.npz", batch_size=16)
    assert (folder / "o.onnx").read_bytes() == wanted.model.SerializeToString()


def test_what_is_left_alone_is_listed(folder: Path) -> None:
    done = run("m.onnx", "--data", "d.npz", "-o", "o.onnx", "--only", "b1", "--only", "q*")
    assert "  left alone\n    b2 (excluded): b2 matches no --only pattern\n" in done.stdout
    assert "note: the pattern 'q*' matches no norm" in done.stderr


WRONG: dict[str, tuple[list[Any], str]] = {
    "nowhere": (["--data", "d.npz"], "say where the result goes: one of -o OUT and --in-place"),
    "twice": (["--data", "d.npz", "-o", "o.onnx", "--in-place"], "say where the result goes"),
    "over the model": (["--data", "d.npz", "-o", "m.onnx"], "use --in-place to replace it"),
    "over the data": (["--data", "d.npz", "-o", "d.npz"], "d.npz would replace the data d.npz"),
    "over data in a folder": (
        ["--data", ".", "-o", "./d.npz"],
        "d.npz would replace the data d.npz",
    ),
    "report over data in a folder": (
        ["--data", ".", "-o", "o.onnx", "--save-report", "d.npz"],
        "the report d.npz would replace the feed d.npz",
    ),
    "no data": (["-o", "o.onnx"], "there is no data, and no saved statistics to merge"),
    "absent data": (["--data", "q.npz", "-o", "o.onnx"], "cannot read q.npz: No such file"),
    "absent statistics": (["-o", "o.onnx", "--merge-stats", "q.json"], "cannot read q.json"),
    "estimator": (["--data", "d.npz", "-o", "o.onnx", "--estimator", "x"], "has to be one of pape"),
    "mode": (["--data", "d.npz", "-o", "o.onnx", "--mode", "x"], "has to be one of batch, seq"),
    "tolerance": (["--data", "d.npz", "-o", "o.onnx", "--tolerance", "-1"], "tolerance -1: it has"),
    "no size": (
        ["--data", "d.npz", "-o", "o.onnx", "--batch-size", "0"],
        "greater than or equal to 1",
    ),
    "report over data": (
        ["--data", "d.npz", "-o", "o.onnx", "--save-report", "d.npz"],
        "the report d.npz would replace the feed d.npz",
    ),
    "report over statistics": (
        ["--data", "d.npz", "-o", "o.onnx", "--save-report", "s", "--merge-stats", "s"],
        "--save-report s would replace the statistics s",
    ),
    "statistics over the output": (
        ["--data", "d.npz", "-o", "o.onnx", "--save-stats", "o.onnx"],
        "--save-stats and the new model are both o.onnx",
    ),
    "over the statistics": (
        ["-o", "s", "--merge-stats", "s"],
        "-o s would replace the statistics s",
    ),
    "a folder that is missing": (["--data", "q.npz", "-o", "no/o.onnx"], "cannot write no/o.onnx"),
    "statistics and report": (
        ["--data", "d.npz", "-o", "o.onnx", "--save-stats", "s", "--save-report", "s"],
        "--save-report and --save-stats are both s",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_end_with_status_2(folder: Path, case: str) -> None:
    arguments, message = WRONG[case]
    before = sorted(path.name for path in folder.iterdir())
    done = run("m.onnx", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_model_without_norms_ends_with_status_2(folder: Path) -> None:
    onnx.save(model("c = Conv(x, w)  d = Relu(c)  y = Conv(d, w2)"), "m.onnx")
    done = run("m.onnx", "--data", "d.npz", "-o", "o.onnx", "--json")
    assert done.exit_code == 2
    assert "'bnfold insert' adds some" in done.stderr
    assert json.loads(done.stdout)["errors"][0]["model"] == "m.onnx"
    assert not (folder / "o.onnx").exists()


def test_a_folder_is_no_model(folder: Path) -> None:
    done = run(folder, "--data", "d.npz", "-o", "o.onnx")
    assert (done.exit_code, "calibrate takes one model" in done.stderr) == (2, True)


def test_a_run_that_is_terminated_keeps_its_statistics(folder: Path) -> None:
    (folder / "bnfold_slow_feeds.py").write_text(
        "import itertools, os, signal\n"
        "import numpy as np\n"
        "x = np.load('d.npz')['x']\n"
        "def batches():\n"
        "    for number in itertools.count():\n"
        "        if number == 5:\n"
        "            os.kill(os.getpid(), signal.SIGTERM)\n"
        "        yield x[number * 8:number * 8 + 8]\n"
    )
    command = [sys.executable, "-m", "bnfold", "calibrate", "m.onnx", "-o", "o.onnx"]
    command += ["--data", "bnfold_slow_feeds:batches", "--save-stats", "s.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode not in (0, 1)
    assert not (folder / "o.onnx").exists()
    kept = json.loads((folder / "s.json").read_text())["moments"]["c"]["batches"]
    assert kept in (3, 4)  # two are in flight
    done = subprocess.run(
        [*command[:5], "-o", "o.onnx", "--data", "d.npz", "--batch-size", "8"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

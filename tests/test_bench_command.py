"""``bnfold bench`` from the command line to onnxruntime and back."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import numpy as np
import onnx
from onnx import parser
from onnx.numpy_helper import from_array

from tests.test_cli import run

SCHEMA = json.loads((files("bnfold") / "report" / "schema.json").read_text())
MODEL = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N,4,16,16] x) => (float[N,8,16,16] y)
<float[8] s, float[8] b, float[8] m, float[8] v, float[8,4,3,3] w> {
  [conv] c = Conv<pads=[1,1,1,1]>(x, w)
  [bn] n = BatchNormalization(c, s, b, m, v)
  [relu] y = Relu(n)
}"""


def write(path: Path, *, seed: int = 0) -> Path:
    model = parser.parse_model(MODEL)
    generator = np.random.default_rng(seed)
    del model.graph.initializer[:]
    for name in "sbmv":
        values = generator.uniform(0.5, 2.0, 8).astype(np.float32)
        model.graph.initializer.append(from_array(values, name))
    weight = generator.normal(size=(8, 4, 3, 3)).astype(np.float32)
    model.graph.initializer.append(from_array(weight, "w"))
    onnx.save(model, path)
    return path


def test_a_model_against_its_fold(tmp_path: Path) -> None:
    model = write(tmp_path / "m.onnx")
    options = "--level basic --batch 2 --duration 0.05 --profile --json --plot p.svg".split()
    done = run("bench", model, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
    whole = json.loads(done.stdout)
    jsonschema.validate(whole, SCHEMA)
    (report,) = whole["models"]
    assert report["model"] == f"{model} folded"
    assert report["norms"] == {"before": 1, "after": 0}
    assert report["nodes"] == {"before": 3, "after": 2}
    (cell,) = report["cells"]
    assert (cell["level"], cell["batch"]) == ("basic", 2)
    assert cell["original"]["count"] > 0
    (start,) = report["starts"]
    assert start["norms_left"] == 0  # onnxruntime folds it, too
    counted = {row["operator"]: row["original_nodes"] for row in report["spent"]}
    assert counted["Conv"] == 1
    assert "BatchNormalization" not in counted
    assert report["setting"]["inputs"] == {"x": [2, 4, 16, 16]}
    assert ElementTree.parse(tmp_path / "p.svg").getroot().tag.endswith("svg")


def test_two_functions_are_not_timed(tmp_path: Path) -> None:
    first, second = write(tmp_path / "m.onnx"), write(tmp_path / "other.onnx", seed=1)
    done = run("bench", first, second, "--plot", "p.svg", cwd=tmp_path)
    assert done.returncode == 1, done.stderr.decode()
    assert f"{second}: nothing was timed: " in " ".join(done.stdout.decode().split())
    assert not (tmp_path / "p.svg").exists()


def test_a_provider_that_is_not_there(tmp_path: Path) -> None:
    done = run("bench", write(tmp_path / "m.onnx"), "--provider", "abacus")
    assert done.returncode == 2
    assert b"abacus" in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert done.stdout == b""

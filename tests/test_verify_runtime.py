"""Both models in onnxruntime, in a child process of its own: no stand-in for it here."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bnfold
from bnfold.checking import runtime
from bnfold.checking.outcome import VerifyReport
from bnfold.errors import FileError, UsageError
from tests.support_models import constant, filled, norm_parameters, parsed, with_values
from tests.support_verify import chain, copied, folded_of

PLAIN = "agraph (float[N,4] x) => (float[N,4] y) <float[4] w> { y = Mul (x, w) }"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files: whatever happens, none is left, and no process either."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    before = children()
    yield place
    assert list(place.iterdir()) == []
    assert children() <= before


def children() -> set[str]:
    tasks = Path(f"/proc/{os.getpid()}/task")
    if not tasks.exists():
        return set()
    return {pid for task in tasks.iterdir() for pid in (task / "children").read_text().split()}


def deployed(original: Any, folded: Any, **options: Any) -> VerifyReport:
    return bnfold.verify(original, folded, **options)


def not_loadable(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function, declared to be of a version that no runtime knows."""
    copy = copied(model)
    copy.ir_version = 1000
    return copy


def test_a_right_fold() -> None:
    model = chain(3)
    report = deployed(model, folded_of(model))
    assert report.is_same
    assert report.runtime is not None
    assert report.runtime.is_good
    (output,) = report.runtime.outputs
    assert output.name == "y"
    assert output.is_close
    assert 0 < output.original_error < 1e-4
    assert 0 < output.folded_error <= output.allowed < 1e-3
    assert "times as far from the float64 values as ORIGINAL" in report.runtime.summary


def test_it_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "run", None)
    model = chain(1)
    assert deployed(model, model, runtime=False).runtime is None


def test_folded_cannot_be_loaded() -> None:
    model = filled(parsed(PLAIN))
    report = deployed(model, not_loadable(model))
    assert not report.is_same
    assert report.runtime is not None
    assert not report.runtime.is_good
    assert report.runtime.summary.startswith(
        "ORIGINAL runs, but of FOLDED onnxruntime cannot load it: "
    )
    assert report.verdict == f"not the same in onnxruntime: {report.runtime.summary}"
    assert all(output.is_same for output in report.outputs)
    assert report.difference is None


def test_neither_can_be_loaded() -> None:
    model = not_loadable(filled(parsed(PLAIN)))
    report = deployed(model, model)
    assert report.is_same
    assert report.runtime is not None
    assert report.runtime.summary.startswith("not compared: onnxruntime cannot load it: ")
    assert report.runtime.outputs == ()


def test_original_cannot_be_loaded() -> None:
    model = filled(parsed(PLAIN))
    report = deployed(not_loadable(model), model)
    assert report.is_same
    assert report.runtime is not None
    assert report.runtime.summary.startswith("FOLDED loads and runs; of ORIGINAL onnxruntime")


def fake(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Let something else run in place of the child."""
    program = folder.parent / "python"
    program.write_text(f"#!{sys.executable}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


CRASHES = {
    "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)": "the runtime crashed (SIGSEGV)",
    "import os; os.abort()": "the runtime crashed (SIGABRT)",
    "import sys; sys.exit('no   room\\nleft')": "the runtime ended with status 1: left",
    "import sys; print('x ' * 999, file=sys.stderr); sys.exit(11)": (
        f"onnxruntime cannot run it: {('x ' * 999)[:300]}"
    ),
    "import sys; sys.exit(10)": "onnxruntime cannot load it: ",
}


@pytest.mark.parametrize("script", list(CRASHES))
def test_a_crash_is_an_answer(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, folder, script)
    model = filled(parsed(PLAIN))
    report = deployed(model, model)
    assert report.runtime is not None
    words = CRASHES[script]
    assert report.runtime.summary == f"not compared: {words} (ORIGINAL), {words} (FOLDED)"


def test_a_crash_of_folded_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sys.executable
    script = f"""import os, subprocess, sys
if "other" in sys.argv[-2]: os.abort()
sys.exit(subprocess.call([{real!r}, *sys.argv[1:]]))"""
    fake(monkeypatch, folder, script)
    for name in ("model", "other"):
        onnx.save(filled(parsed(PLAIN)), folder.parent / f"{name}.onnx")
    report = deployed(folder.parent / "model.onnx", folder.parent / "other.onnx")
    assert not report.is_same
    assert "of FOLDED the runtime crashed (SIGABRT)" in report.verdict


def test_a_file_is_run_where_it_is(folder: Path) -> None:
    path = folder.parent / "model.onnx"
    onnx.save(
        chain(2),
        path,
        save_as_external_data=True,
        location="model.data",
        size_threshold=0,
    )
    report = deployed(path, path)
    assert report.runtime is not None
    assert report.runtime.is_good
    assert len(report.runtime.outputs) == 1


@pytest.mark.parametrize("dtype", ["float16", "double"])
def test_other_dtypes(dtype: str) -> None:
    body = "c = MatMul (x, w)  n = BatchNormalization (c, g, b, m, v)  y = Relu (n)"
    text = f"(float[N,9] x) => (float[N,4] y) <float[9,4] w, {norm_parameters(4)}>"
    model = filled(parsed(f"agraph {text} {{ {body} }}", dtype=dtype))
    report = deployed(model, folded_of(model))
    assert report.is_same
    assert report.runtime is not None
    (output,) = report.runtime.outputs
    unit = {"float16": 2.0**-11, "double": 2.0**-53}[dtype]
    # Data of size 100 and less, nine terms a sum.
    assert 0 < output.folded_error < 1000 * unit
    assert output.original_error < 1000 * unit


def test_bfloat16_in_and_out() -> None:
    text = "agraph (bfloat16[N,4] x) => (bfloat16[N,4] y) { f = Cast <to=1> (x) a = Mul (f, w)"
    text = text.replace(" {", " <float[4] w> {") + " y = Cast <to=16> (a) }"
    model = filled(parsed(text))
    report = deployed(model, model)
    assert report.is_same
    assert report.runtime is not None
    (output,) = report.runtime.outputs
    assert 0 < output.original_error == output.folded_error


def test_integers_and_truth_values_only() -> None:
    model = filled(parsed("agraph (bool[N,4] x) => (bool[N,4] y) { y = Not (x) }"))
    report = deployed(model, model)
    assert report.runtime is not None
    assert report.runtime.summary == "both models load and run"


def test_a_loss_that_float64_does_not_show() -> None:
    model = filled(parsed(PLAIN))
    lossy = "h = Add (x, far)  s = Sub (h, far)  y = Mul (s, w)"
    text = f"agraph (float[N,4] x) => (float[N,4] y) <float[4] w, float far> {{ {lossy} }}"
    # Exactly the same in real arithmetic: 2**24 keeps nothing of x behind the point in float32.
    folded = with_values(filled(parsed(text)), w=constant(model, "w"), far=2.0**24)
    assert deployed(model, folded, runtime=False).is_same
    report = deployed(model, folded)
    assert not report.is_same
    assert report.runtime is not None
    (output,) = report.runtime.outputs
    assert output.folded_error > output.allowed
    assert output.folded_error > 1000 * output.original_error
    assert "output 'y' of FOLDED is" in report.verdict


def test_the_loss_may_be_the_originals() -> None:
    text = """agraph (float[N,4] x) => (float[N,4] y) <float[4] w, float far>
        { h = Add (x, far)  s = Sub (h, far)  y = Mul (s, w) }"""
    model = with_values(filled(parsed(text)), far=2.0**24)
    report = deployed(model, model)
    assert report.is_same
    assert report.runtime is not None
    assert report.runtime.outputs[0].original_error > 0.01


def test_onnxruntime_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "is_installed", lambda: False)
    model = chain(1)
    with pytest.raises(UsageError, match=r"onnxruntime is not installed: pip install 'bnfold"):
        deployed(model, model)
    assert deployed(model, model, runtime=False).is_same


def test_a_full_temporary_folder_is_a_file_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError("4096 requested and 16 written")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(FileError, match=r"temporary folder .*: no space is left"):
        runtime.run(tmp_path / "m.onnx", [{"x": np.zeros(2, np.float32)}], ["y"])

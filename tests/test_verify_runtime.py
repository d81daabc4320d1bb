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
from onnx import helper

import bnfold
from bnfold.checking import runtime
from bnfold.checking.outcome import VerifyReport
from bnfold.errors import UsageError
from tests.support_models import constant, filled, norm_parameters, parsed, with_values
from tests.support_verify import chain, copied, custom, folded_of, own_fold, scaled

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
    monkeypatch.setattr(runtime.sys, "executable", str(program))


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
    assert output.folded_error > 0
    unit = {"float16": 2.0**-11, "double": 2.0**-53}[dtype]
    # Data of size 100 and less, nine terms a sum.
    assert 0.1 * unit < output.original_error < 1000 * unit


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


def fused(*, wrong: float = 1.0, domain: str = "com.microsoft") -> onnx.ModelProto:
    """A Conv and an activation in one node that only onnxruntime knows."""
    text = "agraph (float[N,4,5,5] x) => (float[N,4,5,5] y) <float[4,4,3,3] w> { z = Relu (x) }"
    model = custom(filled(parsed(text)), domain)
    node = helper.make_node(
        "FusedConv", ["z", "w"], ["y"], domain=domain, activation="Relu", pads=[1, 1, 1, 1]
    )
    model.graph.node.append(node)
    return scaled(model, "w", wrong, at=1)


def with_norm(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` behind ``chain(1)``: its first layer has a norm."""
    whole = chain(1)
    whole.opset_import.extend(o for o in model.opset_import if o.domain)
    for node in model.graph.node:
        copy = whole.graph.node.add()
        copy.CopyFrom(node)
        copy.input[0] = {"x": "y", "z": "z"}[copy.input[0]]
        copy.output[0] = {"z": "z", "y": "out"}[copy.output[0]]
    whole.graph.initializer.extend(model.graph.initializer)
    whole.graph.output[0].name = "out"
    return whole


def test_operators_that_only_the_runtime_knows() -> None:
    model = with_norm(fused())
    report = deployed(model, folded_of(model))
    assert report.is_same, report.verdict
    assert report.method == "onnxruntime"
    (note,) = report.notes
    assert "the float64 evaluator does not know com.microsoft::FusedConv" in note
    assert (report.norms, report.runtime) == ((), None)
    (output,) = report.outputs
    assert (output.name, output.dtype, output.is_same) == ("out", "float32", True)
    assert 0 < output.max_abs


def test_a_right_fold_is_also_accepted_with_the_fused_operator_left_alone() -> None:
    model = fused()
    assert deployed(model, copied(model)).verdict == "same function: no difference at all"


@pytest.mark.parametrize("wrong", [1.001, np.array([1, 1.01, 1, 1]).reshape(4, 1, 1), -1.0])
def test_a_wrong_weight_of_such_an_operator(wrong: Any) -> None:
    report = deployed(fused(), fused(wrong=wrong))
    assert not report.is_same
    assert report.method == "onnxruntime"
    assert report.difference is not None
    assert (report.difference.tensor, report.difference.channel) == ("y", 1)


def test_a_wrong_fold_before_such_an_operator() -> None:
    model = with_norm(fused())
    wrong = own_fold(model, 0, wrong=np.array([1, 1, 1.01, 1]))
    assert not deployed(model, wrong).is_same


def test_such_an_operator_with_the_runtime_left_out() -> None:
    with pytest.raises(UsageError, match="only onnxruntime could evaluate com.microsoft::FusedConv"):
        deployed(fused(), fused(), runtime=False)


def test_an_operator_that_nobody_knows() -> None:
    model = fused(domain="com.nobody")
    with pytest.raises(UsageError, match=r"onnxruntime cannot load it.*com\.nobody"):
        deployed(model, model)


def test_an_operator_that_nobody_knows_in_folded_only() -> None:
    text = "agraph (float[N,4,5,5] x) => (float[N,4,5,5] y) <float[4,4,3,3] w>"
    text += " { z = Relu (x)  c = Conv <pads=[1,1,1,1]> (z, w)  y = Relu (c) }"
    model = filled(parsed(text))
    assert deployed(model, fused()).is_same
    report = deployed(model, fused(domain="com.nobody"))
    assert not report.is_same
    assert "ORIGINAL runs, but of FOLDED onnxruntime cannot load it" in report.verdict

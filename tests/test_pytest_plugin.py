"""The fixtures that bnfold gives to pytest, in test suites of users."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import onnx
import pytest
from onnx import parser

from bnfold import api
from bnfold.checking.outcome import VerifyReport
from bnfold.report.as_text import check_text
from bnfold.report.verify_text import verify_text
from tests.support_reports import DIFFERENT, SAME

pytest_plugins = "pytester"

ROOT = Path(__file__).parent.parent

FOLDABLE = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1,2,4,4] x) => (float[1,3,4,4] y)
<float[3,2,1,1] w = {1,2,3,4,5,6}, float[3] s = {1,2,3}, float[3] b = {0,1,2},
 float[3] m = {1,1,1}, float[3] v = {4,4,4}> {
  [conv] c = Conv(x, w)
  [bn] y = BatchNormalization(c, s, b, m, v)
}"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A user's suite: bnfold's plugin and no other, and warnings as errors."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeini("[pytest]\naddopts = --strict-config --strict-markers\nfilterwarnings = error")
    pytester.makeconftest("pytest_plugins = ['bnfold.pytest_plugin']")
    onnx.save(parser.parse_model(FOLDABLE), pytester.path / "model.onnx")
    return pytester


def test_the_same_function_passes(suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def answer(*models: object, **options: object) -> VerifyReport:
        calls.append((models, options))
        return SAME

    monkeypatch.setattr(api, "verify", answer)
    suite.makepyfile(
        """
        def test_export(assert_same_function):
            assert assert_same_function("a.onnx", b"bytes", trials=3, dims={"N": 2}) is None
        """
    )
    suite.runpytest_inprocess().assert_outcomes(passed=1)
    assert calls == [(("a.onnx", b"bytes"), {"trials": 3, "dims": {"N": 2}})]


def test_a_difference_fails_with_the_words_of_the_command(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "verify", lambda *args, **options: DIFFERENT)
    suite.makepyfile(
        """
        import pytest

        def test_export(assert_same_function):
            assert_same_function("a.onnx", "b.onnx")

        @pytest.mark.xfail(raises=AssertionError, strict=True)
        def test_expected(assert_same_function):
            assert_same_function("a.onnx", "b.onnx")

        def test_caught(assert_same_function):
            with pytest.raises(AssertionError, match="belongs to norm bn_2"):
                assert_same_function("a.onnx", "b.onnx")
            with pytest.raises(pytest.fail.Exception):
                assert_same_function("a.onnx", "b.onnx")
        """
    )
    result = suite.runpytest_inprocess()
    result.assert_outcomes(failed=1, xfailed=1, passed=1)
    shown = result.stdout.str()
    assert "_ test_export _" in shown
    assert f"\n{verify_text(DIFFERENT)}\n" in shown
    assert "Traceback" not in shown
    assert "pytest_plugin.py" not in shown


def test_no_foldable_norms(suite: pytest.Pytester) -> None:
    text = check_text(api.check(suite.path / "model.onnx", name="model.onnx"))
    suite.makepyfile(
        """
        import bnfold

        def test_exported(assert_no_foldable_norms):
            assert_no_foldable_norms("model.onnx")

        def test_folded(assert_no_foldable_norms):
            assert_no_foldable_norms(bnfold.fold("model.onnx").model, max_left=0)

        def test_allowed(assert_no_foldable_norms):
            assert_no_foldable_norms("model.onnx", allow=["bn"])

        def test_too_many(assert_no_foldable_norms):
            assert_no_foldable_norms("model.onnx", max_left=0)

        def test_missing(assert_no_foldable_norms):
            try:
                assert_no_foldable_norms("none.onnx")
            except bnfold.FileError:
                return
        """
    )
    result = suite.runpytest_inprocess()
    result.assert_outcomes(passed=3, failed=2)
    assert f"\n{text}\n" in result.stdout.str()
    assert "model.onnx: no: 1 batch norm left, at most 0 allowed" in result.stdout.str()


def test_a_suite_that_does_not_use_it_imports_nothing(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import sys

        def test_nothing():
            assert "bnfold.pytest_plugin" in sys.modules
            heavy = ("onnx", "numpy", "google.protobuf", "onnxruntime", "typer", "bnfold.api")
            assert [name for name in heavy if name in sys.modules] == []

        def test_asked_for(assert_same_function, assert_no_foldable_norms):
            test_nothing()
        """
    )
    suite.runpytest_subprocess().assert_outcomes(passed=2)


def test_warnings_of_what_is_imported_are_no_errors_of_the_suite(suite: pytest.Pytester) -> None:
    suite.makepyfile(
        """
        import sys, warnings

        class Loader:
            def find_spec(self, name, path=None, target=None):
                if name == "onnx":
                    warnings.warn("an import warns", DeprecationWarning, stacklevel=1)

        def test_warned(assert_no_foldable_norms):
            sys.meta_path.insert(0, Loader())
            assert_no_foldable_norms("model.onnx", allow=["bn"])
            assert "onnx" in sys.modules
            import pytest
            with pytest.raises(UserWarning):
                warnings.warn("the user's own", stacklevel=1)
        """
    )
    suite.runpytest_subprocess().assert_outcomes(passed=1)


def test_pytest_finds_it_by_itself(pytester: pytest.Pytester) -> None:
    (found,) = (entry for entry in entry_points(group="pytest11") if entry.name == "bnfold")
    assert found.value == "bnfold.pytest_plugin"
    pytester.makepyfile("def test_asks(assert_same_function): pass")
    pytester.runpytest_subprocess("-W", "error").assert_outcomes(passed=1)
    pytester.runpytest_subprocess("-p", "no:bnfold").assert_outcomes(errors=1)


@pytest.mark.parametrize("imported", ["bnfold", "bnfold.pytest_plugin"])
def test_a_suite_may_start_after_bnfold_was_imported(tmp_path: Path, imported: str) -> None:
    # As pip lays it out: an editable install lists no modules, so pytest marks none there.
    shutil.copytree(ROOT / "bnfold", tmp_path / "site" / "bnfold")
    info = tmp_path / "site" / "bnfold-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bnfold\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[pytest11]\nbnfold = bnfold.pytest_plugin\n")
    (info / "RECORD").write_text("bnfold/__init__.py,,\nbnfold/pytest_plugin.py,,\n")
    (tmp_path / "test_it.py").write_text("def test_asks(assert_same_function): pass\n")
    code = f"""
import sys, {imported}
assert bnfold.__file__.startswith(sys.argv[1])
import pytest
sys.exit(pytest.main(["-W", "error", "-p", "no:cacheprovider", "test_it.py"]))"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_bnfold_needs_no_pytest() -> None:
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "import bnfold.api, bnfold.cli.app\n"
        "assert 'bnfold.pytest_plugin' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)

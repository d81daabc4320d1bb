"""What the project promises about itself."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from onnx import defs

import bnfold
from bnfold.checking.outcome import MULTIPLE
from bnfold.folding.reasons import REASONS
from bnfold.folding.rules.operators import LAST_OPSET, LISTED, attributes_of
from bnfold.folding.rules.tables import LINEAR, NORMS, THROUGH

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "bnfold"
SOURCES = sorted(PACKAGE.rglob("*.py"))

# A room may import from the rooms below it, and from itself.
ROOMS = [
    "cli",
    "api",
    "result",
    "report",
    "measuring",
    "statistics",
    "checking",
    "reference",
    "folding",
    "onnxgraph",
    "algebra",
    "errors",
]
TOP = {("__init__",), ("__main__",), ("pytest_plugin",)}


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "bnfold" else None


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def test_all_is_the_public_names() -> None:
    assert bnfold.__all__ == sorted(bnfold.__all__)
    for name in bnfold.__all__:
        assert getattr(bnfold, name) is not None
    assert set(dir(bnfold)) == set(bnfold.__all__)
    with pytest.raises(AttributeError, match="no attribute 'melt'"):
        _ = bnfold.melt


@pytest.mark.parametrize("name", sorted(set(bnfold.__all__) - {"__version__"}))
def test_public_names_are_documented(name: str) -> None:
    thing = getattr(bnfold, name)
    assert inspect.getdoc(thing)
    if inspect.isfunction(thing):
        documented = inspect.getdoc(thing) or ""
        assert "Raises:" in documented or "raises" in documented or "Returns:" in documented


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_downward(path: Path) -> None:
    relative = path.relative_to(PACKAGE).with_suffix("").parts
    if relative[0] not in ROOMS:
        assert relative in TOP
        return
    mine = ROOMS.index(relative[0])
    for module in imports_of(path):
        room = room_of(module)
        if room in ROOMS:
            assert ROOMS.index(room) >= mine, f"{path} imports {module} from above"


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "reference").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_the_reference_shares_nothing_with_what_it_judges(path: Path) -> None:
    rooms = {room_of(module) for module in imports_of(path)} & set(ROOMS)
    assert rooms <= {"reference", "errors"}


def test_onnxruntime_is_imported_in_one_module() -> None:
    # Also in a text that a child process runs.
    pattern = r"^\s*(import|from) onnxruntime\b|import_module\(.onnxruntime"
    found = [path for path in SOURCES if re.search(pattern, path.read_text(), re.M)]
    assert found == [PACKAGE / "checking" / "session.py"]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_hold_one_idea(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 330


def test_every_reason_stands_in_the_readme() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (.+) \|$", (ROOT / "README.md").read_text(), re.M))
    assert rows == {code: f"{r.meaning} | {r.remedy}" for code, r in REASONS.items()}


@pytest.mark.parametrize(
    "command", ["fold", "explain", "check", "verify", "bench", "calibrate", "insert"]
)
def test_every_command_stands_in_the_readme(command: str) -> None:
    assert f"bnfold {command}" in (ROOT / "README.md").read_text()


def test_the_documented_multiple_is_the_real_one() -> None:
    commands, architecture = (ROOT / "docs" / name for name in ("commands.md", "architecture.md"))
    assert f"the same function; {MULTIPLE:g} unless told" in commands.read_text()
    assert f"**{MULTIPLE:g} units are the same function.**" in architecture.read_text()


def test_ci_installs_what_the_readme_says() -> None:
    wanted = "-e '.[test]'"
    assert wanted in (ROOT / "README.md").read_text()
    assert wanted in (ROOT / ".ci" / "run").read_text()
    assert "scripts/check" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("op_type", sorted(name for name in LISTED if "::" not in name))
def test_versions_and_attributes_are_those_of_onnx(op_type: str) -> None:
    schemas = {
        schema.since_version: set(schema.attributes)
        for schema in defs.get_all_schemas_with_history()
        if schema.name == op_type and schema.domain == "" and schema.since_version <= LAST_OPSET
    }
    assert attributes_of(op_type) == schemas


def test_every_rule_has_versions_and_attributes() -> None:
    assert set(LINEAR) | set(NORMS) | set(THROUGH) <= LISTED


def test_no_machine_paths() -> None:
    for path in [*SOURCES, *ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        assert not re.search(r"(^|[^\w.])/(home|root|tmp|work)/", path.read_text()), path


@pytest.mark.parametrize(
    "command", ["fold", "explain", "check", "verify", "bench", "calibrate", "insert"]
)
def test_every_option_stands_in_the_docs(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bnfold", command, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    options = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", done.stdout.split("Options:")[1]))
    assert {"--json", "--help"} <= options
    text = (ROOT / "docs" / "commands.md").read_text()
    section = text.split(f"## bnfold {command} ")[1].split("\n## ")[0] + text.split("\n## ")[0]
    documented = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", section))
    assert options <= documented

"""The README's sessions are what the commands really print.

``python -m tests.test_readme`` writes them anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SESSION = r"(?<=```console\n)(.*?)(?=```)"


def real(session: str, folder: Path) -> str:
    """What the commands of a session print, one after the other, in a folder."""
    printed = ""
    for command in re.findall(r"^\$ (.*)$", session, re.M):
        assert command.startswith("bnfold ")
        done = subprocess.run(
            ["bash", "-c", command.replace("bnfold ", f"{sys.executable} -m bnfold ", 1)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.stderr == ""
        printed += f"$ {command}\n{done.stdout}"
    return printed


def comparable(text: str) -> str:
    """Without the one number that depends on the processor: how the runtime rounds."""
    return re.sub(r"FOLDED is [\d.e+-]+ times", "FOLDED is N times", text)


def test_the_sessions_are_real(tmp_path: Path) -> None:
    sessions = re.findall(SESSION, README, re.S)
    assert len(sessions) == 2
    shutil.copytree(ROOT / "sample_models", tmp_path / "sample_models")
    for session in sessions:
        assert comparable(real(session, tmp_path)) == comparable(session)


def test_the_readme_starts_with_one_sentence_and_two_commands() -> None:
    head = README.split("## ")[0]
    sentence = head.split("\n\n")[1]
    assert sentence.count(".") == 1
    commands = re.findall(r"```sh\n(.*?)```", head, re.S)
    assert len(commands) == 2
    assert all(command.count("\n") == 1 for command in commands)
    model = re.search(r"sample_models/\S+", commands[0])
    assert model is not None
    assert (ROOT / model.group()).is_file()


def test_every_link_leads_somewhere() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("*/*.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            if not link.startswith("https://"):
                assert (path.parent / link).exists(), f"{path}: {link}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        shutil.copytree(ROOT / "sample_models", Path(name) / "sample_models")
        written = re.sub(SESSION, lambda found: real(found[0], Path(name)), README, flags=re.S)
    (ROOT / "README.md").write_text(written)

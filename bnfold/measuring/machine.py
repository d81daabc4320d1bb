"""The machine that measures, and the versions that matter."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path


def processor() -> str:
    """The name of the processor."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    if sys.platform == "darwin":
        name = _output(["sysctl", "-n", "machdep.cpu.brand_string"])
        if name:
            return name
    return platform.processor() or platform.machine()


def system() -> str:
    """Operating system and architecture."""
    return f"{platform.system()} {platform.machine()}"


def python_version() -> str:
    """The version of Python."""
    return platform.python_version()


def device(provider: str) -> str:
    """The name of the accelerator that a provider uses; ``""`` for the processor or if unknown."""
    if provider in ("CUDAExecutionProvider", "TensorrtExecutionProvider"):
        names = _output(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"])
        return names.splitlines()[0].strip() if names else ""
    return ""


def _output(command: list[str]) -> str:
    """What a program prints; ``""`` where there is none or it fails."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(
            command, capture_output=True, check=True, stdin=subprocess.DEVNULL, timeout=20
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace").strip()

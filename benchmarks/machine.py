"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import bnfold

PACKAGES: Final = "onnx numpy onnxruntime onnxsim onnxslim onnxscript onnxoptimizer".split()


def described() -> str:
    """The processor, how many cores this process may use, and the versions that matter."""
    cores = os.cpu_count() or 1
    if sys.platform == "linux":
        cores = len(os.sched_getaffinity(0))
    system = f"{platform.system()}, Python {platform.python_version()}"
    return ", ".join([_processor(), f"{cores} cores", system, *versions()])


def versions() -> list[str]:
    """Name and version of bnfold and of each package that is installed."""
    found = [f"bnfold {bnfold.__version__}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()

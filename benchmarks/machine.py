"""What a benchmark ran on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final

import bnfold
from bnfold.checking.cores import cores
from bnfold.measuring import machine

PACKAGES: Final = "onnx numpy onnxruntime onnxsim onnxslim onnxscript onnxoptimizer".split()


def described() -> str:
    """The processor, how many cores this process may use, and the versions that matter."""
    here = f"{cores()} cores"
    return ", ".join([machine.processor(), here, machine.system(), *versions()])


def versions() -> list[str]:
    """Name and version of Python, of bnfold, and of each package that is installed."""
    found = [f"Python {machine.python_version()}", f"bnfold {bnfold.__version__}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return found

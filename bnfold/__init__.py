"""bnfold removes batch normalisation from trained ONNX models without changing what they compute.

Source: Ioffe & Szegedy 2015 (arXiv:1502.03167), Algorithm 2, step 11.

PYTEST_DONT_REWRITE: a program may import bnfold before it starts pytest, which loads our fixtures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnfold import reference
    from bnfold.algebra.affine import Affine
    from bnfold.api import (
        benchmark,
        calibrate,
        check,
        explain,
        fold,
        insert,
        save,
        verify,
    )
    from bnfold.checking.outcome import VerifyReport
    from bnfold.errors import (
        BnfoldError,
        FileError,
        ModelError,
        UsageError,
        VerificationError,
    )
    from bnfold.folding.outcome import (
        CopiedOperator,
        Folded,
        Kept,
        MergedBlock,
        RegionsChecked,
        Report,
        UnmergedBlock,
    )
    from bnfold.folding.verdict import Verdict
    from bnfold.measuring.outcome import BenchReport
    from bnfold.result import FoldResult
    from bnfold.statistics.inserted import InsertedNorm, InsertReport, LeftOut
    from bnfold.statistics.insertion import InsertResult
    from bnfold.statistics.outcome import CalibrateReport
    from bnfold.statistics.result import CalibrateResult

__version__ = "0.1.0"

__all__ = [
    "Affine",
    "BenchReport",
    "BnfoldError",
    "CalibrateReport",
    "CalibrateResult",
    "CopiedOperator",
    "FileError",
    "FoldResult",
    "Folded",
    "InsertReport",
    "InsertResult",
    "InsertedNorm",
    "Kept",
    "LeftOut",
    "MergedBlock",
    "ModelError",
    "RegionsChecked",
    "Report",
    "UnmergedBlock",
    "UsageError",
    "Verdict",
    "VerificationError",
    "VerifyReport",
    "__version__",
    "benchmark",
    "calibrate",
    "check",
    "explain",
    "fold",
    "insert",
    "reference",
    "save",
    "verify",
]

_HOME = {
    "Affine": "bnfold.algebra.affine",
    "BenchReport": "bnfold.measuring.outcome",
    "BnfoldError": "bnfold.errors",
    "CalibrateReport": "bnfold.statistics.outcome",
    "CalibrateResult": "bnfold.statistics.result",
    "CopiedOperator": "bnfold.folding.outcome",
    "FileError": "bnfold.errors",
    "FoldResult": "bnfold.result",
    "Folded": "bnfold.folding.outcome",
    "InsertReport": "bnfold.statistics.inserted",
    "InsertResult": "bnfold.statistics.insertion",
    "InsertedNorm": "bnfold.statistics.inserted",
    "Kept": "bnfold.folding.outcome",
    "LeftOut": "bnfold.statistics.inserted",
    "MergedBlock": "bnfold.folding.outcome",
    "ModelError": "bnfold.errors",
    "RegionsChecked": "bnfold.folding.outcome",
    "Report": "bnfold.folding.outcome",
    "UnmergedBlock": "bnfold.folding.outcome",
    "UsageError": "bnfold.errors",
    "Verdict": "bnfold.folding.verdict",
    "VerificationError": "bnfold.errors",
    "VerifyReport": "bnfold.checking.outcome",
    "benchmark": "bnfold.api",
    "calibrate": "bnfold.api",
    "check": "bnfold.api",
    "explain": "bnfold.api",
    "fold": "bnfold.api",
    "insert": "bnfold.api",
    "save": "bnfold.api",
    "verify": "bnfold.api",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``bnfold --help`` imports no NumPy."""
    if name == "reference":
        from importlib import import_module

        return import_module("bnfold.reference")
    if name not in _HOME:
        raise AttributeError(f"module 'bnfold' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

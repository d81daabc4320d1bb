"""The independent oracle: what a model computes in float64, and batch normalisation by the book.

Shares nothing with the code that folds: NumPy, onnx and the error tree are all that it uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnfold.reference.batch_norm import TrainedBatch, batch_norm_inference, batch_norm_train
    from bnfold.reference.evaluator import Evaluator, evaluate

__all__ = ["Evaluator", "TrainedBatch", "batch_norm_inference", "batch_norm_train", "evaluate"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the check of most folds needs no evaluator."""
    if name not in __all__:
        raise AttributeError(f"module 'bnfold.reference' has no attribute {name!r}")
    from importlib import import_module

    home = "evaluator" if name in ("Evaluator", "evaluate") else "batch_norm"
    return getattr(import_module(f"bnfold.reference.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""The independent oracle: what a model computes in float64, and batch normalisation by the book.

Shares nothing with the code that folds: NumPy, onnx and the error tree are all that it uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bnfold.reference.batch_norm import (
        BatchCache,
        TrainedBatch,
        batch_norm_inference,
        batch_norm_train,
        identity_setting,
    )
    from bnfold.reference.evaluator import Evaluator, evaluate
    from bnfold.reference.gradient import (
        BatchGradient,
        batch_norm_backward,
        batch_norm_gradient,
    )

__all__ = [
    "BatchCache",
    "BatchGradient",
    "Evaluator",
    "TrainedBatch",
    "batch_norm_backward",
    "batch_norm_gradient",
    "batch_norm_inference",
    "batch_norm_train",
    "evaluate",
    "identity_setting",
]

_HOMES = {
    "Evaluator": "evaluator",
    "evaluate": "evaluator",
    "BatchGradient": "gradient",
    "batch_norm_backward": "gradient",
    "batch_norm_gradient": "gradient",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the check of most folds needs no evaluator."""
    if name not in __all__:
        raise AttributeError(f"module 'bnfold.reference' has no attribute {name!r}")
    from importlib import import_module

    home = _HOMES.get(name, "batch_norm")
    return getattr(import_module(f"bnfold.reference.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

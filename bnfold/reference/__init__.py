"""The independent oracle: what a model computes in float64, and batch normalisation by the book.

Shares nothing with the code that folds: NumPy, onnx and the error tree are all that it uses.
"""

from bnfold.reference.batch_norm import TrainedBatch, batch_norm_inference, batch_norm_train
from bnfold.reference.evaluator import Evaluator, evaluate

__all__ = ["Evaluator", "TrainedBatch", "batch_norm_inference", "batch_norm_train", "evaluate"]

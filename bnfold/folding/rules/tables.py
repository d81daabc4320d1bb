"""The rules, by operator: everything that bnfold can fold stands in these three tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bnfold.folding.reasons import Refused
from bnfold.folding.rules import (
    activation,
    batch_norm,
    casting,
    conv,
    deform,
    einsum,
    elementwise,
    fused,
    gathering,
    gating,
    gemm,
    joining,
    matmul,
    movement,
    normalisers,
    padding,
    parting,
    pooling,
    recurrent,
    reducing,
    repeating,
    reshaping,
    resizing,
    rounding,
    sequences,
    slicing,
    spacing,
    through,
)
from bnfold.folding.rules.placed import Placed
from bnfold.folding.rules.reading import Context, Linear
from bnfold.folding.rules.through import Through
from bnfold.onnxgraph.graph import Node, Tensor

BATCH_NORM: Final = "BatchNormalization"

LINEAR: Final[dict[str, Callable[[Node, Context], Linear | Refused]]] = {
    "Conv": conv.read_conv,
    "ConvTranspose": conv.read_conv_transpose,
    "Gemm": gemm.read_gemm,
    "MatMul": matmul.read_matmul,
    "DeformConv": deform.read_deform_conv,
    "Einsum": einsum.read_einsum,
    "LSTM": recurrent.read_recurrent,
    "GRU": recurrent.read_recurrent,
    "RNN": recurrent.read_recurrent,
    "InstanceNormalization": normalisers.read_instance_normalization,
    "GroupNormalization": normalisers.read_group_normalization,
    "LayerNormalization": normalisers.read_layer_normalization,
    "RMSNormalization": normalisers.read_rms_normalization,
    "com.microsoft::FusedConv": fused.read_fused_conv,
    "com.microsoft::FusedGemm": fused.read_fused_gemm,
    "com.microsoft::FusedMatMul": matmul.read_fused_matmul,
    "QLinearConv": rounding.read_integer_operator,
    "QLinearMatMul": rounding.read_integer_operator,
    "ConvInteger": rounding.read_integer_operator,
    "MatMulInteger": rounding.read_integer_operator,
}
"""Operators that take up an affine map: most of them one behind them and one before them."""

NORMS: Final[dict[str, Callable[[Node, Tensor, Context], Placed | Refused]]] = {
    BATCH_NORM: batch_norm.read_batch_norm,
    "Add": elementwise.read_elementwise,
    "Sub": elementwise.read_elementwise,
    "Mul": elementwise.read_elementwise,
    "Div": elementwise.read_elementwise,
}
"""Operators that are an affine map by themselves."""

THROUGH: Final[dict[str, Through]] = {
    "Identity": through.IDENTITY,
    "Dropout": through.DROPOUT,
    "Transpose": movement.TRANSPOSE,
    "Squeeze": movement.SQUEEZE,
    "Unsqueeze": movement.UNSQUEEZE,
    "Reshape": reshaping.RESHAPE,
    "Flatten": reshaping.RESHAPE,
    "Slice": slicing.SLICE,
    "Gather": gathering.GATHER,
    "Split": parting.SPLIT,
    "Concat": parting.CONCAT,
    "SplitToSequence": sequences.SPLIT_TO_SEQUENCE,
    "SequenceAt": sequences.SEQUENCE_AT,
    "Expand": repeating.EXPAND,
    "Tile": repeating.TILE,
    "DepthToSpace": spacing.DEPTH_TO_SPACE,
    "SpaceToDepth": spacing.SPACE_TO_DEPTH,
    "Cast": casting.CAST,
    "CastLike": casting.CAST,
    "Add": joining.SUM,
    "Sub": joining.SUM,
    "Sum": joining.SUM,
    "Mean": joining.MEAN,
    "Max": joining.EXTREME,
    "Min": joining.EXTREME,
    "Where": joining.WHERE,
    "Mul": gating.PRODUCT,
    "Div": gating.PRODUCT,
    "AveragePool": pooling.AVERAGE,
    "GlobalAveragePool": pooling.GLOBAL_AVERAGE,
    "MaxPool": pooling.MAXIMUM,
    "GlobalMaxPool": pooling.GLOBAL_MAXIMUM,
    "LpPool": pooling.LP,
    "GlobalLpPool": pooling.LP,
    "ReduceMean": reducing.MEAN,
    "ReduceSum": reducing.SUM,
    "ReduceMax": reducing.EXTREME,
    "ReduceMin": reducing.EXTREME,
    "ReduceL1": reducing.LENGTH,
    "ReduceL2": reducing.LENGTH,
    "Resize": resizing.RESIZE,
    "Upsample": resizing.RESIZE,
    "Pad": padding.PAD,
    "Relu": activation.HOMOGENEOUS,
    "LeakyRelu": activation.HOMOGENEOUS,
    "PRelu": activation.HOMOGENEOUS,
    "Abs": activation.HOMOGENEOUS,
    "Neg": activation.NEGATION,
    "Clip": activation.CLIP,
    "ThresholdedRelu": activation.THRESHOLDED,
    "QuantizeLinear": rounding.ROUNDING,
    "DequantizeLinear": rounding.ROUNDED,
    "DynamicQuantizeLinear": rounding.ROUNDING,
}
"""Operators that an affine map can cross, in one direction or both."""

"""Which function computes which operator: the whole table.

An operator that is not here is computed by its class in onnx.reference, or by the function that
its specification defines it with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bnfold.reference import (
    casts,
    control_flow,
    convolution,
    elementwise,
    grid,
    linear,
    moving,
    normalisation,
    pooling,
    recurrent,
    resize,
    sampling,
)
from bnfold.reference.elementwise import binary, unary
from bnfold.reference.error_function import erf

Kernel = Callable[..., Any]

# Write over an operand that nobody else reads, if there is one; their result is always a new
# array or that operand.
IN_PLACE: Mapping[str, Kernel] = {
    "Abs": unary(np.abs),
    "Add": binary(np.add),
    "BatchNormalization": normalisation.batch_normalization,
    "Ceil": unary(np.ceil),
    "Clip": elementwise.clip,
    "Cos": unary(np.cos),
    "Div": binary(elementwise.divide),
    "Erf": unary(erf),
    "Exp": unary(np.exp),
    "Floor": unary(np.floor),
    "HardSigmoid": elementwise.hard_sigmoid,
    "HardSwish": unary(elementwise.hard_swish),
    "LeakyRelu": elementwise.leaky_relu,
    "Log": unary(np.log),
    "Mish": unary(elementwise.mish),
    "Mul": binary(np.multiply),
    "Neg": unary(np.negative),
    "PRelu": elementwise.prelu,
    "Pow": binary(elementwise.power),
    "Relu": unary(elementwise.relu),
    "Sigmoid": unary(elementwise.sigmoid),
    "Sin": unary(np.sin),
    "Softplus": unary(elementwise.softplus),
    "Sqrt": unary(np.sqrt),
    "Sub": binary(np.subtract),
    "Tanh": unary(np.tanh),
}
# Always return a new array.
NEW: Mapping[str, Kernel] = {
    "AveragePool": pooling.average_pool,
    "Conv": convolution.conv,
    "ConvTranspose": convolution.conv_transpose,
    "Gelu": elementwise.gelu,
    "Gemm": linear.gemm,
    "GlobalAveragePool": pooling.global_average_pool,
    "GroupNormalization": normalisation.group_normalization,
    "InstanceNormalization": normalisation.instance_normalization,
    "LRN": normalisation.lrn,
    "LayerNormalization": normalisation.layer_normalization,
    "MatMul": linear.matmul,
    "MaxPool": pooling.max_pool,
    "MeanVarianceNormalization": normalisation.mean_variance_normalization,
    "RMSNormalization": normalisation.rms_normalization,
    "Swish": elementwise.swish,
}
OTHER: Mapping[str, Kernel] = {
    "And": binary(np.logical_and),
    "Cast": casts.cast,
    "CastLike": casts.cast_like,
    "DeformConv": grid.deform_conv,
    "DequantizeLinear": casts.dequantize_linear,
    "Equal": binary(np.equal),
    "GRU": recurrent.gru,
    "GatherElements": moving.gather_elements,
    "GlobalLpPool": pooling.global_lp_pool,
    "GlobalMaxPool": pooling.global_max_pool,
    "Greater": binary(np.greater),
    "GridSample": grid.grid_sample,
    "Hardmax": elementwise.hardmax,
    "Identity": lambda call, x: x,
    "LSTM": recurrent.lstm,
    "Less": binary(np.less),
    "LogSoftmax": elementwise.log_softmax,
    "LpPool": pooling.lp_pool,
    "Optional": lambda call, x=None: x,
    "Or": binary(np.logical_or),
    "RNN": recurrent.rnn,
    "Resize": resize.resize,
    "Softmax": elementwise.softmax,
    "Unsqueeze": moving.unsqueeze,
    "Upsample": resize.upsample,
    "Where": elementwise.where,
    "Xor": binary(np.logical_xor),
}
KERNELS: Mapping[str, Kernel] = {**IN_PLACE, **NEW, **OTHER}
# Computed by the function that defines them: their classes in onnx.reference round to float32.
DEFINED = frozenset(
    {
        "AffineGrid",
        "Attention",
        "CausalConvWithState",
        "DynamicQuantizeLinear",
        "FlexAttention",
        "LinearAttention",
    }
)
# Take a generator of random numbers before the inputs.
SAMPLERS: Mapping[str, Kernel] = {
    "Bernoulli": sampling.bernoulli,
    "Dropout": sampling.dropout,
    "Multinomial": sampling.multinomial,
    "RandomNormal": sampling.random_normal,
    "RandomNormalLike": sampling.random_normal,
    "RandomUniform": sampling.random_uniform,
    "RandomUniformLike": sampling.random_uniform,
}
# Take their graphs and functions that run these before the inputs.
CONTROL: Mapping[str, Kernel] = {
    "If": control_flow.if_,
    "Loop": control_flow.loop,
    "Scan": control_flow.scan,
    "SequenceMap": control_flow.sequence_map,
}

"""The table of operators: what each defines at each version, and of which type attributes are."""

from __future__ import annotations

from typing import Final

from onnx import AttributeProto

TABLE: Final[dict[str, tuple[str, ...]]] = {
    "Conv": ("1 11 22: auto_pad dilations group kernel_shape pads strides",),
    "ConvTranspose": (
        "1 11 22: auto_pad dilations group kernel_shape output_padding output_shape pads strides",
    ),
    "DeformConv": ("19 22: dilations group kernel_shape offset_group pads strides",),
    "Gemm": (
        "1 6: alpha beta broadcast transA transB",
        "7 9 11 13: alpha beta transA transB",
    ),
    "MatMul": ("1 9 13:",),
    "Einsum": ("12 28: equation",),
    "Gather": ("1 11 13: axis",),
    "LSTM": (
        "1: activation_alpha activation_beta activations clip direction hidden_size input_forget "
        "output_sequence",
        "7: activation_alpha activation_beta activations clip direction hidden_size input_forget",
        "14 22: activation_alpha activation_beta activations clip direction hidden_size "
        "input_forget layout",
    ),
    "GRU": (
        "1: activation_alpha activation_beta activations clip direction hidden_size "
        "output_sequence",
        "3: activation_alpha activation_beta activations clip direction hidden_size "
        "linear_before_reset output_sequence",
        "7: activation_alpha activation_beta activations clip direction hidden_size "
        "linear_before_reset",
        "14 22: activation_alpha activation_beta activations clip direction hidden_size layout "
        "linear_before_reset",
    ),
    "RNN": (
        "1: activation_alpha activation_beta activations clip direction hidden_size "
        "output_sequence",
        "7: activation_alpha activation_beta activations clip direction hidden_size",
        "14 22: activation_alpha activation_beta activations clip direction hidden_size layout",
    ),
    "BatchNormalization": (
        "1: consumed_inputs epsilon is_test momentum spatial",
        "6: epsilon is_test momentum spatial",
        "7: epsilon momentum spatial",
        "9: epsilon momentum",
        "14 15: epsilon momentum training_mode",
    ),
    "InstanceNormalization": (
        "1: consumed_inputs epsilon",
        "6 22: epsilon",
    ),
    "GroupNormalization": (
        "18: epsilon num_groups",
        "21: epsilon num_groups stash_type",
    ),
    "LayerNormalization": ("17: axis epsilon stash_type",),
    "RMSNormalization": ("23: axis epsilon stash_type",),
    "Add": (
        "1: axis broadcast consumed_inputs",
        "6: axis broadcast",
        "7 13 14:",
    ),
    "Sub": (
        "1: axis broadcast consumed_inputs",
        "6: axis broadcast",
        "7 13 14:",
    ),
    "Mul": (
        "1: axis broadcast consumed_inputs",
        "6: axis broadcast",
        "7 13 14:",
    ),
    "Div": (
        "1: axis broadcast consumed_inputs",
        "6: axis broadcast",
        "7 13 14:",
    ),
    "Neg": (
        "1: consumed_inputs",
        "6 13:",
    ),
    "Sum": (
        "1: consumed_inputs",
        "6 8 13:",
    ),
    "Mean": (
        "1: consumed_inputs",
        "6 8 13:",
    ),
    "Where": ("9 16:",),
    "Identity": ("1 13 14 16 19 21 23 24 25:",),
    "Dropout": (
        "1: consumed_inputs is_test ratio",
        "6: is_test ratio",
        "7 10: ratio",
        "12 13 22: seed",
    ),
    "Transpose": ("1 13 21 23 24 25: perm",),
    "Squeeze": (
        "1 11: axes",
        "13 21 23 24 25:",
    ),
    "Unsqueeze": (
        "1 11: axes",
        "13 21 23 24 25:",
    ),
    "Reshape": (
        "1: consumed_inputs shape",
        "5 13:",
        "14 19 21 23 24 25: allowzero",
    ),
    "Flatten": ("1 9 11 13 21 23 24 25: axis",),
    "Slice": (
        "1: axes ends starts",
        "10 11 13:",
    ),
    "GatherND": (
        "11:",
        "12 13: batch_dims",
    ),
    "GatherElements": ("11 13: axis",),
    "Compress": ("9 11 28: axis",),
    "ReverseSequence": ("10 28: batch_axis time_axis",),
    "GridSample": ("16 20 22: align_corners mode padding_mode",),
    "RoiAlign": (
        "10: mode output_height output_width sampling_ratio spatial_scale",
        "16 22: coordinate_transformation_mode mode output_height output_width sampling_ratio "
        "spatial_scale",
    ),
    "CumSum": ("11 14: exclusive reverse",),
    "Trilu": ("14: upper",),
    "CenterCropPad": ("18: axes",),
    "Split": (
        "1 2 11: axis split",
        "13: axis",
        "18: axis num_outputs",
    ),
    "SplitToSequence": ("11 24: axis keepdims",),
    "SequenceAt": ("11:",),
    "Concat": ("1 4 11 13: axis",),
    "Expand": ("8 13:",),
    "Tile": ("1 6 13:",),
    "DepthToSpace": (
        "1: blocksize",
        "11 13 28: blocksize mode",
    ),
    "SpaceToDepth": (
        "1 13: blocksize",
        "28: blocksize mode",
    ),
    "AveragePool": (
        "1: auto_pad kernel_shape pads strides",
        "7: auto_pad count_include_pad kernel_shape pads strides",
        "10 11: auto_pad ceil_mode count_include_pad kernel_shape pads strides",
        "19 22: auto_pad ceil_mode count_include_pad dilations kernel_shape pads strides",
    ),
    "GlobalAveragePool": ("1 22:",),
    "MaxPool": (
        "1: auto_pad kernel_shape pads strides",
        "8: auto_pad kernel_shape pads storage_order strides",
        "10 11 12 22: auto_pad ceil_mode dilations kernel_shape pads storage_order strides",
    ),
    "GlobalMaxPool": ("1 22:",),
    "LpPool": (
        "1 2 11: auto_pad kernel_shape p pads strides",
        "18 22: auto_pad ceil_mode dilations kernel_shape p pads strides",
    ),
    "GlobalLpPool": ("1 2 22: p",),
    "ReduceL1": (
        "1 11 13: axes keepdims",
        "18: keepdims noop_with_empty_axes",
    ),
    "ReduceL2": (
        "1 11 13: axes keepdims",
        "18: keepdims noop_with_empty_axes",
    ),
    "ReduceMean": (
        "1 11 13: axes keepdims",
        "18: keepdims noop_with_empty_axes",
    ),
    "ReduceSum": (
        "1 11: axes keepdims",
        "13: keepdims noop_with_empty_axes",
    ),
    "ReduceMax": (
        "1 11 12 13: axes keepdims",
        "18 20: keepdims noop_with_empty_axes",
    ),
    "ReduceMin": (
        "1 11 12 13: axes keepdims",
        "18 20: keepdims noop_with_empty_axes",
    ),
    "Resize": (
        "10: mode",
        "11 13: coordinate_transformation_mode cubic_coeff_a exclude_outside extrapolation_value "
        "mode nearest_mode",
        "18 19: antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside "
        "extrapolation_value keep_aspect_ratio_policy mode nearest_mode",
    ),
    "Upsample": (
        "1: height_scale mode width_scale",
        "7: mode scales",
        "9 10: mode",
    ),
    "Pad": (
        "1: mode paddings value",
        "2: mode pads value",
        "11 13 18 19 21 23 24 25: mode",
    ),
    "Cast": (
        "1 6 9 13: to",
        "19 21 23: saturate to",
        "24 25 28: round_mode saturate to",
    ),
    "CastLike": (
        "15:",
        "19 21 23: saturate",
        "24 25: round_mode saturate",
    ),
    "Abs": (
        "1: consumed_inputs",
        "6 13:",
    ),
    "Max": (
        "1: consumed_inputs",
        "6 8 12 13:",
    ),
    "Min": (
        "1: consumed_inputs",
        "6 8 12 13:",
    ),
    "Relu": (
        "1: consumed_inputs",
        "6 13 14:",
    ),
    "LeakyRelu": (
        "1: alpha consumed_inputs",
        "6 16: alpha",
    ),
    "PRelu": (
        "1: consumed_inputs",
        "6 7 9 16:",
    ),
    "Clip": (
        "1: consumed_inputs max min",
        "6: max min",
        "11 12 13:",
    ),
    "ThresholdedRelu": ("10 22: alpha",),
    "QuantizeLinear": (
        "10:",
        "13: axis",
        "19: axis saturate",
        "21: axis block_size output_dtype saturate",
        "23 24 25 28: axis block_size output_dtype precision saturate",
    ),
    "DequantizeLinear": (
        "10:",
        "13 19: axis",
        "21: axis block_size",
        "23 24 25 28: axis block_size output_dtype",
    ),
    "DynamicQuantizeLinear": ("11:",),
    "QLinearConv": ("10: auto_pad dilations group kernel_shape pads strides",),
    "QLinearMatMul": ("10 21:",),
    "ConvInteger": ("10: auto_pad dilations group kernel_shape pads strides",),
    "MatMulInteger": ("10:",),
    "com.microsoft::FusedConv": (
        "1: activation activation_params auto_pad dilations group kernel_shape pads strides",
    ),
    "com.microsoft::FusedGemm": (
        "1: activation activation_alpha activation_beta activation_gamma alpha beta transA transB",
    ),
    "com.microsoft::FusedMatMul": ("1: alpha transA transB transBatchA transBatchB",),
}
"""Operator -> rows of ``versions: attributes``; a domain goes before the name, with ``::``."""

KINDS: Final[dict[int, str]] = {
    AttributeProto.INT: (
        "align_corners allowzero antialias axis batch_axis batch_dims block_size blocksize "
        "broadcast ceil_mode count_include_pad exclude_outside exclusive group hidden_size "
        "input_forget is_test keepdims layout linear_before_reset noop_with_empty_axes num_groups "
        "num_outputs offset_group output_dtype output_height output_sequence output_width p "
        "precision reverse sampling_ratio saturate seed spatial stash_type storage_order "
        "time_axis to training_mode transA transB transBatchA transBatchB upper"
    ),
    AttributeProto.INTS: (
        "axes consumed_inputs dilations ends kernel_shape output_padding output_shape paddings "
        "pads perm shape split starts strides"
    ),
    AttributeProto.FLOAT: (
        "activation_alpha activation_beta activation_gamma alpha beta clip cubic_coeff_a epsilon "
        "extrapolation_value height_scale max min momentum p ratio spatial_scale value width_scale"
    ),
    AttributeProto.FLOATS: "activation_alpha activation_beta activation_params scales",
    AttributeProto.STRING: (
        "activation auto_pad coordinate_transformation_mode direction equation "
        "keep_aspect_ratio_policy mode nearest_mode padding_mode round_mode"
    ),
    AttributeProto.STRINGS: "activations",
}
"""Type of an attribute -> the names that have it, in one operator at least."""

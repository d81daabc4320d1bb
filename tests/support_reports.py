"""Verifications as the engine would report them."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

from bnfold.checking.outcome import (
    Difference,
    NormCheck,
    OutputCheck,
    RuntimeCheck,
    RuntimeOutput,
    VerifyReport,
)

LONG = "/backbone/stage_4/block_2/branch/" * 4 + "BatchNormalization_output_0"

SAME = VerifyReport(
    "model.onnx",
    "folded.onnx",
    True,
    "same function as model.onnx: differences are 1.1x what rounding the weights once explains",
    outputs=(
        OutputCheck("y", "float32", True, 1.19e-7, 2.3e-7, 1.13, 138.42, 1.0),
        OutputCheck("mask", "bool", True, 0.0, 0.0, 0.0, inf, None),
    ),
    norms=(NormCheck("bn_1", True, "relu_1", 1.1), NormCheck("bn_2", True, None, 0.0)),
    runtime=RuntimeCheck(True, "in onnxruntime folded.onnx is no further from the truth"),
    multiple=8.0,
    feeds=("normal x1", "normal x30", "zeros"),
    tensors_checked=41,
)

DIFFERENT = VerifyReport(
    "model.onnx",
    "folded.onnx",
    False,
    "not the same function as model.onnx: y differs by 41x what rounding the weights once explains",
    outputs=(
        OutputCheck("y", "float32", False, 4e-4, 1.7e-3, 41.3, 48.4, 0.999999, "41x rounding"),
        OutputCheck("z", "float32", True, 0.0, 0.0, 0.0, inf, None),
    ),
    norms=(NormCheck("bn_1", True, "relu_1", 1.1), NormCheck("bn_2", False, "relu_3", 41.3)),
    difference=Difference("relu_3", "bn_2", 7, 1, "normal x1", 0.2285, 0.2281, 41.3),
    runtime=RuntimeCheck(
        False,
        "folded.onnx is further from the truth than it may be",
        (RuntimeOutput("y", 1e-7, 4e-4, 2e-7, False), RuntimeOutput("z", 0.0, 0.0, 1e-9, True)),
    ),
    notes=("the input n was drawn from 0 to 9",),
    multiple=8.0,
    feeds=("normal x1", "normal x30"),
    seed=7,
    tensors_checked=12,
)

INFINITE = replace(
    DIFFERENT,
    outputs=(OutputCheck(LONG, "float16", False, inf, nan, inf, -inf, None, "NaN on one side"),),
    norms=(NormCheck(LONG, False, LONG, inf),),
    difference=Difference(LONG, LONG, None, None, "real data 1", nan, -inf, inf),
    runtime=RuntimeCheck(False, "no", (RuntimeOutput(LONG, nan, inf, inf, False),)),
    multiple=inf,
)

INTERFACE = VerifyReport(
    "model.onnx",
    "<stdin>",
    False,
    "not the same function as model.onnx: the inputs differ",
    interface=("the input x is float32 [1, 3] in model.onnx and float16 [1, 3] in <stdin>",),
    method="none",
)

REPORTS = {
    "same": SAME,
    "different": DIFFERENT,
    "infinite": INFINITE,
    "interface": INTERFACE,
    "onnxruntime": replace(SAME, method="onnxruntime", runtime=None),
    "a tolerance": replace(SAME, rtol=1e-3, atol=0.0, norms=(), tensors_checked=0),
}

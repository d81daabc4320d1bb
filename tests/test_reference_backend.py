"""The evaluator on every node case of onnx.backend.test, with the outputs that onnx ships."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx.backend.test.case.node import collect_testcases

from bnfold.reference import Evaluator

# Operators with kernels that matter most: no case of theirs may be excused.
CORE = {
    "AveragePool",
    "BatchNormalization",
    "Conv",
    "ConvTranspose",
    "Gemm",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "LpPool",
    "MatMul",
    "MaxPool",
    "Resize",
    "Upsample",
}

RANDOM = "the expected numbers are those of one generator of random numbers"
BITS = "looks at the bits of a float32, which is a float64 here"
PILLOW = "the stock operator needs Pillow"
TIE = "float32 rounds one quotient to a tie; in float64 it is none, and the code is one less"

DATA = Path(onnx.backend.test.__file__).parent / "data"
# Cases that are not compared -> why.
EXCLUDED = {
    "test_bernoulli": RANDOM,
    "test_bernoulli_double": RANDOM,
    "test_bernoulli_double_expanded": RANDOM,
    "test_bernoulli_expanded": RANDOM,
    "test_bernoulli_seed": RANDOM,
    "test_bernoulli_seed_expanded": RANDOM,
    "test_training_dropout": RANDOM,
    "test_training_dropout_default": RANDOM,
    "test_training_dropout_default_mask": RANDOM,
    "test_training_dropout_mask": RANDOM,
    "test_bitcast_2d_float32_to_int32": BITS,
    "test_bitcast_float32_to_int32": BITS,
    "test_bitcast_scalar_float32_to_int32": BITS,
    "test_dynamicquantizelinear": TIE,
    "test_dynamicquantizelinear_expanded": TIE,
    "test_image_decoder_decode_bmp_rgb": PILLOW,
    "test_image_decoder_decode_jpeg2k_rgb": PILLOW,
    "test_image_decoder_decode_jpeg_bgr": PILLOW,
    "test_image_decoder_decode_jpeg_grayscale": PILLOW,
    "test_image_decoder_decode_jpeg_rgb": PILLOW,
    "test_image_decoder_decode_png_rgb": PILLOW,
    "test_image_decoder_decode_pnm_rgb": PILLOW,
    "test_image_decoder_decode_tiff_rgb": PILLOW,
    "test_image_decoder_decode_webp_rgb": PILLOW,
}
# Expected outputs that were written down with four or five digits.
FEW_DIGITS = {
    "test_averagepool_2d_ceil_last_window_starts_on_pad",
    "test_gridsample_bicubic",
    "test_roialign_aligned_false",
    "test_roialign_aligned_true",
}
# How far a result may be off, as a share of the largest number: roundings of that dtype.
TOLERANCES = {"float64": 1e-6, "float32": 3e-6, "float16": 2e-3, "bfloat16": 1.6e-2}


@functools.cache
def cases() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in collect_testcases(None) if case.model is not None}


def operators(case: Any) -> set[str]:
    return {node.op_type for node in case.model.graph.node}


def value(stored: Any) -> Any:
    return onnx.numpy_helper.to_array(stored) if isinstance(stored, onnx.TensorProto) else stored


def assert_equal(found: Any, stored: Any, *, few_digits: bool) -> None:
    expected = value(stored)
    if expected is None:
        assert found is None
    elif isinstance(expected, list | tuple):
        assert isinstance(found, list)
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other, few_digits=few_digits)
    else:
        assert_equal_arrays(found, np.asarray(expected), few_digits=few_digits)


def assert_equal_arrays(found: Any, expected: Any, *, few_digits: bool) -> None:
    assert found.shape == expected.shape
    name = expected.dtype.name
    if expected.dtype.kind in "OSUT":
        assert (found.astype(str) == expected.astype(str)).all()
    elif name in TOLERANCES:
        assert found.dtype == np.float64
        wide = expected.astype(np.float64)
        finite = np.abs(wide[np.isfinite(wide)])
        tolerance = 1e-4 if few_digits else TOLERANCES[name]
        largest = float(finite.max(initial=0.0))
        np.testing.assert_allclose(found, wide, rtol=tolerance, atol=tolerance * largest)
    else:
        assert found.dtype == expected.dtype
        assert found.tobytes() == expected.tobytes()


def check(case: Any) -> None:
    evaluator = Evaluator(case.model)
    assert evaluator.unknown == ()
    for inputs, outputs in case.data_sets:
        names = [v.name for v in case.model.graph.input]
        found = evaluator.run(dict(zip(names, map(value, inputs), strict=True)))
        for one, other in zip(found.values(), outputs, strict=True):
            assert_equal(one, other, few_digits=case.name in FEW_DIGITS)


@pytest.mark.parametrize("op_type", sorted(CORE - {"GlobalLpPool", "Upsample"}))
def test_core_operators(op_type: str) -> None:
    chosen = [case for case in cases().values() if op_type in operators(case)]
    assert chosen
    for case in chosen:
        assert case.name not in EXCLUDED
        check(case)


def test_all_operators() -> None:
    failed = {}
    for name, case in cases().items():
        if name not in EXCLUDED and not operators(case) & CORE:
            try:
                check(case)
            except Exception as error:
                failed[name] = str(error)
    assert failed == {}


def stored_values(folder: Path, kind: str) -> list[Any]:
    """The tensors of the files ``kind_0.pb`` and so on."""
    tensors: list[Any] = []
    while (path := folder / f"{kind}_{len(tensors)}.pb").exists():
        tensor = onnx.TensorProto.FromString(path.read_bytes())
        tensors.append(onnx.numpy_helper.to_array(tensor))
    return tensors


def with_data() -> list[Path]:
    """Models of more than one node that come with inputs and outputs, most of old opsets."""
    folders = ("pytorch-converted", "pytorch-operator")
    return [path for name in folders for path in sorted((DATA / name).glob("*/model.onnx"))]


def test_models_of_old_opsets() -> None:
    failed = {}
    for path in with_data():
        model = onnx.load(path)
        for folder in sorted(path.parent.glob("test_data_set_*")):
            inputs, outputs = stored_values(folder, "input"), stored_values(folder, "output")
            evaluator = Evaluator(model)
            try:
                found = evaluator.run(dict(zip(evaluator.input_names, inputs, strict=True)))
                for one, other in zip(found.values(), outputs, strict=True):
                    assert_equal(one, other, few_digits=False)
            except Exception as error:
                failed[path.parent.name] = str(error)
    assert failed == {}
    assert len(with_data()) > 50


def test_exclusions_are_cases() -> None:
    assert set(EXCLUDED) <= set(cases())
    assert set(cases()) >= FEW_DIGITS | set(BENT)
    assert len(cases()) > 1000


STEEP = "one part in 10^6 is not a small step for it"
# Cases that are not smooth enough, or that do round -> why.
BENT = {
    "test_acosh_example": STEEP,
    "test_adam_multiple": "an operator of training, whose class rounds its results",
    "test_logsoftmax_large_number": STEEP,
    "test_logsoftmax_large_number_expanded": STEEP,
    "test_logsoftmax_large_number_expanded_ver18": STEEP,
    "test_softmax_large_number": STEEP,
    "test_softmax_large_number_expanded": STEEP,
    "test_softmax_large_number_expanded_ver18": STEEP,
    "test_tan": STEEP,
}


def bend(case: Any, step: float) -> float:
    """Second difference of the outputs along a line, as a share of the largest number."""
    names = [v.name for v in case.model.graph.input]
    given = dict(zip(names, map(value, case.data_sets[0][0]), strict=True))
    wide = {
        name: array.astype(np.float64)
        for name, array in given.items()
        if isinstance(array, np.ndarray) and array.dtype.name in TOLERANCES
    }
    if not wide:
        return 0.0
    draw = np.random.default_rng(0)
    ways = {name: draw.standard_normal(array.shape) for name, array in wide.items()}
    evaluator = Evaluator(case.model)
    runs = []
    for times in (1, 2, 3):
        moved = {name: array * (1 + times * step * ways[name]) for name, array in wide.items()}
        runs.append(evaluator.run({**given, **moved}))
    largest = 0.0
    for a, b, c in zip(*(run.values() for run in runs), strict=True):
        if isinstance(a, np.ndarray) and a.dtype == np.float64 and a.shape == b.shape == c.shape:
            finite = np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
            second = np.abs(a[finite] - 2 * b[finite] + c[finite]).max(initial=0.0)
            size = np.abs(a[finite]).max(initial=0.0)
            largest = max(largest, float(second / size) if size else 0.0)
    return largest


def test_nothing_is_rounded_to_float32_on_the_way() -> None:
    """A smooth function bends by the square of the step, a rounding to float32 by 6e-8."""
    bent = {}
    for name, case in cases().items():
        if name not in EXCLUDED and name not in BENT and bend(case, 1e-6) > 1e-9:
            bent[name] = bend(case, 1e-6)
    assert bent == {}

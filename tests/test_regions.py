"""A right fold passes its own check, whatever is folded and wherever it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bnfold
from bnfold.checking.yardstick import format_of, quanta
from tests import (
    test_cases_fold,
    test_cases_fold_chains,
    test_cases_fold_gemm,
    test_cases_fold_parameters,
    test_cases_fold_scopes,
)
from tests.support_cases import Case
from tests.support_models import DTYPES, Array, norm_parameters, with_values
from tests.support_numerics import ONE, conv

ROOT = Path(__file__).parent.parent
SAMPLES = sorted((ROOT / "sample_models").glob("*.onnx"))

PLAIN = {
    **test_cases_fold.CONV,
    **{f"transposed {name}": text for name, text in test_cases_fold.CONV_TRANSPOSE.items()},
    **test_cases_fold_chains.CHAINS,
    **{
        n: test_cases_fold_chains.after_conv(b) for n, b in test_cases_fold_chains.TWO_NORMS.items()
    },
    **{f"Gemm {name}": text for name, text in test_cases_fold_gemm.GEMM.items()},
    **{f"MatMul {name}": text for name, (text, _) in test_cases_fold_gemm.MATMUL.items()},
}
PLACES = {
    **{name: Case(text, "") for name, text in test_cases_fold_parameters.COMPUTED.items()},
    **test_cases_fold_parameters.SHARED,
    **test_cases_fold_chains.REST,
    **test_cases_fold_scopes.IF,
    **test_cases_fold_scopes.LOOPS,
    **{
        name: replace(case, imports='"local" : 1')
        for name, case in test_cases_fold_scopes.FUNCTIONS.items()
    },
}


def passes(case: Case, seed: int = 3) -> bnfold.RegionsChecked:
    checked = bnfold.fold(case.model(seed)).report.checked
    assert checked is not None
    assert checked.regions >= 1
    assert checked.max_ulp <= 0.5
    return checked


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("text", PLAIN.values(), ids=PLAIN)
def test_every_row_of_the_tables_passes(text: str, dtype: str) -> None:
    passes(Case(text, "", dtype=dtype, opset=22, ir=10))


@pytest.mark.parametrize("case", PLACES.values(), ids=PLACES)
def test_every_place_passes(case: Case) -> None:
    assert passes(case).regions == case.folds or case.left == ""


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_the_sample_models_pass(path: Path) -> None:
    report = bnfold.fold(path, assume_inference=True).report
    assert report.checked is not None
    assert report.checked.max_ulp <= 0.5
    assert report.checked.unchecked == 0
    into = {name.partition("[")[0] for norm in report.folded for name in norm.taken}
    assert report.checked.regions == len(into)


def test_a_rounded_weight_is_off_by_nearly_half_a_unit() -> None:
    assert 0.49 < passes(Case(test_cases_fold.CONV["2d bias"], "")).max_ulp <= 0.5


def test_an_exact_fold_is_off_by_nothing() -> None:
    model = with_values(
        Case(test_cases_fold.conv("1,3,9", "4,3,3", bias="bias"), "").model(), b=1, m=2, v=1, g=2
    )
    model.graph.node[1].attribute.add(name="epsilon", type=1, f=0.0)
    checked = bnfold.fold(model).report.checked
    assert checked is not None
    assert checked.max_ulp < 0.5
    model = with_values(model, w=1, bias=3)
    assert bnfold.fold(model).report.checked == bnfold.RegionsChecked(1, 0.0)


def test_the_check_can_be_left_out_and_is_not_made_twice() -> None:
    model = Case(test_cases_fold.SMALL, "").model()
    assert bnfold.fold(model, verify=False).report.checked is None
    assert bnfold.explain(model).checked is None
    assert bnfold.check(model).report.checked is None


def test_the_whole_model_can_be_verified() -> None:
    result = bnfold.fold(Case(test_cases_fold.SMALL, "").model())
    assert result.verify(runtime=False).is_same


def test_a_weight_of_many_blocks(tmp_path: Path) -> None:
    """Blocks end inside groups, at their ends, and across several of them."""
    shapes = {
        "Conv": ("1,64,3,3", "96,64,3,3", "", 96),
        "Conv of groups": ("1,256,3,3", "256,32,3,3", "group=8", 256),
        "Conv of large groups": ("1,512,3,3", "256,256,3,3", "group=2", 256),
        "ConvTranspose": ("1,96,2,2", "96,64,3,3", "", 64),
        "ConvTranspose of groups": ("1,256,2,2", "256,16,4,4", "group=4", 64),
        "ConvTranspose of large groups": ("1,256,2,2", "256,64,3,3", "group=2", 128),
    }
    for name, (x, w, attributes, channels) in shapes.items():
        text = test_cases_fold.conv(x, w, attributes, op=name.split()[0], channels=channels)
        assert passes(Case(text, "")).max_ulp > 0.4999
    for w, more in (("4000,40", ", transB=1"), ("40,4000", "")):
        x = "2,40"
        text = f"""agraph (float[{x}] x) => (float[2,4000] y)
            <float[{w}] w, {norm_parameters(4000)}> {{
            c = Gemm <alpha=0.5{more}> (x, w)  y = BatchNormalization (c, g, b, m, v) }}"""
        assert passes(Case(text, "")).max_ulp > 0.4999
    text = test_cases_fold_gemm.matmul("3,2,500", "3,500,70", "y = Mul (c, q)", ", float[70] q")
    assert passes(Case(text, "")).max_ulp > 0.4999


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_the_unit_in_the_last_place(dtype: np.dtype[np.generic]) -> None:
    kind = format_of(dtype)
    values = np.array([1, -1.5, 2, 3, 1024, 0, kind.least, -kind.zero]).astype(dtype)
    expected = [1, 1, 2, 2, 1024]
    assert np.array_equal(quanta(values)[:5], np.array(expected) * kind.eps)
    assert np.array_equal(quanta(values)[5:], [kind.zero, kind.least, kind.zero * kind.eps])


OPERATORS = {
    "Conv": test_cases_fold.conv("1,4,5,5", "6,2,3,3", "group=2", bias="bias", channels=6),
    "ConvTranspose": test_cases_fold.transposed("1,4,3", "4,3,2", "group=2", channels=6),
    "Gemm": test_cases_fold_gemm.gemm("beta=2.0, alpha=0.1, transB=1", "[2,1]"),
    "MatMul": test_cases_fold_gemm.MATMUL["2-D, Add before"][0],
    "chain": test_cases_fold_chains.CHAINS["input normalisation"],
}


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(sorted(OPERATORS)),
    st.sampled_from(sorted(DTYPES)),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 1, 8, 40, 300]),
)
def test_a_right_fold_never_fails(name: str, dtype: str, seed: int, spread: int) -> None:
    """Random magnitudes, far apart, with zeros: what cannot be stored stays, the rest passes."""
    model = Case(OPERATORS[name], "", dtype=dtype, opset=22, ir=10).model()
    generator = np.random.default_rng(seed)
    limit = {"float16": 4, "bfloat16": 37, "float": 37, "double": 60}[dtype]
    reach = min(spread, limit)

    def drawn(shape: tuple[int, ...], sign: bool) -> Array:
        values = 10.0 ** generator.uniform(-reach, reach, shape)
        values *= generator.choice([-1, 1], shape) if sign else 1
        return np.where(generator.random(shape) < 0.1, 0.0 if sign else 1.0, values)

    changed = {
        tensor.name: drawn(tuple(tensor.dims), sign=tensor.name != "v")
        for tensor in model.graph.initializer
    }
    report = bnfold.fold(with_values(model, **changed)).report
    assert report.checked is not None
    assert report.checked.max_ulp <= 0.5


@pytest.mark.parametrize("seed", range(40))
def test_a_model_that_overflows_on_its_way_is_no_wrong_fold(seed: int) -> None:
    """Where float64 cannot hold what ORIGINAL computes, the rest of the fold is checked."""
    body = ONE if seed % 2 else "c = Conv (x, w, bias)  d = Mul (c, k)  y = Mul (d, l)"
    generator = np.random.default_rng(seed)
    reach = {"w": 300, "bias": 300, "k": 150, "l": 300}
    model = conv(body, "double", seed=seed)
    changed = {}
    for tensor in model.graph.initializer:
        power = generator.uniform(-1, 1, tuple(tensor.dims)) * reach.get(tensor.name, 300)
        changed[tensor.name] = 10.0**power
    report = bnfold.fold(with_values(model, **changed)).report
    assert report.folded or report.kept[0].code == "beyond-dtype"


def test_the_report_says_what_was_checked(tmp_path: Path) -> None:
    from bnfold.report.as_json import dumps, report_json
    from bnfold.report.as_text import fold_text

    result = bnfold.fold(ROOT / "sample_models" / "torch_unet.onnx")
    assert "checked    12 folds in float64, largest difference 0.50 ulp" in fold_text(
        result.report, None
    )
    checked = json.loads(dumps(report_json(result.report)))["checked"]
    assert checked["regions"] == 12
    assert 0.4 < checked["max_ulp"] <= 0.5
    unchecked = bnfold.fold(ROOT / "sample_models" / "torch_unet.onnx", verify=False).report
    assert "checked    no (--no-verify)" in fold_text(unchecked, None)
    assert report_json(unchecked)["checked"] is None

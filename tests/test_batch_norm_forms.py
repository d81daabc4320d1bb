"""BatchNormalization in every form of every opset, and the old forms of what surrounds it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import bnfold
from tests.support_cases import Case, check_fold
from tests.support_models import constant, norm_parameters, op_types, with_values

DECLARED = f"float[4,3,3,3] w, {norm_parameters(4)}"


def norm(call: str, outputs: str = "y", *, more: str = "") -> str:
    """A Conv and a BatchNormalization with these attributes and outputs."""
    return f"""agraph (float[2,3,6,5] x) => (float[n,c,h,w] y) <{DECLARED}{more}> {{
        c = Conv (x, w)
        {outputs} = BatchNormalization {call} (c, g, b, m, v)
    }}"""


FORMS = {
    "1": Case(norm("<consumed_inputs=[0,0,0,1,1], is_test=1>"), "Conv", opset=1),
    "1, spatial": Case(
        norm("<consumed_inputs=[0,0,0,1,1], is_test=1, spatial=1, epsilon=0.001>"), "Conv", opset=1
    ),
    "6": Case(norm("<is_test=1>"), "Conv", opset=6),
    "6, spatial": Case(norm("<is_test=1, spatial=1, momentum=0.5>"), "Conv", opset=6),
    "7": Case(norm(""), "Conv", opset=7),
    "7, spatial": Case(norm("<spatial=1, epsilon=0.1>"), "Conv", opset=8),
    "9": Case(norm("<momentum=0.1>"), "Conv", opset=9),
    "9, outputs left out": Case(norm("", 'y, "", "", "", ""'), "Conv", opset=9),
    "6, five outputs": Case(norm("<is_test=1>", "y, m1, v1, m2, v2"), "Conv", opset=6),
    "14": Case(norm("<training_mode=0>"), "Conv", opset=14),
    "15": Case(norm("<training_mode=0, momentum=0.9, epsilon=0.00001>"), "Conv", opset=15),
    "newest": Case(norm(""), "Conv", opset=onnx.defs.onnx_opset_version(), ir=10),
}

MIXED = """agraph (DATA[2,3,6,5] x) => (DATA[n,c,h,w] y)
    <DATA[4,3,3,3] w, DATA[4] bias, SCALE[4] g, SCALE[4] b, STATS[4] m, STATS[4] v> {
        c = Conv (x, w, bias)
        y = BatchNormalization (c, g, b, m, v)
    }"""


def mixed(data: str, scale: str, statistics: str) -> str:
    text = MIXED.replace("DATA", data).replace("SCALE", scale)
    return text.replace("STATS", statistics)


# dtype of the data and the weight, of scale and bias, of the statistics; first opset
MIXED_TYPES = {
    "14: float32 statistics": ("float16", "float16", "float", 14),
    "15: float32 scale and statistics": ("float16", "float", "float", 15),
    "15: double statistics": ("float16", "float16", "double", 15),
    "15: bfloat16 data": ("bfloat16", "float", "float", 22),
    "15: float32 data, float16 scale": ("float", "float16", "double", 15),
    "15: double data, float32 statistics": ("double", "double", "float", 15),
}

OLD = "broadcast=1, axis=1"
OLD_CHAINS = {
    "caffe, 6": Case(
        f"""agraph (float[2,3,6,5] x) => (float[n,c,h,w] y) <{DECLARED}, float[4] k, float[4] l> {{
            c = Conv (x, w)
            n = BatchNormalization <is_test=1> (c, g, b, m, v)
            d = Mul <{OLD}> (n, k)
            y = Add <{OLD}> (d, l)
        }}""",
        "Conv",
        opset=6,
    ),
    "caffe, 1": Case(
        f"""agraph (float[2,3,6,5] x) => (float[n,c,h,w] y) <{DECLARED}, float[4] k, float[4] l> {{
            c = Conv (x, w)
            n = BatchNormalization <is_test=1, consumed_inputs=[0,0,0,1,1]> (c, g, b, m, v)
            d = Mul <{OLD}, consumed_inputs=[0,0]> (n, k)
            y = Add <{OLD}> (d, l)
        }}""",
        "Conv",
        opset=1,
    ),
    "suffix, 6": Case(
        """agraph (float[2,3,6,5] x) => (float[n,c,h,w] y)
        <float[4,3,3,3] w, float[4,1,1] k, float[1] l> {
            c = Conv (x, w)
            d = Div <broadcast=1> (c, k)
            y = Sub <broadcast=1> (d, l)
        }""",
        "Conv",
        opset=6,
    ),
    "dropout, 6": Case(
        f"""agraph (float[2,3,6,5] x) => (float[n,c,h,w] y) <{DECLARED}> {{
            c = Conv (x, w)
            d = Dropout <is_test=1, ratio=0.9> (c)
            y = BatchNormalization <is_test=1> (d, g, b, m, v)
        }}""",
        "Conv",
        opset=6,
    ),
    "dropout, 7": Case(
        f"""agraph (float[2,3,6,5] x) => (float[n,c,h,w] y) <{DECLARED}> {{
            c = Conv (x, w)
            d = Dropout <ratio=0.9> (c)
            y = BatchNormalization (d, g, b, m, v)
        }}""",
        "Conv",
        opset=7,
    ),
    "gemm, 6": Case(
        f"""agraph (float[2,3] x) => (float[n,c] y)
        <float[3,4] w, float[4] bias, {norm_parameters(4)}> {{
            c = Gemm <broadcast=1, beta=0.5> (x, w, bias)
            y = BatchNormalization <is_test=1> (c, g, b, m, v)
        }}""",
        "Gemm",
        opset=6,
    ),
    "gemm, 6, one C for all": Case(
        f"""agraph (float[2,3] x) => (float[n,c] y)
        <float[3,4] w, float[2,4] bias, {norm_parameters(4)}> {{
            c = Gemm <broadcast=0> (x, w, bias)
            y = BatchNormalization <is_test=1> (c, g, b, m, v)
        }}""",
        "Gemm",
        opset=6,
    ),
    "gemm, 6, C of one row": Case(
        f"""agraph (float[2,3] x) => (float[n,c] y)
        <float[3,4] w, float[1,4] bias, {norm_parameters(4)}> {{
            c = Gemm <broadcast=1> (x, w, bias)
            y = BatchNormalization <is_test=1> (c, g, b, m, v)
        }}""",
        "Gemm",
        opset=6,
    ),
    "matmul, 6": Case(
        f"""agraph (float[2,3] x) => (float[n,c] y) <float[3,4] w, {norm_parameters(4)}> {{
            c = MatMul (x, w)
            y = BatchNormalization <is_test=1> (c, g, b, m, v)
        }}""",
        "MatMul Add",
        opset=6,
    ),
    "matmul and add, 6": Case(
        f"""agraph (float[2,3] x) => (float[n,c] y)
        <float[3,4] w, float[4] bias, {norm_parameters(4)}> {{
            c = MatMul (x, w)
            d = Add <broadcast=1> (c, bias)
            y = BatchNormalization <is_test=1> (d, g, b, m, v)
        }}""",
        "MatMul Add",
        opset=6,
    ),
}


@pytest.mark.parametrize("case", FORMS.values(), ids=FORMS)
def test_form(case: Case) -> None:
    check_fold(case)


TRAINING = {
    "1": (norm("<consumed_inputs=[0,0,0,1,1]>"), 1),
    "6": (norm(""), 6),
    "14": (norm("<training_mode=1>", "y, m1, v1"), 14),
    "15": (norm("<training_mode=1>"), 15),
    "9, five outputs that nothing reads": (norm("", "y, m1, v1, m2, v2"), 9),
}


@pytest.mark.parametrize(("text", "opset"), TRAINING.values(), ids=TRAINING)
def test_assume_inference(text: str, opset: int) -> None:
    """On request a training-mode norm is read as inference, and the report says so."""
    model = Case(text, "Conv", opset=opset).model()
    (kept,) = bnfold.explain(model).kept
    assert kept.code == "training-mode"
    result = bnfold.fold(model, assume_inference=True)
    (found,) = result.report.folded
    assert found.assumed_inference
    assert op_types(result.model) == ["Conv"]
    inference = Case(norm(""), "Conv", opset=17).model()
    expected = bnfold.fold(inference).model
    assert list(result.model.graph.initializer) == list(expected.graph.initializer)


def test_statistics_in_use_are_no_inference() -> None:
    text = norm("<training_mode=1>", "y, m1, v1")
    text = text.replace("float[n,c,h,w] y", "float[n,c,h,w] y, float[4] m1")
    (kept,) = bnfold.explain(Case(text, "").model(), assume_inference=True).kept
    assert kept.code == "training-mode"
    assert "m1" in kept.reason


def with_full_domain(model: onnx.ModelProto) -> onnx.ModelProto:
    model.opset_import[0].domain = "ai.onnx"
    for node in model.graph.node:
        node.domain = "ai.onnx"
    return model


def test_the_full_name_of_the_standard_domain() -> None:
    check_fold(Case(norm(""), "Conv", change=with_full_domain, check="none"))


@pytest.mark.parametrize("name", MIXED_TYPES)
def test_mixed_dtypes(name: str) -> None:
    """The layer is stored in its own dtype, whatever the parameters of the norm are in."""
    data, scale, statistics, opset = MIXED_TYPES[name]
    text = mixed(data, scale, statistics)
    check_fold(Case(text, "Conv", opset=opset, ir=10, stored=data))


@pytest.mark.parametrize("case", OLD_CHAINS.values(), ids=OLD_CHAINS)
def test_old_surroundings(case: Case) -> None:
    check_fold(case)


@pytest.mark.parametrize("opset", [1, 6, 7, 9, 14, 15, 28])
def test_default_epsilon_is_that_of_the_specification(opset: int) -> None:
    """Epsilon is 1e-5 as a float32: with var 0 the scale is 1 / sqrt of that."""
    old = "<is_test=1, consumed_inputs=[0,0,0,1,1]>" if opset == 1 else "<is_test=1>"
    case = Case(norm(old if opset < 7 else ""), "Conv", opset=opset, ir=10)
    model = with_values(case.model(), w=1, g=1, b=0, m=0, v=0)
    folded = bnfold.fold(model).model
    weight = constant(folded, folded.graph.node[0].input[1])
    expected = np.float32(1 / np.sqrt(float(np.float32(1e-5))))
    assert np.array_equal(np.unique(weight), [expected])

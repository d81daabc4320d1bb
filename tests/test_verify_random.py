"""Random chains of linear layers and norms in every dtype: bnfold's fold is always accepted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st

from bnfold.checking.outcome import MULTIPLE
from tests.support_models import constant, filled, norm_parameters, parsed, with_values
from tests.support_verify import folded_of, judged

CONVS = ("Conv <pads=[1,1,1,1]>", "Conv <pads=[1,1,1,1], group=2>", "ConvTranspose <group=2>")
GEMMS = ("Gemm <transB=1>", "Gemm <alpha=0.5, beta=2.0>", "MatMul")
WIDE = ("float", "double")
DTYPES = (*WIDE, "float16", "bfloat16")


@st.composite
def chains(draw: st.DrawFn, dtypes: Sequence[str] = DTYPES) -> onnx.ModelProto:
    """One to three layers with four channels; a norm behind each, parameters of any size."""
    is_conv = draw(st.booleans())
    lines, declared, data = [], [], "x"
    sizes: dict[str, float] = {}
    for at in range(draw(st.integers(1, 3))):
        call = draw(st.sampled_from(CONVS if is_conv else GEMMS))
        shape = "4,4" if not is_conv else "4,2,3,3" if "group" in call else "4,4,3,3"
        has_bias = call != "MatMul" and draw(st.booleans())
        declared += [f"float[{shape}] w{at}", norm_parameters(4, str(at))]
        declared += [f"float[4] bias{at}"] if has_bias else []
        operator, *attributes = call.split(" ", 1)
        bias = f", bias{at}" if has_bias else ""
        last = draw(st.sampled_from(["Relu", "LeakyRelu", "Tanh", "Identity"]))
        lines += [
            f"c{at} = {operator} {' '.join(attributes)} ({data}, w{at}{bias})",
            f"n{at} = BatchNormalization (c{at}, g{at}, b{at}, m{at}, v{at})",
            f"r{at} = {last} (n{at})",
        ]
        data = f"r{at}"
        for name in (f"w{at}", f"g{at}", f"b{at}", f"m{at}", f"v{at}"):
            sizes[name] = 2.0 ** draw(st.integers(-4, 4))
    places = "N,4,5,5" if is_conv else "N,4"
    made = "N,4,H,W" if is_conv else "N,4"
    text = (
        f"agraph (float[{places}] x) => (float[{made}] {data}) <{', '.join(declared)}> "
        f"{{ {'  '.join(lines)} }}"
    )
    model = filled(parsed(text, dtype=draw(st.sampled_from(dtypes))), draw(st.integers(0, 99)))
    values = {n: constant(model, n).astype(np.float64) * size for n, size in sizes.items()}
    return with_values(model, **values)


@settings(derandomize=True, deadline=None, max_examples=120)
@given(chains(), st.integers(0, 3))
def test_the_fold_is_accepted(model: onnx.ModelProto, seed: int) -> None:
    report = judged(model, folded_of(model), seed=seed)
    assert report.is_same, report.verdict
    assert max(output.units for output in report.outputs) <= MULTIPLE
    assert len(report.norms) >= 1
    assert all(norm.is_same for norm in report.norms)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(chains(WIDE), st.integers(0, 3), st.data())
def test_a_fold_of_another_scale_is_rejected(
    model: onnx.ModelProto, seed: int, data: st.DataObject
) -> None:
    # In 16 bits a small scale beside a large shift is less than what rounding the bias loses.
    norms = sum(node.op_type == "BatchNormalization" for node in model.graph.node)
    gamma = f"g{data.draw(st.integers(0, norms - 1))}"
    factor = np.ones(4)
    factor[data.draw(st.integers(0, 3))] = 1.2
    other = with_values(model, **{gamma: constant(model, gamma).astype(np.float64) * factor})
    assert not judged(model, folded_of(other), seed=seed).is_same


def test_a_bias_that_is_rounded_to_the_beta_that_it_came_from() -> None:
    text = """agraph (bfloat16[N,4] x) => (bfloat16[N,4] y) <bfloat16[4,4] w, PARAMETERS> {
        c = Gemm (x, w)  y = BatchNormalization (c, g, b, m, v) }"""
    text = text.replace("PARAMETERS", norm_parameters(4).replace("float[", "bfloat16["))
    model = with_values(filled(parsed(text)), g=0.03, b=[36.25, -42.5, -35.75, -5.0625], m=0.1, v=9)
    folded = folded_of(model)
    np.testing.assert_array_equal(
        constant(folded, folded.graph.node[0].input[2]), constant(model, "b")
    )
    assert judged(model, folded).is_same

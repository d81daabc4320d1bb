"""Random chains behind a linear operator, every axis of the same length: the values never change.

Whether a constant acts on the channels or on an axis that only looks like them shows in the values
alone, so this holds whatever folds and whatever stays.
"""

from __future__ import annotations

import onnx
from hypothesis import given, settings
from hypothesis import strategies as st

import bnfold
from tests.support_cases import check_frame
from tests.support_float64 import differences
from tests.support_models import feeds_for, filled, norm_parameters, parsed

# What makes [4, 4], [4, 4, 4] or [4, 4, 4, 4], and whether it is the weight's rank or the data's.
PRODUCERS = {
    "Conv <pads=[1,1]> (x, w BIAS)": ("4,4,4", "4,4,3", "4", 3),
    "Conv <group=2, pads=[1,1,1,1]> (x, w BIAS)": ("4,4,4,4", "4,2,3,3", "4", 4),
    "ConvTranspose <group=2> (x, w BIAS)": ("4,4,3,3", "4,2,2,2", "4", 4),
    "Gemm <transB=1, beta=0.5> (x, w BIAS)": ("4,3", "4,3", "4", 2),
    "Gemm <transA=1, alpha=2.0> (x, w BIAS)": ("4,4", "4,4", "4,1", 2),
    "MatMul (x, w)": ("4,4", "4,4", "", 2),
    "MatMul (x, w )": ("4,4,3", "3,4", "", 3),
    "MatMul (x, w  )": ("4,4,4", "4,4,4", "", 3),
}
STEPS = ["BatchNormalization", "Add", "Sub", "Mul", "Div", "Identity", "Dropout", "Relu"]


@st.composite
def chains(draw: st.DrawFn) -> str:
    """The text of a graph with up to six steps behind a linear operator."""
    call = draw(st.sampled_from(sorted(PRODUCERS)))
    x, w, bias, rank = PRODUCERS[call]
    has_bias = bool(bias) and draw(st.booleans())
    declared = [f"float[{w}] w", *([f"float[{bias}] bias"] if has_bias else [])]
    lines = [f"t0 = {call.replace('BIAS', ', bias' if has_bias else '')}"]
    count = draw(st.integers(1, 6))
    first, ranks = rank, [rank]
    for at in range(count):
        op_type = draw(st.sampled_from(STEPS))
        data, made = f"t{at}", f"t{at + 1}"
        if op_type in ("Identity", "Dropout", "Relu"):
            lines.append(f"{made} = {op_type} ({data})")
        elif op_type == "BatchNormalization":
            declared.append(norm_parameters(4, str(at)))
            parameters = ", ".join(f"{letter}{at}" for letter in "gbmv")
            lines.append(f"{made} = {op_type} ({data}, {parameters})")
        else:
            # Mostly a vector along one axis, sometimes along more, sometimes of a higher rank.
            least = draw(st.sampled_from([0, 1, 1, first - 1, first, first + 1]))
            long = draw(st.integers(-1, max(least - 1, 0)))
            dims = [
                4 if axis == long or draw(st.integers(0, 9)) == 0 else 1 for axis in range(least)
            ]
            rank = max(rank, len(dims))
            declared.append(f"float{dims if dims else ''} k{at}")
            operands = [data, f"k{at}"]
            if op_type != "Div" and draw(st.booleans()):
                operands.reverse()
            lines.append(f"{made} = {op_type} ({', '.join(operands)})")
        ranks.append(rank)
    outputs = [f"{typed(ranks[count], 'abcdefghij')} t{count}"]
    if draw(st.integers(0, 4)) == 0:
        # Another reader somewhere in the chain, or two of them.
        other = draw(st.integers(0, count))
        lines.append(f"other = Abs (t{other})")
        outputs.append(f"{typed(ranks[other], 'klmnopqrst')} other")
    return (
        f"agraph (float[{x}] x) => ({', '.join(outputs)}) "
        f"<{', '.join(declared)}> {{ {'  '.join(lines)} }}"
    )


def typed(rank: int, axes: str) -> str:
    return f"float[{','.join(axes[:rank])}]"


@settings(deadline=None, max_examples=400)
@given(chains(), st.sampled_from(["float", "float", "float16", "double"]), st.integers(0, 99))
def test_values_never_change(text: str, dtype: str, seed: int) -> None:
    model = filled(parsed(text, dtype=dtype), seed)
    onnx.checker.check_model(model, full_check=True)
    result = bnfold.fold(model)
    data = result.model.SerializeToString()
    check_frame(model, result.model)
    onnx.checker.check_model(result.model, full_check=True)
    assert bnfold.fold(result.model).model.SerializeToString() == data
    epsilon = {"float16": 2.0**-10, "float": 2.0**-23, "double": 2.0**-52}[dtype]
    for ratio, bound in differences(model, result.model, feeds_for(model, seed), epsilon=epsilon):
        assert ratio <= 1, f"{ratio} times the bound {bound}"

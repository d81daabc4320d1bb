"""Norms on another axis or beyond reach, every reason once, and runs that fold in part."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx
import pytest

import bnfold
from bnfold.folding.reasons import REASONS
from tests.support_cases import check_frame
from tests.support_float64 import differences
from tests.support_kept import (
    BN,
    NAN,
    NORM,
    Change,
    Row,
    check_kept,
    graph,
    matrix,
    values,
)
from tests.support_models import feeds_for, filled, norm_parameters, op_types, parsed
from tests.test_cases_kept_norm import STATISTICS
from tests.test_cases_kept_producer import PRODUCERS, READERS
from tests.test_cases_kept_routes import BY_THEMSELVES, ROUTES
from tests.test_quantised_kept import QUANTISED

MUL = "c = Conv (x, w)  y = Mul (c, k)"
AND_BN = f"c = Conv (x, w)  d = Mul (c, k)  y = {BN} (d, g, b, m, v)"
SQUARE = {"x": "float[2,4,6,6] x", "w": "float[4,4,3,3] w, "}  # makes [2,4,4,4]

AXES = {
    "[C] acts on the width": Row(
        "axis-mismatch", ("y", "c"), graph(MUL, more=", float[4] k", **SQUARE)
    ),
    "[C,1] acts on the height": Row(
        "axis-mismatch", ("y", "c"), graph(MUL, more=", float[4,1] k", **SQUARE)
    ),
    "[C,1,1,1] acts on the batch": Row(
        "axis-mismatch",
        ("y", "c"),
        graph(MUL, more=", float[4,1,1,1] k", x="float[4,4,6,6] x", w=SQUARE["w"]),
    ),
    "[C,1,1] on two axes of data": Row(
        "axis-mismatch",
        ("y", "c"),
        matrix("c = Gemm (x, w)  y = Mul (c, k)", more=", float[4,1,1] k"),
    ),
    "a higher rank": Row(
        "axis-mismatch",
        ("y", "c"),
        graph(MUL, more=", float[1,1,4,1,1] k", **SQUARE),
    ),
    "two axes": Row("axis-mismatch", ("d", "2 axes"), graph(AND_BN, more=", float[4,4,1] k")),
    "two axes of a higher rank": Row(
        "axis-mismatch", ("d", "2 axes"), graph(AND_BN, more=", float[1,2,4,1,1] k")
    ),
    "the rows of a Gemm": Row(
        "axis-mismatch",
        ("y", "c"),
        matrix("c = Gemm (x, w)  y = Mul (c, k)", x="float[4,3] x", more=", float[4,1] k"),
    ),
    "BN on axis 1 of a 3-D MatMul": Row(
        "axis-mismatch", ("y", "c"), matrix(f"c = MatMul (x, w)  {NORM}", x="float[2,4,3] x")
    ),
    "BN on axis 1 of a batched weight": Row(
        "axis-mismatch",
        ("y", "c"),
        matrix(f"c = MatMul (x, w)  {NORM}", x="float[4,3] x", w="float[2,3,4] w"),
    ),
    "a vector on the right": Row(
        "axis-mismatch",
        ("c", "vector"),
        matrix(
            "c = MatMul (x, w)  y = Mul (c, k)",
            x="float[5,3] x",
            w="float[3] w",
            more=", float[5] k",
        ),
    ),
    "opset 6, axis=2": Row(
        "axis-mismatch",
        ("y", "c"),
        graph(
            "c = Conv (x, w)  y = Mul <broadcast=1, axis=2> (c, k)", more=", float[4] k", **SQUARE
        ),
        opset=6,
    ),
    "opset 6, no axis": Row(
        "axis-mismatch",
        ("y", "c"),
        graph("c = Conv (x, w)  y = Mul <broadcast=1> (c, k)", more=", float[4] k", **SQUARE),
        opset=6,
    ),
    "one channel would become four": Row(
        "channel-mismatch",
        ("y", "c", "4 channels", "makes 1"),
        graph(MUL, more=", float[4,1,1] k", w="float[1,3,3,3] w, "),
    ),
    "BN of more channels": Row(
        "channel-mismatch",
        ("y", "c", "4", "5"),
        graph(f"c = Conv (x, w)  {NORM}", w="float[5,3,3,3] w, "),
    ),
    "BN of one channel": Row(
        "channel-mismatch",
        ("y", "c", "1", "4"),
        f"""agraph (float[2,3,6,5] x) => (float[n,c,h,w] y)
        <float[4,3,3,3] w, {norm_parameters(1)}> {{ c = Conv (x, w)  {NORM} }}""",
    ),
    "a longer [C,1,1]": Row(
        "channel-mismatch", ("y", "c", "5", "4"), graph(MUL, more=", float[5,1,1] k")
    ),
    "a MatMul of unknown rank": Row(
        "unknown-rank",
        ("y", "c"),
        matrix(f"c = MatMul (x, w)  {NORM}").replace("float[2,3] x", "float[] x"),
    ),
    "a MatMul of unknown rank, [1,C]": Row(
        "unknown-rank",
        ("y", "c"),
        matrix("c = MatMul (x, w)  y = Mul (c, k)", more=", float[1,4] k").replace(
            "float[2,3] x", "float[] x"
        ),
    ),
}

CALL = graph("y = local.block (x, w, g, b, m, v)")
BLOCK = f"block (x, w, g, b, m, v) => (n) {{ c = Conv (x, w)  n = {BN} (c, g, b, m, v) }}"
FUNCTIONS = {
    "a function of another opset": Row(
        "function-body",
        ("n", "local::block"),
        f'{CALL} <domain: "local", opset_import: ["" : 9]> {BLOCK}',
        norm="n",
        imports='"local" : 1',
    ),
    "a function that calls itself": Row(
        "function-body",
        ("n", "local::block"),
        f'{CALL} <domain: "local", opset_import: ["" : 17, "local" : 1]> '
        + BLOCK.replace("}", " o = local.block (x, w, g, b, m, v) }"),
        norm="n",
        imports='"local" : 1',
    ),
}
TABLES: list[dict[str, Row]] = [READERS, PRODUCERS, STATISTICS, AXES, FUNCTIONS, ROUTES, QUANTISED]


@dataclass(frozen=True)
class Partial:
    """A model of which a part folds: the operators left, and the codes of what stays."""

    text: str
    left: str
    codes: tuple[str, ...]
    only: tuple[str, ...] = ()
    change: Change | None = None


SECOND = norm_parameters(4, "2")
PARTIAL = {
    "a second norm with NaN": Partial(
        graph(
            f"c = Conv (x, w)  n = {BN} (c, g, b, m, v)  y = {BN} (n, g2, b2, m2, v2)",
            more=f", {SECOND}",
        ),
        f"Conv {BN}",
        ("non-finite-statistics",),
        change=values(m2=[1, NAN, 1, 1]),
    ),
    "a second norm that is excluded": Partial(
        graph(
            f"c = Conv (x, w)  n = {BN} (c, g, b, m, v)  y = {BN} (n, g2, b2, m2, v2)",
            more=f", {SECOND}",
        ),
        f"Conv {BN}",
        ("excluded",),
        only=("n",),
    ),
    "a first norm that is excluded": Partial(
        graph(
            f"c = Conv (x, w)  n = {BN} (c, g, b, m, v)  d = Conv (n, u)"
            f"  y = {BN} (d, g2, b2, m2, v2)",
            more=f", float[4,4,1,1] u, {SECOND}",
        ),
        f"Conv {BN} Conv",
        ("excluded",),
        only=("y",),
    ),
    "arithmetic on another axis": Partial(
        graph(f"c = Conv (x, w)  n = {BN} (c, g, b, m, v)  y = Mul (n, k)", more=", float[3] k"),
        "Conv Mul",
        ("axis-mismatch",),
    ),
    "arithmetic with a varying operand": Partial(
        graph(
            f"c = Conv (x, w)  n = {BN} (c, g, b, m, v)  y = Mul (n, k)",
            x="float[2,3,6,5] x, float[4,1,1] k",
        ),
        "Conv Mul",
        (),
    ),
    "one of two convolutions": Partial(
        graph(
            f"c = Conv (x, w)  n = {BN} (c, g, b, m, v)  d = Conv (x, w)"
            f"  o = {BN} (d, g, b, m, v)  e = Relu (d)  f = Add (n, o)  y = Add (e, f)",
        ),
        f"Conv Conv {BN} Relu Add Add",
        ("shared-tensor",),
    ),
}


@pytest.mark.parametrize("row", AXES.values(), ids=AXES)
def test_axes(row: Row) -> None:
    check_kept(row)


@pytest.mark.parametrize("row", FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions(row: Row) -> None:
    check_kept(row)


def test_a_function_of_another_opset_stops_no_other() -> None:
    text = f"""{graph("h = local.block (x, w, g, b, m, v)  y = local.other (h)")}
    <domain: "local", opset_import: ["" : 17]> {BLOCK}
    <domain: "local", opset_import: ["" : 16]> other (c) => (n) {{
        g = Constant <value_floats=[1.0,2.0,3.0,4.0]> ()  n = {BN} (c, g, g, g, g)
    }}"""
    report = bnfold.explain(filled(parsed(text, imports='"local" : 1')))
    assert [norm.operator for norm in report.folded] == ["Conv"]
    assert [(norm.code, norm.graph) for norm in report.kept] == [("function-body", "local::other")]
    assert report.inlined == ("local::block",)


def test_norms_of_an_uncalled_function_are_accounted_for() -> None:
    text = f'{graph(f"c = Conv (x, w)  {NORM}")} <domain: "local", opset_import: ["" : 17]> {BLOCK}'
    report = bnfold.explain(filled(parsed(text, imports='"local" : 1')))
    assert len(report.folded) == 1
    assert len(report.kept) == report.batch_norms_after


def test_every_reason_has_a_row() -> None:
    codes = {row.code for table in TABLES for row in table.values()}
    assert codes | BY_THEMSELVES == set(REASONS)


def test_every_reason_says_what_it_means_and_what_to_do() -> None:
    for code, reason in REASONS.items():
        assert code == code.lower()
        assert " " not in code
        assert reason.meaning.endswith(".")
        assert reason.remedy.endswith(".")


def test_no_two_rows_are_the_same() -> None:
    rows = [row.model().SerializeToString() for row in _all() if not (row.only or row.skip)]
    assert len(set(rows)) == len(rows)


@pytest.mark.parametrize("name", PARTIAL)
def test_in_part(name: str) -> None:
    row = PARTIAL[name]
    model = filled(parsed(row.text))
    model = row.change(model) if row.change else model
    result = bnfold.fold(model, only=row.only)
    assert " ".join(op_types(result.model)) == row.left
    assert tuple(kept.code for kept in result.report.kept) == row.codes
    assert len(result.report.folded) == 1
    onnx.checker.check_model(result.model, full_check=True)
    check_frame(model, result.model)
    again = bnfold.fold(result.model, only=row.only)
    assert again.model.SerializeToString() == result.model.SerializeToString()
    if row.codes == ("non-finite-statistics",):
        return
    ((ratio, _),) = differences(
        model, result.model, feeds_for(model), epsilon=2.0**-23, roundings=2
    )
    assert ratio <= 1


def _all() -> Iterable[Row]:
    return (row for table in TABLES for row in table.values())

"""Norms that stay because of what makes their data, or who else reads it."""

from __future__ import annotations

import pytest

from tests.support_kept import (
    ALSO,
    BN,
    NORM,
    PLAIN,
    Row,
    annotated,
    attribute,
    check_kept,
    graph,
    listed,
    matrix,
    without,
)

READERS = {
    "read twice": Row(
        "shared-tensor", ("c", "z"), graph(f"c = Conv (x, w)  {NORM}  z = Relu (c)", y=ALSO + "z")
    ),
    "read by the norm's own reader": Row(
        "shared-tensor",
        ("c", "z"),
        graph(f"c = Conv (x, w)  y = {BN} (c, g, b, m, v)  z = Add (c, y)", y=ALSO + "z"),
    ),
    "named by a quantisation annotation": Row(
        "shared-tensor", ("c", "quantisation"), PLAIN, change=annotated("c")
    ),
    "Identity's source is read twice": Row(
        "shared-tensor",
        ("c", "z"),
        graph(
            f"c = Conv (x, w)  i = Identity (c)  y = {BN} (i, g, b, m, v)  z = Relu (c)",
            y=ALSO + "z",
        ),
    ),
    "read by a body": Row(
        "subgraph-reader",
        ("c", "e", "z"),
        graph(
            f"""c = Conv (x, w)  {NORM}
            z = If (when) <then_branch = t () => (float[i,j,k,l] d) {{ d = Relu (y) }},
                           else_branch = f () => (float[i,j,k,l] e) {{ e = Relu (c) }}>""",
            x="bool when, float[2,3,6,5] x",
            y=ALSO + "z",
        ),
    ),
    "read by the body that holds the norm": Row(
        "subgraph-reader",
        ("c", "z"),
        graph(
            f"""c = Conv (x, w)
            z = If (when) <then_branch = t () => (float[i,j,k,l] y) {{ {NORM} }},
                           else_branch = f () => (float[i,j,k,l] e) {{ e = Relu (x) }}>""",
            x="bool when, float[2,3,6,5] x",
            y="float[i,j,k,l] z",
        ),
    ),
    "an output": Row("graph-output", ("c",), graph(f"c = Conv (x, w)  {NORM}", y=ALSO + "c")),
    "the output of an Identity between": Row(
        "graph-output",
        ("i",),
        graph(f"c = Conv (x, w)  i = Identity (c)  y = {BN} (i, g, b, m, v)", y=ALSO + "i"),
    ),
    "an Identity between is read twice": Row(
        "shared-tensor",
        ("i", "z"),
        graph(
            f"c = Conv (x, w)  i = Identity (c)  y = {BN} (i, g, b, m, v)  z = Relu (i)",
            y=ALSO + "z",
        ),
    ),
    "an output of a body": Row(
        "graph-output",
        ("c",),
        graph(
            f"""q, z = If (when) <
                then_branch = t () => (float[i,j,k,l] c, float[i,j,k,l] y)
                    {{ c = Conv (x, w)  {NORM} }},
                else_branch = f () => (float[i,j,k,l] e, float[i,j,k,l] h)
                    {{ e = Conv (x, w)  h = Relu (e) }}>""",
            x="bool when, float[2,3,6,5] x",
            y="float[i,j,k,l] q, float[i,j,k,l] z",
        ),
    ),
}

PRODUCERS = {
    "older than its operator": Row(
        "malformed-node",
        ("c", "opset 19"),
        graph(f"c = DeformConv (x, w, o)  {NORM}", w="float[4,3,1,1] w, float[1,2,5,5] o, "),
    ),
    "Relu": Row(
        "not-through",
        ("d", "Relu"),
        graph(f"c = Conv (x, w)  d = Relu (c)  y = {BN} (d, g, b, m, v)"),
    ),
    "a graph input": Row(
        "producer-not-linear",
        ("x", "graph input"),
        without(graph(f"y = {BN} (x, g, b, m, v)", x="float[2,4,6,5] x"), "float[4,3,3,3] w, "),
    ),
    "the output of an If": Row(
        "producer-not-linear",
        ("c", "If"),
        graph(
            f"""c = If (when) <then_branch = t () => (float[i,j,k,l] d) {{ d = Conv (x, w) }},
                               else_branch = f () => (float[i,j,k,l] e) {{ e = Conv (x, w) }}>
            {NORM}""",
            x="bool when, float[2,3,6,5] x",
        ),
    ),
    "Dropout in training mode": Row(
        "not-through",
        ("d", "Dropout"),
        graph(
            f"c = Conv (x, w)  d = Dropout (c, r, yes)  y = {BN} (d, g, b, m, v)",
            more=", float r = {0.5}, bool yes = {1}",
        ),
    ),
    "Dropout whose mode is an input": Row(
        "not-through",
        ("d", "Dropout"),
        graph(
            f"c = Conv (x, w)  d = Dropout (c, r, when)  y = {BN} (d, g, b, m, v)",
            x="bool when, float[2,3,6,5] x",
            more=", float r = {0.5}",
        ),
    ),
    "Dropout with a mask in use": Row(
        "not-through",
        ("d", "Dropout"),
        graph(
            f"c = Conv (x, w)  d, mask = Dropout (c)  y = {BN} (d, g, b, m, v)",
            y="float[a,b,c,d] y, bool[e,f,i,j] mask",
        ),
    ),
    "Dropout without is_test, opset 6": Row(
        "not-through",
        ("d", "Dropout"),
        graph(f"c = Conv (x, w)  d = Dropout (c)  y = {BN} <is_test=1> (d, g, b, m, v)"),
        opset=6,
    ),
    "c / x": Row(
        "producer-not-linear",
        ("d", "divides"),
        graph(
            f"c = Conv (x, w)  d = Div (k, c)  y = {BN} (d, g, b, m, v)", more=", float[4,1,1] k"
        ),
    ),
    "weight is an input": Row(
        "weight-not-constant",
        ("c", "w"),
        without(
            graph(f"c = Conv (x, w)  {NORM}", x="float[2,3,6,5] x, float[4,3,3,3] w"),
            "<float[4,3,3,3] w, ",
        ).replace("y) ", "y) <"),
    ),
    "weight is computed from the data": Row(
        "weight-not-constant",
        ("c", "u"),
        graph(f"u = Mul (w, s)  c = Conv (x, u)  {NORM}", x="float[2,3,6,5] x, float s"),
    ),
    "weight is on the left": Row(
        "axis-mismatch",
        ("y", "c"),
        matrix(
            "c = MatMul (w, x)  y = BatchNormalization (c, g, b, m, v)",
            x="float[3,4] x",
            w="float[4,3] w",
        ),
    ),
    "bias is an input": Row(
        "weight-not-constant",
        ("c", "q"),
        graph(f"c = Conv (x, w, q)  {NORM}", x="float[2,3,6,5] x, float[4] q"),
    ),
    "Gemm's C is an input": Row(
        "weight-not-constant",
        ("c", "q"),
        matrix(f"c = Gemm (x, w, q)  {NORM}", x="float[2,3] x, float[2,4] q").replace(
            "float[a,b,c] y", "float[a,b] y"
        ),
    ),
    "weight overridable": Row(
        "overridable-initializer", ("c", "w"), PLAIN, ir=4, change=listed("w")
    ),
    "bias overridable": Row(
        "overridable-initializer",
        ("c", "q"),
        graph(f"c = Conv (x, w, q)  {NORM}", more=", float[4] q"),
        ir=4,
        change=listed("q"),
    ),
    "Conv of another domain": Row(
        "unknown-domain",
        ("c", "com.example"),
        graph(f"c = com.example.Conv (x, w)  {NORM}"),
        imports='"com.example" : 1',
    ),
    "attribute of Conv": Row(
        "unknown-attribute",
        ("c", "Conv", "activation"),
        PLAIN,
        change=attribute(0, "activation", "Relu"),
    ),
    "float8 weight": Row(
        "unsupported-dtype",
        ("c", "weight", "float8e4m3fn"),
        graph(f"c = Conv (x, w)  {NORM}", w="float8e4m3fn[4,3,3,3] w, "),
    ),
    "weight too large an expression": Row(
        "expression-too-large",
        ("c", "q"),
        without(
            graph(
                f"q = Expand (one, shape)  c = Conv (x, q)  {NORM}",
                x="float[2,2000000,6] x",
                more=", float one = {1.0}, int64[3] shape = {4,2000000,3}",
            ),
            "float[4,3,3,3] w, ",
        ),
    ),
    "weight without a kernel": Row(
        "malformed-node", ("c", "kernel"), graph(f"c = Conv (x, w)  {NORM}", w="float[4,3] w, ")
    ),
    "groups that do not divide": Row(
        "malformed-node", ("c", "3 groups"), graph(f"c = Conv <group=3> (x, w)  {NORM}")
    ),
    "bias of another length": Row(
        "malformed-node",
        ("c", "bias", "[5]"),
        graph(f"c = Conv (x, w, q)  {NORM}", more=", float[5] q"),
    ),
    "Gemm's C of another length": Row(
        "malformed-node",
        ("c", "[3]"),
        matrix(f"c = Gemm (x, w, q)  {NORM}", more=", float[3] q"),
    ),
}


@pytest.mark.parametrize("row", READERS.values(), ids=READERS)
def test_other_readers(row: Row) -> None:
    check_kept(row)


@pytest.mark.parametrize("row", PRODUCERS.values(), ids=PRODUCERS)
def test_producers(row: Row) -> None:
    check_kept(row)

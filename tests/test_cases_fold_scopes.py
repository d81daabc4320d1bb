"""Norms inside If, Loop and Scan bodies, and in model-local functions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support_cases import Case, check_fold
from tests.support_models import norm_parameters

BN = "BatchNormalization"
OWN = f"float[4,3,3,3] w, {norm_parameters(4)}"
NORM = f"c = Conv (x, w)  n = {BN} (c, g, b, m, v)"
OTHER = "else_branch = e () => (float[2,4,4,3] o) { o = Conv (x, z) }"

IF = {
    "own weights": Case(
        f"""agraph (bool when, float[2,3,6,5] x) => (float[2,4,4,3] y)
        <float[4,3,3,3] z> {{
            y = If (when) <
                then_branch = t () => (float[2,4,4,3] n) <{OWN}> {{ {NORM} }},
                {OTHER}>
        }}""",
        "If Conv Conv",
    ),
    "outer weights": Case(
        f"""agraph (bool when, float[2,3,6,5] x) => (float[2,4,4,3] y)
        <float[4,3,3,3] z, {OWN}> {{
            y = If (when) <then_branch = t () => (float[2,4,4,3] n) {{ {NORM} }}, {OTHER}>
        }}""",
        "If Conv Conv",
    ),
    "outer weight that the other branch reads too": Case(
        f"""agraph (bool when, float[2,3,6,5] x) => (float[2,4,4,3] y)
        <{OWN}> {{
            y = If (when) <
                then_branch = t () => (float[2,4,4,3] n) {{ {NORM} }},
                else_branch = e () => (float[2,4,4,3] o) {{ o = Conv (x, w) }}>
        }}""",
        "If Conv Conv",
    ),
    "both branches, one outer weight, two norms": Case(
        f"""agraph (bool when, float[2,3,6,5] x) => (float[2,4,4,3] y)
        <{OWN}, {norm_parameters(4, "2")}> {{
            y = If (when) <
                then_branch = t () => (float[2,4,4,3] n) {{ {NORM} }},
                else_branch = e () => (float[2,4,4,3] o) {{
                    d = Conv (x, w)  o = {BN} (d, g2, b2, m2, v2)
                }}>
        }}""",
        "If Conv Conv",
        folds=2,
    ),
    "outer and inner norm, one weight": Case(
        f"""agraph (bool when, float[2,3,6,5] x) => (float[2,4,4,3] y)
        <{OWN}> {{
            f = Conv (x, w)
            o = {BN} (f, g, b, m, v)
            y = If (when) <
                then_branch = t () => (float[2,4,4,3] n) {{ {NORM} }},
                else_branch = e () => (float[2,4,4,3] p) {{ p = Relu (o) }}>
        }}""",
        "Conv If Conv Relu",
        folds=2,
    ),
    "a norm in front of a MatMul whose bias is in both branches": Case(
        f"""agraph (bool when, float[2,3] x) => (float y)
        <float[3,4] w, float[4] bias, {norm_parameters(3)}> {{
            r = Relu (x)
            n = {BN} (r, g, b, m, v)
            c = MatMul (n, w)
            y = If (when) <
                then_branch = t () => (float[2,4] d) {{ d = Add (c, bias) }},
                else_branch = e () => (float[4] o) {{ o = Neg (bias) }}>
        }}""",
        "Relu MatMul Add If Add Neg",
    ),
    "nested": Case(
        f"""agraph (bool when, float[2,3,6,5] x) => (float[2,4,4,3] y)
        <float[4,3,3,3] z, {norm_parameters(4)}> {{
            y = If (when) <
                then_branch = t () => (float[2,4,4,3] i) {{
                    no = Not (when)
                    i = If (no) <
                        then_branch = tt () => (float[2,4,4,3] j) {{ j = Conv (x, z) }},
                        else_branch = te () => (float[2,4,4,3] n) <float[4,3,3,3] w> {{ {NORM} }}>
                }},
                {OTHER}>
        }}""",
        "If Not If Conv Conv Conv",
    ),
    "one name in both branches": Case(
        f"""agraph (bool when, float[2,3,6,5] x) => (float[2,4,4,3] y)
        <float[4,3,3,3] z, {norm_parameters(4)}> {{
            y = If (when) <
                then_branch = t () => (float[2,4,4,3] n) <float[4,3,3,3] w> {{ {NORM} }},
                else_branch = e () => (float[2,4,4,3] o) <float[4,3,3,3] w> {{ o = Conv (x, w) }}>
        }}""",
        "If Conv Conv",
    ),
    "without initializers of its own, IR 3": Case(
        f"""agraph (bool when, float[2,3,6,5] x) => (float[2,4,4,3] y)
        <{OWN}> {{
            y = If (when) <
                then_branch = t () => (float[2,4,4,3] n) {{ {NORM} }},
                else_branch = e () => (float[2,4,4,3] o) {{ o = Conv (x, w) }}>
        }}""",
        "If Constant Constant Conv Conv",
        opset=9,
        ir=3,
    ),
    "a matrix": Case(
        f"""agraph (bool when, float[2,3] x) => (float[2,4] y)
        <float[3,4] z, {norm_parameters(4)}> {{
            y = If (when) <
                then_branch = t () => (float[2,4] n) <float[3,4] w> {{
                    c = MatMul (x, w)  n = {BN} (c, g, b, m, v)
                }},
                else_branch = e () => (float[2,4] o) {{ o = Gemm (x, z) }}>
        }}""",
        "If MatMul Add Gemm",
    ),
}

LOOPS = {
    "Loop": Case(
        f"""agraph (float[2,4,6,5] x) => (float[2,4,6,5] y)
        <float[4,4,3,3] w, {norm_parameters(4)}, int64 times = {{2}}, bool always = {{1}}> {{
            y = Loop (times, always, x) <body = step
                (int64 i, bool go, float[2,4,6,5] h) => (bool on, float[2,4,6,5] n) {{
                    on = Identity (go)
                    c = Conv <pads = [1,1,1,1]> (h, w)
                    n = {BN} (c, g, b, m, v)
                }}>
        }}""",
        "Loop Identity Conv",
        roundings=2,
    ),
    "Loop, own weights, scanned": Case(
        f"""agraph (float[2,4] x) => (float[2,4] y, float[l,2,4] all)
        <int64 times = {{3}}, bool always = {{1}}> {{
            y, all = Loop (times, always, x) <body = step
                (int64 i, bool go, float[2,4] h)
                => (bool on, float[2,4] n, float[2,4] o) <float[4,4] w, {norm_parameters(4)}> {{
                    on = Identity (go)
                    c = Gemm (h, w)
                    n = {BN} (c, g, b, m, v)
                    o = Identity (n)
                }}>
        }}""",
        "Loop Identity Gemm Identity",
        roundings=3,
    ),
    "Scan": Case(
        f"""agraph (float[2,4] x, float[3,2,4] xs) => (float[2,4] y, float[3,2,4] ys)
        <float[4,4] w, {norm_parameters(4)}> {{
            y, ys = Scan <num_scan_inputs = 1, body = step
                (float[2,4] h, float[2,4] s) => (float[2,4] n, float[2,4] o) {{
                    a = Add (h, s)
                    c = MatMul (a, w)
                    n = {BN} (c, g, b, m, v)
                    o = Identity (n)
                }}> (x, xs)
        }}""",
        "Scan Add MatMul Add Identity",
        roundings=3,
    ),
}

CALL = f"""agraph (float[2,3,6,5] x) => (float[2,4,4,3] y)
    <{OWN}> {{ CALL }}"""
FUNCTION = '<domain: "local", opset_import: ["" : 17]>'
CALLER = '<domain: "local", opset_import: ["" : 17, "local" : 1]>'
FUNCTIONS = {
    "Conv and BN": Case(
        CALL.replace("CALL", "y = local.block (x, w, g, b, m, v)")
        + f"{FUNCTION} block (x, w, g, b, m, v) => (n) {{ {NORM} }}",
        "Conv",
        inlined=("local::block",),
    ),
    "Conv and BN, called twice": Case(
        f"""agraph (float[2,4] x) => (float[2,4] y)
        <float[4,4] w, {norm_parameters(4)}, float[4,4] u, {norm_parameters(4, "2")}> {{
            h = local.block (x, w, g, b, m, v)
            y = local.block (h, u, g2, b2, m2, v2)
        }}
        {FUNCTION} block (x, w, g, b, m, v) => (n) {{
            c = Gemm (x, w)  n = {BN} (c, g, b, m, v)
        }}""",
        "Gemm Gemm",
        folds=2,
        roundings=2,
        inlined=("local::block",),
    ),
    "only BN": Case(
        CALL.replace("CALL", "c = Conv (x, w)  y = local.norm (c, g, b, m, v)")
        + f"{FUNCTION} norm (c, g, b, m, v) => (n) {{ n = {BN} (c, g, b, m, v) }}",
        "Conv",
        inlined=("local::norm",),
    ),
    "only Conv": Case(
        CALL.replace("CALL", f"c = local.layer (x, w)  y = {BN} (c, g, b, m, v)")
        + f"{FUNCTION} layer (x, w) => (n) {{ n = Conv (x, w) }}",
        "Conv",
        inlined=("local::layer",),
    ),
    "one calls another": Case(
        CALL.replace("CALL", "y = local.outer (x, w, g, b, m, v)")
        + f"{FUNCTION} norm (c, g, b, m, v) => (n) {{ n = {BN} (c, g, b, m, v) }}"
        + f"{CALLER} outer (x, w, g, b, m, v) => (n) {{"
        + " c = Conv (x, w)  n = local.norm (c, g, b, m, v) }",
        "Conv",
        inlined=("local::norm", "local::outer"),
    ),
    "a function that has nothing to do with it": Case(
        CALL.replace("CALL", f"c = Conv (x, w)  n = {BN} (c, g, b, m, v)  y = local.act (n)")
        + f"{FUNCTION} act (x) => (y) {{ y = Relu (x) }}",
        "Conv act",
    ),
}


@pytest.mark.parametrize("case", IF.values(), ids=IF)
def test_if(case: Case) -> None:
    check_fold(case, draws=2)


@pytest.mark.parametrize("case", LOOPS.values(), ids=LOOPS)
def test_loops(case: Case) -> None:
    check_fold(case)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    check_fold(replace(FUNCTIONS[name], imports='"local" : 1', check="plain"))

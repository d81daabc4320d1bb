"""Norms that fold into copies of cheap operators, with --duplicate."""

from __future__ import annotations

import pytest

from tests.support_duplicate import (
    BN,
    DEPTHWISE,
    DIFFERENT,
    EQUAL,
    N1,
    N2,
    N,
    W,
    check_copies,
    shared,
)

COPY = {"c_copy": "c"}
K = "float[4,1,1] k, float[4,1,1] l"
CNT = "c = ConvTranspose <strides=[2,2]> (x, w)"

# Name -> (text, operators that are left, copies).
FOLDS = {
    "a norm and a Relu": (
        shared(f"{DEPTHWISE} y = {BN} {EQUAL} z = Relu (c)", f"{W}, {N}"),
        "Conv Conv Relu",
        COPY,
    ),
    "an output": (
        shared(f"{DEPTHWISE} y = {BN} {EQUAL}", f"{W}, {N}", "y, c"),
        "Conv Conv",
        COPY,
    ),
    "two norms that differ": (
        shared(f"{DEPTHWISE} y = {BN} {EQUAL} z = {BN} {DIFFERENT}", f"{W}, {N}, {N1}"),
        "Conv Conv",
        COPY,
    ),
    "three norms that differ": (
        shared(
            f"{DEPTHWISE} y = {BN} {EQUAL} z = {BN} {DIFFERENT} u = {BN} (c, g2, b2, m2, v2)",
            f"{W}, {N}, {N1}, {N2}",
            "y, z, u",
        ),
        "Conv Conv Conv",
        {"c_copy": "c", "c_copy_1": "c"},
    ),
    "two equal norms and another": (
        shared(
            f"{DEPTHWISE} y = {BN} {EQUAL} z = {BN} {DIFFERENT} s = {BN} {EQUAL} u = Relu (s)",
            f"{W}, {N}, {N1}",
            "y, z, u",
        ),
        "Conv Conv Relu",
        COPY,
    ),
    "two equal norms and a Relu": (
        shared(
            f"{DEPTHWISE} y = {BN} {EQUAL} s = {BN} {EQUAL} u = Relu (s) z = Relu (c)",
            f"{W}, {N}",
            "y, z, u",
        ),
        "Conv Conv Relu Relu",
        COPY,
    ),
    "two norms that differ, and a Relu": (
        shared(
            f"{DEPTHWISE} y = {BN} {EQUAL} z = {BN} {DIFFERENT} u = Relu (c)",
            f"{W}, {N}, {N1}",
            "y, z, u",
        ),
        "Conv Conv Conv Relu",
        {"c_copy": "c", "c_copy_1": "c"},
    ),
    "a chain of constants": (
        shared(f"{DEPTHWISE} t = Mul (c, k) y = Add (t, l) z = Relu (c)", f"{W}, {K}"),
        "Conv Conv Relu",
        COPY,
    ),
    "norms in a row": (
        shared(
            f"{DEPTHWISE} t = {BN} {EQUAL} y = {BN} (t, g1, b1, m1, v1) z = Relu (c)",
            f"{W}, {N}, {N1}",
        ),
        "Conv Conv Relu",
        COPY,
    ),
    "a bias": (
        shared(
            f"c = Conv <pads=[1,1,1,1], group=4> (x, w, k) y = {BN} {EQUAL} z = Relu (c)",
            f"{W}, float[4] k, {N}",
        ),
        "Conv Conv Relu",
        COPY,
    ),
    "5x5": (
        shared(
            f"c = Conv <pads=[2,2,2,2], group=4> (x, w) y = {BN} {EQUAL} z = Relu (c)",
            f"float[4,1,5,5] w, {N}",
        ),
        "Conv Conv Relu",
        COPY,
    ),
    "1x1 of 32 channels": (
        shared(
            f"c = Conv (x, w) y = {BN} {EQUAL} z = Relu (c)",
            f"float[4,32,1,1] w, {N}",
            x="float[2,32,3,3] x",
        ),
        "Conv Conv Relu",
        COPY,
    ),
    "ConvTranspose": (
        shared(f"{CNT} y = {BN} {EQUAL} z = Relu (c)", f"float[4,4,2,2] w, {N}"),
        "ConvTranspose ConvTranspose Relu",
        COPY,
    ),
    "ConvTranspose, depthwise": (
        shared(
            f"c = ConvTranspose <group=4> (x, w) y = {BN} {EQUAL} z = Relu (c)",
            f"float[4,1,3,3] w, {N}",
        ),
        "ConvTranspose ConvTranspose Relu",
        COPY,
    ),
    "Gemm": (
        shared(
            f"c = Gemm <transB=1> (x, w, k) y = {BN} {EQUAL} z = Relu (c)",
            f"float[4,8] w, float[4] k, {N}",
            x="float[3,8] x",
        ),
        "Gemm Gemm Relu",
        COPY,
    ),
    "MatMul, whose bias needs an Add": (
        shared(
            f"c = MatMul (x, w) y = {BN} {EQUAL} z = Relu (c)",
            f"float[8,4] w, {N}",
            x="float[3,8] x",
        ),
        "MatMul MatMul Add Relu",
        COPY,
    ),
    "MatMul and Add": (
        shared(
            f"d = MatMul (x, w) c = Add (d, k) y = {BN} {EQUAL} z = Relu (c)",
            f"float[8,4] w, float[4] k, {N}",
            x="float[3,8] x",
        ),
        "MatMul MatMul Add Add Relu",
        {"d_copy": "d"},
    ),
    "a norm behind one that folds, too": (
        shared(
            f"{DEPTHWISE} n = {BN} {EQUAL} y = {BN} (n, g1, b1, m1, v1) z = Relu (n)",
            f"{W}, {N}, {N1}",
        ),
        "Conv Conv Relu",
        COPY,
    ),
    "a chain behind a norm, and others behind both": (
        shared(
            f"{DEPTHWISE} n = {BN} {EQUAL} y = Mul (n, k) z = Relu (n) u = Neg (c)",
            f"{W}, {N}, float[4,1,1] k",
            "y, z, u",
        ),
        "Conv Conv Conv Relu Neg",
        {"c_copy": "c", "c_copy_1": "c"},
    ),
    "an Identity of its own": (
        shared(f"{DEPTHWISE} i = Identity (c) y = {BN} (i, g, b, m, v) z = Relu (c)", f"{W}, {N}"),
        "Conv Conv Relu",
        COPY,
    ),
    "an Identity that is shared": (
        shared(f"{DEPTHWISE} i = Identity (c) y = {BN} (i, g, b, m, v) z = Relu (i)", f"{W}, {N}"),
        "Conv Conv Identity Relu",
        COPY,
    ),
    "an Identity for two norms": (
        shared(
            f"{DEPTHWISE} i = Identity (c) y = {BN} (i, g, b, m, v) z = {BN} (i, g1, b1, m1, v1)",
            f"{W}, {N}, {N1}",
        ),
        "Conv Conv",
        COPY,
    ),
    "an Identity for two norms, and a Relu before it": (
        shared(
            f"{DEPTHWISE} i = Identity (c) y = {BN} (i, g, b, m, v) z = {BN} (i, g1, b1, m1, v1) "
            "u = Relu (c)",
            f"{W}, {N}, {N1}",
            "y, z, u",
        ),
        "Conv Conv Conv Relu",
        {"c_copy": "c", "c_copy_1": "c"},
    ),
    "equal norms on both sides of an Identity": (
        shared(
            f"{DEPTHWISE} i = Identity (c) s = {BN} (i, g, b, m, v) z = Relu (i) u = {BN} {EQUAL} "
            "y = Neg (s)",
            f"{W}, {N}",
            "y, z, u",
        ),
        "Conv Conv Identity Relu Neg",
        COPY,
    ),
    "equal norms that are both outputs": (
        shared(f"{DEPTHWISE} y = {BN} {EQUAL} z = {BN} {EQUAL}", f"{W}, {N}"),
        "Conv Conv",
        COPY,
    ),
    "two operators": (
        shared(
            f"{DEPTHWISE} y = {BN} {EQUAL} z = Relu (c) d = Conv <group=4> (z, w) "
            f"u = {BN} (d, g1, b1, m1, v1) t = Relu (d)",
            f"{W}, {N}, {N1}",
            "y, t, u",
        ),
        "Conv Conv Relu Conv Conv Relu",
        {"c_copy": "c", "d_copy": "d"},
    ),
    "names that are taken": (
        shared(
            f"{DEPTHWISE} y = {BN} {EQUAL} z = Relu (c) c_copy = Relu (z) u = Neg (c_copy)",
            f"{W}, {N}",
            "y, z, u",
        ),
        "Conv Conv Relu Relu Neg",
        COPY,
    ),
}


@pytest.mark.parametrize(("text", "left", "copied"), FOLDS.values(), ids=FOLDS)
def test_copies(text: str, left: str, copied: dict[str, str]) -> None:
    check_copies(text, left, copied)
    check_copies(text, left, copied, seed=1, dtype="double")

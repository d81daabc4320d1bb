"""Whole models whose norms stay, for axes that only look right or elements that others need."""

from __future__ import annotations

import pytest

from tests.support_movement_models import (
    CONV,
    IMAGE,
    LINEAR,
    NORM,
    Model,
    check_kept,
    whole,
)

KEPT = {
    "the norm's axis is that of the rows": Model(
        "float[N,4,3] x", f"c = MatMul (x, w)  y = {NORM}", LINEAR, "axis-mismatch"
    ),
    "rows as many as channels, transposed twice": Model(
        "float[N,4,3] x",
        f"a = MatMul (x, w)  k = Transpose <perm=[0,2,1]> (a)  "
        f"c = Transpose <perm=[0,2,1]> (k)  y = {NORM}",
        LINEAR,
        "axis-mismatch",
    ),
    "a square image, height and channels exchanged": Model(
        "float[N,3,4,4] x",
        f"k = Conv (x, w)  c = Transpose <perm=[0,2,1,3]> (k)  y = {NORM}",
        CONV,
        "axis-mismatch",
    ),
    "a vector on the width": Model(
        "float[N,3,4,4] x",
        "k = Conv (x, w)  c = Transpose <perm=[0,1,3,2]> (k)  y = Mul (c, p)",
        f"{CONV}, float[4] p",
        "axis-mismatch",
    ),
    "a reshape that mixes channels and pixels": Model(
        "float[N,3,2,2] x",
        f"k = Conv (x, w)  {whole(0, 2, 4, 2)}  a = Reshape (k, s)  "
        f"c = Transpose <perm=[0,2,1,3]> (a)  y = {NORM}",
        CONV,
        "axis-mismatch",
    ),
    "a flattened image with a norm for each feature": Model(
        "float[N,3,2,2] x",
        f"k = Conv (x, w)  c = Flatten (k)  y = {NORM}",
        CONV,
        "axis-mismatch",
        channels=16,
    ),
    "half of the image": Model(
        "float[N,3,4,4] x",
        f"k = Conv (x, w)  c, e = Split <axis=2> (k)  d = {NORM}  y = Concat <axis=2> (d, e)",
        CONV,
        "axis-mismatch",
    ),
    "a part of which is read before": Model(
        IMAGE,
        f"k = Conv (x, w)  c, e = Split <axis=1> (k)  d = {NORM}  r = Relu (c)  "
        "y = Concat <axis=1> (d, r)",
        "float[8,3,1,1] w",
        "shared-tensor",
    ),
    "a slice of a tensor that is read": Model(
        IMAGE,
        f"k = Conv (x, w)  {whole(0)}  {whole(4, name='e')}  {whole(1, name='a')}  "
        f"c = Slice (k, s, e, a)  d = {NORM}  r = Relu (k)  y = Concat <axis=1> (d, r)",
        "float[6,3,1,1] w",
        "shared-tensor",
    ),
    "one channel chosen twice": Model(
        IMAGE,
        f"k = Conv (x, w)  {whole(0, 1, 2, 2)}  c = Gather <axis=1> (k, s)  y = {NORM}",
        "float[3,3,1,1] w",
        "not-through",
    ),
    "channels repeated": Model(
        IMAGE,
        f"k = Conv (x, w)  {whole(1, 4, 1, 1)}  c = Expand (k, s)  y = {NORM}",
        "float[1,3,1,1] w",
        "not-through",
    ),
    "a rank that is not known": Model(
        IMAGE + ", int64[K] s",
        f"k = Conv (x, w)  c = Reshape (k, s)  y = {NORM}",
        CONV,
        "unknown-rank",
    ),
    "a sequence without the axis": Model(
        "float[N,3,5,4] x",
        "k = Conv (x, w)  q = SplitToSequence <axis=2, keepdims=0> (k)  "
        f"i = Constant <value_int=0> ()  c = SequenceAt (q, i)  y = {NORM}",
        CONV,
        "not-through",
    ),
    "an integer type in between": Model(
        IMAGE,
        f"k = Conv (x, w)  i = Cast <to=7> (k)  c = Cast <to=11> (i)  y = {NORM}",
        CONV,
        "not-through",
    ),
    "a norm that one branch keeps": Model(
        IMAGE.replace("3", "4"),
        f"c = Relu (x)  d = {NORM}  e = Sigmoid (d)  f = Concat <axis=1> (d, e)  y = Conv (f, w)",
        "float[2,8,1,1] w",
        "producer-not-linear",
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_kept(name: str) -> None:
    check_kept(KEPT[name])

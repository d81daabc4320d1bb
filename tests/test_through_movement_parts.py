"""Whole models in which a norm acts on parts of a tensor, or on several joined."""

from __future__ import annotations

import pytest

from tests.support_movement_models import (
    BN,
    CONV,
    IMAGE,
    NORM,
    Model,
    check_fold,
    whole,
)

FOLDS = {
    "two parts behind a bias that they share": Model(
        "float[N,3] x",
        "c = MatMul (x, w)  k = Add (p, c)  d, e, f = Split <axis=1> (k)  i = Mul (d, q)  "
        "j = Mul (f, r)  y = Concat <axis=1> (i, e, j)",
        "float[3,6] w, float[6] p, float[2] q, float[2] r",
        "MatMul Add Split Concat",
    ),
    "two parts behind another norm": Model(
        "float[N,3] x",
        "c = MatMul (x, w)  k = Mul (c, p)  d, e, f = Split <axis=1> (k)  i = Mul (d, q)  "
        "j = Mul (f, r)  y = Concat <axis=1> (i, e, j)",
        "float[3,6] w, float[6] p, float[2] q, float[2] r",
        "MatMul Split Concat",
    ),
    "two convolutions side by side": Model(
        IMAGE,
        f"k = Conv (x, w)  l = Conv (x, u)  c = Concat <axis=1> (k, l)  y = {NORM}",
        "float[1,3,1,1] w, float[3,3,1,1] u",
        "Conv Conv Concat",
    ),
    "two convolutions side by side, elsewhere": Model(
        IMAGE,
        f"k = Conv (x, w)  l = Conv (x, u)  c = Concat <axis=2> (k, l)  y = {NORM}",
        f"{CONV}, float[4,3,1,1] u",
        "Conv Conv Concat",
    ),
    "the first half": Model(
        IMAGE,
        f"k = Conv (x, w)  c, e = Split <axis=1> (k)  d = {NORM}  y = Concat <axis=1> (d, e)",
        "float[8,3,1,1] w",
        "Conv Split Concat",
    ),
    "the second part": Model(
        IMAGE,
        f"k = Conv (x, w)  {whole(2, 4)}  e, c = Split <axis=1> (k, s)  d = {NORM}  "
        "f = Relu (e)  y = Concat <axis=1> (d, f)",
        "float[6,3,1,1] w",
        "Conv Constant Split Relu Concat",
    ),
    "channels cut out": Model(
        IMAGE,
        f"k = Conv (x, w)  {whole(1)}  {whole(5, name='e')}  {whole(1, name='a')}  "
        f"c = Slice (k, s, e, a)  y = {NORM}",
        "float[6,3,1,1] w",
        "Conv Constant Constant Constant Slice",
    ),
    "a part and its neighbour": Model(
        IMAGE,
        f"k = Conv (x, w)  {whole(0)}  {whole(4, name='e')}  {whole(1, name='a')}  "
        f"{whole(9, name='z')}  c = Slice (k, s, e, a)  r = Slice (k, e, z, a)  d = {NORM}  "
        "y = Concat <axis=1> (d, r)",
        "float[6,3,1,1] w",
        "Conv Constant Constant Constant Constant Slice Slice Concat",
    ),
    "a crop of the image": Model(
        "float[N,3,H,W] x",
        f"k = Conv (x, w)  {whole(0)}  {whole(-1, name='e')}  {whole(2, name='a')}  "
        f"c = Slice (k, s, e, a)  y = {NORM}",
        CONV,
        "Conv Constant Constant Constant Slice",
    ),
    "a chunk": Model(
        IMAGE,
        f"k = Conv (x, w)  s = Constant <value_int=4> ()  q = SplitToSequence <axis=1> (k, s)  "
        "i = Constant <value_int=0> ()  j = Constant <value_int=1> ()  c = SequenceAt (q, i)  "
        f"e = SequenceAt (q, j)  d = {NORM}  y = Concat <axis=1> (d, e)",
        "float[8,3,1,1] w",
        "Conv Constant SplitToSequence Constant Constant SequenceAt SequenceAt Concat",
    ),
    "parts in another order": Model(
        IMAGE,
        f"k = Conv (x, w)  e, f = Split <axis=1> (k)  c = Concat <axis=1> (f, e)  y = {NORM}",
        CONV,
        "Conv Split Concat",
    ),
    "slices in another order": Model(
        IMAGE,
        f"k = Conv (x, w)  {whole(0)}  {whole(2, name='e')}  {whole(1, name='a')}  "
        f"{whole(9, name='z')}  p = Slice (k, s, e, a)  q = Slice (k, e, z, a)  "
        f"c = Concat <axis=1> (q, p)  y = {NORM}",
        CONV,
        "Conv Constant Constant Constant Constant Slice Slice Concat",
    ),
    "chunks in another order": Model(
        IMAGE,
        f"k = Conv (x, w)  s = Constant <value_int=2> ()  q = SplitToSequence <axis=1> (k, s)  "
        "i = Constant <value_int=0> ()  j = Constant <value_int=1> ()  o = SequenceAt (q, i)  "
        f"e = SequenceAt (q, j)  c = Concat <axis=1> (e, o)  y = {NORM}",
        CONV,
        "Conv Constant SplitToSequence Constant Constant SequenceAt SequenceAt Concat",
    ),
    "chunks with a norm each": Model(
        IMAGE,
        f"k = Conv (x, w)  s = Constant <value_int=4> ()  q = SplitToSequence <axis=1> (k, s)  "
        "i = Constant <value_int=0> ()  j = Constant <value_int=1> ()  c = SequenceAt (q, i)  "
        f"e = SequenceAt (q, j)  d = {NORM}  f = {BN} (e, b, g, m, v)  "
        "h = Relu (d)  y = Concat <axis=1> (h, f)",
        "float[8,3,1,1] w",
        "Conv Constant SplitToSequence Constant Constant SequenceAt SequenceAt Relu Concat",
    ),
    "scores scaled and shifted, boxes not": Model(
        "float[N,3,5,4] x",
        f"k = Conv (x, w)  {whole(0)}  {whole(2, name='e')}  {whole(1, name='a')}  "
        f"{whole(9, name='z')}  p = Slice (k, s, e, a)  c = Slice (k, e, z, a)  "
        "f = Mul (c, t)  h = Add (f, t)  r = Relu (p)  y = Concat <axis=1> (r, h)",
        f"{CONV}, float[1] t",
        "Conv Constant Constant Constant Constant Slice Slice Relu Concat",
    ),
    "a norm before branches that join again": Model(
        IMAGE.replace("3", "4"),
        f"c = Relu (x)  d = {NORM}  e = Transpose <perm=[0,1,2,3]> (d)  "
        "f = Concat <axis=1> (d, e)  y = Conv (f, w)",
        "float[2,8,1,1] w",
        "Relu Transpose Concat Conv",
    ),
    "a norm joins others": Model(
        IMAGE.replace("3", "4"),
        f"c = Relu (x)  d = {NORM}  f = Concat <axis=1> (x, d)  y = Conv (f, w)",
        "float[2,8,1,1] w",
        "Relu Concat Conv",
    ),
    "channels chosen": Model(
        IMAGE,
        f"k = Conv (x, w)  {whole(4, 0, 5, 2)}  c = Gather <axis=1> (k, s)  y = {NORM}",
        "float[6,3,1,1] w",
        "Conv Constant Gather",
    ),
    "a pixel chosen": Model(
        "float[N,3,5,4] x",
        f"k = Conv (x, w)  s = Constant <value_int=1> ()  c = Gather <axis=2> (k, s)  y = {NORM}",
        CONV,
        "Conv Constant Gather",
    ),
}


@pytest.mark.parametrize("name", FOLDS)
def test_folds(name: str) -> None:
    check_fold(FOLDS[name])

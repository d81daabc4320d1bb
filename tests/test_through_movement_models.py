"""Whole models with axes exchanged, merged, parted or repeated before a norm or behind it."""

from __future__ import annotations

import pytest

from tests.support_movement_models import (
    CONV,
    IMAGE,
    LINEAR,
    NORM,
    ROWS,
    WIDE,
    Model,
    check_fold,
    whole,
)

FOLDS = {
    "linear and a norm over sequences": Model(
        ROWS,
        f"a = MatMul (x, w)  c = Transpose <perm=[0,2,1]> (a)  d = {NORM}  "
        "y = Transpose <perm=[0,2,1]> (d)",
        LINEAR,
        "MatMul Add Transpose Transpose",
    ),
    "a norm over sequences before linear": Model(
        WIDE.replace("6", "4"),
        f"c = Transpose <perm=[0,2,1]> (x)  d = {NORM}  e = Transpose <perm=[0,2,1]> (d)  "
        "y = MatMul (e, w)",
        "float[4,3] w",
        "Transpose Transpose MatMul Add",
    ),
    "channels last": Model(
        "float[N,5,4,3] x",
        "i = Transpose <perm=[0,3,1,2]> (x)  k = Conv (i, w)  c = Transpose <perm=[0,2,3,1]> (k)  "
        "d = Mul (c, p)  y = Add (d, q)",
        f"{CONV}, float[4] p, float[4] q",
        "Transpose Conv Transpose",
    ),
    "depth to space": Model(
        IMAGE,
        f"k = Conv (x, w)  c = DepthToSpace <blocksize=2> (k)  y = {NORM}",
        "float[16,3,1,1] w",
        "Conv DepthToSpace",
    ),
    "depth to space, column and row first": Model(
        "float[N,3,H,W] x",
        f'k = Conv (x, w)  c = DepthToSpace <blocksize=2, mode="CRD"> (k)  y = {NORM}',
        "float[16,3,1,1] w",
        "Conv DepthToSpace",
    ),
    "space to depth before a convolution": Model(
        "float[N,4,H,W] x",
        f"c = Relu (x)  d = {NORM}  e = SpaceToDepth <blocksize=2> (d)  y = Conv (e, w)",
        "float[2,16,1,1] w",
        "Relu SpaceToDepth Conv",
    ),
    "a generator's first layer": Model(
        "float[N,3] x",
        f"k = Gemm (x, w)  {whole(0, 4, 2, 3)}  c = Reshape (k, s)  y = {NORM}",
        "float[3,24] w",
        "Gemm Constant Reshape",
    ),
    "a generator's first layer, batch open": Model(
        "float[N,3] x",
        f"k = Gemm (x, w)  {whole(-1, 4, 2, 3)}  c = Reshape (k, s)  y = {NORM}",
        "float[3,24] w",
        "Gemm Constant Reshape",
    ),
    "a norm before flatten and a classifier": Model(
        "float[N,4,2,3] x",
        f"c = Relu (x)  d = {NORM}  f = Flatten (d)  y = Gemm (f, w)",
        "float[24,2] w",
        "Relu Flatten Gemm",
    ),
    "image size told by the classifier": Model(
        "float[N,4,H,W] x",
        f"c = Relu (x)  d = {NORM}  f = Flatten (d)  y = Gemm (f, w)",
        "float[16,2] w",
        "Relu Flatten Gemm",
    ),
    "flatten by a shape": Model(
        "float[N,4,2,3] x",
        f"c = Relu (x)  d = {NORM}  {whole(0, -1)}  f = Reshape (d, s)  y = Gemm (f, w)",
        "float[24,2] w",
        "Relu Constant Reshape Gemm",
    ),
    "channel shuffle behind the convolution": Model(
        "float[N,3,H,W] x",
        f"k = Conv (x, w)  {whole(0, 2, 3, -1, 2)}  {whole(0, 6, -1, 2, name='t')}  "
        "r = Reshape (k, s)  p = Transpose <perm=[0,2,1,3,4]> (r)  c = Reshape (p, t)  "
        f"y = {NORM}",
        "float[6,3,1,1] w",
        "Conv Constant Constant Reshape Transpose Reshape",
        channels=6,
    ),
    "channel shuffle before the convolution": Model(
        "float[N,6,5,4] x",
        f"c = Relu (x)  d = {NORM}  {whole(0, 3, 2, 5, 4)}  {whole(0, 6, 5, 4, name='t')}  "
        "r = Reshape (d, s)  p = Transpose <perm=[0,2,1,3,4]> (r)  e = Reshape (p, t)  "
        "y = Conv (e, w)",
        "float[2,6,1,1] w",
        "Relu Constant Constant Reshape Transpose Reshape Conv",
        channels=6,
    ),
    "rows and columns": Model(
        ROWS,
        f"{whole(-1, 3)}  r = Reshape (x, s)  c = Gemm (r, w)  n = {NORM}  "
        f"{whole(-1, 5, 4, name='t')}  y = Reshape (n, t)",
        LINEAR,
        "Constant Reshape Gemm Constant Reshape",
    ),
    "rows and columns, norm over sequences": Model(
        ROWS,
        f"{whole(-1, 3)}  r = Reshape (x, s)  k = Gemm (r, w)  {whole(-1, 5, 4, name='t')}  "
        f"q = Reshape (k, t)  c = Transpose <perm=[0,2,1]> (q)  y = {NORM}",
        LINEAR,
        "Constant Reshape Gemm Constant Reshape Transpose",
    ),
    "as many rows as channels": Model(
        "float[N,4,3] x",
        f"a = MatMul (x, w)  c = Transpose <perm=[0,2,1]> (a)  y = {NORM}",
        LINEAR,
        "MatMul Add Transpose",
    ),
    "an axis put in": Model(
        "float[N,3,5] x",
        f"k = Conv (x, w)  {whole(-1)}  c = Unsqueeze (k, s)  y = {NORM}",
        "float[4,3,1] w",
        "Conv Constant Unsqueeze",
    ),
    "an axis taken away": Model(
        "float[N,3,1,5] x",
        f"k = Conv (x, w)  {whole(2)}  c = Squeeze (k, s)  y = {NORM}",
        CONV,
        "Conv Constant Squeeze",
    ),
    "another type in between": Model(
        IMAGE,
        f"k = Conv (x, w)  c = Cast <to=11> (k)  y = {NORM}",
        CONV,
        "Conv Cast",
    ),
    "images repeated": Model(
        "float[1,3,5,4] x",
        f"k = Conv (x, w)  {whole(3, 4, 5, 4)}  c = Expand (k, s)  y = {NORM}",
        CONV,
        "Conv Constant Expand",
    ),
    "pixels repeated": Model(
        IMAGE,
        f"k = Conv (x, w)  {whole(1, 1, 2, 2)}  c = Tile (k, s)  y = {NORM}",
        CONV,
        "Conv Constant Tile",
    ),
}


@pytest.mark.parametrize("name", FOLDS)
def test_folds(name: str) -> None:
    check_fold(FOLDS[name])

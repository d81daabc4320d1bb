"""Patterns of norms as they stand in real networks, each of which can be folded exactly."""

from __future__ import annotations

from tests.support_patterns import PATTERNS, Pattern, W
from tests.support_patterns_more import MORE
from tests.support_patterns_operators import OPERATORS

MODELS = {
    "input of whole numbers": Pattern(
        "f = Cast<to=1>(x)  c = Sub(f, m)  n = Div(c, s)  y = Conv(n, w)",
        f"{W}, float[1,3,1,1] m, float[1,3,1,1] s",
        "Cast Conv",
        "uint8[2,3,8,6] x",
    ),
    "torch's view": Pattern(
        "s = Sigmoid(x)  n = BN3(s)  sh = Shape(n)  b = Gather(sh, i0)"
        "  ub = Unsqueeze(b, a0)  cs = Concat<axis=0>(ub, m1)  f = Reshape(n, cs)"
        "  y = Gemm(f, w, k)",
        "float[144,5] w, float[5] k, int64 i0 = {0}, int64[1] a0 = {0}, int64[1] m1 = {-1}",
        "Sigmoid Shape Gather Unsqueeze Concat Reshape Gemm",
        "float[N,3,8,6] x",
        "y:2",
    ),
    "scale of the queries": Pattern(
        "c = MatMul(x, w)  d = Add(c, k)  r = Reshape(d, s)"
        "  t = Transpose<perm=[0,2,1,3]>(r)  y = Mul(t, q)",
        "float[6,8] w, float[8] k, int64[4] s = {0,-1,2,4}, float q",
        "MatMul Add Reshape Transpose",
        "float[2,5,6] x",
    ),
    "Concat with itself": Pattern(
        "c = Conv(x, w)  d = Concat<axis=1>(c, c)  y = SCALE8(d)",
        f"{W}",
        "Conv Concat",
        values=(("gs8", [1, 2, 3, 4, 1, 2, 3, 4]), ("vs8", [1] * 8)),
    ),
    "Add with itself": Pattern("c = Conv(x, w)  d = Add(c, c)  y = BN(d)", f"{W}", "Conv Add"),
    "equal norms behind Identity": Pattern(
        "c = Conv(x, w)  i = Identity(c)  j = Identity(c)  n = BN(i)  o = BN(j)"
        "  r = Relu(n)  y = Add(r, o)",
        W,
        "Conv Relu Add",
    ),
    "Conv and Gemm read one norm": Pattern(
        "s = Sigmoid(x)  n = BN3(s)  y = Conv(n, w)  f = Flatten(n)  z = Gemm(f, u)",
        f"{W}, float[144,5] u",
        "Sigmoid Conv Flatten Gemm",
        y="y:4 z:2",
    ),
    "Relu, GlobalAveragePool, Gemm": Pattern(
        "s = Tanh(x)  n = GAIN3(s)  r = Relu(n)  p = GlobalAveragePool(r)  f = Flatten(p)"
        "  y = Gemm(f, u, k)",
        "float[3,5] u, float[5] k",
        "Tanh Relu GlobalAveragePool Flatten Gemm",
        y="y:2",
    ),
    "LayerNormalization, Mul, Add": Pattern(
        "c = LayerNormalization(x, a)  d = Mul(c, k)  y = Add(d, l)",
        "float[4] a, float[4] k, float[4] l",
        "LayerNormalization",
        "float[2,7,4] x",
        "y:3",
    ),
    "layer scale": Pattern(
        "c = MatMul(x, w)  d = Add(c, k)  e = Mul(d, g)  t = Transpose<perm=[0,3,1,2]>(e)"
        "  y = Add(z, t)",
        "float[3,4] w, float[4] k, float[4] g",
        "MatMul Add Transpose Add",
        "float[2,5,6,3] x, float[2,4,5,6] z",
    ),
    "sizes taken before the norm": Pattern(
        "c = Conv(x, w)  n = BN(c)  sh = Shape(c)  hw = Slice(sh, a, e4)"
        "  nc = Slice(sh, z, a)  h2 = Mul(hw, two)  sz = Concat<axis=0>(nc, h2)"
        '  y = Resize<mode="nearest">(n, , , sz)',
        f"{W}, int64[1] a = {{2}}, int64[1] e4 = {{4}}, int64[1] z = {{0}}, int64[1] two = {{2}}",
        "Conv Shape Slice Slice Mul Concat Resize",
    ),
    "Resize by sizes": Pattern(
        "c = Conv(x, w)  sh = Shape(c)  hw = Slice(sh, a, e4)  nc = Slice(sh, z, a)"
        "  h2 = Mul(hw, two)  sz = Concat<axis=0>(nc, h2)"
        '  r = Resize<mode="nearest">(c, , , sz)  y = BN(r)',
        f"{W}, int64[1] a = {{2}}, int64[1] e4 = {{4}}, int64[1] z = {{0}}, int64[1] two = {{2}}",
        "Conv Shape Slice Slice Mul Concat Resize",
    ),
    "Resize by sizes, unknown": Pattern(
        "c = Conv(x, w)  sh = Shape(c)  hw = Slice(sh, a, e4)  nc = Slice(sh, z, a)"
        "  h2 = Mul(hw, two)  sz = Concat<axis=0>(nc, h2)"
        '  r = Resize<mode="nearest">(c, , , sz)  y = BN(r)',
        f"{W}, int64[1] a = {{2}}, int64[1] e4 = {{4}}, int64[1] z = {{0}}, int64[1] two = {{2}}",
        "Conv Shape Slice Slice Mul Concat Resize",
        "float[N,3,H,W] x",
    ),
    "Pad of edges, Conv": Pattern(
        's = Tanh(x)  n = BN3(s)  p = Pad<mode="edge">(n, q)  y = Conv(p, w)',
        f"{W}, int64[8] q = {{0,0,1,1,0,0,1,1}}",
        "Tanh Pad Conv",
    ),
    "Pad of zeros, Conv": Pattern(
        "s = Tanh(x)  n = SCALE3(s)  p = Pad(n, q)  y = Conv(p, w)",
        f"{W}, int64[8] q = {{0,0,1,1,0,0,1,1}}",
        "Tanh Pad Conv",
    ),
    "Split, two Convs": Pattern(
        "s = Tanh(x)  n = BN3(s)  a, b = Split<axis=1>(n, q)  y = Conv(a, w)  z = Conv(b, u)",
        "float[4,1,3,3] w, float[4,2,3,3] u, int64[2] q = {1,2}",
        "Tanh Split Conv Conv",
        y="y:4 z:4",
    ),
    "Resize, Conv": Pattern(
        's = Tanh(x)  n = BN3(s)  a = Resize<mode="linear">(n, , sc)  y = Conv(a, w)',
        f"{W}, float[4] sc",
        "Tanh Resize Conv",
        values=(("sc", [1, 1, 2, 2]),),
    ),
    "Upsample of opset 7": Pattern(
        'c = Conv(x, w)  a = Upsample<mode="nearest", scales=[1.0,1.0,2.0,2.0]>(c)  y = BN(a)',
        f"{W}",
        "Conv Upsample",
        opset=8,
    ),
    "patches": Pattern(
        "c = Conv<strides=[2,2]>(x, w)  r = Reshape(c, s)  t = Transpose<perm=[0,2,1]>(r)"
        "  d = Mul(t, g)  y = Add(d, k)",
        "float[4,3,2,2] w, int64[3] s = {0,4,-1}, float[4] g, float[4] k",
        "Conv Reshape Transpose",
        y="y:3",
    ),
    "patches, token and positions": Pattern(
        "c = Conv<strides=[2,2]>(x, w)  r = Reshape(c, s)  t = Transpose<perm=[0,2,1]>(r)"
        "  e = Concat<axis=1>(tok, t)  f = Add(e, pos)  d = Mul(f, g)  y = Add(d, k)",
        "float[4,3,2,2] w, int64[3] s = {0,4,-1}, float[4] g, float[4] k, "
        "float[2,1,4] tok, float[1,13,4] pos",
        "Conv Reshape Transpose Concat Add",
        y="y:3",
    ),
    "Conv 1-D, transposed": Pattern(
        "c = Conv(x, w)  t = Transpose<perm=[0,2,1]>(c)  d = Mul(t, g)  y = Add(d, k)",
        "float[4,3,3] w, float[4] g, float[4] k",
        "Conv Transpose",
        "float[2,3,9] x",
        "y:3",
    ),
    "Gather of the first step": Pattern(
        "s = Tanh(x)  n = BN3(s)  t = Transpose<perm=[0,2,1]>(n)  e = Gather<axis=1>(t, i)"
        "  y = Gemm(e, w, k)",
        "float[3,5] w, float[5] k, int64 i = {0}",
        "Tanh Transpose Gather Gemm",
        "float[2,3,9] x",
        "y:2",
    ),
    "1x1 Conv": Pattern(
        "s = Tanh(x)  n = BN3(s)  y = Conv(n, w)  ", "float[4,3,1,1] w", "Tanh Conv"
    ),
    "residual block": Pattern(
        "a = Conv(x, w)  n = BN(a)  c = Conv<pads=[1,1,1,1]>(n, u)  d = OTHER(c)"
        "  e = Add(n, d)  y = Relu(e)",
        "float[4,3,3,3] w, float[4,4,3,3] u",
        "Conv Conv Add Relu",
    ),
    "Neg": Pattern("a = Conv(x, w)  n = Neg(a)  y = BN(n)", "float[4,3,3,3] w", "Conv Neg"),
    "ReduceMean of opset 18": Pattern(
        "a = Conv(x, w)  n = ReduceMean<keepdims=0>(a, ax)  y = BN(n)",
        "float[4,3,3,3] w, int64[2] ax = {2,3}",
        "Conv ReduceMean",
        opset=18,
        y="y:2",
    ),
    "Flatten and back": Pattern(
        "a = Conv(x, w)  f = Flatten<axis=2>(a)  r = Reshape(f, s)  y = BN(r)",
        "float[4,3,3,3] w, int64[4] s = {2,4,6,4}",
        "Conv Flatten Reshape",
    ),
    "Einsum forward": Pattern(
        's = Tanh(x)  n = BN3(s)  y = Einsum<equation="bchw,oc->bohw">(n, w)',
        "float[4,3] w",
        "Tanh Einsum Add",
    ),
    "squeeze and excite": Pattern(
        "a = Conv(x, w)  n = BN(a)  p = GlobalAveragePool(n)  q = Conv(p, u)"
        "  r = Sigmoid(q)  y = Mul(n, r)",
        "float[4,3,3,3] w, float[4,4,1,1] u",
        "Conv GlobalAveragePool Conv Sigmoid Mul",
    ),
    "torch's GroupNorm": Pattern(
        "r = Reshape(x, s)  i = InstanceNormalization(r, a, k)  t = Reshape(i, z)"
        "  d = Mul(t, g)  y = Add(d, l)",
        "int64[3] s = {0,4,-1}, float[4] a, float[4] k, int64[4] z = {2,4,8,6}, "
        "float[4,1,1] g, float[4,1,1] l",
        "Reshape InstanceNormalization Reshape",
        "float[2,4,8,6] x",
    ),
    "two heads with biases": Pattern(
        "s = Tanh(x)  n = BN3(s)  t = Transpose<perm=[0,2,1]>(n)  a = MatMul(t, w)"
        "  y = Add(a, k)  b = MatMul(t, u)  z = Add(b, l)",
        "float[3,4] w, float[4] k, float[3,5] u, float[5] l",
        "Tanh Transpose MatMul Add MatMul Add",
        "float[2,3,9] x",
        "y:3 z:3",
    ),
}
ALL_PATTERNS: dict[str, Pattern] = {
    **PATTERNS,
    **{f"models: {name}": pattern for name, pattern in MODELS.items()},
    **{f"more: {name}": pattern for name, pattern in MORE.items()},
    **{f"operators: {name}": pattern for name, pattern in OPERATORS.items()},
}

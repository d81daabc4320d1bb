"""Patterns of norms in which several things meet, each of which can be folded exactly."""

from __future__ import annotations

from tests.support_patterns import FOUR, SEQUENCE, TWO, Pattern, W

MORE = {
    "equal norms behind two Transposes": Pattern(
        "c = Conv(x, w)  t = Transpose<perm=[0,1,3,2]>(c)  s = Transpose<perm=[0,1,3,2]>(c)"
        "  n = BN(t)  o = BN(s)  r = Relu(n)  y = Add(r, o)",
        W,
        "Conv Transpose Transpose Relu Add",
    ),
    "equal norms behind two pools": Pattern(
        "c = Conv(x, w)  p = GlobalAveragePool(c)  q = GlobalMaxPool(c)  n = POS(p)  o = POS(q)"
        "  y = Mul(n, o)",
        W,
        "Conv GlobalAveragePool GlobalMaxPool Mul",
    ),
    "equal norms of a tensor and of its parts": Pattern(
        "c = Conv(x, w)  d, e = Split<axis=2>(c, s)  f = Reshape(e, r)"
        "  q = GlobalAveragePool(c)  n = BN(d)  o = BN(f)  p = BN(q)  y = Add(n, p)"
        "  z = Relu(o)",
        f"{W}, int64[2] s = {{2,4}}, int64[3] r = {{0,4,-1}}",
        "Conv Split Reshape GlobalAveragePool Add Relu",
        y="y:4 z:3",
    ),
    "sum of two pools of one tensor": Pattern(
        "c = Conv(x, w)  p = GlobalAveragePool(c)  q = GlobalMaxPool(c)  e = Add(p, q)  y = POS(e)",
        W,
        "Conv GlobalAveragePool GlobalMaxPool Add",
    ),
    "sum of a tensor and its mean": Pattern(
        "c = Conv(x, w)  p = ReduceMean<axes=[2,3]>(c)  e = Add(p, c)  y = BN(e)",
        W,
        "Conv ReduceMean Add",
    ),
    "Where with zeros": Pattern(
        "c = Conv(x, w)  e = Where(k, c, z)  y = SCALE(e)",
        f"{W}, float z",
        "Conv Where",
        f"{FOUR}, bool[6,4] k",
        values=(("z", 0),),
    ),
    "Where with zeros, forward": Pattern(
        "s = Tanh(x)  n = SCALE3(s)  e = Where(k, z, n)  y = Conv(e, w)",
        f"{W}, float z",
        "Tanh Where Conv",
        f"{FOUR}, bool[8,6] k",
        values=(("z", 0),),
    ),
    "Max with zero": Pattern(
        "c = Conv(x, w)  e = Max(c, z)  y = GAIN(e)",
        f"{W}, float z",
        "Conv Max",
        values=(("z", 0),),
    ),
    "Einsum with an ellipsis": Pattern(
        'c = Einsum<equation="...j,jk->...k">(x, w)  t = Transpose<perm=[0,2,1]>(c)  y = BN(t)',
        "float[3,4] w",
        "Einsum Add Transpose",
        SEQUENCE,
        "y:3",
    ),
    "RMSNormalization": Pattern(
        "c = RMSNormalization(x, a)  d = Mul(c, k)  y = Add(d, l)",
        "float[4] a, float[4] k, float[4] l",
        "RMSNormalization Add",
        "float[2,7,4] x",
        "y:3",
        opset=23,
    ),
    "input, Neg, Add": Pattern(
        "d = Neg(x)  n = Add(d, k)  y = Conv(n, w)", f"{W}, float[1,3,1,1] k", "Neg Conv"
    ),
    "pixel shuffle by sizes taken from the graph": Pattern(
        "c = Conv(x, w)  sh = Shape(c)  nc = Slice(sh, zero, one)  h = Slice(sh, two, three)"
        "  l = Slice(sh, three, four)  p = Concat<axis=0>(nc, four, two, two, h, l)"
        "  r = Reshape(c, p)  t = Transpose<perm=[0,1,4,2,5,3]>(r)  hh = Mul(h, two)"
        "  ll = Mul(l, two)  q = Concat<axis=0>(nc, four, hh, ll)  e = Reshape(t, q)  y = BN(e)",
        "float[16,3,3,3] w, int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, "
        "int64[1] three = {3}, int64[1] four = {4}",
        "Conv Shape Slice Slice Slice Concat Reshape Transpose Mul Mul Concat Reshape",
        "float[N,3,H,W] x",
    ),
    "lateral and upsampled": Pattern(
        'c = Conv(x, w)  d = Conv<strides=[2,2]>(x, u)  r = Resize<mode="nearest">(d, , s)'
        "  e = Add(c, r)  y = BN(e)",
        "float[4,3,1,1] w, float[4,3,1,1] u, float[4] s",
        "Conv Conv Resize Add",
        values=(("s", [1, 1, 2, 2]),),
    ),
    "Keras, ReLU, norm, flat rows": Pattern(
        "t = Transpose<perm=[0,3,1,2]>(x)  c = Conv(t, w)  r = Relu(c)  n = BN(r)"
        "  h = Transpose<perm=[0,2,3,1]>(n)  f = Reshape(h, s)  d = MatMul(f, u)  y = Add(d, k)",
        f"{W}, float[96,5] u, float[5] k, int64[2] s = {{-1,96}}",
        "Transpose Conv Relu Transpose Reshape MatMul Add",
        "float[N,8,6,3] x",
        "y:2",
    ),
    "maximum of two halves": Pattern(
        "c = Conv(x, w)  d, e = Split<axis=1>(c)  f = Max(d, e)  y = POS(f)",
        "float[8,3,3,3] w",
        "Conv Split Max",
    ),
    "one norm for both sides of a Sub": Pattern(
        "s = Tanh(x)  n = BN3(s)  t = Tanh(z)  o = BN3(t)  e = Sub(n, o)  y = Gemm(e, w)",
        "float[3,5] w",
        "Tanh Tanh Sub Gemm",
        "float[2,3] x, float[2,3] z",
        "y:2",
    ),
    "norms of three branches, forward": Pattern(
        "s = Tanh(x)  n = GAIN3(s)  t = Sigmoid(x)  o = GAIN3(t)  q = Abs(x)  p = GAIN3(q)"
        "  e = Max(n, o)  f = Min(p, e)  y = Conv(f, w)",
        W,
        "Tanh Sigmoid Abs Max Min Conv",
    ),
    "chains of two branches, one also read by another": Pattern(
        "s = Tanh(x)  m = Mul(s, g)  n = Add(m, k)  t = Sigmoid(x)  p = Mul(t, g)  o = Add(p, l)"
        "  e = Add(n, o)  y = Conv(e, w)  z = Conv(o, u)",
        f"{W}, float[5,3,1,1] u, float[3,1,1] g, float[3,1,1] k, float[3,1,1] l",
        "Tanh Sigmoid Add Conv Conv",
        y="y:4 z:4",
    ),
    "two norms, a sum, a norm": Pattern(
        "c = Conv(x, w)  n = BN(c)  d = Conv(x, u)  o = OTHER(d)  e = Add(n, o)"
        "  p = AveragePool<kernel_shape=[2,2]>(e)  y = BN(p)",
        TWO,
        "Conv Conv Add AveragePool",
    ),
}

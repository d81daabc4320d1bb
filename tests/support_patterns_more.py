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
    "equal norms of the halves of a Split": Pattern(
        "c = Conv(x, w)  d, e = Split<axis=2>(c)  n = BN(d)  o = BN(e)  y = Add(n, o)",
        W,
        "Conv Split Add",
    ),
    "equal norms behind what reads the halves of a Split": Pattern(
        "c = Conv(x, w)  d, e = Split<axis=2>(c)  t = Transpose<perm=[0,2,3,1]>(d)"
        "  r = Transpose<perm=[0,2,3,1]>(e)  n = Mul(t, g)  o = Mul(r, g)  y = Add(n, o)",
        f"{W}, float[4] g",
        "Conv Split Transpose Transpose Add",
    ),
    "torch's chunk, sizes taken from the graph": Pattern(
        "c = Conv(x, w)  sh = Shape(c)  h = Gather<axis=0>(sh, one)  p = Add(h, one)"
        "  q = Div(p, two)  r = Mul(q, two)  d = Slice(c, zero, q, one)  e = Slice(c, q, r, one)"
        "  n = BN(d)  o = OTHER(e)  y = Mul(n, o)",
        "float[8,3,3,3] w, int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}",
        "Conv Shape Gather Add Div Mul Slice Slice Mul",
        "float[N,3,H,W] x",
    ),
    "channels divided into groups in the graph": Pattern(
        "c = Conv(x, w)  sh = Shape(c)  b = Slice(sh, zero, one)  g = Slice(sh, one, two)"
        "  h = Slice(sh, two, four)  d = Div(g, two)  s = Concat<axis=0>(b, two, d, h)"
        "  r = Reshape(c, s)  t = Transpose<perm=[0,2,1,3,4]>(r)  e = Reshape(t, sh)  y = BN6(e)",
        "float[6,3,3,3] w, int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, "
        "int64[1] four = {4}",
        "Conv Shape Slice Slice Slice Div Concat Reshape Transpose Reshape",
        "float[N,3,H,W] x",
    ),
    "input, one value, a Pad of its own": Pattern(
        "f = Cast<to=1>(x)  d = Mul(f, s)  e = Sub(d, k)  p = Pad(e, q)"
        "  t = Transpose<perm=[0,3,1,2]>(p)  y = Conv<strides=[2,2]>(t, w)",
        f"{W}, float s, float k, int64[8] q = {{0,1,1,0,0,1,1,0}}",
        "Cast Pad Transpose Conv",
        "uint8[N,H,W,3] x",
    ),
    "one value behind a Pad, opset 10": Pattern(
        "c = Conv(x, w)  p = Pad<pads=[0,0,1,1,0,0,1,1], value=0.5>(c)  d = Mul(p, s)"
        "  y = Add(d, k)",
        f"{W}, float s, float k",
        "Conv Pad",
        opset=10,
    ),
    "one value before a Pad, whose value others read": Pattern(
        "d = Mul(x, s)  e = Add(d, k)  p = Pad(e, q, v)  y = Conv(p, w)  z = Pad(x, q, v)",
        f"{W}, float s, float k, float v, int64[8] q = {{0,0,1,1,0,0,1,1}}",
        "Pad Conv Pad",
        y="y:4 z:4",
    ),
    "a quantised weight behind a Transpose": Pattern(
        "u = DequantizeLinear<axis=0>(q, s)  w = Transpose<perm=[1,0]>(u)  c = MatMul(x, w)"
        "  d = Add(c, k)  t = Transpose<perm=[0,2,1]>(d)  y = POS(t)",
        "int8[4,3] q, float[4] s, float[4] k",
        "DequantizeLinear Transpose MatMul Add Transpose",
        SEQUENCE,
        "y:3",
        values=(("q", [[9, -4, 7], [3, 5, -8], [1, -2, 6], [-7, 8, 2]]), ("s", [0.5, 1, 2, 3])),
    ),
    "a quantised weight of one scale behind a Transpose": Pattern(
        "u = DequantizeLinear(q, s, z)  w = Transpose(u)  c = MatMul(x, w)  y = POS(c)",
        "uint8[4,3] q, float s, uint8 z = {7}",
        "DequantizeLinear Transpose MatMul Add",
        "float[2,3] x",
        "y:2",
        values=(("q", [[9, 4, 7], [3, 5, 8], [1, 2, 6], [7, 8, 2]]), ("s", 0.5)),
    ),
    "a quantised weight behind a Transpose, forward": Pattern(
        "r = Sigmoid(x)  n = POS3(r)  u = DequantizeLinear(q, s)  w = Transpose(u)"
        "  y = Gemm(n, w, k)",
        "int8[4,3] q, float s, float[4] k",
        "Sigmoid DequantizeLinear Transpose Gemm",
        "float[2,3] x",
        "y:2",
        values=(("q", [[9, -4, 7], [3, 5, -8], [1, -2, 6], [-7, 8, 2]]), ("s", 0.5)),
    ),
    "constants that join a norm on its way forward": Pattern(
        "s = Sigmoid(x)  e = Mul(s, c)  n = Add(e, k)  d = Concat<axis=1>(token, n)"
        "  p = Add(d, places)  a = MatMul(p, w)  y = Add(a, l)",
        "float[3,5] w, float[3] c, float[3] k, float[2,1,3] token, float[1,8,3] places, float[5] l",
        "Sigmoid Concat Add MatMul Add",
        "float[2,7,3] x",
        "y:3",
    ),
    "Where with a constant of channels, forward": Pattern(
        "s = Tanh(x)  n = BN3(s)  e = Where(k, n, z)  y = Conv(e, w)",
        f"{W}, float[3,1,1] z",
        "Tanh Where Conv",
        f"{FOUR}, bool[8,6] k",
    ),
    "a gap of zeros, forward": Pattern(
        "s = Tanh(x)  n = SCALE3(s)  e = Concat<axis=2>(n, z)  y = Conv(e, w)",
        f"{W}, float[2,3,1,6] z",
        "Tanh Concat Conv",
        values=(("z", 0),),
    ),
}

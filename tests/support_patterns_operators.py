"""Patterns of norms beside less common operators, each of which can be folded exactly."""

from __future__ import annotations

from tests.support_patterns import FOUR, Pattern, W

OPERATORS = {
    "Clip at zero": Pattern(
        "c = Conv(x, w)  r = Clip(c, z)  y = GAIN(r)",
        f"{W}, float z",
        "Conv Clip",
        values=(("z", 0),),
    ),
    "Clip at zero, forward, opset 10": Pattern(
        "s = Tanh(x)  n = GAIN3(s)  r = Clip<min=0.0>(n)  y = Conv(r, w)",
        W,
        "Tanh Clip Conv",
        opset=10,
    ),
    "ThresholdedRelu at zero": Pattern(
        "c = Conv(x, w)  r = ThresholdedRelu<alpha=0.0>(c)  y = GAIN(r)", W, "Conv ThresholdedRelu"
    ),
    "LpPool": Pattern(
        "c = Conv(x, w)  p = LpPool<kernel_shape=[2,2], pads=[1,0,0,1], p=3>(c)  y = GAIN(p)",
        W,
        "Conv LpPool",
    ),
    "GlobalLpPool, forward, negative scales": Pattern(
        "s = Tanh(x)  n = SCALE3(s)  p = GlobalLpPool(n)  y = Conv(p, w)",
        "float[4,3,1,1] w",
        "Tanh GlobalLpPool Conv",
    ),
    "ReduceL2": Pattern(
        "c = Conv(x, w)  p = ReduceL2<axes=[2,3], keepdims=0>(c)  y = GAIN(p)",
        W,
        "Conv ReduceL2",
        y="y:2",
    ),
    "ReduceL1 of opset 18, forward": Pattern(
        "s = Tanh(x)  n = SCALE3(s)  p = ReduceL1<keepdims=0>(n, a)  y = Gemm(p, w)",
        "float[3,5] w, int64[2] a = {2,3}",
        "Tanh ReduceL1 Gemm",
        opset=18,
        y="y:2",
    ),
    "GridSample beyond a border": Pattern(
        'c = Conv(x, w)  p = GridSample<mode="linear", padding_mode="border">(c, z)  y = BN(p)',
        W,
        "Conv GridSample",
        f"{FOUR}, float[2,3,5,2] z",
        opset=20,
    ),
    "GridSample with zeros beyond": Pattern(
        's = Tanh(x)  n = SCALE3(s)  p = GridSample<mode="bilinear">(n, z)  y = Conv(p, w)',
        W,
        "Tanh GridSample Conv",
        f"{FOUR}, float[2,4,5,2] z",
    ),
    "RoiAlign of regions": Pattern(
        "c = Conv(x, w)  p = RoiAlign<output_height=2, output_width=2>(c, r, b)  y = SCALE(p)",
        W,
        "Conv RoiAlign",
        f"{FOUR}, float[5,4] r, int64[5] b",
    ),
    "GatherND of rows": Pattern(
        "c = MatMul(x, w)  r = GatherND<batch_dims=1>(c, z)  d = Mul(r, g)  y = Add(d, k)",
        "float[3,4] w, float[4] g, float[4] k, int64[2,5,1] z = {0,1,2,3,4,-1,-2,-3,0,1}",
        "MatMul Add GatherND",
        "float[2,7,3] x",
        "y:3",
    ),
    "GatherElements at computed places": Pattern(
        "c = Conv(x, w)  r = GatherElements<axis=2>(c, z)  y = BN(r)",
        W,
        "Conv GatherElements",
        f"{FOUR}, int64[2,4,2,4] z",
    ),
    "Compress, ReverseSequence": Pattern(
        "s = Tanh(x)  n = BN(s)  t = Transpose<perm=[2,0,1]>(n)  r = ReverseSequence(t, l)"
        "  q = Compress<axis=0>(r, z)  y = MatMul(q, w)",
        "float[4,5] w, int64[2] l = {3,5}",
        "Tanh Transpose ReverseSequence Compress MatMul Add",
        "float[2,4,5] x, bool[5] z",
        "y:3",
    ),
    "CumSum of scaled channels": Pattern(
        "c = Conv(x, w)  q = CumSum(c, z)  y = SCALE(q)", f"{W}, int64 z = {{2}}", "Conv CumSum"
    ),
    "Trilu of scaled channels": Pattern(
        "c = Conv(x, w)  q = Trilu<upper=0>(c)  y = SCALE(q)", W, "Conv Trilu"
    ),
    "CenterCropPad that crops": Pattern(
        "c = Conv(x, w)  q = CenterCropPad<axes=[2,3]>(c, z)  y = BN(q)",
        f"{W}, int64[2] z = {{3,4}}",
        "Conv CenterCropPad",
        opset=18,
    ),
    "LSTM behind columns of an image": Pattern(
        "c = Conv(x, k)  r = Relu(c)  n = BN(r)  p = ReduceMean<axes=[2], keepdims=0>(n)"
        '  t = Transpose<perm=[2,0,1]>(p)  y = LSTM<hidden_size=3, direction="bidirectional">'
        "(t, w, u, a)",
        "float[4,3,3,3] k, float[2,12,4] w, float[2,12,3] u, float[2,24] a",
        "Conv Relu ReduceMean Transpose LSTM",
    ),
    "GRU in both directions, and a second one": Pattern(
        "s = Tanh(x)  n = BN3(s)  t = Transpose<perm=[2,0,1]>(n)"
        '  c = GRU<hidden_size=2, direction="bidirectional">(t, w, u)'
        "  d = Transpose<perm=[0,2,1,3]>(c)  e = Reshape(d, z)  f = Mul(e, g)  h = Add(f, k)"
        "  y, last = GRU<hidden_size=2, linear_before_reset=1>(h, a, l)",
        "float[2,6,3] w, float[2,6,2] u, int64[3] z = {0,0,-1}, float[4] g, float[4] k, "
        "float[1,6,4] a, float[1,6,2] l",
        "Tanh Transpose GRU Transpose Reshape GRU",
        "float[2,3,5] x",
        "last:3",
    ),
    "LSTM behind a norm of all steps at once": Pattern(
        "s = Tanh(x)  sh = Shape(s)  d0 = Gather(sh, i0)  d1 = Gather(sh, i1)  rows = Mul(d0, d1)"
        "  u2 = Unsqueeze(rows, z)  q = Concat<axis=0>(u2, m1)  r = Reshape(s, q)  o = BN(r)"
        "  u0 = Unsqueeze(d0, z)  u1 = Unsqueeze(d1, z)  p = Concat<axis=0>(u0, u1, m1)"
        "  c = Reshape(o, p)  y = LSTM<hidden_size=3>(c, w, u)",
        "float[1,12,4] w, float[1,12,3] u, int64 i0 = {0}, int64 i1 = {1}, int64[1] z = {0}, "
        "int64[1] m1 = {-1}",
        "Tanh Shape Gather Gather Mul Unsqueeze Concat Reshape Unsqueeze Unsqueeze Concat Reshape "
        "LSTM",
        "float[N,M,4] x",
    ),
    "RNN of batches in front": Pattern(
        "s = Tanh(x)  n = BN(s)  t = Transpose<perm=[0,2,1]>(n)"
        "  y = RNN<hidden_size=2, layout=1>(t, w, u, a)",
        "float[1,2,4] w, float[1,2,2] u, float[1,4] a",
        "Tanh Transpose RNN",
        "float[N,4,H] x",
    ),
}

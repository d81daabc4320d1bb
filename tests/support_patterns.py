"""Patterns of norms that can be folded exactly: one small model for each way in which they can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx

from tests.support_models import filled, norm_parameters, parsed, with_values

FOUR = "float[2,3,8,6] x"
AXES = "abcdefg"


@dataclass(frozen=True)
class Pattern:
    """A model of which every norm can go.

    Attributes:
        body: the nodes, in ONNX text; ``BN(t)`` is a norm of four channels of t, ``POS(t)`` one of
            positive scales, ``SCALE(t)`` one without shifts, ``GAIN(t)`` both.
        more: what else is declared; what nothing makes gets random values.
        x: the inputs.
        y: the outputs, with their ranks.
        left: the operators afterwards.
        opset: of the model.
        values: of some tensors.
    """

    body: str
    more: str
    left: str
    x: str = FOUR
    y: str = "y:4"
    opset: int = 17
    values: tuple[tuple[str, Any], ...] = ()
    dtype: str = "float"

    def model(self, seed: int = 0) -> onnx.ModelProto:
        """The model, with random parameters."""
        text = self.body
        kinds = {"BN": "", "POS": "p", "SCALE": "s", "GAIN": "q", "OTHER": "o"}
        for kind, suffix in kinds.items():
            parameters = ", ".join(f"{name}{suffix}" for name in "gbmv")
            if suffix in ("p", "q"):
                parameters = parameters.replace(f"g{suffix}", f"v{suffix}g")
            for size in ("", "3", "5", "6", "8"):
                found = ", ".join(f"{name.strip()}{size}" for name in parameters.split(","))
                text = text.replace(f"{kind}{size}(", f"BatchNormalization({found}|")
        while "(" in text and "|" in text:
            before, _, rest = text.partition("BatchNormalization(")
            found, _, rest = rest.partition("|")
            data, _, rest = rest.partition(")")
            text = f"{before}BatchNormalisation({data}, {found}){rest}"
        text = text.replace("BatchNormalisation", "BatchNormalization")
        declared = [self.more] if self.more else []
        for suffix in kinds.values():
            for size in ("", "3", "5", "6", "8"):
                if f"m{suffix}{size}, v{suffix}{size})" in text:
                    declared.append(norm_parameters(int(size or 4), f"{suffix}{size}"))
                    if f"v{suffix}g{size}," in text:
                        declared.append(f"float[{size or 4}] v{suffix}g{size}")
        outputs = []
        for output in self.y.split():
            name, _, rank = output.partition(":")
            outputs.append(f"float[{','.join(f'{name}{a}' for a in AXES[: int(rank)])}] {name}")
        header = f"agraph ({self.x}) => ({', '.join(outputs)}) <{', '.join(declared)}>"
        model = filled(parsed(f"{header} {{ {text} }}", opset=self.opset, dtype=self.dtype), seed)
        zero = [t.name for t in model.graph.initializer if t.name.rstrip("34568") in ZERO]
        values: dict[str, Any] = dict.fromkeys(zero, 0)
        return with_values(model, **values, **dict(self.values))


ZERO = {"bs", "ms", "bq", "mq"}
W = "float[4,3,3,3] w"
ONE = "float[4,3,1,1] w"
U = "float[5,4,3,3] u"
TWO = f"{W}, float[4,3,3,3] u"
SEQUENCE = "float[2,7,3] x"


BACKWARD = {
    "Conv": Pattern("c = Conv(x, w)  y = BN(c)", W, "Conv"),
    "Conv, bias": Pattern("c = Conv(x, w, k)  y = BN(c)", f"{W}, float[4] k", "Conv"),
    "Conv 1-D": Pattern(
        "c = Conv(x, w)  y = BN(c)", "float[4,3,3] w", "Conv", "float[2,3,9] x", "y:3"
    ),
    "Conv 3-D, groups": Pattern(
        "c = Conv<group=2, pads=[1,1,1,1,1,1]>(x, w)  y = BN(c)",
        "float[4,2,3,3,3] w",
        "Conv",
        "float[1,4,5,5,5] x",
        "y:5",
    ),
    "ConvTranspose, groups": Pattern(
        "c = ConvTranspose<group=2, strides=[2,2], pads=[1,1,1,1]>(x, w)  y = BN(c)",
        "float[4,2,3,3] w",
        "ConvTranspose",
        "float[2,4,5,6] x",
    ),
    "Gemm": Pattern(
        "c = Gemm<transB=1, alpha=0.5, beta=2.0>(x, w, k)  y = BN(c)",
        "float[4,3] w, float[4] k",
        "Gemm",
        "float[2,3] x",
        "y:2",
    ),
    "MatMul": Pattern(
        "c = MatMul(x, w)  y = BN(c)", "float[3,4] w", "MatMul Add", "float[2,3] x", "y:2"
    ),
    "MatMul, Add": Pattern(
        "c = MatMul(x, w)  d = Add(c, k)  y = BN(d)",
        "float[3,4] w, float[4] k",
        "MatMul Add",
        "float[2,3] x",
        "y:2",
    ),
    "MatMul, weight on the left": Pattern(
        "c = MatMul(w, x)  y = BN(c)", "float[4,3] w", "MatMul Add", "float[2,3,7] x", "y:3"
    ),
    "Conv, Mul, Add": Pattern(
        "c = Conv(x, w)  d = Mul(c, s)  y = Add(d, t)",
        f"{W}, float[4,1,1] s, float[4,1,1] t",
        "Conv",
    ),
    "Conv, Sub, Div": Pattern(
        "c = Conv(x, w)  d = Sub(c, t)  y = Div(d, s)",
        f"{W}, float[1,4,1,1] s, float[4,1,1] t",
        "Conv",
    ),
    "Conv, Identity, BN, Dropout, BN": Pattern(
        "c = Conv(x, w)  i = Identity(c)  n = BN(i)  d = Dropout(n)  y = OTHER(d)", W, "Conv"
    ),
    "two equal norms": Pattern(
        "c = Conv(x, w)  n = BN(c)  o = BN(c)  r = Relu(n)  y = Add(r, o)", W, "Conv Relu Add"
    ),
    "InstanceNormalization": Pattern(
        "c = InstanceNormalization(x, a, k)  y = BN(c)",
        "float[4] a, float[4] k",
        "InstanceNormalization",
        "float[2,4,5,6] x",
    ),
    "GroupNormalization": Pattern(
        "c = GroupNormalization<num_groups=2>(x, a, k)  y = BN(c)",
        "float[4] a, float[4] k",
        "GroupNormalization",
        "float[2,4,5,6] x",
        opset=21,
    ),
    "LayerNormalization, transposed": Pattern(
        "c = LayerNormalization(x, a, k)  t = Transpose<perm=[0,2,1]>(c)  y = BN(t)",
        "float[4] a, float[4] k",
        "LayerNormalization Transpose",
        "float[2,7,4] x",
        "y:3",
    ),
    "embedding": Pattern(
        "e = Gather(w, x)  t = Transpose<perm=[0,2,1]>(e)  y = BN(t)",
        "float[11,4] w",
        "Gather Transpose",
        "int64[2,7] x",
        "y:3",
    ),
    "Einsum": Pattern(
        'c = Einsum<equation="bij,jk->bki">(x, w)  y = BN(c)',
        "float[3,4] w",
        "Einsum Add",
        SEQUENCE,
        "y:3",
    ),
    "Conv with a computed bias": Pattern(
        "k = Gemm(z, u, t)  k1 = Squeeze(k, zero)  c = Conv(x, w, k1)  y = SCALE(c)",
        f"{W}, float[3,4] u, float[4] t, int64[1] zero = {{0}}",
        "Gemm Squeeze Conv",
        f"{FOUR}, float[1,3] z",
    ),
}


MOVED = {
    "Transpose behind Linear": Pattern(
        "c = MatMul(x, w)  d = Add(c, k)  t = Transpose<perm=[0,2,1]>(d)  n = BN(t)"
        "  y = Transpose<perm=[0,2,1]>(n)",
        "float[3,4] w, float[4] k",
        "MatMul Add Transpose Transpose",
        SEQUENCE,
        "y:3",
    ),
    "Transpose, as many channels as steps": Pattern(
        "c = MatMul(x, w)  t = Transpose<perm=[0,2,1]>(c)  n = BN(t)"
        "  y = Transpose<perm=[0,2,1]>(n)",
        "float[3,4] w",
        "MatMul Add Transpose Transpose",
        "float[2,4,3] x",
        "y:3",
    ),
    "NHWC and back": Pattern(
        "c = Conv(x, w)  t = Transpose<perm=[0,2,3,1]>(c)  d = Mul(t, s)  e = Add(d, k)"
        "  y = Transpose<perm=[0,3,1,2]>(e)",
        f"{W}, float[4] s, float[4] k",
        "Conv Transpose Transpose",
    ),
    "Squeeze": Pattern(
        "c = Conv(x, w)  d = Squeeze(c, a)  y = BN(d)",
        "float[4,3,1,3] w, int64[1] a = {2}",
        "Conv Squeeze",
        "float[2,3,1,9] x",
        "y:3",
    ),
    "Unsqueeze": Pattern(
        "c = Conv(x, w)  d = Unsqueeze(c, a)  y = BN(d)",
        "float[4,3,3] w, int64[1] a = {3}",
        "Conv Unsqueeze",
        "float[2,3,9] x",
    ),
    "Unsqueeze in front": Pattern(
        "c = Gemm(x, w)  d = Unsqueeze(c, a)  e = Squeeze(d, a)  y = BN(e)",
        "float[3,4] w, int64[1] a = {0}",
        "Gemm Unsqueeze Squeeze",
        "float[2,3] x",
        "y:2",
    ),
    "Reshape to an image": Pattern(
        "c = Gemm(x, w)  d = Reshape(c, s)  y = BN(d)",
        "float[3,24] w, int64[4] s = {0,4,2,3}",
        "Gemm Reshape",
        "float[2,3] x",
    ),
    "Reshape to an image, batch unknown": Pattern(
        "c = Gemm(x, w)  d = Reshape(c, s)  y = BN(d)",
        "float[3,24] w, int64[4] s = {-1,4,2,3}",
        "Gemm Reshape",
        "float[N,3] x",
    ),
    "Reshape to rows": Pattern(
        "r = Reshape(x, s)  c = Gemm(r, w, k)  y = BN(c)",
        "float[3,4] w, float[4] k, int64[2] s = {-1,3}",
        "Reshape Gemm",
        SEQUENCE,
        "y:2",
    ),
    "rows and back": Pattern(
        "c = Gemm(x, w, k)  d = Reshape(c, s)  t = Transpose<perm=[0,2,1]>(d)  y = BN(t)",
        "float[3,4] w, float[4] k, int64[3] s = {2,-1,4}",
        "Gemm Reshape Transpose",
        "float[M,3] x",
        "y:3",
    ),
    "Flatten of one pixel": Pattern(
        "c = Conv(x, w)  p = GlobalAveragePool(c)  f = Flatten(p)  y = BN(f)",
        W,
        "Conv GlobalAveragePool Flatten",
        y="y:2",
    ),
    "channel shuffle": Pattern(
        "c = Conv(x, w)  d = Reshape(c, s)  t = Transpose<perm=[0,2,1,3,4]>(d)"
        "  e = Reshape(t, r)  y = BN(e)",
        f"{W}, int64[5] s = {{0,2,2,6,4}}, int64[4] r = {{0,4,6,4}}",
        "Conv Reshape Transpose Reshape",
    ),
    "spatial Slice": Pattern(
        "c = Conv(x, w)  d = Slice(c, s, e, a)  y = BN(d)",
        f"{W}, int64[2] s = {{1,0}}, int64[2] e = {{-1,3}}, int64[2] a = {{2,3}}",
        "Conv Slice",
    ),
    "Slice of channels": Pattern(
        "c = Conv(x, w)  d = Slice(c, s, e, a)  y = BN(d)",
        "float[7,3,3,3] w, int64[1] s = {2}, int64[1] e = {6}, int64[1] a = {1}",
        "Conv Slice",
    ),
    "two Slices": Pattern(
        "c = Conv(x, w)  d = Slice(c, s, e, a)  f = Slice(c, e, z, a)  n = BN(d)  o = OTHER(f)"
        "  y = Mul(n, o)",
        "float[8,3,3,3] w, int64[1] s = {0}, int64[1] e = {4}, int64[1] z = {8}, int64[1] a = {1}",
        "Conv Slice Slice Mul",
    ),
    "Split": Pattern(
        "c = Conv(x, w)  d, e = Split<axis=1>(c, s)  n = BN(d)  o = OTHER(e)  y = Mul(n, o)",
        "float[8,3,3,3] w, int64[2] s = {4,4}",
        "Conv Split Mul",
    ),
    "half of a Split": Pattern(
        "c = Conv(x, w)  d, e = Split<axis=1>(c, s)  n = BN(d)  i = InstanceNormalization(e, k, l)"
        "  y = Concat<axis=1>(i, n)",
        "float[7,3,3,3] w, int64[2] s = {4,3}, float[3] k, float[3] l",
        "Conv Split InstanceNormalization Concat",
    ),
    "SplitToSequence": Pattern(
        "c = Conv(x, w)  q = SplitToSequence<axis=1>(c, s)  d = SequenceAt(q, zero)"
        "  e = SequenceAt(q, one)  n = BN(e)  y = Mul(d, n)",
        "float[8,3,3,3] w, int64 s = {4}, int64 zero = {0}, int64 one = {1}",
        "Conv SplitToSequence SequenceAt SequenceAt Mul",
    ),
    "Concat": Pattern(
        "c = Conv(x, w)  d = Conv(x, u)  e = Concat<axis=1>(c, d)  y = BN6(e)",
        f"{W}, float[2,3,3,3] u",
        "Conv Conv Concat",
    ),
    "Concat of norms": Pattern(
        "c = Conv(x, w)  n = BN(c)  d = Conv(x, u)  e = Concat<axis=1>(n, d)  y = BN6(e)",
        f"{W}, float[2,3,3,3] u",
        "Conv Conv Concat",
    ),
    "Concat on the width": Pattern(
        "c = Conv(x, w)  d = Conv(x, u)  e = Concat<axis=3>(c, d)  y = BN(e)",
        TWO,
        "Conv Conv Concat",
    ),
    "Concat with a constant": Pattern(
        "c = MatMul(x, w)  d = Add(c, k)  e = Concat<axis=1>(token, d)"
        "  t = Transpose<perm=[0,2,1]>(e)  y = BN(t)",
        "float[3,4] w, float[4] k, float[1,1,4] token",
        "MatMul Add Concat Transpose",
        "float[1,7,3] x",
        "y:3",
    ),
    "DepthToSpace": Pattern(
        "c = Conv(x, w)  d = DepthToSpace<blocksize=2>(c)  y = BN(d)",
        "float[16,3,3,3] w",
        "Conv DepthToSpace",
    ),
    "DepthToSpace, CRD": Pattern(
        'c = Conv(x, w)  d = DepthToSpace<blocksize=2, mode="CRD">(c)  y = BN(d)',
        "float[16,3,3,3] w",
        "Conv DepthToSpace",
    ),
    "SpaceToDepth forward": Pattern(
        "s = Sigmoid(x)  n = BN3(s)  d = SpaceToDepth<blocksize=2>(n)  y = Conv(d, w)",
        "float[5,12,1,1] w",
        "Sigmoid SpaceToDepth Conv",
    ),
    "Expand": Pattern(
        "c = Conv(x, w)  p = GlobalAveragePool(c)  d = Expand(p, s)  y = BN(d)",
        f"{W}, int64[4] s = {{2,4,5,6}}",
        "Conv GlobalAveragePool Expand",
    ),
    "Gather of columns": Pattern(
        "c = Conv(x, w)  d = Gather<axis=3>(c, i)  y = BN(d)",
        f"{W}, int64[3] i = {{2,0,2}}",
        "Conv Gather",
    ),
    "Gather of one column": Pattern(
        "c = Conv(x, w)  d = Gather<axis=3>(c, i)  y = BN(d)",
        f"{W}, int64 i = {{1}}",
        "Conv Gather",
        y="y:3",
    ),
    "Cast": Pattern(
        "c = Conv(x, w)  d = Cast<to=11>(c)  y = Mul(d, s)",
        f"{W}, double[4,1,1] s",
        "Conv Cast",
        y="y:4",
    ),
}


COMPUTED = {
    "Add of two": Pattern(
        "c = Conv(x, w)  d = Conv(x, u)  e = Add(c, d)  y = BN(e)", TWO, "Conv Conv Add"
    ),
    "Sub of two": Pattern(
        "c = Conv(x, w)  d = Conv(x, u)  e = Sub(c, d)  y = BN(e)", TWO, "Conv Conv Sub"
    ),
    "Sum of three": Pattern(
        "c = Conv(x, w)  d = Conv(x, u)  f = Conv(x, t)  e = Sum(c, d, f)  y = BN(e)",
        f"{TWO}, float[4,3,3,3] t",
        "Conv Conv Conv Sum",
    ),
    "Mean of two": Pattern(
        "c = Conv(x, w)  d = Conv(x, u)  e = Mean(c, d)  y = BN(e)", TWO, "Conv Conv Mean"
    ),
    "Where": Pattern(
        "c = Conv(x, w)  d = Conv(x, u)  e = Where(k, c, d)  y = BN(e)",
        TWO,
        "Conv Conv Where",
        f"{FOUR}, bool[6,4] k",
    ),
    "Max of two": Pattern(
        "c = Conv(x, w)  d = Conv(x, u)  e = Max(c, d)  y = POS(e)", TWO, "Conv Conv Max"
    ),
    "a gate": Pattern(
        "c = Conv(x, w)  p = GlobalAveragePool(c)  q = Conv(p, u)  a = Sigmoid(q)  d = Conv(x, t)"
        "  e = Mul(d, a)  y = SCALE(e)",
        f"{W}, float[4,4,1,1] u, float[4,3,3,3] t",
        "Conv GlobalAveragePool Conv Sigmoid Conv Mul",
    ),
    "AveragePool": Pattern(
        "c = Conv(x, w)  p = AveragePool<kernel_shape=[2,2]>(c)  y = BN(p)", W, "Conv AveragePool"
    ),
    "AveragePool, pads not counted": Pattern(
        "c = Conv(x, w)  p = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(c)  y = BN(p)",
        W,
        "Conv AveragePool",
    ),
    "AveragePool, pads counted": Pattern(
        "c = Conv(x, w)  p = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>"
        "(c)  y = SCALE(p)",
        W,
        "Conv AveragePool",
    ),
    "GlobalAveragePool": Pattern(
        "c = Conv(x, w)  p = GlobalAveragePool(c)  y = BN(p)", W, "Conv GlobalAveragePool"
    ),
    "ReduceMean": Pattern(
        "c = Conv(x, w)  p = ReduceMean<axes=[2,3], keepdims=0>(c)  y = BN(p)",
        W,
        "Conv ReduceMean",
        y="y:2",
    ),
    "MaxPool": Pattern(
        "c = Conv(x, w)  p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(c)  y = POS(p)",
        W,
        "Conv MaxPool",
    ),
    "GlobalMaxPool": Pattern(
        "c = Conv(x, w)  p = GlobalMaxPool(c)  y = POS(p)", W, "Conv GlobalMaxPool"
    ),
    "Resize": Pattern(
        'c = Conv(x, w)  p = Resize<mode="linear">(c, , s)  y = BN(p)',
        f"{W}, float[4] s",
        "Conv Resize",
        values=(("s", [1, 1, 2, 2]),),
    ),
    "Upsample": Pattern(
        'c = Conv(x, w)  p = Upsample<mode="nearest">(c, s)  y = BN(p)',
        f"{W}, float[4] s",
        "Conv Upsample",
        opset=9,
        values=(("s", [1, 1, 2, 2]),),
    ),
    "Pad, reflected": Pattern(
        'c = Conv(x, w)  p = Pad<mode="reflect">(c, s)  y = BN(p)',
        f"{W}, int64[8] s = {{0,0,1,1,0,0,1,1}}",
        "Conv Pad",
    ),
    "Pad, zeros": Pattern(
        "c = Conv(x, w)  p = Pad(c, s)  y = SCALE(p)",
        f"{W}, int64[8] s = {{0,0,1,1,0,0,1,1}}",
        "Conv Pad",
    ),
    "Relu": Pattern("c = Conv(x, w)  r = Relu(c)  y = GAIN(r)", W, "Conv Relu"),
    "LeakyRelu": Pattern("c = Conv(x, w)  r = LeakyRelu(c)  y = GAIN(r)", W, "Conv LeakyRelu"),
    "PRelu": Pattern(
        "c = Conv(x, w)  r = PRelu(c, s)  y = GAIN(r)", f"{W}, float[4,1,1] s", "Conv PRelu"
    ),
}


FORWARD = {
    "Conv": Pattern("s = Sigmoid(x)  n = BN3(s)  y = Conv(n, w)", W, "Sigmoid Conv"),
    "Conv, depthwise": Pattern(
        "s = Sigmoid(x)  n = BN3(s)  y = Conv<group=3>(n, w, k)",
        "float[6,1,3,3] w, float[6] k",
        "Sigmoid Conv",
    ),
    "Conv 1-D, groups": Pattern(
        "s = Sigmoid(x)  n = BN(s)  y = Conv<group=2>(n, w)",
        "float[6,2,3] w",
        "Sigmoid Conv",
        "float[2,4,9] x",
        "y:3",
    ),
    "Conv 3-D": Pattern(
        "s = Sigmoid(x)  n = BN(s)  y = Conv(n, w)",
        "float[5,4,2,2,2] w",
        "Sigmoid Conv",
        "float[1,4,4,4,4] x",
        "y:5",
    ),
    "Conv with pads, no shift": Pattern(
        "s = Sigmoid(x)  n = SCALE3(s)  y = Conv<pads=[1,1,1,1]>(n, w)", W, "Sigmoid Conv"
    ),
    "ConvTranspose, no shift": Pattern(
        "s = Sigmoid(x)  n = SCALE3(s)  y = ConvTranspose<strides=[2,2]>(n, w)",
        "float[3,4,2,2] w",
        "Sigmoid ConvTranspose",
    ),
    "ConvTranspose of one tap": Pattern(
        "s = Sigmoid(x)  n = BN3(s)  y = ConvTranspose(n, w)",
        "float[3,4,1,1] w",
        "Sigmoid ConvTranspose",
    ),
    "Gemm": Pattern(
        "s = Sigmoid(x)  n = BN3(s)  y = Gemm<alpha=0.5, beta=2.0, transB=1>(n, w, k)",
        "float[5,3] w, float[5] k",
        "Sigmoid Gemm",
        "float[2,3] x",
        "y:2",
    ),
    "MatMul": Pattern(
        "s = Sigmoid(x)  n = BN3(s)  y = MatMul(n, w)",
        "float[3,5] w",
        "Sigmoid MatMul Add",
        "float[2,3] x",
        "y:2",
    ),
    "MatMul, Add": Pattern(
        "s = Sigmoid(x)  n = BN3(s)  c = MatMul(n, w)  y = Add(c, k)",
        "float[3,5] w, float[5] k",
        "Sigmoid MatMul Add",
        "float[2,3] x",
        "y:2",
    ),
    "two readers": Pattern(
        "s = Sigmoid(x)  n = BN3(s)  y = Conv(n, w)  z = Conv(n, u)",
        f"{W}, float[5,3,2,2] u",
        "Sigmoid Conv Conv",
        y="y:4 z:4",
    ),
    "Flatten, Gemm": Pattern(
        "s = Sigmoid(x)  n = BN3(s)  f = Flatten(n)  y = Gemm(f, w, k)",
        "float[144,5] w, float[5] k",
        "Sigmoid Flatten Gemm",
        y="y:2",
    ),
    "Flatten, Gemm, sizes unknown": Pattern(
        "s = Sigmoid(x)  n = BN3(s)  f = Flatten(n)  y = Gemm(f, w, k)",
        "float[144,5] w, float[5] k",
        "Sigmoid Flatten Gemm",
        "float[N,3,H,W] x",
        y="y:2",
    ),
    "Reshape, Gemm": Pattern(
        "s = Sigmoid(x)  n = BN3(s)  f = Reshape(n, r)  y = Gemm(f, w, k)",
        "float[144,5] w, float[5] k, int64[2] r = {0,-1}",
        "Sigmoid Reshape Gemm",
        "float[N,3,8,6] x",
        "y:2",
    ),
    "GlobalAveragePool, Flatten, Gemm": Pattern(
        "s = Sigmoid(x)  n = BN3(s)  p = GlobalAveragePool(n)  f = Flatten(p)  y = Gemm(f, w, k)",
        "float[3,5] w, float[5] k",
        "Sigmoid GlobalAveragePool Flatten Gemm",
        y="y:2",
    ),
    "AveragePool, Conv": Pattern(
        "s = Sigmoid(x)  n = BN3(s)  p = AveragePool<kernel_shape=[2,2]>(n)  y = Conv(p, w)",
        W,
        "Sigmoid AveragePool Conv",
    ),
    "MaxPool, Conv": Pattern(
        "s = Sigmoid(x)  n = POS3(s)  p = MaxPool<kernel_shape=[2,2]>(n)  y = Conv(p, w)",
        W,
        "Sigmoid MaxPool Conv",
    ),
    "Concat, Conv": Pattern(
        "s = Sigmoid(x)  n = BN3(s)  t = Tanh(x)  o = OTHER3(t)  c = Concat<axis=1>(n, o)"
        "  y = Conv(c, w)",
        "float[4,6,3,3] w",
        "Sigmoid Tanh Concat Conv",
    ),
    "one branch of a Concat": Pattern(
        "s = Sigmoid(x)  n = BN3(s)  c = Concat<axis=1>(x, n)  y = Conv(c, w)",
        "float[4,6,3,3] w",
        "Sigmoid Concat Conv",
    ),
    "Transpose, MatMul": Pattern(
        "s = Sigmoid(x)  n = BN3(s)  t = Transpose<perm=[0,2,3,1]>(n)  c = MatMul(t, w)"
        "  y = Add(c, k)",
        "float[3,5] w, float[5] k",
        "Sigmoid Transpose MatMul Add",
    ),
    "Slice, Conv": Pattern(
        "s = Sigmoid(x)  n = BN3(s)  t = Slice(n, a, e, i)  y = Conv(t, w)",
        f"{W}, int64[1] a = {{1}}, int64[1] e = {{7}}, int64[1] i = {{2}}",
        "Sigmoid Slice Conv",
    ),
    "Relu, Conv": Pattern(
        "s = Sigmoid(x)  n = GAIN3(s)  r = Relu(n)  y = Conv(r, w)", W, "Sigmoid Relu Conv"
    ),
    "behind an activation": Pattern(
        "c = Conv(x, w)  r = Relu(c)  n = BN(r)  y = Conv(n, u)", f"{W}, {U}", "Conv Relu Conv"
    ),
    "input, Sub, Div": Pattern(
        "c = Sub(x, m)  n = Div(c, s)  y = Conv(n, w)",
        f"{W}, float[1,3,1,1] m, float[1,3,1,1] s",
        "Conv",
    ),
    "input, Mul, Add, two readers": Pattern(
        "c = Mul(x, s)  n = Add(c, k)  y = Conv(n, w)  z = Conv(n, u)",
        f"{W}, float[5,3,1,1] u, float[3,1,1] s, float[3,1,1] k",
        "Conv Conv",
        y="y:4 z:4",
    ),
    "input, one value, pads": Pattern(
        "c = Sub(x, k)  n = Mul(c, s)  y = Conv<pads=[1,1,1,1]>(n, w)",
        f"{W}, float k, float s",
        "Pad Conv",
    ),
    "input in NHWC": Pattern(
        "c = Sub(x, m)  n = Div(c, s)  t = Transpose<perm=[0,3,1,2]>(n)  y = Conv(t, w)",
        f"{W}, float[3] m, float[3] s",
        "Transpose Conv",
        "float[2,8,6,3] x",
    ),
    "input BN": Pattern("n = BN3(x)  y = Conv(n, w)", W, "Conv"),
    "pads, stride, a map": Pattern(
        "n = BN3(x)  y = Conv<pads=[1,1,1,1], strides=[2,2]>(n, w)", "float[3,3,3,3] w", "Conv Add"
    ),
}


PATTERNS: dict[str, Pattern] = {
    f"{kind}: {name}": pattern
    for kind, table in (
        ("backward", BACKWARD),
        ("moved", MOVED),
        ("computed", COMPUTED),
        ("forward", FORWARD),
    )
    for name, pattern in table.items()
}

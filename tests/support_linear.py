"""Fold whole float64 models and compare both sides with evaluators that know nothing of folding.

Standard operators are computed by ``bnfold.reference`` and by the reference implementation of the
onnx package; those of onnxruntime's own domain are written down here, from the standard ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

import bnfold
from bnfold.reference import Evaluator
from tests import support_float64
from tests.support_models import FLOATS, Array, Feeds, filled, norm_parameters, op_types, parsed

TOLERANCE = 1e-12
NORM = "y = BatchNormalization (c, g, b, m, v)"
CONTRIB = '"com.microsoft" : 1'
Change = Callable[[onnx.ModelProto], onnx.ModelProto]

# The stock evaluator goes by way of float32 (stash_type), or knows no group of DeformConv.
_NOT_STOCK = frozenset({"GroupNormalization", "LayerNormalization", "DeformConv"})


def graph(body: str, declared: str, *, x: str, y: str = "float[j,k,l] y", channels: int = 4) -> str:
    """A graph around ``body``: inputs x, outputs y, and weights beside the parameters of a norm."""
    more = f", {declared}" if declared else ""
    return f"agraph ({x}) => ({y}) <{norm_parameters(channels)}{more}> {{ {body} }}"


def model_of(
    text: str, *, opset: int = 21, dtype: str = "double", seed: int = 0, imports: str = CONTRIB
) -> onnx.ModelProto:
    """A model with random parameters."""
    return filled(parsed(text, opset=opset, ir=10, dtype=dtype, imports=imports), seed)


def check_folds(
    text: str,
    left: str,
    *,
    opset: int = 21,
    kept: tuple[str, ...] = (),
    seed: int = 0,
    change: Change | None = None,
) -> bnfold.FoldResult:
    """Fold a model, and check the operators that are left and that it is the same function."""
    model = model_of(text, opset=opset, seed=seed)
    if change is not None:
        model = change(model)
    before = model.SerializeToString()
    result = bnfold.fold(model)
    assert model.SerializeToString() == before
    assert tuple(norm.code for norm in result.report.kept) == kept, result.report.kept
    assert " ".join(op_types(result.model)) == left
    assert result.report.nodes_after == len(left.split())
    assert list(result.model.graph.output) == list(model.graph.output)
    assert bnfold.fold(result.model).model == result.model
    require_same(model, result.model, seed)
    return result


def check_kept(text: str, code: str, *names: str, opset: int = 21, dtype: str = "double") -> None:
    """Check that the one norm of a model stays for a reason, and that nothing changes."""
    model = model_of(text, opset=opset, dtype=dtype)
    result = bnfold.fold(model)
    (norm,) = result.report.norms
    assert isinstance(norm, bnfold.Kept), norm
    assert norm.code == code, norm.reason
    for name in names:
        assert name in norm.reason
    assert result.model.SerializeToString() == model.SerializeToString()


def require_same(before: onnx.ModelProto, after: onnx.ModelProto, seed: int = 0) -> None:
    """Compare all outputs of two models on data of size 30."""
    feeds = data_for(before, seed)
    kinds = set(op_types(before))
    ways: list[Callable[[onnx.ModelProto, Feeds], list[Array]]] = []
    if not kinds & {"FusedConv", "FusedGemm", "FusedMatMul"}:
        ways.append(_by_reference)
    if not kinds & _NOT_STOCK:
        ways.append(by_onnx)
    assert ways
    for compute in ways:
        for old, new in zip(compute(before, feeds), compute(after, feeds), strict=True):
            assert old.shape == new.shape
            assert np.isfinite(old).all()
            size = np.abs(old).max(initial=1.0)
            np.testing.assert_allclose(new, old, rtol=0, atol=TOLERANCE * size)


def data_for(model: onnx.ModelProto, seed: int = 0) -> Feeds:
    """Data of size 30 for each input; indices from -2 to 1, a condition of both kinds."""
    rng = np.random.default_rng(1000 + seed)
    feeds: Feeds = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = tuple(dim.dim_value or 2 for dim in kind.shape.dim)
        if kind.elem_type == TensorProto.INT64:
            feeds[value.name] = rng.integers(-2, 2, shape)
        elif kind.elem_type == TensorProto.BOOL:
            feeds[value.name] = rng.random(shape) < 0.5
        else:
            assert kind.elem_type in FLOATS
            feeds[value.name] = rng.uniform(-30, 30, shape)
    return feeds


def _by_reference(model: onnx.ModelProto, feeds: Feeds) -> list[Array]:
    found = Evaluator(model).run(feeds)
    return [np.asarray(found[value.name]) for value in model.graph.output]


def by_onnx(model: onnx.ModelProto, feeds: Feeds) -> list[Array]:
    """The outputs of a model, in float64, by the onnx package."""
    ops: list[type[OpRun]] = [*support_float64._EXACT, FusedConv, FusedGemm, FusedMatMul]
    copy = support_float64.as_float64(model)
    opsets = {entry.domain: entry.version for entry in copy.opset_import}
    evaluator = ReferenceEvaluator(copy.graph, opsets=opsets, new_ops=ops)
    return [np.asarray(value) for value in evaluator.run(None, dict(feeds))]


def _plain(op_type: str, inputs: list[Array | None], **attributes: Any) -> Array:
    """A standard operator by itself."""
    names = [f"i{at}" if value is not None else "" for at, value in enumerate(inputs)]
    node = helper.make_node(op_type, names, ["y"])
    given = {key: value for key, value in attributes.items() if value is not None}
    node.attribute.extend(helper.make_attribute(key, value) for key, value in given.items())
    feeds = {name: value for name, value in zip(names, inputs, strict=True) if name}
    values = [helper.make_tensor_value_info(n, TensorProto.DOUBLE, None) for n in feeds]
    made = helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)
    proto = helper.make_graph([node], "plain", values, [made])
    ops = support_float64._EXACT
    found: Any = ReferenceEvaluator(proto, opsets={"": 21}, new_ops=ops).run(None, feeds)
    return np.asarray(found[0])


def _activated(values: Array, activation: str | None) -> tuple[Array, ...]:
    assert activation in (None, "", "Relu"), activation
    return (np.maximum(values, 0) if activation else values,)


class FusedConv(OpRun):
    """``activation(conv(x, w, b) + z)``."""

    op_domain = "com.microsoft"

    def _run(
        self, x: Array, w: Array, b: Array | None = None, z: Array | None = None, **given: Any
    ) -> tuple[Array, ...]:
        names = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
        own = {name: given.get(name) for name in names}
        y = _plain("Conv", [x, w, b], **own)
        return _activated(y if z is None else y + z, given.get("activation"))


class FusedGemm(OpRun):
    """``activation(alpha a' b' + beta c)``."""

    op_domain = "com.microsoft"

    def _run(self, a: Array, b: Array, c: Array | None = None, **given: Any) -> tuple[Array, ...]:
        own = {name: given.get(name) for name in ("alpha", "beta", "transA", "transB")}
        return _activated(_plain("Gemm", [a, b, c], **own), given.get("activation"))


class FusedMatMul(OpRun):
    """``alpha a' b'``, each transposed in its last two axes where the node says so."""

    op_domain = "com.microsoft"

    def _run(self, a: Array, b: Array, **given: Any) -> tuple[Array, ...]:
        if given.get("transA") and a.ndim > 1:
            a = a.swapaxes(-1, -2)
        if given.get("transB") and b.ndim > 1:
            b = b.swapaxes(-1, -2)
        alpha = given.get("alpha")
        return (np.asarray((1.0 if alpha is None else alpha) * (a @ b)),)

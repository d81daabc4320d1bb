"""Folds by bnfold and by other tools, and whether they are right by a yardstick of their own."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import bnfold
from tests.support_float64 import evaluate
from tests.support_mutants import case_of, feeds_of, fold_right
from tests.support_mutants_fold import constants_of
from tests.support_mutants_layers import distance

Folder = Callable[[onnx.ModelProto], onnx.ModelProto]

# A peer's fold is right if its weights are within 8 ulp of the exact ones and its biases within 8
# ulp of their terms (arithmetic in the stored dtype needs five operations), and if its outputs
# differ from the original's by 64 rounding units of the largest value of a channel, or by 16
# times what one rounding of each parameter changes there: deep networks amplify.
ULPS: Final = 8.0
UNITS: Final = 64.0
TIMES: Final = 16.0


def by_bnfold(model: onnx.ModelProto) -> onnx.ModelProto:
    return bnfold.fold(model).model


def by_onnxruntime(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="verify_rates_") as folder:
        target = Path(folder) / "out.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(target)
        options.log_severity_level = 4
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return onnx.load(target)


def by_onnxsim(model: onnx.ModelProto) -> onnx.ModelProto:
    result: onnx.ModelProto = import_module("onnxsim").simplify(model)[0]
    return result


def by_onnxslim(model: onnx.ModelProto) -> onnx.ModelProto:
    result: onnx.ModelProto = import_module("onnxslim").slim(model)
    return result


def by_onnxscript(model: onnx.ModelProto) -> onnx.ModelProto:
    optimizer, rewriter = map(import_module, ("onnxscript.optimizer", "onnxscript.rewriter"))
    result: onnx.ModelProto = rewriter.rewrite(optimizer.optimize(model))
    return result


def by_onnxoptimizer(model: onnx.ModelProto) -> onnx.ModelProto:
    passes = ["fuse_bn_into_conv"]
    result: onnx.ModelProto = import_module("onnxoptimizer").optimize(model, passes)
    return result


OWN: Final[dict[str, Folder]] = {"fold_right": fold_right, "bnfold": by_bnfold}
PEERS: Final[dict[str, Folder]] = {
    "onnxruntime": by_onnxruntime,
    "onnxsim": by_onnxsim,
    "onnxslim": by_onnxslim,
    "onnxscript": by_onnxscript,
    "onnxoptimizer": by_onnxoptimizer,
}


@dataclass
class Fold:
    """What one tool made of one model.

    Attributes:
        folded: the model, or None where the tool failed.
        norms, left: BatchNormalization nodes before and after.
        ulps: of weights, biases, and biases against their terms; None where layers are others.
        units: the largest difference of an output, in rounding units of its channel's largest.
        is_right: by these numbers, see the constants above.
    """

    tool: str
    folded: onnx.ModelProto | None = None
    norms: int = 0
    left: int = 0
    ulps: tuple[float, float, float] | None = None
    units: float = np.inf
    is_right: bool = False
    failure: str = ""


def folds_of(family: str, seed: int, tools: dict[str, Folder]) -> Iterator[Fold]:
    """What each tool makes of a model, and whether that is right."""
    case = case_of(family, seed)
    data = [feeds_of(case.original, number) for number in range(2)]
    wanted = [evaluate(case.original, feeds) for feeds in data]
    dtype = helper.tensor_dtype_to_np_dtype(case.original.graph.input[0].type.tensor_type.elem_type)
    unit = float(np.finfo(dtype).eps) / 2

    def units(model: onnx.ModelProto) -> float:
        pairs = zip(wanted, (evaluate(model, feeds) for feeds in data), strict=True)
        return max(_difference(a, b) for old, new in pairs for a, b in zip(old, new, strict=True))

    allowed = max(UNITS * unit, TIMES * units(case.right))
    for tool, folder in tools.items():
        fold = Fold(tool, norms=_norms(case.original))
        copy = onnx.ModelProto.FromString(case.original.SerializeToString())
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                folded = folder(copy)
            fold.left = _norms(folded)
            plain = with_constants(folded)
            off = distance(case.original, plain, in_order=False)
            difference = units(plain)
        except ImportError:
            continue
        except Exception as error:  # whatever a peer or its graph makes of it
            fold.failure = f"{type(error).__name__}: {error}".splitlines()[0][:100]
        else:
            fold.folded, fold.units = folded, difference / unit
            fold.ulps = None if off is None else (off.weight, off.bias, off.bias_terms)
            near = off is None or off.most <= ULPS
            fold.is_right = near and difference <= allowed
        yield fold


def with_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """``model`` with initializers for what its nodes compute from constants, in their dtypes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    values = constants_of(copy.graph)
    imports = {entry.domain: entry.version for entry in copy.opset_import}
    for node in [*copy.graph.node]:
        if node.op_type == "Constant" or not node.input or not set(node.input) <= set(values):
            continue
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
        inputs = [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(values[name].dtype), values[name].shape
            )
            for name in dict.fromkeys(node.input)
        ]
        graph = helper.make_graph([node], "constant", inputs, outputs)
        evaluator = ReferenceEvaluator(graph, opsets=imports)
        made = evaluator.run(None, {name: values[name] for name in node.input})
        for name, value in zip(node.output, made, strict=True):
            values[name] = np.asarray(value)
            copy.graph.initializer.append(numpy_helper.from_array(values[name], name))
        copy.graph.node.remove(node)
    return copy


def _norms(model: onnx.ModelProto) -> int:
    return sum(node.op_type == "BatchNormalization" for node in model.graph.node)


def _difference(wanted: Any, found: Any) -> float:
    """The largest difference, relative to the largest value of the same channel."""
    if wanted.shape != found.shape:
        return np.inf
    axes = tuple(axis for axis in range(wanted.ndim) if axis != 1)
    size = np.abs(wanted).max(axes)
    off = np.abs(wanted - found).max(axes)
    if not np.isfinite(off).all():
        return np.inf
    return float((off / np.where(size > 0, size, 1.0)).max())

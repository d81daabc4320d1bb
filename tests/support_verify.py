"""Pairs of models for the tests of ``bnfold verify``."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

import bnfold
from bnfold.checking.outcome import VerifyReport
from tests.support_models import Array, constant, filled, norm_parameters, parsed, with_values


def judged(original: Any, folded: Any, **options: Any) -> VerifyReport:
    """The report without the check in onnxruntime, unless that is asked for."""
    return bnfold.verify(original, folded, **{"runtime": False, **options})


def folded_of(model: onnx.ModelProto) -> onnx.ModelProto:
    """The fold by bnfold."""
    result: onnx.ModelProto = bnfold.fold(model).model
    return result


def model_of(inputs: str, body: str, *, more: str = "", output: str = "float y") -> onnx.ModelProto:
    """A model with random parameters; its output has whatever shape it gets."""
    model = filled(parsed(f"agraph ({inputs}) => ({output}) <{more}> {{ {body} }}"))
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def text_of_chain(count: int, *, between: str = "Relu") -> str:
    """A graph of ``count`` layers: Conv with 4 channels, norm, and what is between them.

    Layer n computes cN, nN and rN; its norm is called bnN.
    """
    lines, declared, data = [], [], "x"
    for at in range(count):
        declared += [f"float[4,4,3,3] w{at}", norm_parameters(4, str(at))]
        last = at == count - 1
        lines += [
            f"[conv{at}] c{at} = Conv <pads=[1,1,1,1]> ({data}, w{at})",
            f"[bn{at}] n{at} = BatchNormalization (c{at}, g{at}, b{at}, m{at}, v{at})",
            f"[act{at}] {'y' if last else f'r{at}'} = {between} (n{at})",
        ]
        data = f"r{at}"
    return (
        f"agraph (float[N,4,5,5] x) => (float[N,4,5,5] y) <{', '.join(declared)}> "
        f"{{ {'  '.join(lines)} }}"
    )


def chain(count: int, *, between: str = "Relu", seed: int = 0) -> onnx.ModelProto:
    """The model of ``text_of_chain`` with parameters that keep the data at its size."""
    model = filled(parsed(text_of_chain(count, between=between)), seed)
    return with_values(model, **{f"w{at}": constant(model, f"w{at}") / 6 for at in range(count)})


def scaled(model: onnx.ModelProto, name: str, factor: Any, at: Any = ...) -> onnx.ModelProto:
    """``model`` with some values of an initializer multiplied."""
    values = constant(model, name).astype(np.float64)
    values[at] *= factor
    return with_values(model, **{name: values})


def own_fold(model: onnx.ModelProto, at: int, *, wrong: Any = 1.0) -> onnx.ModelProto:
    """``chain`` with the norm of one layer folded by hand, its scale times ``wrong``.

    The layer writes the name that the norm wrote.
    """
    gamma, beta, mean, var = (constant(model, f"{k}{at}").astype(np.float64) for k in "gbmv")
    scale = gamma / np.sqrt(var + 1e-5)
    weight = constant(model, f"w{at}").astype(np.float64) * (wrong * scale).reshape(-1, 1, 1, 1)
    copy = with_values(model, **{f"w{at}": weight})
    nodes = {node.name: node for node in copy.graph.node}
    nodes[f"conv{at}"].input.append(f"bias{at}")
    nodes[f"conv{at}"].output[0] = f"n{at}"
    copy.graph.node.remove(nodes[f"bn{at}"])
    add_constant(copy, f"bias{at}", (beta - scale * mean).astype(np.float32))
    return copy


def add_constant(model: onnx.ModelProto, name: str, values: Array) -> None:
    """Give a model one more initializer."""
    model.graph.initializer.append(numpy_helper.from_array(values, name))


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that may be changed."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def renamed(model: onnx.ModelProto, names: dict[str, str]) -> onnx.ModelProto:
    """``model`` with other names for tensors that nodes of the main graph write and read."""
    copy = copied(model)
    for node in copy.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return copy


def custom(model: onnx.ModelProto, domain: str, version: int = 1) -> onnx.ModelProto:
    """``model`` with one more operator set."""
    copy = copied(model)
    copy.opset_import.append(helper.make_opsetid(domain, version))
    return copy

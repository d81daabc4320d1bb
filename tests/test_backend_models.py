"""Every model of the ONNX backend tests: byte-identical, or folded to a valid, equal one."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.backend.test
import pytest
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.reference import ReferenceEvaluator

import bnfold
from tests.support_graphs import norms_in

DATA = Path(onnx.backend.test.__file__).parent / "data"
# Operators of which a norm, or arithmetic that a layer may take up, is made.
FOLDABLE = {"BatchNormalization", "Add", "Sub", "Mul", "Div"}
LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}

# Shipped models in which something folds -> how many norms fold in it.
FOLDS = {
    "light_densenet121": 114,
    "light_inception_v2": 69,
    "light_resnet50": 53,
    "light_shufflenet": 49,
}
# Those that come without data and are quick enough to compute on random inputs.
QUICK = {"light_resnet50", "light_shufflenet"}


@functools.cache
def shipped() -> dict[str, Path]:
    """Every model file in the onnx package, by a name."""
    found = {}
    for path in sorted(DATA.rglob("*.onnx")):
        found[path.parent.name if path.name == "model.onnx" else path.stem] = path
    return found


@functools.cache
def node_cases() -> list[Any]:
    """The models of single operators, which the onnx package makes when they are asked for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [case for case in collect_testcases(None) if case.model is not None]


def operators(model: onnx.ModelProto) -> set[str]:
    """Every operator of a model, its subgraphs and functions."""
    found: set[str] = set()
    waiting = [model.graph.node, *(function.node for function in model.functions)]
    while waiting:
        for node in waiting.pop():
            found.add(node.op_type)
            for attribute in node.attribute:
                waiting += [attribute.g.node, *(graph.node for graph in attribute.graphs)]
    return found


def test_there_are_models() -> None:
    assert len(shipped()) > 100
    assert len(node_cases()) > 1000


def test_models_of_single_operators() -> None:
    """Those with a norm say why it stays; all are byte-identical, or valid where one folds."""
    with_norms = 0
    for case in node_cases():
        data = case.model.SerializeToString()
        result = bnfold.fold(case.model)
        if not result.report.folded:
            assert result.model.SerializeToString() == data, case.name
        else:
            onnx.checker.check_model(result.model)
            agree(case.name, case.model, result.model, case.data_sets)
        if norms_in(case.model):
            with_norms += 1
            assert result.report.norms, case.name
            assert all(norm.reason and norm.remedy for norm in result.report.kept)
    assert with_norms >= 4


def agree(name: str, before: onnx.ModelProto, after: onnx.ModelProto, data_sets: list[Any]) -> None:
    """Both models give the same outputs, to the rounding of their own type."""
    names = [value.name for value in before.graph.input]
    constants = {tensor.name for tensor in before.graph.initializer}
    names = [value for value in names if value not in constants]
    for inputs, _ in data_sets:
        feeds = dict(zip(names, inputs, strict=False))
        expected = ReferenceEvaluator(before).run(None, feeds)
        got = ReferenceEvaluator(after).run(None, feeds)
        for a, b in zip(expected, got, strict=True):
            assert np.asarray(a).shape == np.asarray(b).shape, name
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6, err_msg=name)


def random_data(model: onnx.ModelProto) -> list[Any]:
    """One set of random inputs, for a model that is shipped without any."""
    rng, constants = np.random.default_rng(0), {t.name for t in model.graph.initializer}
    shapes = [
        [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in model.graph.input
        if value.name not in constants
    ]
    return [([rng.normal(size=shape).astype(np.float32) for shape in shapes], [])]


def data_of(folder: Path) -> list[Any]:
    """The shipped inputs and outputs of a model file."""
    sets = []
    for data_set in sorted(folder.glob("test_data_set_*")):
        parts = []
        for kind in ("input", "output"):
            files = sorted(data_set.glob(f"{kind}_*.pb"), key=lambda p: int(p.stem.split("_")[1]))
            tensors = [onnx.TensorProto.FromString(path.read_bytes()) for path in files]
            parts.append([numpy_helper.to_array(tensor) for tensor in tensors])
        sets.append((parts[0], parts[1]))
    return sets


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_model(name: str, tmp_path: Path) -> None:
    path = shipped()[name]
    data = path.read_bytes()
    model = onnx.ModelProto.FromString(data)
    result = bnfold.fold(path)
    report = result.report
    assert len(report.folded) == FOLDS.get(name, 0)
    target = tmp_path / "out.onnx"
    result.save(target)
    if not report.folded:
        assert target.read_bytes() == data
        assert result.model == model
        assert report.kept or not norms_in(model)
        return
    assert operators(model) & FOLDABLE
    assert operators(model) & LAYERS
    folded = onnx.load(target)
    assert folded == result.model
    onnx.checker.check_model(folded)
    assert norms_in(folded) == report.batch_norms_after < max(1, report.batch_norms_before)
    assert [(v.name, v.type) for v in folded.graph.output] == [
        (v.name, v.type) for v in model.graph.output
    ]
    again = bnfold.fold(target)
    assert again.report.folded == ()
    again.save(tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == target.read_bytes()
    agree(name, model, folded, random_data(model) if name in QUICK else data_of(path.parent))

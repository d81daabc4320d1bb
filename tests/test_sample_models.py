"""The real exports in sample_models/: what folds, and that the function stays the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest

import bnfold
from tests.support_float64 import evaluate

SAMPLES = Path(__file__).parent.parent / "sample_models"
LINEAR = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
UNIT = 2.0**-24
"""Half the distance from one to the next float32: the relative error of one rounding."""

Feeds = dict[str, npt.NDArray[np.float32]]
Outputs = list[npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Expected:
    """What ``fold`` does with a sample.

    Attributes:
        before, after: BatchNormalization nodes.
        nodes: of the graph, before and after.
        into: folded norms by kind and by the operator that takes them up.
        kept: norms that stay, by reason code.
    """

    before: int
    after: int
    nodes: tuple[int, int]
    into: dict[tuple[str, str], int] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)


CASES = {
    "torch_unet": Expected(
        12, 0, (41, 29), {("batch-norm", "Conv"): 10, ("batch-norm", "ConvTranspose"): 2}
    ),
    "torch_mlp": Expected(3, 0, (9, 6), {("batch-norm", "Gemm"): 2, ("batch-norm", "MatMul"): 1}),
    "torch_dynamo_shared_conv": Expected(3, 0, (34, 31), {("batch-norm", "Conv"): 3}),
    "torch_training_pointnet": Expected(6, 6, (29, 29), kept={"training-mode": 6}),
    "keras_unet": Expected(0, 0, (19, 17), {("constant-chain", "ConvTranspose"): 1}),
    "paddle_labnet": Expected(
        5,
        0,
        (75, 26),
        {
            ("batch-norm", "Conv"): 5,
            ("constant-chain", "Conv"): 4,
            ("constant-chain", "MatMul"): 1,
            ("constant-chain", ""): 1,
        },
    ),
}
by_name = pytest.mark.parametrize("name", list(CASES))


def path_of(name: str) -> Path:
    return SAMPLES / f"{name}.onnx"


def count_norms(model: onnx.ModelProto) -> int:
    return sum(node.op_type == "BatchNormalization" for node in model.graph.node)


def foldable_norms_left(model: onnx.ModelProto) -> list[str]:
    """Inference-mode norms whose data comes from a linear operator that nobody else reads."""
    makers = {name: node for node in model.graph.node for name in node.output}
    readers = Counter(name for node in model.graph.node for name in node.input)
    readers.update(value.name for value in model.graph.output)
    left = []
    for node in model.graph.node:
        if node.op_type != "BatchNormalization" or len(node.output) > 1:
            continue
        data = node.input[0]
        if data in makers and makers[data].op_type in LINEAR and readers[data] == 1:
            left.append(node.name)
    return left


def feeds_of(model: onnx.ModelProto, scale: float) -> Feeds:
    generator = np.random.default_rng(7)
    stored = {tensor.name for tensor in model.graph.initializer}
    feeds = {}
    for value in model.graph.input:
        if value.name not in stored:
            dims = [dim.dim_value or 2 for dim in value.type.tensor_type.shape.dim]
            feeds[value.name] = (scale * generator.standard_normal(dims)).astype(np.float32)
    return feeds


def run_as_written(model: onnx.ModelProto, feeds: Feeds) -> Outputs:
    """The outputs in onnxruntime, which changes nothing in the graph."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return [np.asarray(value, dtype=np.float64) for value in session.run(None, dict(feeds))]


def largest_difference(found: Outputs, wanted: Outputs) -> float:
    """Over all outputs, each relative to its own largest value."""
    assert [value.shape for value in found] == [value.shape for value in wanted]
    assert all(np.isfinite(value).all() for value in [*found, *wanted])
    return max(
        float(np.abs(one - other).max() / np.abs(other).max())
        for one, other in zip(found, wanted, strict=True)
    )


def assert_same_function(
    folded: onnx.ModelProto, original: onnx.ModelProto, scales: tuple[float, ...] = (1.0, 10.0)
) -> None:
    """Both compute the same, but for one rounding of each folded value and the runtime's own.

    In float64 only the roundings of the fold are left: a few units, since they average out. In
    onnxruntime the fold may be off by what the original is itself, within a factor.
    """
    for scale in scales:
        feeds = feeds_of(original, scale)
        wide = {name: value.astype(np.float64) for name, value in feeds.items()}
        exact = evaluate(original, wide)
        assert largest_difference(evaluate(folded, wide), exact) <= 16 * UNIT
        usual = largest_difference(run_as_written(original, feeds), exact)
        assert largest_difference(run_as_written(folded, feeds), exact) <= 4 * usual + 8 * UNIT


def test_every_sample_has_a_row_here_and_in_the_readme() -> None:
    assert {path.stem for path in SAMPLES.glob("*.onnx")} == set(CASES)
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    for name, expected in CASES.items():
        rows = [line for line in readme.splitlines() if line.startswith(f"| `{name}.onnx` |")]
        assert len(rows) == 2
        assert f" | {expected.before}, {expected.after} | " in rows[1]
        assert f" | {expected.nodes[0]}, {expected.nodes[1]} | " in rows[1]


@by_name
def test_report(name: str) -> None:
    expected = CASES[name]
    result = bnfold.fold(path_of(name))
    report = result.report
    assert (report.batch_norms_before, report.batch_norms_after) == (
        expected.before,
        expected.after,
    )
    assert (report.nodes_before, report.nodes_after) == expected.nodes
    assert Counter((norm.kind, norm.operator) for norm in report.folded) == expected.into
    assert Counter(norm.code for norm in report.kept) == expected.kept
    # The report counts what is really there.
    original, folded = onnx.load(path_of(name)), result.model
    assert (count_norms(original), count_norms(folded)) == (expected.before, expected.after)
    assert (len(original.graph.node), len(folded.graph.node)) == expected.nodes


@pytest.mark.parametrize("name", [name for name, expected in CASES.items() if expected.into])
def test_same_function(name: str) -> None:
    original, folded = onnx.load(path_of(name)), bnfold.fold(path_of(name)).model
    onnx.checker.check_model(folded, full_check=True)
    assert folded.graph.input == original.graph.input
    assert folded.graph.output == original.graph.output
    assert_same_function(folded, original)


@by_name
def test_nothing_foldable_is_left(name: str) -> None:
    assert foldable_norms_left(bnfold.fold(path_of(name)).model) == []


@by_name
def test_second_fold_changes_nothing(name: str, tmp_path: Path) -> None:
    once, twice = tmp_path / "once.onnx", tmp_path / "twice.onnx"
    bnfold.fold(path_of(name)).save(once)
    again = bnfold.fold(once)
    again.save(twice)
    assert twice.read_bytes() == once.read_bytes()
    assert again.report.folded == ()
    is_changed = once.read_bytes() != path_of(name).read_bytes()
    assert is_changed == bool(CASES[name].into)


@by_name
def test_a_path_and_a_model_in_memory_fold_alike(name: str) -> None:
    original = onnx.load(path_of(name))
    from_memory = bnfold.fold(original).model
    assert from_memory == bnfold.fold(path_of(name)).model
    assert original == onnx.load(path_of(name))


def test_training_mode_read_as_inference() -> None:
    original = onnx.load(path_of("torch_training_pointnet"))
    result = bnfold.fold(original, assume_inference=True)
    assert count_norms(result.model) == 0
    assert len(result.report.folded) == 6
    assert all(norm.assumed_inference for norm in result.report.folded)
    # At opset 9 one output means inference.
    for node in original.graph.node:
        if node.op_type == "BatchNormalization":
            del node.output[1:]
    assert foldable_norms_left(original) != []
    # The evaluator's LogSoftmax takes the logarithm of a softmax, so the data has to be small.
    assert_same_function(result.model, original, scales=(0.1, 1.0))

"""The networks trained on digits in sample_models/digits/: what their README says of them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest

import bnfold

ROOT = Path(__file__).parent.parent
DIGITS = ROOT / "sample_models" / "digits"
README = (ROOT / "sample_models" / "README.md").read_text(encoding="utf-8")
NUMBER = r"([\d.]+)"
ROW = re.compile(
    rf"^\| `(\w+)\.onnx` \| {NUMBER} \| {NUMBER} \| {NUMBER} \| {NUMBER} \| (\d) of (\d) "
    r"\| (.+) \|$",
    re.M,
)
ROWS = {found[1]: found.groups()[1:] for found in ROW.finditer(README)}
NORMED = [name for name in ROWS if "plain" not in name]
WHERE = {
    "conv_before": "backward, into conv_1, conv_2, conv_3",
    "conv_after": "forward, into conv_2, conv_3, linear_1",
    "mlp_before": "backward, into linear_1, linear_2, linear_3",
    "mlp_after": "forward, into linear_2, linear_3, linear_4",
}
ONE_DIGIT = 100 / 450
"""In percent: another processor may round one digit over the edge."""


def pixels(part: str = "held_out") -> npt.NDArray[np.float32]:
    found: npt.NDArray[np.float32] = np.load(DIGITS / f"{part}.npz")["pixels"]
    return found


def labels(part: str = "held_out") -> npt.NDArray[np.uint8]:
    found: npt.NDArray[np.uint8] = np.load(DIGITS / f"{part}_labels.npy")
    return found


def logits_of(model: onnx.ModelProto) -> npt.NDArray[np.float64]:
    """In onnxruntime, as a user runs it: with its own optimiser."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"pixels": pixels()})
    return np.asarray(logits, dtype=np.float64)


def accuracy(logits: npt.NDArray[np.float64]) -> float:
    return 100 * float((logits.argmax(axis=1) == labels()).mean())


def log_loss(logits: npt.NDArray[np.float64]) -> float:
    odds = np.exp(logits - logits[np.arange(450), labels()][:, None])
    return float(np.log(odds.sum(axis=1)).mean())


def test_every_file_has_a_row_and_they_are_small() -> None:
    files = list(DIGITS.glob("*.onnx"))
    assert {path.stem for path in files} == set(ROWS)
    assert len(ROWS) == 12
    assert sum(path.stat().st_size for path in DIGITS.iterdir()) < 600_000


def test_the_digits_are_those_of_scikit_learn_split_in_two() -> None:
    """1,797 images of 16 levels, ten kinds, none of the held-out ones among the others."""
    train, held_out = pixels("train"), pixels()
    assert (train.shape, held_out.shape) == ((1347, 1, 8, 8), (450, 1, 8, 8))
    assert train.dtype == held_out.dtype == np.float32
    for images in (train, held_out):
        assert set(np.unique(images * 16)) == set(range(17))
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in held_out}
    assert (len(labels("train")), len(labels())) == (1347, 450)
    # As scikit-learn's documentation counts them.
    counts = np.bincount(np.concatenate([labels("train"), labels()]))
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@pytest.mark.parametrize("name", ROWS)
def test_a_model_is_whole_and_as_accurate_as_its_row(name: str) -> None:
    model = onnx.load(DIGITS / f"{name}.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [entry.version for entry in model.opset_import] == [17]
    result = bnfold.fold(DIGITS / f"{name}.onnx")
    onnx.checker.check_model(result.model, full_check=True)
    before, after = logits_of(model), logits_of(result.model)
    right, right_folded, loss, loss_folded = (float(cell) for cell in ROWS[name][:4])
    assert right == right_folded
    assert abs(accuracy(before) - right) <= ONE_DIGIT
    assert (after.argmax(axis=1) == before.argmax(axis=1)).all()
    assert log_loss(before) == pytest.approx(loss, rel=1e-3)
    assert log_loss(after) == pytest.approx(loss_folded, rel=1e-3)


@pytest.mark.parametrize("name", NORMED)
def test_all_norms_fold_where_the_row_says(name: str) -> None:
    result = bnfold.fold(DIGITS / f"{name}.onnx")
    folded, norms, where = ROWS[name][4:]
    assert (folded, norms) == ("3", "3")
    assert where == WHERE[name.removesuffix("_unscaled")]
    assert (result.report.batch_norms_before, result.report.batch_norms_after) == (3, 0)
    assert result.report.kept == ()
    assert {norm.direction for norm in result.report.folded} == {where.split(",")[0]}
    taken = [operator for norm in result.report.folded for operator in norm.taken]
    assert taken == where.split("into ")[1].split(", ")
    assert not any(node.op_type == "BatchNormalization" for node in result.model.graph.node)


@pytest.mark.parametrize("name", NORMED)
def test_the_fold_is_the_same_function_on_the_digits(name: str) -> None:
    path = DIGITS / f"{name}.onnx"
    report = bnfold.verify(path, bnfold.fold(path).model, feeds=[{"pixels": pixels()}])
    assert report.is_same, report.verdict
    assert len(report.norms) == 3
    assert report.runtime is not None
    assert report.runtime.is_good


@pytest.mark.parametrize("name", [name for name in ROWS if "plain" in name])
def test_without_norms_nothing_is_changed(name: str) -> None:
    assert ROWS[name][4:] == ("0", "0", "-")
    path = DIGITS / f"{name}.onnx"
    result = bnfold.fold(path)
    assert not result.report.folded
    assert not result.report.kept
    assert result.model == onnx.load(path)


@pytest.mark.parametrize("name", [name for name in NORMED if name.endswith("_unscaled")])
def test_without_scale_and_shift_they_are_one_and_zero(name: str) -> None:
    stored = {t.name: t for t in onnx.load(DIGITS / f"{name}.onnx").graph.initializer}
    for norm in ("norm_1", "norm_2", "norm_3"):
        assert set(onnx.numpy_helper.to_array(stored[f"{norm}.scale"])) == {1.0}
        assert set(onnx.numpy_helper.to_array(stored[f"{norm}.shift"])) == {0.0}
        assert len(set(onnx.numpy_helper.to_array(stored[f"{norm}.mean"]))) > 1


def test_the_quick_start_has_the_number_of_its_row() -> None:
    quick_start = (ROOT / "README.md").read_text(encoding="utf-8")
    (session,) = re.findall(r"bnfold fold sample_models/digits/(\w+)\.onnx -o folded", quick_start)[
        1:
    ]
    assert f"450 digits that it has not seen it names {ROWS[session][0]} %" in quick_start


def test_norms_train_where_the_plain_network_fails() -> None:
    """At the same learning rate; at a tenth of it the plain one trains, too."""
    for kind in ("conv", "mlp"):
        assert float(ROWS[f"{kind}_plain_fast"][0]) < 50
        for name in NORMED:
            if name.startswith(kind):
                assert float(ROWS[name][0]) > 94
        assert float(ROWS[f"{kind}_plain_slow"][0]) > 90

"""Networks trained on digits, what spoils them, and what ``bnfold calibrate`` makes of that."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import numpy_helper

import bnfold

Array = npt.NDArray[Any]

DIGITS: Final = Path(__file__).parent.parent / "sample_models" / "digits"
BATCH_SIZE: Final = 64
WAYS: Final = tuple(
    (mode, estimator) for mode in ("batch", "sequential") for estimator in ("paper", "population")
)


@dataclass(frozen=True)
class Score:
    """Of one model on the held-out digits: accuracy in per cent, and the mean log-loss."""

    accuracy: float
    loss: float


@dataclass(frozen=True)
class Damage:
    """What is done to a network or to its data.

    Attributes:
        name: in the tables.
        model: changes a model, in place.
        data: gives other pixels.
        is_random: whether it is another for each seed.
    """

    name: str
    model: Callable[[onnx.ModelProto, np.random.Generator], None] | None = None
    data: Callable[[Array, np.random.Generator], Array] | None = None
    is_random: bool = False


def _arrays(model: onnx.ModelProto, op_types: Sequence[str], inputs: Sequence[int]) -> list[Any]:
    """The initializers that nodes of some types read as their inputs of these numbers."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in op_types]
    return [stored[node.input[at]] for node in nodes for at in inputs]


def _store(tensor: Any, values: Array) -> None:
    tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float32), tensor.name))


def reset(model: onnx.ModelProto, random: np.random.Generator) -> None:
    """Mean 0 and variance 1, which is what frameworks begin with."""
    for at, value in ((3, 0.0), (4, 1.0)):
        for tensor in _arrays(model, ["BatchNormalization"], [at]):
            _store(tensor, np.full(tensor.dims, value))


def disturb(model: onnx.ModelProto, random: np.random.Generator) -> None:
    """Means moved by about one standard deviation, standard deviations by about a factor e."""
    pairs = _arrays(model, ["BatchNormalization"], [3, 4])
    for mean, var in zip(pairs[::2], pairs[1::2], strict=True):
        spread = np.sqrt(numpy_helper.to_array(var))
        shape = spread.shape
        _store(mean, numpy_helper.to_array(mean) + spread * random.standard_normal(shape))
        _store(var, np.square(spread * np.exp(random.standard_normal(shape))))


def prune(model: onnx.ModelProto, random: np.random.Generator) -> None:
    """The 70 % of the weights of each operator that are smallest become 0."""
    for tensor in _arrays(model, ["Conv", "Gemm"], [1]):
        weight = numpy_helper.to_array(tensor)
        _store(tensor, np.where(np.abs(weight) < np.quantile(np.abs(weight), 0.7), 0.0, weight))


def round_to_bits(model: onnx.ModelProto, random: np.random.Generator) -> None:
    """Weights of three bits: seven steps from minus the largest to the largest of an operator."""
    for tensor in _arrays(model, ["Conv", "Gemm"], [1]):
        weight = numpy_helper.to_array(tensor)
        step = np.abs(weight).max() / 3
        _store(tensor, np.round(weight / step) * step)


DAMAGES: Final = (
    Damage("statistics reset to 0 and 1", model=reset),
    Damage("statistics disturbed", model=disturb, is_random=True),
    Damage("70 % of the weights pruned", model=prune),
    Damage("weights rounded to 3 bits", model=round_to_bits),
    Damage("brighter: pixels + 0.5", data=lambda x, _: x + 0.5),
    Damage("darker: 0.3 pixels", data=lambda x, _: 0.3 * x),
    Damage("inverted: 1 - pixels", data=lambda x, _: 1 - x),
    Damage(
        "noise, standard deviation 0.3",
        data=lambda x, random: x + 0.3 * random.standard_normal(x.shape),
        is_random=True,
    ),
)


def networks() -> dict[str, onnx.ModelProto]:
    """Those with norms, by name."""
    found = {path.stem: onnx.load(path) for path in sorted(DIGITS.glob("*.onnx"))}
    return {name: model for name, model in found.items() if "plain" not in name}


def pixels(name: str) -> Array:
    with np.load(DIGITS / f"{name}.npz") as stored:
        found: Array = stored["pixels"]
    return found


def score(model: onnx.ModelProto, data: Array, labels: Array) -> Score:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    (logits,) = session.run(None, {session.get_inputs()[0].name: data.astype(np.float32)})
    wide = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    chances = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    right = chances[np.arange(len(labels)), labels]
    return Score(100 * float((logits.argmax(axis=1) == labels).mean()), -float(right.mean()))


def recalibrated(
    model: onnx.ModelProto,
    data: Array,
    seed: int,
    *,
    ways: Iterable[tuple[str, str]] = WAYS,
    batch_size: int = BATCH_SIZE,
    drop_last: bool = True,
) -> dict[tuple[str, str], onnx.ModelProto]:
    """The model with statistics estimated from data in each way; one run for each mode."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for mode, estimator in ways:
            kept = Path(folder) / f"{mode}.json"
            found[mode, estimator] = bnfold.calibrate(
                model,
                None if kept.exists() else data.astype(np.float32),
                mode=mode,
                estimator=estimator,
                batch_size=batch_size,
                shuffle=True,
                seed=seed,
                drop_last=drop_last,
                merge_stats=[kept] if kept.exists() else [],
                save_stats=None if kept.exists() else kept,
                threads=1,
            ).model
    return found


def measured(damage: Damage, network: onnx.ModelProto, seed: int) -> dict[str, Score]:
    """The scores of one network before and after, in each way."""
    random = np.random.default_rng(seed)
    model = onnx.ModelProto()
    model.CopyFrom(network)
    if damage.model is not None:
        damage.model(model, random)
    train, test = pixels("train"), pixels("held_out")
    if damage.data is not None:
        train, test = damage.data(train, random), damage.data(test, random)
    labels = np.load(DIGITS / "held_out_labels.npy")
    after = recalibrated(model, train, seed)
    scores = {" ".join(way): score(found, test, labels) for way, found in after.items()}
    return {"before": score(model, test, labels), **scores}

"""How the networks for handwritten digits are trained: data, variants, descent, Algorithm 2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from bnfold.errors import ModelError
from sample_models.digits_network import Array, Network, Place, build, log_loss

Labels = npt.NDArray[np.int64]

HERE: Final = Path(__file__).parent
DIGITS: Final = HERE / "digits"
HELD_OUT: Final = 450
EPOCHS: Final = 10
BATCH: Final = 64
MOMENTUM: Final = 0.9
SLOW, FAST = 0.03, 0.4
KINDS: Final = ("conv", "mlp")
PLACES: Final[tuple[Place, ...]] = ("none", "before", "after")
RATES: Final = (0.01, 0.03, 0.1, 0.3, 0.4, 0.5, 1.0, 3.0)
SEEDS: Final = 10
FAILED: Final = 0.5
"""A network has failed if it names fewer than half of the held-out digits; chance is 0.1."""


@dataclass(frozen=True)
class Digits:
    """Images of 8 by 8, ``(N, 1, 8, 8)`` in [0, 1], and what they show."""

    images: Array
    labels: Labels


@dataclass(frozen=True)
class Variant:
    """One way to train a network.

    Attributes:
        kind: ``conv`` or ``mlp``.
        place: of the norms.
        has_scale_and_shift: whether the norms learn gamma and beta.
        rate: the learning rate.
    """

    kind: str
    place: Place
    has_scale_and_shift: bool
    rate: float

    @property
    def name(self) -> str:
        """Of its file, without the ending."""
        if self.place == "none":
            return f"{self.kind}_plain_{'slow' if self.rate == SLOW else 'fast'}"
        return f"{self.kind}_{self.place}{'' if self.has_scale_and_shift else '_unscaled'}"

    @property
    def words(self) -> str:
        """Where its norms are."""
        if self.place == "none":
            return "none"
        without = "" if self.has_scale_and_shift else ", without scale and shift"
        return f"{self.place} the activation{without}"


WAYS: Final[tuple[tuple[Place, bool, float], ...]] = (
    ("before", False, FAST),
    ("before", True, FAST),
    ("after", False, FAST),
    ("after", True, FAST),
    ("none", False, SLOW),
    ("none", False, FAST),
)
VARIANTS: Final = [Variant(kind, *way) for kind in KINDS for way in WAYS]


@dataclass(frozen=True)
class Score:
    """What a network makes of the held-out digits: the share that is right, and the log-loss."""

    accuracy: float
    log_loss: float

    @property
    def has_failed(self) -> bool:
        """Fewer than half of the digits are right."""
        return self.accuracy < FAILED


def split(images: Array, labels: Labels) -> tuple[Digits, Digits]:
    """The digits to train on and those held out, the same for all seeds."""
    order = np.random.default_rng(0).permutation(len(labels))
    kept, held_out = order[HELD_OUT:], order[:HELD_OUT]
    return Digits(images[kept], labels[kept]), Digits(images[held_out], labels[held_out])


def sweep(kind: str, place: Place) -> list[Variant]:
    """The same network at every learning rate; its norms have scale and shift."""
    return [Variant(kind, place, place != "none", rate) for rate in RATES]


def load() -> tuple[Digits, Digits]:
    """Scikit-learn's digits, split; 16 levels of gray become [0, 1]."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.asarray(found.images, dtype=np.float64).reshape(-1, 1, 8, 8) / 16.0
    return split(images, np.asarray(found.target, dtype=np.int64))


def stored(part: str) -> Digits:
    """The digits as `write_digits` stored them: ``train`` or ``held_out``."""
    images = np.load(DIGITS / f"{part}.npz")["pixels"]
    labels = np.load(DIGITS / f"{part}_labels.npy")
    return Digits(images.astype(np.float64), labels.astype(np.int64))


def write_digits(folder: Path, part: str, digits: Digits) -> None:
    """The images as an .npz file of feeds, float32, and the labels beside them."""
    np.savez_compressed(folder / f"{part}.npz", pixels=digits.images.astype(np.float32))
    np.save(folder / f"{part}_labels.npy", digits.labels.astype(np.uint8))


def mini_batches(count: int, draw: np.random.Generator) -> Iterator[Labels]:
    """The rows of each mini-batch of one epoch, in random order; what is left over is dropped."""
    order = draw.permutation(count)
    for start in range(0, count - BATCH + 1, BATCH):
        yield order[start : start + BATCH]


def train(variant: Variant, digits: Digits, seed: int, epochs: int = EPOCHS) -> Network | None:
    """A network after stochastic gradient descent with momentum, its statistics estimated.

    None if its numbers left the finite ones.
    """
    draw = np.random.default_rng(seed)
    network = build(variant.kind, variant.place, variant.has_scale_and_shift, draw)
    steps = [{n: np.zeros(p.shape) for n, p in la.parameters.items()} for la in network.layers]
    try:
        with np.errstate(all="ignore"):
            for _ in range(epochs):
                for rows in mini_batches(len(digits.labels), draw):
                    logits = network.forward(digits.images[rows], training=True)
                    loss, slope = log_loss(logits, digits.labels[rows])
                    if not np.isfinite(loss):
                        return None
                    network.backward(slope)
                    for layer, step in zip(network.layers, steps, strict=True):
                        for name, gradient in layer.gradients.items():
                            step[name] = MOMENTUM * step[name] - variant.rate * gradient
                            layer.parameters[name] = layer.parameters[name] + step[name]
            estimate_statistics(network, digits.images, draw)
    except ModelError:
        return None  # a variance of NaN or infinity
    return network


def estimate_statistics(network: Network, images: Array, draw: np.random.Generator) -> None:
    """Algorithm 2, steps 8 to 10: E[x] and Var[x] of each norm from training mini-batches.

    ``E[x] = E_B[mean_B]`` and ``Var[x] = m / (m - 1) E_B[var_B]``.
    """
    found: list[list[tuple[Array, Array]]] = [[] for _ in network.norms]
    for rows in mini_batches(len(images), draw):
        network.forward(images[rows], training=True)
        for norm, batches in zip(network.norms, found, strict=True):
            batches.append(norm.batch)
    for norm, batches in zip(network.norms, found, strict=True):
        norm.mean = np.mean([mean for mean, _ in batches], axis=0)
        norm.var = np.mean([var for _, var in batches], axis=0)


def score(logits: Array, labels: Labels) -> Score:
    """Of logits ``(N, 10)``."""
    with np.errstate(all="ignore"):
        loss = log_loss(logits, labels)[0]
    return Score(float((logits.argmax(axis=1) == labels).mean()), loss)


def scores_of(variant: Variant, train_on: Digits, held_out: Digits, seeds: int) -> list[Score]:
    """One score for each seed; where numbers are not finite nothing is right."""
    found = []
    for seed in range(seeds):
        network = train(variant, train_on, seed)
        if network is None:
            found.append(Score(0.0, float("nan")))
        else:
            with np.errstate(all="ignore"):
                logits = network.forward(held_out.images, training=False)
            found.append(score(logits, held_out.labels))
    return found

"""How the sample models were trained: the gradient of whole networks, Algorithm 2, a short run."""

from __future__ import annotations

import numpy as np
import pytest

from bnfold.reference import evaluate
from sample_models.digits_network import (
    Array,
    Conv,
    Layer,
    Linear,
    Network,
    Norm,
    Place,
    build,
    log_loss,
)
from sample_models.digits_onnx import to_onnx
from sample_models.digits_training import (
    FAST,
    SLOW,
    VARIANTS,
    Variant,
    estimate_statistics,
    mini_batches,
    score,
    stored,
    train,
)

WAYS: list[tuple[str, Place, bool]] = [
    ("conv", "before", True),
    ("conv", "after", False),
    ("conv", "none", False),
    ("mlp", "before", False),
    ("mlp", "after", True),
    ("mlp", "none", False),
]
by_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way)))
Way = tuple[str, Place, bool]


def network_of(way: Way, seed: int = 0) -> Network:
    """A new network with parameters that are not ones and zeros."""
    draw = np.random.default_rng(seed)
    network = build(*way, draw)
    for layer in network.layers:
        for value in layer.parameters.values():
            value += 0.1 * draw.standard_normal(value.shape)
    return network


@by_way
def test_the_gradient_of_a_network_is_that_of_differences(way: Way) -> None:
    """Some places of each parameter, and of the images."""
    draw, network = np.random.default_rng(1), network_of(way)
    images, labels = draw.random((6, 1, 8, 8)), draw.integers(0, 10, 6)

    def loss() -> float:
        return log_loss(network.forward(images, training=True), labels)[0]

    def check(values: Array, gradient: Array, name: str) -> None:
        assert gradient.shape == values.shape
        for _ in range(4):
            place = tuple(int(draw.integers(size)) for size in values.shape)
            kept, step = values[place], 1e-6
            values[place] = kept + step
            above = loss()
            values[place] = kept - step
            below = loss()
            values[place] = kept
            found = (above - below) / (2 * step)
            assert gradient[place] == pytest.approx(found, rel=1e-5, abs=1e-8), (name, place)

    of_images = network.backward(log_loss(network.forward(images, training=True), labels)[1])
    gradients = [dict(layer.gradients) for layer in network.layers]
    check(images, of_images, "images")
    for layer, found in zip(network.layers, gradients, strict=True):
        assert set(found) == set(layer.parameters)
        for name, values in layer.parameters.items():
            check(values, found[name], f"{type(layer).__name__}.{name}")


def kinds(network: Network) -> list[type[Layer]]:
    return [type(layer) for layer in network.layers]


def test_the_norms_stand_where_the_variant_says() -> None:
    for variant in VARIANTS:
        network = network_of((variant.kind, variant.place, variant.has_scale_and_shift))
        order = kinds(network)
        linear = [i for i, kind in enumerate(order) if kind in (Conv, Linear)][:-1]
        after = {"before": 1, "after": 2}.get(variant.place)
        places = [i for i, kind in enumerate(order) if kind is Norm]
        assert places == ([] if after is None else [i + after for i in linear])
        for norm in network.norms:
            assert bool(norm.parameters) == variant.has_scale_and_shift
        # What a norm would subtract is not learned.
        for i in linear:
            assert ("bias" in network.layers[i].parameters) == (variant.place != "before")


def test_the_log_loss_by_hand() -> None:
    logits = np.log(np.array([[1.0, 3.0], [1.0, 1.0]])) + 1000.0
    loss, slope = log_loss(logits, np.array([1, 0]))
    assert loss == pytest.approx((np.log(4 / 3) + np.log(2)) / 2, rel=1e-12)
    np.testing.assert_allclose(slope, [[0.125, -0.125], [-0.25, 0.25]], rtol=1e-10)


def test_algorithm_2_is_the_mean_of_the_batches() -> None:
    """Each norm's input taken out of the network, batch by batch; NumPy's own variances."""
    network, digits = network_of(("conv", "after", True)), stored("train")
    estimate_statistics(network, digits.images, np.random.default_rng(5))
    first = next(i for i, layer in enumerate(network.layers) if layer is network.norms[0])
    means, variances = [], []
    for rows in mini_batches(len(digits.labels), np.random.default_rng(5)):
        x = digits.images[rows]
        for layer in network.layers[:first]:
            x = layer.forward(x, training=True)
        means.append(x.mean(axis=(0, 2, 3)))
        variances.append(x.transpose(1, 0, 2, 3).reshape(8, -1).var(axis=1, ddof=1))
    assert len(means) == 1347 // 64
    np.testing.assert_allclose(network.norms[0].mean, np.mean(means, axis=0), rtol=1e-12)
    np.testing.assert_allclose(network.norms[0].var, np.mean(variances, axis=0), rtol=1e-12)


@by_way
def test_the_model_is_the_network(way: Way) -> None:
    network, images = network_of(way), stored("held_out").images[:20]
    estimate_statistics(network, stored("train").images, np.random.default_rng(5))
    wanted = network.forward(images, training=False)
    (found,) = evaluate(to_onnx(network, "n"), {"pixels": images})
    # Every weight is rounded once, to float32.
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


def test_a_short_run_trains_with_norms_and_fails_without() -> None:
    """Two seeds of the perceptron: at the large rate only with norms, at the small one both."""
    train_on, held_out = stored("train"), stored("held_out")
    for seed in (0, 1):
        for place, rate, is_good in [
            ("before", FAST, True),
            ("after", FAST, True),
            ("none", SLOW, True),
            ("none", FAST, False),
        ]:
            way = Variant("mlp", place, place != "none", rate)  # type: ignore[arg-type]
            network = train(way, train_on, seed)
            assert network is not None
            found = score(network.forward(held_out.images, training=False), held_out.labels)
            assert (found.accuracy > 0.9) == is_good
            assert found.has_failed != is_good


def test_numbers_that_overflow_end_the_training() -> None:
    way = Variant("mlp", "after", True, 1e6)
    assert train(way, stored("train"), 0, epochs=2) is None


def test_the_same_seed_gives_the_same_network() -> None:
    way = Variant("mlp", "before", True, FAST)
    one, other, third = (
        to_onnx(found, "n").SerializeToString()
        for seed in (0, 0, 1)
        if (found := train(way, stored("train"), seed, epochs=1)) is not None
    )
    assert one == other != third

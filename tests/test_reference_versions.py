"""What operators did before their newest version, which no shipped case covers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bnfold.errors import ModelError
from tests.support_reference import compute

Array = npt.NDArray[Any]


@pytest.mark.parametrize(
    ("opset", "attributes", "inputs"),
    [
        (7, {"scales": [1.0, 1.0, 2.0]}, []),
        (9, {}, [np.array([1.0, 1.0, 2.0])]),
    ],
)
@pytest.mark.parametrize(
    ("mode", "expected"),
    [("nearest", [0.0, 0.0, 4.0, 4.0]), ("linear", [0.0, 2.0, 4.0, 4.0])],
)
def test_upsample(
    opset: int, attributes: dict[str, Any], inputs: list[Array], mode: str, expected: list[float]
) -> None:
    x = np.array([[[0.0, 4.0]]])
    y = compute("Upsample", x, *inputs, opset=opset, mode=mode, **attributes)[0]
    assert y.ravel().tolist() == expected


def test_the_first_resize_measures_from_the_corner() -> None:
    x, scales = np.array([[[0.0, 4.0]]]), np.array([1.0, 1.0, 2.0])
    y = compute("Resize", x, scales, opset=10, mode="linear")[0]
    assert y.ravel().tolist() == [0.0, 2.0, 4.0, 4.0]


# x is 1, 3 in the only channel: mean 2, variance 1 of the batch; the fixed ones are 1 and 4.
FIXED, BATCH = [0.0, 1.0], [-1.0, 1.0]


@pytest.mark.parametrize(
    ("opset", "outputs", "attributes", "expected"),
    [
        (1, 1, {"is_test": 1, "consumed_inputs": [0, 0, 0, 1, 1]}, FIXED),
        (1, 5, {"is_test": 0, "consumed_inputs": [0, 0, 0, 1, 1]}, BATCH),
        (6, 1, {"is_test": 1}, FIXED),
        (6, 5, {}, BATCH),
        (7, 1, {}, FIXED),
        (7, 5, {}, BATCH),
        (9, 1, {}, FIXED),
        (9, 5, {}, BATCH),
        (13, 5, {}, BATCH),
        (14, 1, {}, FIXED),
        (14, 3, {"training_mode": 1}, BATCH),
        (15, 1, {"training_mode": 1}, BATCH),
    ],
)
def test_batch_normalization_of_every_version(
    opset: int, outputs: int, attributes: dict[str, Any], expected: list[float]
) -> None:
    x = np.array([[1.0], [3.0]])
    parameters = [np.array([v]) for v in (1.0, 0.0, 1.0, 4.0)]
    found = compute(
        "BatchNormalization",
        x,
        *parameters,
        opset=opset,
        outputs=outputs,
        epsilon=0.0,
        momentum=0.75,
        **attributes,
    )
    assert found[0].ravel().tolist() == expected
    if outputs > 1:
        assert found[1].tolist() == [0.75 * 1 + 0.25 * 2]
        assert found[2].tolist() == [0.75 * 4 + 0.25 * 1]
    if outputs == 5:
        assert [v.tolist() for v in found[3:]] == [[2.0], [1.0]]


def test_batch_normalization_without_spatial() -> None:
    x = np.array([[[1.0, 5.0]], [[3.0, 5.0]]])
    parameters = [np.array([v]) for v in ([2.0, 1.0], [0.0, 1.0], [1.0, 1.0], [4.0, 1.0])]
    y = compute("BatchNormalization", x, *parameters, opset=7, spatial=0, epsilon=0.0)[0]
    assert y.tolist() == [[[0.0, 5.0]], [[2.0, 5.0]]]


def test_a_bad_variance_gives_what_ieee_754_says() -> None:
    x = np.array([[1.0, 1.0]])
    parameters = [np.array(v) for v in ([1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [-1.0, 0.0])]
    y = compute("BatchNormalization", x, *parameters, epsilon=0.0)[0]
    assert np.isnan(y[0, 0])
    assert y[0, 1] == np.inf
    with pytest.raises(ModelError, match=r"scale has shape \(1,\), and x asks for \(2,\)"):
        compute("BatchNormalization", x, np.ones(1), *parameters[1:])


def test_old_binary_operators_broadcast_from_an_axis() -> None:
    a, b = np.zeros((2, 3, 4)), np.arange(3.0)
    y = compute("Add", a, b, opset=6, broadcast=1, axis=1)[0]
    assert (y == np.arange(3.0)[None, :, None]).all()
    y = compute("Sub", a, np.arange(4.0), opset=6, broadcast=1)[0]
    assert (y == -np.arange(4.0)).all()
    with pytest.raises(ModelError, match="broadcast is not set"):
        compute("Mul", a, b, opset=6)
    with pytest.raises(ModelError, match="broadcast is not set"):
        compute("Gemm", np.ones((2, 2)), np.ones((2, 2)), np.ones(2), opset=6)


def test_softmax_before_opset_13_takes_all_axes_from_one_on() -> None:
    x = np.zeros((2, 2, 2))
    assert (compute("Softmax", x, opset=11)[0] == 0.25).all()
    assert (compute("Softmax", x, opset=13)[0] == 0.5).all()


def test_old_dropout_in_test_mode_is_the_identity() -> None:
    x = np.arange(3.0)
    assert (compute("Dropout", x, opset=6, is_test=1)[0] == x).all()
    assert (compute("Dropout", x, opset=10)[0] == x).all()

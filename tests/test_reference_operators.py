"""Kernels of the evaluator against definitions of their own, for what no shipped case covers."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import parser
from onnx.reference import ReferenceEvaluator
from onnx.reference.ops.op_resize import Resize

from bnfold.reference.error_function import erf
from tests.support_reference import compute

Array = npt.NDArray[Any]


def draws(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


seeds = st.integers(0, 2**32 - 1)
small = st.integers(1, 3)


def conv_by_definition(
    x: Array, w: Array, group: int, strides: list[int], pads: list[int], dilations: list[int]
) -> Array:
    """Every output as the sum that the specification writes, one number at a time."""
    rank = x.ndim - 2
    sizes = [
        (n + pads[i] + pads[rank + i] - dilations[i] * (k - 1) - 1) // strides[i] + 1
        for i, (n, k) in enumerate(zip(x.shape[2:], w.shape[2:], strict=True))
    ]
    total = np.zeros((x.shape[0], w.shape[0], math.prod(sizes)))
    outer = product(range(x.shape[0]), range(w.shape[0]), enumerate(np.ndindex(*sizes)))
    for n, m, (number, place) in outer:
        first = m // (w.shape[0] // group) * w.shape[1]
        for c, *tap in np.ndindex(*w.shape[1:]):
            at = [
                p * s - b + t * d
                for p, s, b, t, d in zip(place, strides, pads[:rank], tap, dilations, strict=True)
            ]
            if all(0 <= a < size for a, size in zip(at, x.shape[2:], strict=True)):
                weight, value = (m, c, *tap), (n, first + c, *at)
                total[n, m, number] += w[weight] * x[value]
    return total.reshape(x.shape[0], w.shape[0], *sizes)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), rank=st.integers(1, 3), group=small, seed=seeds)
def test_conv_is_its_definition(data: Any, rank: int, group: int, seed: int) -> None:
    each = st.lists(small, min_size=rank, max_size=rank)
    kernel, strides, dilations = data.draw(each), data.draw(each), data.draw(each)
    pads = data.draw(st.lists(st.integers(0, 2), min_size=2 * rank, max_size=2 * rank))
    spatial = [
        data.draw(st.integers(max(1, d * (k - 1) + 1 - pads[i] - pads[rank + i]), 6 + rank))
        for i, (k, d) in enumerate(zip(kernel, dilations, strict=True))
    ]
    columns, rows = data.draw(small), data.draw(small)
    x = draws(seed).standard_normal((data.draw(small), group * columns, *spatial))
    w = draws(seed + 1).standard_normal((group * rows, columns, *kernel))
    b = draws(seed + 2).standard_normal(group * rows)
    (y,) = compute("Conv", x, w, b, group=group, strides=strides, pads=pads, dilations=dilations)
    expected = conv_by_definition(x, w, group, strides, pads, dilations)
    expected += b.reshape(-1, *[1] * rank)
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


def test_conv_in_parts_is_conv_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x = draws(0).standard_normal((2, 6, 13, 9))
    w = draws(1).standard_normal((4, 6, 3, 3))
    whole = compute("Conv", x, w, pads=[1, 1, 1, 1])[0]
    monkeypatch.setattr("bnfold.reference.convolution.UNFOLDED", 1)
    parts = compute("Conv", x, w, pads=[1, 1, 1, 1])[0]
    np.testing.assert_allclose(parts, whole, rtol=1e-13, atol=1e-13)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), rank=st.integers(1, 2), group=small, seed=seeds)
def test_conv_transpose_is_its_definition(data: Any, rank: int, group: int, seed: int) -> None:
    """Every input value adds a scaled kernel to the full output, of which the pads are cut off."""
    each = st.lists(small, min_size=rank, max_size=rank)
    kernel, strides, dilations = data.draw(each), data.draw(each), data.draw(each)
    spatial = data.draw(st.lists(st.integers(1, 4), min_size=rank, max_size=rank))
    extra = [data.draw(st.integers(0, s - 1)) for s in strides]
    pads = data.draw(st.lists(st.integers(0, 1), min_size=2 * rank, max_size=2 * rank))
    full = [
        s * (n - 1) + e + d * (k - 1) + 1
        for s, n, e, d, k in zip(strides, spatial, extra, dilations, kernel, strict=True)
    ]
    assume(all(f > a + b for f, a, b in zip(full, pads[:rank], pads[rank:], strict=True)))
    rows, columns = data.draw(small), data.draw(small)
    x = draws(seed).standard_normal((2, group * rows, *spatial))
    w = draws(seed + 1).standard_normal((group * rows, columns, *kernel))
    b = draws(seed + 2).standard_normal(group * columns)
    expected = np.zeros((2, group * columns, *full)) + b.reshape(-1, *[1] * rank)
    for n, c, *place in np.ndindex(*x.shape):
        for j, *tap in np.ndindex(*w.shape[1:]):
            at = [p * s + t * d for p, s, t, d in zip(place, strides, tap, dilations, strict=True)]
            where = (n, c // rows * columns + j, *at)
            source, weight = (n, c, *place), (c, j, *tap)
            expected[where] += x[source] * w[weight]
    cuts = [slice(a, f - e) for a, e, f in zip(pads[:rank], pads[rank:], full, strict=True)]
    inner: Any = (..., *cuts)
    common: dict[str, Any] = {"group": group, "strides": strides, "dilations": dilations}
    found = compute("ConvTranspose", x, w, b, output_padding=extra, pads=pads, **common)[0]
    np.testing.assert_allclose(found, expected[inner], rtol=1e-12, atol=1e-12)
    common |= {"output_padding": extra, "output_shape": full}
    sized = compute("ConvTranspose", x, w, b, **common)[0]
    np.testing.assert_allclose(sized, expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), seed=seeds, ceil=st.integers(0, 1), counts=st.integers(0, 1))
def test_pools_are_their_definitions(data: Any, seed: int, ceil: int, counts: int) -> None:
    kernel, stride, dilation = data.draw(small), data.draw(small), data.draw(small)
    reach = (kernel - 1) * dilation + 1
    begin, end = (data.draw(st.integers(0, (kernel - 1) // 2)) for _ in range(2))
    size = data.draw(st.integers(reach, 9))
    x = draws(seed).standard_normal((1, 2, size))
    room = (size + begin + end - reach) / stride
    places = (math.ceil(room) if ceil else math.floor(room)) + 1
    if ceil and (places - 1) * stride >= size + begin:
        places -= 1
    common: dict[str, Any] = {
        "kernel_shape": [kernel],
        "strides": [stride],
        "pads": [begin, end],
        "dilations": [dilation],
        "ceil_mode": ceil,
    }
    average = compute("AveragePool", x, opset=19, count_include_pad=counts, **common)[0]
    largest, index = compute("MaxPool", x, opset=12, outputs=2, **common)
    norm = compute("LpPool", x, opset=18, p=3, **common)[0]
    assert average.shape == largest.shape == norm.shape == (1, 2, places)
    for c, place in product(range(2), range(places)):
        at = [place * stride - begin + k * dilation for k in range(kernel)]
        inside = [a for a in at if 0 <= a < size]
        values = x[0, c, inside]
        count = len([a for a in at if -begin <= a < size + end]) if counts else len(inside)
        np.testing.assert_allclose(average[0, c, place], values.sum() / count, rtol=1e-12)
        np.testing.assert_allclose(norm[0, c, place], (abs(values) ** 3).sum() ** (1 / 3))
        assert largest[0, c, place] == values.max()
        assert x.ravel()[index[0, c, place]] == values.max()


MODES = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
MODES += ["half_pixel_symmetric", "tf_crop_and_resize"]


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    mode=st.sampled_from(["nearest", "linear", "cubic"]),
    coordinates=st.sampled_from(MODES),
    nearest=st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]),
    flags=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    seed=seeds,
)
def test_resize_is_that_of_onnx(
    data: Any, mode: str, coordinates: str, nearest: str, flags: tuple[int, int], seed: int
) -> None:
    """Against the class in onnx.reference, which goes through the places one by one."""
    x = draws(seed).standard_normal((1, 2, data.draw(st.integers(2, 5)), 4))
    # Twice and half as well: coordinates on elements, and halfway between them.
    factor = st.sampled_from([0.5, 0.625, 1.0, 1.25, 1.5, 2.0, 3.0])
    scales = np.array([1.0, 1.0, data.draw(factor), data.draw(factor)])
    attributes: dict[str, Any] = {
        "mode": mode,
        "coordinate_transformation_mode": coordinates,
        "nearest_mode": nearest,
        "antialias": flags[0] if mode != "nearest" else 0,
        "exclude_outside": flags[1] if mode == "cubic" else 0,
        "extrapolation_value": -7.0,
        "cubic_coeff_a": -0.5,
    }
    roi = np.array([0.0, 0.0, 0.25, -0.5, 1.0, 1.0, 0.75, 1.5])
    if coordinates != "tf_crop_and_resize":
        roi = np.zeros(0)
    found = compute("Resize", x, roi, scales, opset=19, **attributes)[0]
    # Not through `run`, which hands over float32 numbers and computes weights with these.
    (expected,) = Resize.create(3)._run(x, roi, scales, **attributes)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_an_infinite_pixel_stays_where_it_is() -> None:
    x = np.array([[[1.0, np.inf, 3.0, 5.0]]])
    y = compute("Resize", x, None, np.array([1.0, 1.0, 2.0]), opset=18, mode="linear")[0]
    assert np.isfinite(y).ravel().tolist() == [True, False, False, False, False] + [True] * 3


def test_global_lp_pool() -> None:
    y = compute("GlobalLpPool", np.array([[[3.0, -4.0]]]), p=2)[0]
    assert y.tolist() == [[[5.0]]]


def test_the_error_function_is_that_of_c() -> None:
    x = np.concatenate([np.linspace(-7, 7, 5001), [0.0, -0.0, np.inf, -np.inf, 1e-300, 0.46875]])
    expected = np.array([math.erf(v) for v in x])
    np.testing.assert_allclose(erf(x), expected, rtol=1e-15)
    assert np.isnan(erf(np.array([np.nan]))).all()


def test_groups_of_one_channel_are_instances() -> None:
    x = draws(0).standard_normal((2, 3, 4, 5))
    y = compute("GroupNormalization", x, np.ones(3), np.zeros(3), opset=18, num_groups=3)[0]
    z = compute("InstanceNormalization", x, np.ones(3), np.zeros(3), opset=18)[0]
    np.testing.assert_allclose(y, z, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(axis=st.integers(-3, 2), fewer=st.integers(0, 1), seed=seeds)
def test_gather_elements_is_its_definition(axis: int, fewer: int, seed: int) -> None:
    rng = draws(seed)
    x = rng.normal(size=(2, 3, 4))
    shape = [max(n - fewer, 1) for n in x.shape]
    shape[axis] = 5
    places = rng.integers(-x.shape[axis], x.shape[axis], shape)
    (found,) = compute("GatherElements", x, places, axis=axis)
    for at in np.ndindex(*shape):
        source = [*at]
        source[axis] = places[at]
        assert found[at] == x[tuple(source)]
    (of_onnx,) = ReferenceEvaluator(
        parser.parse_model(
            '<ir_version: 8, opset_import: ["": 13]> g (double[2,3,4] x, int64[2,3,5] i) => '
            "(double[2,3,5] y) { y = GatherElements <axis = 2> (x, i) }"
        )
    ).run(None, {"x": x, "i": (last := rng.integers(-4, 4, (2, 3, 5)))})
    np.testing.assert_array_equal(compute("GatherElements", x, last, axis=-1)[0], of_onnx)


@settings(max_examples=40, deadline=None)
@given(rank=st.integers(0, 3), count=st.integers(1, 3), seed=seeds, opset=st.sampled_from([11, 13]))
def test_unsqueeze_takes_axes_in_any_order(rank: int, count: int, seed: int, opset: int) -> None:
    rng = draws(seed)
    x = rng.normal(size=tuple(range(2, 2 + rank)))
    axes = rng.permutation(rank + count)[:count]
    named = np.where(rng.random(count) < 0.5, axes, axes - rank - count)
    if opset < 13:
        (found,) = compute("Unsqueeze", x, opset=opset, axes=named.tolist())
    else:
        (found,) = compute("Unsqueeze", x, named.astype(np.int64), opset=opset)
    kept = iter(x.shape)
    assert found.shape == tuple(1 if at in axes else next(kept) for at in range(rank + count))
    np.testing.assert_array_equal(found.reshape(x.shape), x)

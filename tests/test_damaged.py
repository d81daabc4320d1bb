"""Damaged input: one line that says what is wrong and no output, or a clean success."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto

import bnfold
from tests.support_damage import (
    deep_graphs,
    deep_groups,
    small_models,
    tensor_model,
    twice_written,
    with_name,
)
from tests.support_graphs import conv_bn, largest_difference, snapshot

NAMES = sorted(small_models())


def folds_or_says_why(data: bytes) -> bool:
    """Whether damaged bytes fold; asserts that they do so, or fail, in an orderly way."""
    try:
        result = bnfold.fold(data, name="broken.onnx")
        model = result.model
        report = result.report
    except bnfold.BnfoldError as error:
        message = str(error)
        assert message
        assert "\n" not in message
        assert len(message) < 1000
        return False
    assert isinstance(model, onnx.ModelProto)
    assert report.batch_norms_after <= report.batch_norms_before
    return True


@pytest.mark.parametrize("name", [n for n in NAMES if n != "large tensors"])
def test_cut_at_every_byte(name: str) -> None:
    data = small_models()[name]
    whole = [size for size in range(len(data)) if folds_or_says_why(data[:size])]
    assert folds_or_says_why(data)
    assert len(whole) < len(data) / 4


def test_a_large_file_cut_anywhere() -> None:
    data = small_models()["large tensors"]
    folded = [size for size in range(0, len(data), 37) if folds_or_says_why(data[:size])]
    assert len(folded) < 10


@settings(deadline=None, max_examples=700)
@given(
    st.sampled_from(NAMES),
    st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(1, 255)), min_size=1, max_size=3),
)
def test_flipped_bytes(name: str, flips: list[tuple[int, int]]) -> None:
    data = bytearray(small_models()[name])
    for at, mask in flips:
        data[at % len(data)] ^= mask
    assert folds_or_says_why(bytes(data)) in (True, False)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(NAMES), st.integers(0, 1 << 30), st.binary(max_size=12), st.integers(0, 12))
def test_bytes_put_in_or_taken_out(name: str, at: int, new: bytes, gone: int) -> None:
    data = small_models()[name]
    at %= len(data)
    assert folds_or_says_why(data[:at] + new + data[at + gone :]) in (True, False)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
@example(b"\x3a\x00")
@example(b"\x08\x08\x3a\x00\x42\x04\x0a\x00\x10\x11")
def test_any_bytes(data: bytes) -> None:
    assert folds_or_says_why(data) in (True, False)


PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"

# File content -> a word of the error.
NO_MODEL: dict[str, tuple[bytes, str]] = {
    "a PNG": (PNG, "PNG"),
    "nothing": (b"", "empty"),
    "zeros": (bytes(5000), "not an ONNX model"),
    "text": (b"Once upon a time there was a model.\n" * 9, "not an ONNX model"),
    "a Git LFS pointer": (POINTER, "git lfs pull"),
    "a web page": (b"<!DOCTYPE html><html></html>", "web page"),
    "JSON": (b'{"model": 1}', "JSON"),
    "a checkpoint": (b"PK\x03\x04" + bytes(100), "zip"),
    "only an IR version": (b"\x08\x08", "graph"),
    "deep groups": (deep_groups(1000), "broken.onnx"),
    "deep graphs": (deep_graphs(1000, large=False), "broken.onnx"),
    "deep graphs with a large tensor": (deep_graphs(1000, large=True), "deep"),
    "31 nested graphs": (deep_graphs(31, large=True), "deep"),
}


@pytest.mark.parametrize("case", NO_MODEL)
def test_a_file_that_is_no_model(case: str, tmp_path: Path) -> None:
    data, word = NO_MODEL[case]
    path = tmp_path / "broken.onnx"
    path.write_bytes(data)
    with pytest.raises(bnfold.ModelError) as caught:
        bnfold.fold(path).save(tmp_path / "out.onnx")
    message = str(caught.value)
    assert "broken.onnx" in message
    assert word in message
    assert "\n" not in message
    assert len(message) < 500
    assert snapshot(tmp_path) == {"broken.onnx": data}


# What is wrong with the weight of a Conv -> its file, a word of the error.
TENSORS: dict[str, tuple[Callable[[], bytes], str]] = {
    "dims larger than the data": (lambda: tensor_model(dims=[64, 3, 3, 4]), "'w'"),
    "dims smaller than the data": (lambda: tensor_model(dims=[64, 3, 3]), "'w'"),
    "dims beyond 64 bits": (lambda: tensor_model(dims=[1 << 62, 1 << 62]), "'w'"),
    "no dims": (lambda: tensor_model(dims=[]), "'w'"),
    "a negative dim": (lambda: tensor_model(dims=[-64, 3, 3, 3]), "negative"),
    "two negative dims": (lambda: tensor_model(dims=[-64, -3, 3, 3]), "negative"),
    "no data": (lambda: tensor_model(raw_data=None), "'w'"),
    "empty data": (lambda: tensor_model(raw_data=b""), "'w'"),
    "no data type": (lambda: tensor_model(data_type=None), "'w'"),
    "undefined data type": (lambda: tensor_model(data_type=0), "'w'"),
    "data type 99": (lambda: tensor_model(data_type=99), "99"),
    "strings as raw data": (lambda: tensor_model(data_type=TensorProto.STRING), "strings"),
    "another data type": (lambda: tensor_model(data_type=TensorProto.DOUBLE), "'w'"),
    "a data file without a name": (
        lambda: tensor_model(raw_data=None, data_location=TensorProto.EXTERNAL),
        "'w'",
    ),
    "float_data of float16": (
        lambda: tensor_model(data_type=TensorProto.FLOAT16, raw_data=None, float_data=[1.0] * 864),
        "'w'",
    ),
    "double_data of float32": (
        lambda: tensor_model(raw_data=None, double_data=[1.0] * 864),
        "'w'",
    ),
    "float_data of int64": (
        lambda: tensor_model(data_type=TensorProto.INT64, raw_data=None, float_data=[1.0] * 3456),
        "'w'",
    ),
}


@pytest.mark.parametrize("case", TENSORS)
def test_a_tensor_that_contradicts_itself_is_named(case: str, tmp_path: Path) -> None:
    make, word = TENSORS[case]
    path = tmp_path / "broken.onnx"
    path.write_bytes(make())
    with pytest.raises(bnfold.ModelError) as caught:
        bnfold.fold(path).save(tmp_path / "out.onnx")
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["broken.onnx"]


@pytest.mark.parametrize("name", [b"\xff", b"\x80", b"\xc3", b"\n", b"\0"])
def test_a_name_that_is_no_text(name: bytes) -> None:
    data = with_name(name)
    assert data != with_name(b"c")
    assert folds_or_says_why(data) or name not in (b"\n", b"\0")


@pytest.mark.parametrize(
    "old", [b"\x04Relu", b"\x04Conv", b"\x04norm", b"\x01w", b"\x01y", b"\x01s"]
)
def test_text_that_is_no_text_anywhere(old: bytes) -> None:
    for name in ("conv, norm, chain", "branch"):
        data = small_models()[name].replace(old, old[:-1] + b"\xff")
        assert folds_or_says_why(data) in (True, False)


@pytest.mark.parametrize("field", ["g", "t"])
def test_a_message_written_twice_is_merged_or_refused(field: str) -> None:
    data = twice_written(field)
    whole = onnx.ModelProto.FromString(data)
    if folds_or_says_why(data):
        folded = bnfold.fold(data).model
        onnx.checker.check_model(folded)
        assert largest_difference(whole, folded) < 1e-6


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(bnfold.FileError, match="folder"):
        bnfold.fold(tmp_path)


@pytest.mark.parametrize("name", ["missing.onnx", "missing/model.onnx", "", "n" * 5000, "a\0b"])
def test_a_path_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    path = str(tmp_path / name) if name else ""
    with pytest.raises(bnfold.FileError) as caught:
        bnfold.fold(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("argument", [None, 3, 1.5, object(), ["model.onnx"], np.zeros(3)])
def test_an_argument_that_is_no_model(argument: object) -> None:
    with pytest.raises(bnfold.UsageError, match="a model is"):
        bnfold.fold(argument)


def test_damage_is_found_even_where_nothing_folds() -> None:
    model = conv_bn()
    del model.graph.node[1:]
    model.graph.node[0].output[0] = "y"
    model.graph.initializer[0].dims[0] += 1
    with pytest.raises(bnfold.ModelError, match="'w'"):
        bnfold.fold(model)

"""External data that is refused, and files that are never overwritten."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

import bnfold
from tests.support_external import LAYOUTS, expect_folded, stored
from tests.support_graphs import conv_bn, largest_difference, snapshot


def location(folder: Path, name: str, **entries: str) -> None:
    """Let the weight of ``in.onnx`` point to ``name``."""
    model = onnx.load(folder / "in.onnx", load_external_data=False)
    weight = next(t for t in model.graph.initializer if t.name == "w")
    del weight.external_data[:]
    for key, value in {"location": name, **entries}.items():
        weight.external_data.add(key=key, value=value)
    (folder / "in.onnx").write_bytes(model.SerializeToString())


def linked(folder: Path, name: str, goal: Path, file: str = "") -> None:
    (folder / name).symlink_to(goal)
    location(folder, file or name)


# What is done to a model whose weight is in m.data -> a word of the error.
REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a parent folder": (lambda d: location(d, "../secret.bin"), "outside"),
    "a parent folder inside the path": (lambda d: location(d, "a/../../secret.bin"), "outside"),
    "a parent folder with backslashes": (lambda d: location(d, "..\\secret.bin"), "outside"),
    "an absolute path": (lambda d: location(d, str(d.parent / "secret.bin")), "outside"),
    "a file link that leads out": (lambda d: linked(d, "l.bin", d.parent / "secret.bin"), "out"),
    "a folder link that leads out": (
        lambda d: linked(d, "up", d.parent, "up/secret.bin"),
        "out",
    ),
    "a missing file": (lambda d: (d / "m.data").unlink(), "m.data"),
    "a short file": (lambda d: os.truncate(d / "m.data", 6911), "6912"),
    "an empty file": (lambda d: os.truncate(d / "m.data", 0), "6912"),
    "a wrong length": (lambda d: location(d, "m.data", length="6911"), "6911"),
    "an offset beyond the file": (lambda d: location(d, "m.data", offset="1"), "6913"),
    "a negative offset": (lambda d: location(d, "m.data", offset="-4"), "-4"),
    "an offset that is no number": (lambda d: location(d, "m.data", offset="x"), "'x'"),
    "an offset of 5,000 digits": (lambda d: location(d, "m.data", offset="9" * 5000), "offset"),
    "no location": (lambda d: location(d, ""), "names no file"),
    "a folder as the file": (lambda d: location(d, "."), "folder"),
    "a name that is too long": (lambda d: location(d, "n" * 5000), "w"),
    "a name with a NUL": (lambda d: location(d, "m\0.data"), "w"),
    "a link to itself": (lambda d: linked(d, "loop", d / "loop"), "loop"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_one_line_and_no_output(case: str, tmp_path: Path) -> None:
    damage, word = REFUSED[case]
    path = stored(tmp_path / "in", LAYOUTS["only the weight"])
    (tmp_path / "secret.bin").write_bytes(bytes(6912))
    damage(tmp_path / "in")
    before = snapshot(tmp_path)
    with pytest.raises(bnfold.BnfoldError) as caught:
        bnfold.fold(path).save(tmp_path / "in" / "out.onnx")
    message = str(caught.value)
    assert "\n" not in message
    assert word in message
    assert len(message) < 600 or case in ("a name that is too long", "an offset of 5,000 digits")
    assert snapshot(tmp_path) == before


def test_bytes_without_their_folder() -> None:
    model = conv_bn(channels=64)
    weight = next(t for t in model.graph.initializer if t.name == "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="m.data")
    with pytest.raises(bnfold.ModelError, match="without its folder"):
        bnfold.fold(model.SerializeToString())


def test_bytes_with_their_folder(tmp_path: Path) -> None:
    path = stored(tmp_path / "in", LAYOUTS["only the weight"])
    result = bnfold.fold(path.read_bytes(), base_dir=tmp_path / "in")
    assert largest_difference(conv_bn(channels=64), result.model) < 1e-6


def test_a_link_inside_the_folder_is_followed(tmp_path: Path) -> None:
    path = stored(tmp_path / "in", LAYOUTS["only the weight"])
    linked(tmp_path / "in", "l.bin", tmp_path / "in" / "m.data")
    bnfold.fold(path).save(tmp_path / "out.onnx")
    expect_folded(tmp_path / "out.onnx", conv_bn(channels=64))


@pytest.mark.parametrize("layout", ["one file", "only the weight", "in a subfolder"])
def test_never_overwrites_another_data_file(layout: str, tmp_path: Path) -> None:
    path = stored(tmp_path / "in", LAYOUTS[layout])
    out = tmp_path / "out"
    for location_name in {name for name, _ in LAYOUTS[layout].values()} | {"out.onnx.data"}:
        (out / location_name).parent.mkdir(parents=True, exist_ok=True)
        (out / location_name).write_bytes(b"of another model")
    before = snapshot(out)
    bnfold.fold(path).save(out / "out.onnx")
    expect_folded(out / "out.onnx", conv_bn(channels=64))
    after = snapshot(out)
    assert {name: after[name] for name in before} == before


def test_never_overwrites_its_own_data_with_the_model(tmp_path: Path) -> None:
    path = stored(tmp_path / "in", LAYOUTS["only the weight"])
    before = snapshot(tmp_path / "in")
    with pytest.raises(bnfold.BnfoldError, match=r"m\.data"):
        bnfold.fold(path).save(tmp_path / "in" / "m.data")
    assert snapshot(tmp_path / "in") == before


def test_a_folder_link_in_the_output_folder_is_not_followed_out(tmp_path: Path) -> None:
    path = stored(tmp_path / "in", {"w": ("weights/m.data", 0)})
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "weights").symlink_to(elsewhere)
    bnfold.fold(path).save(out / "out.onnx")
    assert list(elsewhere.iterdir()) == []
    expect_folded(out / "out.onnx", conv_bn(channels=64))


def test_a_missing_folder_is_an_error_with_external_data_too(tmp_path: Path) -> None:
    path = stored(tmp_path / "in", LAYOUTS["one file"])
    with pytest.raises(bnfold.FileError, match="missing"):
        bnfold.fold(path).save(tmp_path / "missing" / "out.onnx")
    assert not (tmp_path / "missing").exists()

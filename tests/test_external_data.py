"""External data: every layout, every form of the output, and what is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnfold
from tests.support_external import LAYOUTS, Places, expect_folded, is_inside, stored
from tests.support_graphs import (
    conv_bn,
    graph_model,
    largest_difference,
    norms_in,
    snapshot,
    weights_of,
)


@pytest.mark.parametrize("form", ["keep", "embed", "external"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_to_another_folder(
    layout: str, form: Literal["keep", "embed", "external"], tmp_path: Path
) -> None:
    path = stored(tmp_path / "in", LAYOUTS[layout])
    before = snapshot(tmp_path / "in")
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "out.onnx"
    bnfold.save(bnfold.fold(path), target, form=form)
    shutil.rmtree(tmp_path / "in")
    expect_folded(target, conv_bn(channels=64))
    inside = is_inside(target)
    if form == "embed":
        assert all(inside.values())
        assert set(snapshot(tmp_path / "out")) == {"out.onnx"}
    if form == "external":
        assert not all(inside.values())
    if form == "keep":
        weight = onnx.load(target, load_external_data=False).graph.node[0].input[1]
        assert inside[weight] == ("w" not in LAYOUTS[layout])
    again = bnfold.fold(target)
    assert again.report.norms == ()
    assert before["in.onnx"]


@pytest.mark.parametrize("form", ["keep", "embed", "external"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_beside_the_input(
    layout: str, form: Literal["keep", "embed", "external"], tmp_path: Path
) -> None:
    if layout == "named exactly as the output":
        target = tmp_path / "in" / "other.onnx"
    else:
        target = tmp_path / "in" / "out.onnx"
    path = stored(tmp_path / "in", LAYOUTS[layout])
    before = snapshot(tmp_path / "in")
    bnfold.save(bnfold.fold(path), target, form=form)
    expect_folded(target, conv_bn(channels=64))
    after = snapshot(tmp_path / "in")
    assert {name: after.get(name) for name in before} == before
    bnfold.save(bnfold.fold(path), target, form=form)
    assert snapshot(tmp_path / "in") == after


@pytest.mark.parametrize("form", ["keep", "embed", "external"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_place(layout: str, form: Literal["keep", "embed", "external"], tmp_path: Path) -> None:
    path = stored(tmp_path / "in", LAYOUTS[layout])
    bnfold.save(bnfold.fold(path), path, form=form)
    expect_folded(path, conv_bn(channels=64))
    after = snapshot(tmp_path / "in")
    assert not [name for name in after if name.endswith(".tmp")]
    bnfold.save(bnfold.fold(path), path, form=form)
    assert snapshot(tmp_path / "in") == after


@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_memory_and_report(layout: str, tmp_path: Path) -> None:
    path = stored(tmp_path / "in", LAYOUTS[layout])
    result = bnfold.fold(path)
    assert largest_difference(conv_bn(channels=64), result.model) < 1e-6
    assert len(result.report.folded) == 1
    files = snapshot(tmp_path / "in")
    assert result.report.bytes_before == sum(map(len, files.values()))


def two_convs() -> onnx.ModelProto:
    values = weights_of(0, channels=64)
    return graph_model(
        """net (float[1, 3, 6, 6] x) => (float[1, 64, 4, 4] y, float[1, 64, 4, 4] z) {
            [one] c = Conv (x, w)
            [norm] y = BatchNormalization (c, gamma, beta, mean, var)
            [two] z = Conv (x, same)
        }""",
        **values,
        same=values["w"],
    )


SHARED: dict[str, Places] = {
    "the same range": {"w": ("m.data", 0), "same": ("m.data", 0)},
    "the same range in two spellings": {"w": ("m.data", 0), "same": ("./m.data", 0)},
    "the same range, one of them open-ended": {"w": ("m.data", 0), "same": ("m.data", None)},
}


@pytest.mark.parametrize("to", ["other", "beside", "in place"])
@pytest.mark.parametrize("case", SHARED)
def test_a_shared_range_is_copied_on_write(case: str, to: str, tmp_path: Path) -> None:
    path = stored(tmp_path / "in", SHARED[case], two_convs())
    (tmp_path / "out").mkdir()
    target = {
        "other": tmp_path / "out" / "out.onnx",
        "beside": tmp_path / "in" / "out.onnx",
        "in place": path,
    }[to]
    bnfold.fold(path).save(target)
    expect_folded(target, two_convs())
    assert largest_difference(two_convs(), bnfold.fold(target).model) < 1e-6


def test_two_folds_in_one_file_named_in_two_spellings(tmp_path: Path) -> None:
    model = graph_model(
        """net (float[1, 3, 6, 6] x) => (float[1, 64, 4, 4] y, float[1, 64, 4, 4] z) {
            c = Conv (x, w)
            y = BatchNormalization (c, gamma, beta, mean, var)
            d = Conv (x, w2)
            z = BatchNormalization (d, gamma, beta, mean, var)
        }""",
        **weights_of(0, channels=64),
        w2=weights_of(1, channels=64)["w"],
    )
    path = stored(tmp_path / "in", {"w": ("m.data", 0), "w2": ("./m.data", 6912)}, model)
    (tmp_path / "out").mkdir()
    bnfold.fold(path).save(tmp_path / "out" / "out.onnx")
    expect_folded(tmp_path / "out" / "out.onnx", model)


def test_repeated_folds_give_the_same_bytes(tmp_path: Path) -> None:
    path = stored(tmp_path / "in", LAYOUTS["one file"])
    out = tmp_path / "out"
    out.mkdir()
    bnfold.fold(path).save(out / "out.onnx")
    first = snapshot(out)
    for _ in range(2):
        bnfold.fold(path).save(out / "out.onnx")
        assert snapshot(out) == first


def test_the_older_model_does_not_show_in_the_new_bytes(tmp_path: Path) -> None:
    path = stored(tmp_path / "in", LAYOUTS["one file"])
    other = stored(tmp_path / "other", LAYOUTS["one file"], conv_bn(5, channels=64))
    bnfold.fold(path).save(tmp_path / "in" / "out.onnx")
    first = (tmp_path / "in" / "out.onnx").read_bytes()
    (tmp_path / "in" / "out.onnx").unlink()
    (tmp_path / "in" / "out.onnx.data").unlink()
    bnfold.save(bnfold.fold(other), tmp_path / "in" / "out.onnx", form="external")
    bnfold.fold(path).save(tmp_path / "in" / "out.onnx")
    expect_folded(tmp_path / "in" / "out.onnx", conv_bn(channels=64))
    bnfold.fold(path).save(tmp_path / "in" / "out.onnx")
    assert (tmp_path / "in" / "out.onnx").read_bytes() == first


def test_the_older_data_goes_with_the_older_model(tmp_path: Path) -> None:
    first = stored(tmp_path / "a", LAYOUTS["only the weight"])
    target = tmp_path / "out.onnx"
    bnfold.save(bnfold.fold(first), target, form="external")
    assert set(snapshot(tmp_path)) >= {"out.onnx"}
    bnfold.save(bnfold.fold(conv_bn(7, channels=64)), target, form="external")
    bnfold.save(bnfold.fold(conv_bn(8, channels=64)), target, form="embed")
    assert [p.name for p in tmp_path.glob("out.onnx*")] == ["out.onnx"]
    expect_folded(target, conv_bn(8, channels=64))


def test_a_data_file_with_holes_stays_one(tmp_path: Path) -> None:
    size = 3 << 30
    model = graph_model(
        """net (float[1, 3, 6, 6] x) => (float[1, 64, 4, 4] y, float[1] z) {
            c = Conv (x, w)
            y = BatchNormalization (c, gamma, beta, mean, var)
            z = ReduceSum <keepdims = 0> (table)
        }""",
        **weights_of(0, channels=64),
    )
    folder = tmp_path / "in"
    path = stored(folder, {"w": ("m.data", 0)}, model)
    raw = onnx.load(path, load_external_data=False)
    table = raw.graph.initializer.add(name="table", data_type=TensorProto.FLOAT)
    table.dims.append(size // 4)
    table.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "m.data", "offset": "8192", "length": str(size)}.items():
        table.external_data.add(key=key, value=value)
    path.write_bytes(raw.SerializeToString())
    os.truncate(folder / "m.data", 8192 + size)
    target = tmp_path / "out.onnx"
    result = bnfold.fold(path)
    assert len(result.report.folded) == 1
    result.save(target)
    written = tmp_path / "m.data"
    assert written.stat().st_size >= 8192 + size
    assert written.stat().st_blocks * 512 < 1 << 20
    folded = onnx.load(target, load_external_data=False)
    places = {t.name: {e.key: e.value for e in t.external_data} for t in folded.graph.initializer}
    assert places["table"] == {"location": "m.data", "offset": "8192", "length": str(size)}
    assert places["w"]["offset"] == "0"
    with written.open("rb") as stream:
        weight = np.frombuffer(stream.read(6912), "<f4").reshape(64, 3, 3, 3).astype(np.float64)
    values = {n: v.astype(np.float64) for n, v in weights_of(0, channels=64).items()}
    scale = values["gamma"] / np.sqrt(values["var"] + float(np.float32(1e-5)))
    np.testing.assert_allclose(weight, values["w"] * scale.reshape(-1, 1, 1, 1), rtol=1e-6)
    with pytest.raises(bnfold.UsageError, match="2 GB"):
        bnfold.save(result, tmp_path / "embedded.onnx", form="embed")
    assert not (tmp_path / "embedded.onnx").exists()


def test_external_data_of_constants_in_a_branch(tmp_path: Path) -> None:
    values = np.arange(2000, dtype=np.float32)
    node = helper.make_node("Constant", [], ["t"], value=numpy_helper.from_array(values, "inner"))
    constant = node.attribute[0].t
    constant.ClearField("raw_data")
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="inner.bin")
    (tmp_path / "inner.bin").write_bytes(values.tobytes())
    ends = [helper.make_tensor_value_info("t", TensorProto.FLOAT, [2000])]
    branch = helper.make_graph([node], "branch", [], ends)
    model = conv_bn(channels=64)
    model.graph.input.append(helper.make_tensor_value_info("q", TensorProto.BOOL, []))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [2000]))
    model.graph.node.append(
        helper.make_node("If", ["q"], ["z"], then_branch=branch, else_branch=branch)
    )
    path = tmp_path / "in.onnx"
    path.write_bytes(model.SerializeToString())
    (tmp_path / "out").mkdir()
    bnfold.fold(path).save(tmp_path / "out" / "out.onnx")
    folded = onnx.load(tmp_path / "out" / "out.onnx", load_external_data=False)
    inner = folded.graph.node[-1].attribute[0].g.node[0].attribute[0].t
    name = next(e.value for e in inner.external_data if e.key == "location")
    assert (tmp_path / "out" / name).read_bytes() == values.tobytes()
    assert norms_in(folded) == 0
    memory = bnfold.fold(path).model.graph.node[-1].attribute[1].g.node[0].attribute[0].t
    np.testing.assert_array_equal(numpy_helper.to_array(memory), values)


def test_the_report_counts_the_bytes_of_every_file(tmp_path: Path) -> None:
    path = stored(tmp_path / "in", LAYOUTS["one file"])
    for target in (path.with_name("beside.onnx"), tmp_path / "in" / "again.onnx"):
        result = bnfold.fold(path)
        result.save(target)
        data = f"{target.name}.data" if target.name == "beside.onnx" else "beside.onnx.data"
        size = target.stat().st_size + target.with_name(data).stat().st_size
        assert result.report.bytes_after == size
        # The next round finds nothing to fold, and shares the data file of the first.
        path = target

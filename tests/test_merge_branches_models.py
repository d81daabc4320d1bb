"""Whole models of parallel branches, what the commands say of them, and what the check finds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

import bnfold
from bnfold.checking.merged import check_merged
from bnfold.cli.app import application
from bnfold.errors import VerificationError
from bnfold.folding.branches import kernel as kernels
from bnfold.folding.branches.merge import Merged, merge_branches
from bnfold.folding.find import Selection
from bnfold.onnxgraph.load import load
from tests.support_branches import merged_of, require_close
from tests.support_models import op_types

SCHEMA = json.loads((files("bnfold") / "report" / "schema.json").read_text())


@dataclass
class Network:
    """A network while it is built, layer by layer, in training form."""

    channels: int = 3
    data: str = "x"
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, name: str, values: Any) -> str:
        self.tensors.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def node(self, op_type: str, name: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [f"{name}_out"], name, **attributes))
        return f"{name}_out"

    def norm(self, data: str, name: str, channels: int) -> str:
        draw = self.rng.uniform
        scale = self.constant(f"{name}.weight", draw(0.5, 1.5, channels))
        shift = self.constant(f"{name}.bias", draw(-1, 1, channels))
        mean = self.constant(f"{name}.running_mean", draw(-1, 1, channels))
        var = self.constant(f"{name}.running_var", draw(0.5, 1.5, channels))
        return self.node("BatchNormalization", name, data, scale, shift, mean, var)

    def conv(self, name: str, outputs: int, size: int, stride: int, group: int = 1) -> str:
        shape = (outputs, self.channels // group, size, size)
        scale = (shape[1] * size * size) ** -0.5
        weight = self.constant(f"{name}.conv.weight", scale * self.rng.normal(size=shape))
        made = self.node(
            "Conv",
            f"{name}.conv",
            self.data,
            weight,
            group=group,
            kernel_shape=[size, size],
            pads=[size // 2] * 4,
            strides=[stride, stride],
        )
        return self.norm(made, f"{name}.bn", outputs)

    def block(
        self, name: str, outputs: int, stride: int, *, over: int = 1, size: int = 3, group: int = 1
    ) -> None:
        """``over`` kernels of a size, one of a single tap, and x itself where that fits."""
        terms = [self.conv(f"{name}.k{n}", outputs, size, stride, group) for n in range(over)]
        if size > 1:
            terms.append(self.conv(f"{name}.scale", outputs, 1, stride, group))
        if stride == 1 and outputs == self.channels:
            terms.append(self.norm(self.data, f"{name}.skip", outputs))
        made = terms[0]
        for number, term in enumerate(terms[1:]):
            made = self.node("Add", f"{name}.add{number}", made, term)
        self.data, self.channels = self.node("Relu", f"{name}.relu", made), outputs

    def model(self, size: int, classes: int = 5) -> onnx.ModelProto:
        pooled = self.node("GlobalAveragePool", "gap", self.data)
        flat = self.node("Flatten", "flat", pooled)
        weight = self.constant("fc.weight", self.rng.normal(size=(classes, self.channels)))
        self.nodes.append(helper.make_node("Gemm", [flat, weight], ["y"], "fc", transB=1))
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, size, size])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", classes])
        graph = helper.make_graph(self.nodes, "net", [x], [y], self.tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def repvgg(divisor: int = 8) -> onnx.ModelProto:
    """RepVGG-A0 in training form, its widths divided (Ding et al. 2021, tables 2 and 3)."""
    net = Network()
    net.block("stage0", 48 // divisor, 2)
    widths = {"stage1": (48, 2), "stage2": (96, 4), "stage3": (192, 14), "stage4": (1280, 1)}
    for stage, (width, blocks) in widths.items():
        for number in range(blocks):
            net.block(f"{stage}.{number}", width // divisor, 2 if number == 0 else 1)
    return net.model(32)


def mobileone() -> onnx.ModelProto:
    """MobileOne: several depthwise kernels, one tap and x; then several full ones and x."""
    net = Network()
    net.block("stem", 8, 2, over=2)
    for number, (width, stride) in enumerate([(8, 1), (16, 2), (16, 1)]):
        net.block(f"b{number}.dw", net.channels, stride, over=4, group=net.channels)
        net.block(f"b{number}.pw", width, 1, over=4, size=1)
    return net.model(16)


def test_repvgg_becomes_a_plain_stack() -> None:
    model = repvgg()
    merged, after = merged_of(model)
    assert op_types(after) == ["Conv", "Relu"] * 22 + ["GlobalAveragePool", "Flatten", "Gemm"]
    assert [m.outcome.into for m in merged.merges][:2] == ["stage0.k0.conv", "stage1.0.k0.conv"]
    assert len(merged.merges) == 22
    assert not merged.unmerged
    assert sum(len(merge.norms) for merge in merged.merges) == 22 * 2 + 17
    assert {t.name for t in after.graph.initializer if t.name != "fc.weight"} == {
        name for node in after.graph.node if node.op_type == "Conv" for name in node.input[1:]
    }
    require_close(model, after, {"x": np.random.default_rng(1).normal(size=(2, 3, 32, 32))})


def test_mobileone_becomes_a_plain_stack() -> None:
    model = mobileone()
    merged, after = merged_of(model)
    assert op_types(after) == ["Conv", "Relu"] * 7 + ["GlobalAveragePool", "Flatten", "Gemm"]
    groups = [
        next(a.i for a in node.attribute if a.name == "group")
        for node in after.graph.node
        if node.op_type == "Conv"
    ]
    assert groups == [1, 8, 1, 8, 1, 16, 1]
    assert merged.merges[0].outcome.branches == (
        "stem.k0.conv",
        "stem.k1.conv",
        "stem.scale.conv",
    )
    require_close(model, after, {"x": np.random.default_rng(1).normal(size=(2, 3, 16, 16))})


def test_the_report_of_a_fold(tmp_path: Path) -> None:
    model = mobileone()
    result = bnfold.fold(model, merge_branches=True)
    report = result.report
    assert (report.batch_norms_after, report.nodes_after) == (0, 17)
    assert report.nodes_before == len(model.graph.node)
    assert len(report.merged) == 7
    assert {norm.into for norm in report.folded} == {block.into for block in report.merged}
    assert {norm.notes for norm in report.folded} == {("merged with parallel branches",)}
    assert report.checked is not None
    assert report.checked.regions == 7
    assert 0 < report.checked.max_ulp <= 0.5
    result.save(tmp_path / "m.onnx")
    assert result.report.bytes_after == (tmp_path / "m.onnx").stat().st_size
    assert onnx.load(tmp_path / "m.onnx") == result.model
    assert bnfold.fold(result.model, merge_branches=True).model == result.model
    assert result.verify(runtime=False).is_same
    assert replace(bnfold.explain(model, merge_branches=True), checked=None) == replace(
        report, bytes_after=report.bytes_after
    )


def test_the_commands(tmp_path: Path) -> None:
    model, out = tmp_path / "m.onnx", tmp_path / "o.onnx"
    net = Network()
    net.block("a", 4, 1)
    net.block("b", 4, 1, group=2)
    doubled = net.node("Add", "twice", net.conv("e", 4, 3, 2), net.conv("f", 4, 5, 2, group=4))
    net.data = doubled
    onnx.save(net.model(8), model)
    run = CliRunner().invoke
    done = run(application(), ["fold", str(model), "-o", str(out), "--merge-branches"])
    assert done.exit_code == 0, done.output
    assert "branches   2 sums of parallel branches merged into one Conv each" in done.output
    assert "b.k0.conv (3x3): b.k0.conv, b.scale.conv, b.skip" in done.output
    assert "branches that stay\n    twice: the merged kernel would have 400" in done.output
    done = run(application(), ["explain", str(model), "--merge-branches", "--json"])
    written = json.loads(done.stdout)
    jsonschema.validate(written, SCHEMA)
    (entry,) = written["models"]
    assert [block["into"] for block in entry["merged"]] == ["a.k0.conv", "b.k0.conv"]
    assert [block["block"] for block in entry["unmerged"]] == ["twice"]
    done = run(application(), ["explain", str(model), "--merge-branches"])
    assert "would become one Conv each" in done.output


def test_external_weights(tmp_path: Path) -> None:
    model = repvgg(4)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data")
    result = bnfold.fold(tmp_path / "m.onnx", merge_branches=True)
    for form in ("keep", "embed", "external"):
        target = tmp_path / form / "o.onnx"
        target.parent.mkdir()
        result.save(target, form=form)
        assert onnx.load(target).graph.node == result.model.graph.node
        found = {t.name: numpy_helper.to_array(t) for t in onnx.load(target).graph.initializer}
        for tensor in result.model.graph.initializer:
            np.testing.assert_array_equal(found[tensor.name], numpy_helper.to_array(tensor))


def _one_ulp_off(merged: Merged, patch: pytest.MonkeyPatch) -> None:
    exact = merged.exact(merged.merges[0])
    moved = exact.weight.copy()
    moved[0, 0, 1, 1] *= 1 + 2.0**-22
    patch.setattr(Merged, "exact", lambda self, merge: replace(exact, weight=moved))


def _taps_shifted(merged: Merged, patch: pytest.MonkeyPatch) -> None:
    exact = merged.exact(merged.merges[0])
    moved = np.roll(exact.weight, 1, axis=-1)
    patch.setattr(Merged, "exact", lambda self, merge: replace(exact, weight=moved))


def _no_bias(merged: Merged, patch: pytest.MonkeyPatch) -> None:
    exact = merged.exact(merged.merges[0])
    patch.setattr(
        Merged, "exact", lambda self, merge: replace(exact, bias=np.zeros_like(exact.bias))
    )


@pytest.mark.parametrize("damage", [_one_ulp_off, _taps_shifted, _no_bias])
def test_the_check_finds_damage(
    damage: Callable[[Merged, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = Network()
    net.block("a", 4, 1)
    merged = merge_branches(load(net.model(8)), Selection())
    check_merged(merged)
    damage(merged, monkeypatch)
    with pytest.raises(VerificationError, match=r"into a\.k0\.conv failed its check"):
        check_merged(merged)


@pytest.mark.parametrize("wrong", ["signs", "embedding", "pooling", "product"])
def test_the_check_finds_wrong_rules(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that is wrong in the merge itself, so that exact and stored weights agree."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1,2,6,6] x) => (float[1,2,4,4] y)
        <float[2,2,3,3] w = {W}, float[2,2,1,1] u = {1, 2, 3, 4}> {
            a = Conv (x, w)  p = AveragePool <kernel_shape=[3,3]> (x)  c = Conv (x, u)
            e = Conv (c, w)  d = Sub (a, p)  y = Add (d, e)
        }""".replace("W", ", ".join(str(n) for n in range(36)))
    )
    if wrong == "signs":
        real = kernels.summed
        monkeypatch.setattr(
            "bnfold.folding.branches.read.summed",
            lambda k, signs, *more: real(k, [1] * len(k), *more),
        )
    elif wrong == "embedding":
        regroup = kernels.regrouped
        monkeypatch.setattr(
            kernels,
            "regrouped",
            lambda k, g: replace(regroup(k, g), weight=np.roll(regroup(k, g).weight, 1, -1)),
        )
    elif wrong == "pooling":
        pool = kernels.pooling
        monkeypatch.setattr(
            "bnfold.folding.branches.read.pooling",
            lambda *a: replace(pool(*a), weight=pool(*a).weight * 1.01),
        )
    else:
        product = kernels._product
        monkeypatch.setattr(
            kernels, "_product", lambda f, s: (product(f, s)[0][::-1], product(f, s)[1])
        )
    with pytest.raises(VerificationError, match="failed its check"):
        check_merged(merge_branches(load(model), Selection()))

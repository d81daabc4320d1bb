"""What --duplicate leaves alone, what it says of it, and how it goes with the other options."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import bnfold
from bnfold.folding import duplicate
from bnfold.folding.decided import Plan
from bnfold.folding.plan import plan
from tests.support_duplicate import (
    BN,
    DEPTHWISE,
    DIFFERENT,
    EQUAL,
    N1,
    N2,
    N,
    W,
    fold,
    shared,
)
from tests.support_models import filled, op_types, parsed, with_values

BESIDE = shared(f"{DEPTHWISE} y = {BN} {EQUAL} z = Relu (c)", f"{W}, {N}")
TWO = shared(f"{DEPTHWISE} y = {BN} {EQUAL} z = {BN} {DIFFERENT}", f"{W}, {N}, {N1}")

# Name -> (text, code of the norms that stay, what their reason says of copies).
STAYS = {
    "3x3 of 4 channels": (
        shared(
            f"c = Conv <pads=[1,1,1,1]> (x, w) y = {BN} {EQUAL} z = Relu (c)",
            f"float[4,4,3,3] w, {N}",
        ),
        "shared-tensor",
        "c is not copied: each of its values takes 36 products, more than 32",
    ),
    "1x1 of 33 channels": (
        shared(
            f"c = Conv (x, w) y = {BN} {EQUAL}",
            f"float[4,33,1,1] w, {N}",
            "y, c",
            x="float[2,33,3,3] x",
        ),
        "graph-output",
        "c is not copied: each of its values takes 33 products, more than 32",
    ),
    "Gemm of 40": (
        shared(
            f"c = Gemm (x, w) y = {BN} {EQUAL} z = {BN} {DIFFERENT}",
            f"float[40,4] w, {N}, {N1}",
            x="float[3,40] x",
        ),
        "different-norms",
        "c is not copied: each of its values takes 40 products, more than 32",
    ),
    "an operator of another kind": (
        shared(
            f"c = InstanceNormalization (x, w, k) y = {BN} {EQUAL} z = Relu (c)",
            f"float[4] w, float[4] k, {N}",
        ),
        "shared-tensor",
        "c is not copied: it is an InstanceNormalization",
    ),
    "a Relu in between": (
        shared(f"{DEPTHWISE} r = Relu (c) y = {BN} (r, g, b, m, v) z = Neg (r)", f"{W}, {N}"),
        "",
        "",
    ),
}


@pytest.mark.parametrize(("text", "code", "why"), STAYS.values(), ids=STAYS)
def test_what_stays_says_why(text: str, code: str, why: str) -> None:
    model = filled(parsed(text))
    result = fold(model)
    plain = bnfold.fold(model)
    assert result.model.SerializeToString() == plain.model.SerializeToString()
    assert len(result.report.kept) == len(plain.report.kept) > 0
    for kept, before in zip(result.report.kept, plain.report.kept, strict=True):
        assert kept.code == before.code
        if why:
            assert kept.code == code
            assert kept.reason == f"{before.reason}; {why}"


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """Every plan that is made from now on."""
    plans: list[Plan] = []

    def planned(*arguments: Any, **options: Any) -> Plan:
        plans.append(plan(*arguments, **options))
        return plans[-1]

    monkeypatch.setattr("bnfold.api.plan", planned)
    return plans


PLANS = {
    "a chain": (
        shared(
            f"{DEPTHWISE} z = Relu (c) y = {BN} (c2, g, b, m, v) c2 = Neg (z)", f"{W}, {N}", "y"
        ),
        1,
    ),
    "too dear": (STAYS["3x3 of 4 channels"][0], 1),
    "one copy": (BESIDE, 2),
    "two copies": (TWO, 2),
}


@pytest.mark.parametrize(("text", "number"), PLANS.values(), ids=PLANS)
def test_a_second_plan_is_made_only_for_copies(
    text: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = filled(parsed(text))
    plans = counted(monkeypatch)
    bnfold.fold(model, duplicate=True)
    assert len(plans) == number


def test_many_operators_cost_one_more_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linear, and never one for each norm."""
    nodes, outputs, count = [], [], 60
    for at in range(count):
        data = "x" if at == 0 else f"r{at - 1}"
        nodes.append(f"c{at} = Conv <pads=[1,1,1,1], group=4> ({data}, w) r{at} = Relu (c{at})")
        nodes.append(f"y{at} = {BN} (c{at}, g, b, m, v)")
        outputs.append(f"y{at}")
    model = filled(parsed(shared(" ".join(nodes), f"{W}, {N}", ", ".join(outputs))))
    plans = counted(monkeypatch)
    result = bnfold.fold(model, duplicate=True, verify=False)
    assert len(plans) == 2
    assert len(result.report.copied) == count
    # All copies are of one weight and one norm, so they share the weight that they store.
    weights = [t for t in result.model.graph.initializer if len(t.dims) == 4]
    assert [t.name for t in weights] == ["w", "w_folded"]


def test_without_the_option_nothing_is_copied() -> None:
    result = bnfold.fold(filled(parsed(BESIDE)))
    assert op_types(result.model) == ["Conv", BN, "Relu"]
    assert not result.report.copied
    assert "--duplicate" in result.report.kept[0].remedy


def test_what_would_be_beyond_its_dtype_is_not_copied() -> None:
    """The other norm of the same operator still has it."""
    text = shared(
        f"{DEPTHWISE} y = {BN} {EQUAL} z = {BN} {DIFFERENT} u = {BN} (c, g2, b2, m2, v2)",
        f"{W}, {N}, {N1}, {N2}",
        "y, z, u",
    )
    for lost in ("", "1", "2"):
        model = filled(parsed(text, dtype="float16"))
        model = with_values(model, **{f"g{lost}": 60000.0, f"v{lost}": 1e-4})
        result = fold(model)
        assert op_types(result.model).count("Conv") == 3
        assert op_types(result.model).count(BN) == 1
        (kept,) = result.report.kept
        # All others have copies now, so it is no more for them that it stays.
        assert kept.code == "beyond-dtype"
        assert len(result.report.copied) == 2
        assert result.verify(runtime=False).is_same


def test_a_lone_norm_beyond_its_dtype_copies_nothing() -> None:
    model = with_values(filled(parsed(BESIDE, dtype="float16")), g=60000.0, v=1e-4)
    result = fold(model)
    assert result.model.SerializeToString() == model.SerializeToString()
    (kept,) = result.report.kept
    assert kept.code == "shared-tensor"
    assert "a copy of c would not help: " in kept.reason


def test_the_first_of_several_norms_has_the_operator_itself() -> None:
    model = filled(parsed(TWO))
    result = fold(model)
    first, second = result.model.graph.node
    assert (list(first.output), list(second.output)) == (["y"], ["z"])
    assert second.name == "c_copy"
    # Nobody reads the old weight any more.
    names = {tensor.name for tensor in result.model.graph.initializer}
    assert names == {*first.input[1:], *second.input[1:]}
    assert "w" not in names


def test_the_copy_stands_behind_its_operator_with_all_that_it_says() -> None:
    model = filled(parsed(BESIDE))
    conv = model.graph.node[0]
    conv.name, conv.doc_string = "dw", "kept"
    result = fold(model)
    assert [node.name for node in result.model.graph.node[:2]] == ["dw", "dw_copy"]
    assert result.model.graph.node[0] == conv
    assert result.model.graph.node[1].doc_string == "kept"
    assert list(result.model.graph.node[1].attribute) == list(conv.attribute)
    assert result.report.copied == (bnfold.CopiedOperator("dw", "dw_copy", ""),)
    assert result.report.folded[0].notes == ("dw is copied: dw_copy",)


def test_copies_of_norms_are_not_listed() -> None:
    """A norm that is copied with its operator goes into the copy: the user's model has it once."""
    text = shared(
        f"{DEPTHWISE} n = {BN} {EQUAL} y = Mul (n, k) z = Relu (n) u = {BN} (n, g1, b1, m1, v1)",
        f"{W}, {N}, {N1}, float[4,1,1] k",
        "y, z, u",
    )
    report = fold(filled(parsed(text))).report
    assert [(norm.norm, norm.kind, norm.nodes) for norm in report.norms] == [
        ("n", "batch-norm", ("n",)),
        ("y", "constant-chain", ("y",)),
        ("u", "batch-norm", ("u",)),
    ]
    assert (report.batch_norms_before, report.batch_norms_after) == (2, 0)


def test_types_of_copied_tensors_go_with_them() -> None:
    model = filled(parsed(TWO))
    model.graph.value_info.append(helper.make_tensor_value_info("c", 1, [2, 4, 6, 5]))
    result = fold(model)
    assert not result.model.graph.value_info


def test_excluded_norms_have_no_copy() -> None:
    model = filled(parsed(TWO))
    for options in ({"only": ["y"]}, {"skip": ["z"]}):
        result = fold(model, **options)
        assert op_types(result.model) == ["Conv", "Conv", BN]
        assert [(c.operator, c.copy) for c in result.report.copied] == [("c", "c_copy")]
        assert [(k.norm, k.code) for k in result.report.kept] == [("z", "excluded")]
    nothing = fold(model, skip=["y", "z"])
    assert nothing.model.SerializeToString() == model.SerializeToString()


IF = f"""agraph (bool when, float[2,4,6,5] x) => (float[2,4,6,5] y) <{W}, {N}, {N1}> {{
    y = If (when) <
        then_branch = t () => (float[2,4,6,5] r) {{
            {DEPTHWISE} e = {BN} {EQUAL} a = Abs (c) r = Add (e, a)
        }},
        else_branch = f () => (float[2,4,6,5] s) {{
            {DEPTHWISE} d = {BN} {EQUAL} o = {BN} {DIFFERENT} s = Max (d, o)
        }}>
}}"""


def test_bodies_of_if() -> None:
    """Both branches have a tensor of one name; in one of them the operator itself takes a norm."""
    model = filled(parsed(IF))
    result = fold(model)
    report = result.report
    assert [(c.operator, c.graph) for c in report.copied] == [("c", "y"), ("c", "y")]
    assert len({c.copy for c in report.copied}) == 2
    assert op_types(result.model) == "If Conv Conv Abs Add Conv Conv Max".split()
    assert result.verify(runtime=False).is_same


def test_a_body_that_reads_the_operator() -> None:
    text = f"""agraph (bool when, float[2,4,6,5] x) => (float[2,4,6,5] y, float[2,4,6,5] z)
        <{W}, {N}> {{
        {DEPTHWISE}
        y = {BN} {EQUAL}
        z = If (when) <
            then_branch = t () => (float[2,4,6,5] r) {{ r = Relu (c) }},
            else_branch = f () => (float[2,4,6,5] s) {{ s = Neg (c) }}>
    }}"""
    model = filled(parsed(text))
    assert bnfold.explain(model).kept[0].code == "subgraph-reader"
    result = fold(model)
    assert op_types(result.model) == "Conv Conv If Relu Neg".split()
    assert result.verify(runtime=False).is_same


def test_a_norm_in_a_body_of_an_outer_operator_stays() -> None:
    text = f"""agraph (bool when, float[2,4,6,5] x) => (float[2,4,6,5] z) <{W}, {N}> {{
        {DEPTHWISE}
        z = If (when) <
            then_branch = t () => (float[2,4,6,5] r) {{ r = {BN} {EQUAL} }},
            else_branch = f () => (float[2,4,6,5] s) {{ s = Neg (c) }}>
    }}"""
    model = filled(parsed(text))
    assert fold(model).model.SerializeToString() == model.SerializeToString()


FUNCTION = f"""agraph (float[2,4,6,5] x) => (float[2,4,6,5] y) <{W}, {N}> {{
    y = local.block (x, w, g, b, m, v)
}}
<opset_import: ["" : 17], domain: "local">
block (x, w, g, b, m, v) => (y) {{
    c = Conv <pads: ints = [1,1,1,1], group: int = 4> (x, w)
    e = {BN} (c, g, b, m, v)
    a = Abs (c)
    y = Add (e, a)
}}
"""


def test_functions_are_inlined_for_copies() -> None:
    model = filled(parsed(FUNCTION, imports='"local" : 1'))
    assert bnfold.explain(model).inlined == ()
    report = bnfold.explain(model, duplicate=True)
    assert report.inlined == ("local::block",)
    assert len(report.copied) == 1
    result = bnfold.fold(model, duplicate=True)
    assert op_types(result.model) == "Conv Conv Abs Add".split()
    assert result.verify(runtime=False).is_same


def test_functions_that_gain_nothing_stay_beside_folds() -> None:
    """Its norm stays for a reason of its own, and the others keep theirs."""
    text = f"""agraph (float[2,4,6,5] x) => (float[2,4,6,5] y) <{W}, {N}, {N1}> {{
        {DEPTHWISE} n = {BN} {EQUAL} s = Sigmoid (n) y = local.f (s, g1, b1, m1, v1)
    }}
    <opset_import: ["" : 17], domain: "local">
    f (x, g, b, m, v) => (y) {{ t = Sigmoid (x) y = {BN} (t, g, b, m, v) }}
    """
    model = filled(parsed(text, imports='"local" : 1'))
    for chosen in ("", "duplicate", "merge_branches"):
        options: dict[str, Any] = {chosen: True} if chosen else {}
        report = bnfold.fold(model, **options).report
        assert report.inlined == ()
        assert [norm.norm for norm in report.folded] == ["n"]
        assert [kept.code for kept in report.kept] == ["producer-not-linear"]


def test_branches_are_merged_first() -> None:
    text = shared(
        f"a = Conv <pads=[1,1,1,1], group=4> (x, w) s = Add (a, x) y = {BN} (s, g, b, m, v) "
        "z = Relu (s)",
        f"{W}, {N}",
    )
    model = filled(parsed(text))
    assert bnfold.explain(model, duplicate=True).folded == ()
    result = bnfold.fold(model, duplicate=True, merge_branches=True)
    assert op_types(result.model) == "Conv Conv Relu".split()
    assert len(result.report.merged) == len(result.report.copied) == 1
    assert result.verify(runtime=False).is_same


def test_quantised_weights_are_shared_by_copies() -> None:
    text = shared(
        f"w = DequantizeLinear <axis=0> (q, s) {DEPTHWISE} y = {BN} {EQUAL} z = {BN} {DIFFERENT}",
        f"int8[4,1,3,3] q, float[4] s, {N}, {N1}",
    )
    model = filled(parsed(text))
    for tensor in model.graph.initializer:
        if tensor.name == "q":
            values = np.arange(36, dtype=np.int8).reshape(4, 1, 3, 3) - 18
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, "q"))
    model = with_values(model, g=[0.5, 1, 2, 3], g1=[3, 2, 1, 0.5], s=[0.1, 0.2, 0.3, 0.4])
    result = fold(model)
    assert BN not in op_types(result.model)
    assert [t.data_type for t in result.model.graph.initializer].count(3) == 1
    assert result.verify(runtime=False).is_same


def test_a_model_of_an_old_ir() -> None:
    model = filled(parsed(BESIDE, ir=3, opset=8))
    result = fold(model)
    assert op_types(result.model).count("Conv") == 2
    assert result.verify(runtime=False).is_same


def test_copying_never_costs_another_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the plan with copies folds fewer norms in all, the model is planned without."""
    model = filled(parsed(BESIDE))
    monkeypatch.setattr(duplicate, "_is_better", lambda *_: False)
    result = bnfold.fold(model, duplicate=True)
    assert result.model.SerializeToString() == model.SerializeToString()
    assert not result.report.copied


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bnfold", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_on_the_command_line(tmp_path: Path) -> None:
    model = filled(parsed(BESIDE))
    model.graph.node[0].name = "dw"
    onnx.save(model, tmp_path / "m.onnx")
    done = run(
        "fold", tmp_path / "m.onnx", "--duplicate", "--verify-model", "-o", tmp_path / "f.onnx"
    )
    assert done.returncode == 0, done.stderr
    assert "copied     1 operator" in done.stdout
    assert "note: dw is copied: dw_copy" in done.stdout
    assert op_types(onnx.load(tmp_path / "f.onnx")) == ["Conv", "Conv", "Relu"]
    explained = run("explain", tmp_path / "m.onnx", "--duplicate", "--json")
    (report,) = json.loads(explained.stdout)["models"]
    assert report["copied"] == [{"operator": "dw", "copy": "dw_copy", "graph": ""}]
    assert report["norms"][0]["outcome"] == "folded"
    plain = run("explain", tmp_path / "m.onnx")
    assert "pass --duplicate" in " ".join(plain.stdout.split())


def test_large_weights_stay_where_they_are(tmp_path: Path) -> None:
    """A copied operator reads the same range of the file as its original."""
    text = shared(
        f"c = Conv <pads=[2,2,2,2], group=128> (x, w) y = {BN} {EQUAL} z = Relu (c)",
        "float[128,1,5,5] w, float[128] g, float[128] b, float[128] m, float[128] v",
        x="float[1,128,6,5] x",
    )
    onnx.save(filled(parsed(text)), tmp_path / "m.onnx")
    result = bnfold.fold(tmp_path / "m.onnx", duplicate=True)
    result.save(tmp_path / "f.onnx", form="external")
    again = bnfold.verify(tmp_path / "m.onnx", tmp_path / "f.onnx", runtime=False)
    assert again.is_same
    assert op_types(onnx.load(tmp_path / "f.onnx")) == ["Conv", "Conv", "Relu"]

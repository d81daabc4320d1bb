"""The route of each norm in the reports: which way, through what, into what."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

import jsonschema
import onnx
import pytest
from onnx import parser

import bnfold
from bnfold.report.as_json import document, report_json
from bnfold.report.as_text import check_text, explain_text, fold_text
from tests.support_models import filled, norm_parameters, parsed

BN = "BatchNormalization"
NORM_4, NORM_4B = norm_parameters(4), norm_parameters(4, "2")


@dataclass(frozen=True)
class Way:
    """A model, and what its report says of its norms.

    Attributes:
        routes: one line for each norm that folds, in the order of the data.
        direction: of all of them.
        channels: of the first taker, by norm.
    """

    text: str
    routes: tuple[str, ...]
    direction: str = "backward"
    channels: tuple[int, ...] = (4,)
    outputs: str = "float[a,b,c,d] y"

    def model(self) -> onnx.ModelProto:
        """The model, with random parameters."""
        declared = (
            "float[4,4,1,1] w, float[4,4,1,1] u, float[2,4,1,1] h, float[3,4,1,1] k, "
            f"float[4,4] p, {norm_parameters(6, '6')}, {norm_parameters(2, '1')}, "
            f"{NORM_4}, {NORM_4B}, float[4,1,1] e"
        )
        text = f"agraph (float[2,4,5,5] x) => ({self.outputs}) <{declared}> {{ {self.text} }}"
        model = filled(parsed(text))
        read = {name for node in model.graph.node for name in node.input}
        kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
        return model


BOTH = "float[a,b,c,d] y, float[e,f,i,j] z"
WAYS = {
    "right behind": Way(
        f"[conv_1] c = Conv (x, w)  [bn_1] y = {BN} (c, g, b, m, v)", ("bn_1 -> conv_1",)
    ),
    "through two into two": Way(
        "[conv_3] c = Conv (x, w)  [conv_4] d = Conv (x, h)  [concat_1] e1 = Concat <axis=1> (c, d)"
        f"  [transpose_2] t = Transpose <perm=[0,1,3,2]> (e1)  [bn_7] y = {BN} (t, g6, b6, m6, v6)",
        ("bn_7 -> through transpose_2, concat_1 -> conv_3[0:4], conv_4[0:2]",),
    ),
    "an operator that goes is no part of it": Way(
        "[conv] c = Conv (x, w)  [same] i = Identity (c)  [turn] t = Transpose <perm=[0,1,3,2]> (i)"
        f"  [bn] y = {BN} (t, g, b, m, v)",
        ("bn -> through turn -> conv",),
    ),
    "into a part of the channels": Way(
        "[conv] c = Conv (x, w)  [split] l, r = Split <axis=1> (c)"
        f"  [bn] n = {BN} (r, g1, b1, m1, v1)  y = Concat <axis=1> (l, n)",
        ("bn -> through split -> conv[2:4]",),
    ),
    "two norms of one way, each with its own part": Way(
        f"[conv_a] c = Conv (x, w)  [bn_a] n = {BN} (c, g, b, m, v)  [conv_b] d = Conv (x, u)"
        f"  [sum] s = Add (n, d)  [bn_b] y = {BN} (s, g2, b2, m2, v2)",
        ("bn_a -> conv_a", "bn_b -> through sum -> conv_a[0:4], conv_b[0:4]"),
        channels=(4, 4),
    ),
    "norms in a row": Way(
        f"[conv] c = Conv (x, w)  [t1] t = Transpose <perm=[0,1,3,2]> (c)"
        f"  [bn_a] n = {BN} (t, g, b, m, v)  [bn_b] y = {BN} (n, g2, b2, m2, v2)",
        ("bn_a -> through t1 -> conv", "bn_b -> through t1 -> conv"),
        channels=(4, 4),
    ),
    "twins": Way(
        f"[conv] c = Conv (x, w)  [bn_a] y = {BN} (c, g, b, m, v)"
        f"  [bn_b] n = {BN} (c, g, b, m, v)  z = Sigmoid (n)",
        ("bn_a -> conv", "bn_b -> conv"),
        channels=(4, 4),
        outputs=BOTH,
    ),
    "forward": Way(
        f"s = Sigmoid (x)  [bn] n = {BN} (s, g, b, m, v)  [conv] y = Conv (n, k)",
        ("bn -> conv",),
        "forward",
    ),
    "forward into two, one through an operator": Way(
        f"s = Sigmoid (x)  [bn_7] n = {BN} (s, g, b, m, v)  [turn] t = Transpose <perm=[0,1,3,2]> "
        "(n)  [conv_3] y = Conv (n, k)  [conv_4] z = Conv (t, h)",
        ("bn_7 -> through turn -> conv_3[0:4], conv_4[0:4]",),
        "forward",
        outputs=BOTH,
    ),
    "forward into a part of the channels": Way(
        f"s = Sigmoid (x)  [split] l, r = Split <axis=1> (s)  [bn] n = {BN} (r, g1, b1, m1, v1)"
        "  [concat] o = Concat <axis=1> (l, n)  [conv] y = Conv (o, w)",
        ("bn -> through concat -> conv[2:4]",),
        "forward",
    ),
    "forward, the second of two with less before it": Way(
        f"s = Sigmoid (x)  [bn_a] n = {BN} (s, g, b, m, v)  [turn] t = Transpose <perm=[0,1,3,2]> "
        f"(n)  [bn_b] o = {BN} (t, g2, b2, m2, v2)  [conv] y = Conv (o, w)",
        ("bn_a -> through turn -> conv", "bn_b -> conv"),
        "forward",
        channels=(4, 4),
    ),
    "a table that changes itself": Way(
        "i = Cast <to=7> (x)  [gather] q = Gather (p, i)  [scale] r = Mul (q, row)"
        "  y = Sigmoid (r)",
        ("scale -> through gather -> p",),
        outputs="float[a,b,c,d,e0] y",
    ),
}


def model_of(case: str) -> onnx.ModelProto:
    """The model of a row."""
    model = WAYS[case].model()
    if "row" in {name for node in model.graph.node for name in node.input}:
        values = onnx.helper.make_tensor("row", onnx.TensorProto.FLOAT, [4], [2, 3, 4, 5])
        model.graph.initializer.append(values)
    return model


@pytest.mark.parametrize("case", WAYS)
def test_route(case: str) -> None:
    way, result = WAYS[case], bnfold.fold(model_of(case))
    folded = result.report.folded
    assert result.report.kept == ()
    assert tuple(norm.route for norm in folded) == way.routes
    assert {norm.direction for norm in folded} == {way.direction}
    assert tuple(norm.channels for norm in folded) == way.channels
    names = {node.name for node in result.model.graph.node}
    for norm in folded:
        assert {norm.into, *norm.through} <= names, "what is crossed and what takes up stays"
        assert norm.norm not in names


@pytest.mark.parametrize("case", WAYS)
def test_reports(case: str) -> None:
    way, report = WAYS[case], bnfold.explain(model_of(case))
    text = explain_text(report)
    for route in way.routes:
        assert f"\n  {route}" in text
    assert ("\n      forward" in text) == (way.direction == "forward")
    number = len(way.routes)
    through = sum("through" in route for route in way.routes)
    line = f"  routes     {way.direction} {number}"
    line += f"; through other operators {through}" if through else ""
    assert line in text.splitlines()
    assert line in fold_text(report, None).splitlines()
    verdict = bnfold.check(model_of(case))
    assert not verdict.is_clean
    for route in way.routes:
        assert f"\n  {route}" in check_text(verdict)


@pytest.mark.parametrize("case", WAYS)
def test_json(case: str) -> None:
    way, report = WAYS[case], bnfold.explain(model_of(case))
    written = json.loads(json.dumps(document("explain", [report_json(report)], {})))
    schema = json.loads((files("bnfold") / "report" / "schema.json").read_text())
    jsonschema.validate(written, schema)
    norms = written["models"][0]["norms"]
    assert tuple(norm["route"] for norm in norms) == way.routes
    for norm in norms:
        stages = norm["route"].split(" -> ")
        assert stages[0] == norm["norm"]
        assert stages[-1] == ", ".join(norm["taken"])
        crossed = f"through {', '.join(norm['through'])}"
        assert stages[1:-1] == ([crossed] if norm["through"] else [])


def test_the_nodes_of_a_norm_and_its_place_stand_below_its_route() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
agraph (bool q, float[1,2,4,4] x) => (float[1,2,4,4] y)
<float[2,2,1,1] w = {1,2,3,4}, float[2,1,1] s = {2,3}, float[2,1,1] t = {4,5}> {
  [if_1] y = If (q) <
    then_branch = g1 () => (float[1,2,4,4] a) {
      [conv] c = Conv (x, w)
      [mul] d = Mul (c, s)
      [add] a = Add (d, t)
    },
    else_branch = g2 () => (float[1,2,4,4] n) { n = Identity (x) }
  >
}"""
    lines = explain_text(bnfold.explain(parser.parse_model(text))).splitlines()
    assert lines[-2:] == ["  mul -> conv", "      with add, in if_1"]


def test_a_cast_that_is_crossed_is_noted() -> None:
    parameters = NORM_4.replace("float", "float16")
    text = (
        f"agraph (float[2,3,5,5] x) => (float16[a,b,c,d] y) <float[4,3,1,1] w, {parameters}> "
        "{ [conv] c = Conv (x, w)  [cast] h = Cast <to=10> (c)"
        f"  [bn] y = {BN} (h, g, b, m, v) }}"
    )
    report = bnfold.explain(filled(parsed(text)))
    (norm,) = report.folded
    assert norm.route == "bn -> through cast -> conv"
    assert any("the order of rounding changes" in note for note in norm.notes)
    assert "the order of rounding changes" in explain_text(report)


def test_arithmetic_that_cancels_out_goes_into_nothing() -> None:
    text = (
        "agraph (float[2,4] x) => (float[a,b] y) <float[4] e, float[4,3] w> "
        "{ s = Sigmoid (x)  [plus] p = Add (s, e)  [minus] q = Sub (p, e)  y = MatMul (q, w) }"
    )
    report = bnfold.explain(filled(parsed(text)))
    assert [norm.route for norm in report.folded] == ["plus -> nothing: it cancels out"]


def test_many_norms_in_a_row_take_no_longer_than_they_have_to() -> None:
    count = 3000
    nodes = ["[conv] n0 = Conv (x, w)", "[turn] t0 = Transpose <perm=[0,1,3,2]> (n0)"]
    nodes += [f"[bn{at}] t{at + 1} = {BN} (t{at}, g, b, m, v)" for at in range(count)]
    text = (
        f"agraph (float[1,1,2,2] x) => (float[a,b,c,d] t{count}) "
        f"<float[1,1,1,1] w, float[1] g = {{1}}, float[1] b = {{0}}, float[1] m = {{0}}, "
        f"float[1] v = {{1}}> {{ {'  '.join(nodes)} }}"
    )
    report = bnfold.explain(filled(parsed(text)))
    assert {norm.route.split(" -> ", 1)[1] for norm in report.folded} == {"through turn -> conv"}

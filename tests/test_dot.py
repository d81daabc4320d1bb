"""``bnfold explain --dot``: the text is what Graphviz reads, and the picture is true."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

import bnfold
from bnfold.report.dot import as_dot, quoted
from tests.support_dot import Drawn, Reader, clusters, shown
from tests.support_models import filled, norm_parameters, parsed
from tests.test_report_routes import WAYS, model_of


def drawn_of(model: Any, **options: Any) -> tuple[Drawn, bnfold.FoldResult]:
    """The picture of a model, checked, and its fold."""
    result = bnfold.fold(model, verify=False, **options)
    text = as_dot(result.analysis, result.rewrite)
    assert text == as_dot(result.analysis, result.rewrite)
    drawn = Reader(text).graph()
    every = [name for cluster in clusters(drawn) for name in cluster.nodes]
    assert len(every) == len(set(every))
    for cluster in clusters(drawn):
        for ends, _ in cluster.edges:
            assert set(ends) <= set(every)
    graphviz = shutil.which("dot")
    if graphviz is not None:
        subprocess.run([graphviz, "-Tsvg", "-o/dev/null"], input=text.encode(), check=True)
    return drawn, result


@pytest.mark.parametrize("case", WAYS)
def test_both_sides_are_true(case: str) -> None:
    model = model_of(case)
    drawn, result = drawn_of(model)
    labels = [line for cluster in drawn.inner for line in cluster.label.split("\n")]
    assert sorted(labels) == sorted(WAYS[case].routes)
    for cluster in drawn.inner:
        before, after = cluster.named("before"), cluster.named("after")
        for side, graph in ((before, model.graph), (after, result.model.graph)):
            nodes = [node.name or node.output[0] for node in graph.node]
            assert set(side.names()) <= set(nodes)
            made = {t: node.name or node.output[0] for node in graph.node for t in node.output}
            links = {
                (made[t], node.name or node.output[0], t)
                for node in graph.node
                for t in node.input
                if t in made
            }
            inside = {link for link in links if {link[0], link[1]} <= set(side.names())}
            ends = {value.name for value in (*graph.input, *graph.output)}
            assert {link for link in side.links() if not ends & {link[0], link[1]}} == {
                link for link in inside if not ends & {link[0], link[1]}
            }
        folded = [norm for norm in result.report.folded if norm.route in cluster.label.split("\n")]
        assert set(before.names("red")) >= {name for norm in folded for name in norm.nodes}
        assert after.names("red") == []
        kept = {*after.names("blue"), *after.names("darkgreen")}
        assert kept >= {name for norm in folded for name in norm.through}
        takers = {norm.into for norm in folded}
        assert takers & set(before.names("darkgreen")) == takers & set(after.names("darkgreen"))
        assert takers <= {*after.names("darkgreen"), *after.names("blue")}


def test_one_neighbour_on_each_side() -> None:
    text = (
        "agraph (float[2,4] x) => (float[a,b] y) <float[4,4] w, float[4] s> { r0 = Relu (x)  "
        "r1 = Relu (r0)  [mm] c = MatMul (r1, w)  [mul] n = Mul (c, s)  [idle] i = Identity (n)  "
        "r2 = Relu (i)  r3 = Relu (r2)  y = Relu (r3) }"
    )
    drawn, _ = drawn_of(filled(parsed(text)))
    (cluster,) = drawn.inner
    assert cluster.named("before").names() == ["r1", "mm", "mul", "idle"]
    assert cluster.named("after").names() == ["r1", "mm", "idle"]


def test_neighbours_are_looked_for_behind_what_goes() -> None:
    model = model_of("two norms of one way, each with its own part")
    drawn, _ = drawn_of(model, skip=["bn_b"])
    folds, stays = drawn.inner
    assert folds.label == "bn_a -> conv_a"
    assert folds.named("before").names() == ["conv_a", "bn_a", "sum"]
    assert folds.named("after").links() == {
        ("x", "conv_a", "x"),
        ("conv_a", "sum", "n"),
    }
    assert stays.label == "bn_b stays: excluded"
    assert stays.inner == []
    assert stays.names("darkorange") == ["bn_b"]
    assert "bn_b\nBatchNormalization\nstays: excluded" in [b["label"] for b in stays.nodes.values()]


def test_an_add_that_comes_in_place_of_a_norm_is_drawn() -> None:
    text = (
        "agraph (float[2,3,4] x) => (float[a,b,c] y) "
        f"<float[4,3] w, {norm_parameters(3)}> {{ [mm] c = MatMul (x, w)  "
        "[bn] y = BatchNormalization (c, g, b, m, v) }"
    )
    drawn, result = drawn_of(filled(parsed(text)))
    (norm,) = result.report.norms
    if isinstance(norm, bnfold.Folded):
        (cluster,) = drawn.inner
        names = [node.name for node in result.model.graph.node]
        assert cluster.named("after").names("darkgreen") == names
    matrix = (
        "agraph (float[2,4] x) => (float[a,b] y) <float[4,3] w, float[3] s, float[3] b> "
        "{ [mm] c = MatMul (x, w)  [mul] d = Mul (c, s)  [add] y = Add (d, b) }"
    )
    drawn, result = drawn_of(filled(parsed(matrix)))
    (cluster,) = drawn.inner
    assert [node.name for node in result.model.graph.node] == ["mm", "add"]
    assert cluster.named("before").names("red") == ["mul"]
    assert cluster.named("before").names("darkgreen") == ["mm", "add"]
    assert cluster.named("after").names("darkgreen") == ["mm", "add"]


HOSTILE = [
    'a "quoted" name',
    "back\\slash",
    "back\\n",
    'ends with \\"',
    "two\nlines",
    "a&amp;b & <b>c</b>",
    "{record|label}",
    "->",
    "größe 中",
    "\\",
    '"',
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_show_as_they_are(name: str) -> None:
    assert shown(quoted(name)) == name
    model = model_of("through two into two")
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":
            node.name = name
        for tensors in (node.input, node.output):
            tensors[:] = [f"{t} {name}" if t == "t" else t for t in tensors]
    drawn, _ = drawn_of(model)
    (cluster,) = drawn.inner
    labels = [box["label"] for box in cluster.named("before").nodes.values()]
    assert f"{name}\nBatchNormalization" in labels
    assert cluster.label.startswith(f"{name} -> through transpose_2")


def test_control_characters_become_readable() -> None:
    assert quoted("a\x1b\tb\0") == '"a\\\\x1b\\\\tb\\\\x00"'
    assert quoted("\udce9") == '"\\\\udce9"'


def test_a_model_without_norms() -> None:
    drawn, _ = drawn_of(parsed("agraph (float[2] x) => (float[a] y) { y = Relu (x) }"))
    assert drawn == Drawn()


def test_inner_graphs_and_functions() -> None:
    parameters = ", ".join(f"{name}2" for name in "gbmv")
    text = (
        "agraph (bool q, float[2,4,5,5] x) => (float[a,b,c,d] y) "
        f"<float[4,4,1,1] w, {norm_parameters(4)}, {norm_parameters(4, '2')}> {{ "
        f"[call] k = local.f (x, {parameters})  "
        "[if_1] y = If (q) <then_branch = g1 () => (float[i,j,k,l] a) { [conv] c = Conv (k, w)  "
        "[bn] a = BatchNormalization (c, g, b, m, v) }, "
        "else_branch = g2 () => (float[n] e) { e = Identity (k) }> }\n"
        '<domain: "local", opset_import: ["" : 17]> f (a, g, b, m, v) => (r) '
        "{ s = Sigmoid (a)  [inner] t = BatchNormalization (s, g, b, m, v)  r = Sigmoid (t) }"
    )
    drawn, result = drawn_of(filled(parsed(text, imports='"local" : 1')))
    titles = [cluster.label for cluster in drawn.inner]
    kept = [f"{norm.norm} stays: {norm.code}" for norm in result.report.kept]
    assert titles == [*kept, "bn -> conv"] or titles == ["bn -> conv", *kept]


def run(*arguments: object, stdin: bytes | None = None) -> Any:
    command = [sys.executable, "-m", "bnfold", "explain", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


def saved(path: Path) -> Path:
    onnx.save(model_of("through two into two"), path)
    return path


def test_a_file(tmp_path: Path) -> None:
    model, target = saved(tmp_path / "m.onnx"), tmp_path / "norms.dot"
    target.write_text("old")
    done = run(model, "--dot", target)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == run(model).stdout
    assert len(Reader(target.read_text(encoding="utf-8")).graph().inner) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "norms.dot"]


def test_standard_output(tmp_path: Path) -> None:
    model = saved(tmp_path / "m.onnx")
    done = run("-", "--dot", "-", stdin=model.read_bytes())
    assert done.returncode == 0, done.stderr.decode()
    assert len(Reader(done.stdout.decode()).graph().inner) == 1
    assert b"bn_7 -> through transpose_2, concat_1" in done.stderr
    assert b'"schema_version": 1' in run(model, "--dot", "-", "--json").stderr


def test_refusals(tmp_path: Path) -> None:
    model, other = saved(tmp_path / "m.onnx"), saved(tmp_path / "n.onnx")
    link = tmp_path / "link"
    link.symlink_to("m.onnx")
    before = model.read_bytes()
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    refused = {
        "would replace the model": (model, "--dot", model),
        "would replace": (model, "--dot", link),
        "--dot draws one model, not 2": (model, other, "--dot", tmp_path / "a.dot"),
        "does not exist": (model, "--dot", tmp_path / "none" / "a.dot"),
        "is a folder": (model, "--dot", tmp_path),
        "not an ONNX model": (broken, "--dot", tmp_path / "a.dot"),
    }
    for words, arguments in refused.items():
        done = run(*arguments)
        assert done.returncode == 2, words
        assert words in done.stderr.decode()
        assert b"Traceback" not in done.stderr
    assert model.read_bytes() == before
    assert not (tmp_path / "a.dot").exists()

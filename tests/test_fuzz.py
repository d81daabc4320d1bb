"""The differential fuzzer, on seeds that stay and on seeds that are drawn."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import bnfold
from bnfold.folding.rules import tables
from bnfold.reference import evaluate
from tests import support_sabotage as sabotage
from tests.fuzz import __main__ as command
from tests.fuzz.families import THROUGH
from tests.fuzz.fused import spelled_out
from tests.fuzz.generate import drawn
from tests.fuzz.judge import judged, unlike
from tests.fuzz.linear import LINEAR
from tests.fuzz.norms import NORMS
from tests.fuzz.quantised import ROUNDING
from tests.fuzz.sketch import Builder, Sketch, Unfit
from tests.fuzz.tally import Tally
from tests.support_models import DTYPES, graphs, parsed

FIXED = range(320)
BUILDERS: dict[str, Builder] = {
    f"{kind}: {name}": build
    for kind, table in (("linear", LINEAR), ("norm", NORMS), ("through", THROUGH))
    for name, build in table.items()
}


@functools.cache
def fixed() -> Tally:
    """What the seeds that stay show."""
    tally = Tally()
    for seed in FIXED:
        found = drawn(seed)
        tally.add(found, judged(found))
    return tally


def test_no_fold_of_the_fixed_seeds_is_wrong() -> None:
    assert not fixed().wrong
    assert not fixed().crashes


def test_the_fixed_seeds_show_something() -> None:
    tally = fixed()
    assert set(tally.graphs) == set(DTYPES)
    assert set(tally.nestings) == {"if", "loop", "scan", "function", "twice"}
    assert tally.folded > len(FIXED) / 2
    assert tally.counts["compared"] > len(FIXED) / 2
    assert tally.counts["compared in onnx.reference"] > len(FIXED) / 20
    assert sum(tally.unchecked.values()) < tally.checked / 50
    assert len(tally.kept) > 10


@given(seed=st.integers(0, 2**40), dtype=st.sampled_from([*DTYPES]))
@settings(max_examples=100, deadline=None)
def test_no_fold_of_any_seed_is_wrong(seed: int, dtype: str) -> None:
    found = judged(drawn(seed, dtype))
    assert not found.wrong
    assert not found.crashes


@pytest.mark.parametrize(
    ("rules", "builders"),
    [
        (tables.LINEAR, LINEAR | ROUNDING),
        (tables.NORMS, NORMS),
        (tables.THROUGH, THROUGH),
    ],
)
def test_every_rule_has_a_builder(rules: dict[str, object], builders: dict[str, Builder]) -> None:
    assert set(rules) <= set(builders)


@pytest.mark.parametrize("entry", sorted(BUILDERS))
def test_every_builder_adds_its_operator(entry: str) -> None:
    name = entry.partition(": ")[2]
    for seed in range(400):
        sketch = Sketch([seed], "float")
        x = sketch.input([2, 4, *[sketch.whole(1, 4)] * sketch.whole(0, 2)])
        try:
            BUILDERS[entry](sketch, x)
        except Unfit:
            continue
        if name in {f"{n.domain}::{n.op_type}".removeprefix("::") for n in sketch.nodes}:
            return
    pytest.fail(f"no seed gives a {name}")


def test_a_seed_is_one_model() -> None:
    for seed in range(20):
        assert drawn(seed).model == drawn(seed).model
    assert drawn(1, "double").model != drawn(2, "double").model


WRONG: dict[str, Callable[[float], sabotage.Patch]] = {
    "scale": lambda by: sabotage.batch_norm(
        lambda *given: by * sabotage.right_scale(*given), sabotage.right_shift
    ),
    "shift": lambda by: sabotage.batch_norm(
        sabotage.right_scale, lambda *given: by * sabotage.right_shift(*given)
    ),
}


@pytest.mark.parametrize("part", WRONG)
@pytest.mark.parametrize(
    ("dtype", "by"),
    [("double", 1 + 1e-6), ("float", 1.001), ("float16", 1.25), ("bfloat16", 2.0)],
)
def test_a_wrong_fold_is_noticed(
    dtype: str, by: float, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRONG[part](by)(monkeypatch)
    monkeypatch.setattr(bnfold, "fold", functools.partial(bnfold.fold, verify=False))
    found = [judged(drawn(seed, dtype)) for seed in range(60)]
    assert sum(any("is off by" in text for text in one.wrong) for one in found) > 5


def test_an_exception_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise ZeroDivisionError("as if")

    monkeypatch.setattr(bnfold, "fold", fails)
    (text,) = judged(drawn(0)).crashes
    assert "ZeroDivisionError: as if" in text


PLAIN = "agraph (float[2,3] x) => (float[2,3] y) <float[3] k = {1,2,3}> { y = Add (x, k) }"
OTHERS = {
    "the inputs of the graph changed": PLAIN.replace("2,3] x", "n,3] x"),
    "the outputs of the graph changed": PLAIN.replace("2,3] y", "n,3] y"),
    "elementwise nodes grew from 1 to 2": PLAIN.replace("y = Add", "z = Mul (x, k) y = Add"),
    "onnx.checker refuses": PLAIN.replace("Add (x, k)", "Add (x)"),
}


@pytest.mark.parametrize("text", OTHERS)
def test_what_callers_would_notice(text: str) -> None:
    assert not [*unlike(parsed(PLAIN), parsed(PLAIN))]
    found = [*unlike(parsed(PLAIN), parsed(OTHERS[text]))]
    assert any(one.startswith(text) for one in found)


def test_fused_operators_in_words_of_the_standard() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 4)), rng.normal(size=(5, 3))
    node = helper.make_node(
        "FusedMatMul", ["a", "b"], ["y"], domain="com.microsoft", transA=1, transB=1, alpha=0.5
    )
    given = [helper.make_tensor_value_info(n, TensorProto.DOUBLE, None) for n in "ab"]
    made = [helper.make_tensor_value_info("y", TensorProto.DOUBLE, None)]
    model = helper.make_model(helper.make_graph(spelled_out(node), "g", given, made))
    (y,) = evaluate(model, {"a": a, "b": b})
    np.testing.assert_allclose(y, 0.5 * a.transpose(0, 2, 1) @ b.T, rtol=1e-13)


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["fuzz", "--seeds", "0:7"])
    assert command.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "graphs      8: bfloat16 2, double 2, float 2, float16 2"
    assert lines[3:5] == ["wrong       0", "crashes     0"]


def test_graphs_are_odd() -> None:
    models = [drawn(seed).model for seed in range(200)]
    assert {model.opset_import[0].version for model in models} >= {7, 9, 13, 18, 22, 28}
    ranks = {len(v.type.tensor_type.shape.dim) for model in models for v in model.graph.input}
    assert ranks >= {1, 2, 3, 4, 5}
    nodes = [n for model in models for graph in graphs(model.graph) for n in graph.node]
    assert {"If", "Loop", "Scan", "Constant", "DequantizeLinear"} <= {n.op_type for n in nodes}
    assert any(isinstance(model, onnx.ModelProto) and model.functions for model in models)

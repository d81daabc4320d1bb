"""What a caller sees of two models: a table of pairs, and whether one can stand for the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bnfold.checking.outcome import VerifyReport
from tests.support_models import parsed
from tests.support_verify import copied, judged


@dataclass(frozen=True)
class Pair:
    """Two graphs.

    Attributes:
        broken: the difference that breaks a caller; None where there is none, "" where only the
            values differ.
        note: what the report notes beside the verdict.
        dtype: what ``float`` means in FOLDED.
    """

    original: str
    folded: str
    broken: str | None = None
    note: str = ""
    opsets: tuple[int, int] = (17, 17)
    irs: tuple[int, int] = (8, 8)
    dtype: str = "float"

    def report(self) -> VerifyReport:
        original, folded = (
            parsed(f"agraph {text}", opset=opset, ir=ir)
            for text, opset, ir in zip(
                (self.original, self.folded), self.opsets, self.irs, strict=True
            )
        )
        if self.dtype != "float":
            folded = parsed(f"agraph {self.folded}", dtype=self.dtype)
        return judged(original, folded)


ONE = "(float[N,3] x) => (float[N,3] y) { y = Relu (x) }"
TWO = "(float[N,3] x, float[N,3] z) => (float[N,3] y, float[N,3] q) { y = Add (x, z) q = Abs (x) }"
WEIGHT = "float[3] w = {1, 2, 3}"
GIVEN = f"(float[N,3] x, float[3] w) => (float[N,3] y) <{WEIGHT}> {{ y = Mul (x, w) }}"
BAKED = f"(float[N,3] x) => (float[N,3] y) <{WEIGHT}> {{ y = Mul (x, w) }}"
ROUNDED = """(float[N,3] x) => (float[N,3] y)
    { h = Cast <to=TYPE> (x)  f = Cast <to=1> (h)  y = Relu (f) }"""
CAST_CONSTANT = f"""(float[N,3] x) => (float[N,3] y) <{WEIGHT}>
    {{ h = Cast <to=10> (w)  f = Cast <to=1> (h)  y = Mul (x, f) }}"""
SEQUENCE = "(float[N,3] x) => (seq(float[N,3]) y) { y = SequenceConstruct (x) }"

PAIRS = {
    "the same": Pair(ONE, ONE),
    "input renamed": Pair(ONE, ONE.replace("x", "u"), "input 'x' is missing"),
    "input added": Pair(
        ONE, "(float[N,3] x, float[N,3] z) => (float[N,3] y) { y = Relu (x) }", "input 'z' is new"
    ),
    "input removed": Pair(
        TWO,
        "(float[N,3] x) => (float[N,3] y, float[N,3] q) { y = Add (x, x) q = Abs (x) }",
        "input 'z' is missing",
    ),
    "inputs reordered": Pair(
        TWO,
        TWO.replace("(float[N,3] x, float[N,3] z)", "(float[N,3] z, float[N,3] x)"),
        "the inputs are in another order: z, x",
    ),
    "output renamed": Pair(ONE, ONE.replace("y", "u"), "output 'y' is missing"),
    "output added": Pair(
        ONE,
        "(float[N,3] x) => (float[N,3] y, float[N,3] q) { y = Relu (x) q = Abs (x) }",
        "output 'q' is new",
    ),
    "output removed": Pair(
        TWO,
        "(float[N,3] x, float[N,3] z) => (float[N,3] y) { y = Add (x, z) }",
        "output 'q' is missing",
    ),
    "outputs reordered": Pair(
        TWO,
        TWO.replace("(float[N,3] y, float[N,3] q)", "(float[N,3] q, float[N,3] y)"),
        "the outputs are in another order: q, y",
    ),
    "outputs swapped": Pair(TWO, TWO.replace("y = Add (x, z) q =", "q = Add (x, z) y ="), ""),
    "nodes reordered": Pair(
        TWO, TWO.replace("y = Add (x, z) q = Abs (x)", "q = Abs (x) y = Add (x, z)")
    ),
    "input dtype": Pair(
        ONE,
        "(double[N,3] x) => (float[N,3] y) { f = Cast <to=1> (x)  y = Relu (f) }",
        "input 'x' is double instead of float",
    ),
    "output dtype": Pair(
        ONE,
        "(float[N,3] x) => (double[N,3] y) { f = Relu (x)  y = Cast <to=11> (f) }",
        "output 'y' is double instead of float",
    ),
    "all in float16": Pair(ONE, ONE, "input 'x' is float16 instead of float", dtype="float16"),
    "input rank": Pair(
        ONE,
        "(float[N,3,1] x) => (float[N,3] y) { r = Relu (x)  y = Flatten (r) }",
        "input 'x' has rank 3 instead of 2",
    ),
    "output rank": Pair(
        "(float[N,3,1] x) => (float[N,3,1] y) { y = Relu (x) }",
        "(float[N,3,1] x) => (float[N,3] y) { r = Relu (x)  y = Flatten (r) }",
        "output 'y' has rank 2 instead of 3",
    ),
    "batch fixed": Pair(ONE, ONE.replace("N", "4"), "input 'x' has shape [4, 3] instead of [N, 3]"),
    "batch freed": Pair(ONE.replace("N", "4"), ONE, "input 'x' has shape [N, 3] instead of [4, 3]"),
    "another fixed size": Pair(
        ONE, ONE.replace("3", "5"), "input 'x' has shape [N, 5] instead of [N, 3]"
    ),
    "dimension renamed": Pair(ONE, ONE.replace("N", "batch")),
    "output shape refined": Pair(
        ONE.replace("=> (float[N,3]", "=> (float[N,M]"),
        ONE,
        note="output 'y' has shape [N, 3] instead of [N, M]",
    ),
    "output shape loosened": Pair(
        ONE,
        ONE.replace("=> (float[N,3]", "=> (float[N,M]"),
        note="output 'y' has shape [N, M] instead of [N, 3]",
    ),
    "output shape contradicted": Pair(
        ONE,
        ONE.replace("=> (float[N,3]", "=> (float[N,4]"),
        "output 'y' has shape [N, 4] instead of [N, 3]",
    ),
    "tensor to sequence": Pair(ONE, SEQUENCE, "output 'y' is a sequence_type instead of a "),
    "initializer still overridable": Pair(GIVEN, GIVEN),
    "initializer no longer overridable": Pair(
        GIVEN, BAKED, "initializer 'w' can no longer be overridden by a caller"
    ),
    "initializer made overridable": Pair(
        BAKED, GIVEN, "initializer 'w' can be overridden only in FOLDED"
    ),
    "never overridable up to IR version 3": Pair(GIVEN, BAKED, irs=(3, 3)),
    "overridable initializer of another shape": Pair(
        GIVEN,
        GIVEN.replace("float[3] w", "float[1] w").replace("{1, 2, 3}", "{1}"),
        "overridable initializer 'w' is float [1] instead of float [3]",
    ),
    "overridable initializer with another default": Pair(GIVEN, GIVEN.replace("{1,", "{1.5,"), ""),
    "initializer to input": Pair(
        BAKED,
        "(float[N,3] x, float[3] w) => (float[N,3] y) { y = Mul (x, w) }",
        "input 'w' is new",
    ),
    "operator set": Pair(
        ONE, ONE, note="operator set ai.onnx: 17 in ORIGINAL, 21 in FOLDED", opsets=(17, 21)
    ),
    "IR version": Pair(ONE, ONE, note="IR version: 8 in ORIGINAL, 10 in FOLDED", irs=(8, 10)),
    "data through float16": Pair(
        ONE, ROUNDED.replace("TYPE", "10"), "casts data to a float of 16 bits"
    ),
    "data through bfloat16": Pair(
        ONE, ROUNDED.replace("TYPE", "16"), "casts data to a float of 16 bits"
    ),
    "data through float8": Pair(
        ROUNDED.replace("TYPE", "10"),
        ROUNDED.replace("TYPE", "17"),
        "casts data to a float of 8 bits",
        opsets=(19, 19),
    ),
    "data through float16 in both": Pair(
        ROUNDED.replace("TYPE", "10"), ROUNDED.replace("TYPE", "10")
    ),
    "data through a wider float": Pair(ONE, ROUNDED.replace("TYPE", "11")),
    "a constant through float16": Pair(BAKED, CAST_CONSTANT),
}


@pytest.mark.parametrize("name", list(PAIRS))
def test_pairs(name: str) -> None:
    pair = PAIRS[name]
    report = pair.report()
    assert report.is_same == (pair.broken is None), report.verdict
    if pair.broken:
        assert pair.broken in report.interface[0]
        assert report.verdict == f"not the same function: {report.interface[0]}"
        assert report.method == "none"
        assert [*report.outputs, *report.norms, *report.feeds] == []
    else:
        assert report.interface == ()
        assert report.method == "float64"
        assert report.outputs
    if pair.note:
        (note,) = report.notes
        assert pair.note in note
    elif pair.broken is None:
        assert report.notes == ()


def test_an_output_whose_shape_is_not_declared() -> None:
    original = parsed(f"agraph {ONE}")
    folded = copied(original)
    folded.graph.output[0].type.tensor_type.ClearField("shape")
    for pair, shapes in (
        ((original, folded), "unknown instead of [N, 3]"),
        ((folded, original), "[N, 3] instead of unknown"),
    ):
        report = judged(*pair)
        assert report.is_same
        assert report.notes == (f"output 'y' has shape {shapes}",)


def test_an_input_whose_shape_is_not_declared() -> None:
    original = parsed(f"agraph {ONE}")
    folded = copied(original)
    folded.graph.input[0].type.tensor_type.ClearField("shape")
    report = judged(original, folded)
    assert report.interface == ("input 'x' has shape unknown instead of [N, 3]",)


def test_a_constant_that_is_stored_narrower() -> None:
    original = parsed(f"agraph {BAKED}")
    folded = copied(original)
    folded.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.array([1, 2, 3], np.float16), "half")
    )
    folded.graph.node.insert(0, helper.make_node("Cast", ["half"], ["w"], to=1))
    assert judged(original, folded).verdict == "same function: no difference at all"


def test_every_difference_is_told() -> None:
    report = Pair(TWO, ONE.replace("x", "u").replace("float[N,3] y", "double[N,3] y")).report()
    assert report.interface == (
        "input 'x' is missing",
        "input 'z' is missing",
        "input 'u' is new",
        "output 'q' is missing",
        "output 'y' is double instead of float",
    )


def test_the_producer_and_further_operator_sets_are_noted() -> None:
    original = parsed(f"agraph {ONE}", imports='"com.acme" : 3')
    folded = parsed(f"agraph {ONE}")
    original.producer_name, folded.producer_name = "pytorch", "bnfold"
    report = judged(original, folded)
    assert report.is_same
    assert report.notes == (
        "operator sets that only ORIGINAL imports: com.acme",
        "producer: 'pytorch' of ORIGINAL, 'bnfold' of FOLDED",
    )


def test_the_standard_operator_set_has_two_names() -> None:
    original = parsed(f"agraph {ONE}")
    folded = copied(original)
    folded.opset_import[0].domain = "ai.onnx"
    assert judged(original, folded).notes == ()


def test_a_float8_constant_is_no_reason(recwarn: pytest.WarningsRecorder) -> None:
    text = f"agraph {ROUNDED.replace('TYPE', '17')}"
    model = parsed(text, opset=19, ir=9)
    onnx.checker.check_model(model)
    assert judged(model, model).is_same
    assert not recwarn.list
